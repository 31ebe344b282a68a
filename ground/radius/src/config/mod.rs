//! The client configuration file of radcli and freeradius-client, as people have it
//! (`specs/server-auth.md` §2.4).

mod dictionary;
mod lines;
mod servers;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};

pub use dictionary::Dictionary;
use lines::{Line, Lines};
use servers::Secrets;

/// Port of authentication servers.
const AUTH_PORT: u16 = 1812;
/// Port of accounting servers.
const ACCT_PORT: u16 = 1813;
/// Most servers of one kind.
const SERVERS_MAX: usize = 16;
/// `radius_timeout` when it is not set.
const TIMEOUT: Duration = Duration::from_secs(10);
/// `radius_retries` when it is not set.
const RETRIES: u32 = 3;
/// `radius_deadtime` when it is not set.
const DEAD_TIME: Duration = Duration::from_secs(60);
/// Longest times and most repetitions that make sense.
const SECONDS_MAX: u32 = 86_400;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It is longer than anybody's file.
    #[error("{0} is too large for a file of this kind")]
    TooLarge(PathBuf),
    /// A line is wrong.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is missing.
    #[error("{path}: {problem}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What.
        problem: String,
    },
}

/// Whether replies must carry a Message-Authenticator: `require-message-authenticator`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageAuthenticator {
    /// `yes`.
    Required,
    /// `no`.
    Optional,
    /// `auto`: from the first good one on, each reply of that server must have one.
    #[default]
    Learned,
}

/// A server as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAddress {
    /// Name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The shared secret.
    pub secret: SecretBytes,
}

/// What the file says. Names are not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConfig {
    /// `authserver`, in the order of preference.
    pub auth_servers: Vec<ServerAddress>,
    /// `acctserver`.
    pub acct_servers: Vec<ServerAddress>,
    /// `default_realm`.
    pub default_realm: Option<String>,
    /// `radius_timeout`.
    pub timeout: Duration,
    /// `radius_retries`.
    pub retries: u32,
    /// `radius_deadtime`.
    pub dead_time: Duration,
    /// `bindaddr`; `None` for `*`.
    pub bind_address: Option<IpAddr>,
    /// `nas-identifier`.
    pub nas_identifier: Option<String>,
    /// `nas-ip`.
    pub nas_address: Option<IpAddr>,
    /// `require-message-authenticator`.
    pub message_authenticator: MessageAuthenticator,
    /// `dictionary`.
    pub dictionary: Option<PathBuf>,
}

/// Options of the old login programs, and those that change nothing here.
const WITHOUT_MEANING: &[&str] = &[
    "seqfile",
    "mapfile",
    "nologin",
    "issue",
    "auth_order",
    "clientdebug",
    "use-public-addr",
    "radius_order",
];

impl ClientConfig {
    /// Reads the file and the servers file that it names (blocking). The second value has notes for
    /// the administrator.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let text = lines::read(path)?;
        let mut notes = Vec::new();
        let raw = Raw::parse(path, &text, &mut notes)?;
        let secrets = match &raw.servers {
            Some(file) => Secrets::load(file)?,
            None => Secrets::default(),
        };
        Ok((raw.resolve(path, &secrets)?, notes))
    }

    /// A user name as servers get it: with `default_realm` if it has no realm.
    pub fn full_name(&self, user: &str) -> String {
        match &self.default_realm {
            Some(realm) if !user.contains('@') => format!("{user}@{realm}"),
            _ => user.to_owned(),
        }
    }
}

/// A server in the file: its secret may be elsewhere.
struct RawServer {
    line: usize,
    host: String,
    port: u16,
    secret: Option<SecretBytes>,
}

struct Raw {
    auth: Vec<RawServer>,
    acct: Vec<RawServer>,
    servers: Option<PathBuf>,
    config: ClientConfig,
}

impl Raw {
    fn parse(path: &Path, text: &str, notes: &mut Vec<String>) -> Result<Self, ConfigError> {
        let mut raw = Self {
            auth: Vec::new(),
            acct: Vec::new(),
            servers: None,
            config: ClientConfig {
                auth_servers: Vec::new(),
                acct_servers: Vec::new(),
                default_realm: None,
                timeout: TIMEOUT,
                retries: RETRIES,
                dead_time: DEAD_TIME,
                bind_address: None,
                nas_identifier: None,
                nas_address: None,
                message_authenticator: MessageAuthenticator::default(),
                dictionary: None,
            },
        };
        for line in Lines::new(path, text) {
            let line = line?;
            if !raw.take(&line)? {
                notes.push(format!(
                    "{}:{}: '{}' is not known",
                    path.display(),
                    line.number,
                    line.keyword
                ));
            }
        }
        Ok(raw)
    }

    /// False when the keyword is not known.
    fn take(&mut self, line: &Line<'_>) -> Result<bool, ConfigError> {
        let config = &mut self.config;
        match line.keyword {
            "authserver" => take_servers(&mut self.auth, line, AUTH_PORT)?,
            "acctserver" => take_servers(&mut self.acct, line, ACCT_PORT)?,
            "servers" => self.servers = Some(line.path()?),
            "dictionary" => config.dictionary = Some(line.path()?),
            "default_realm" => {
                config.default_realm = Some(line.rest.to_owned()).filter(|realm| !realm.is_empty())
            }
            "radius_timeout" => config.timeout = Duration::from_secs(line.number(1..=SECONDS_MAX)?.into()),
            "radius_retries" => config.retries = line.number(1..=100)?,
            "radius_deadtime" => config.dead_time = Duration::from_secs(line.number(0..=SECONDS_MAX)?.into()),
            "bindaddr" => config.bind_address = line.address_unless_any()?,
            "nas-identifier" => config.nas_identifier = Some(line.value()?.to_owned()),
            "nas-ip" => config.nas_address = line.address_unless_any()?,
            "require-message-authenticator" => {
                config.message_authenticator = match line.value()? {
                    "yes" | "true" => MessageAuthenticator::Required,
                    "no" | "false" => MessageAuthenticator::Optional,
                    "auto" => MessageAuthenticator::Learned,
                    other => return Err(line.wrong(format!("'{other}' is neither yes, no nor auto"))),
                };
            }
            "serv-type" => match line.value()? {
                "udp" => {}
                other => {
                    let problem = format!("servers are asked by UDP only, not by '{other}'");
                    return Err(line.wrong(problem));
                }
            },
            "namespace" => {
                let problem = "sockets are opened in the server's own network namespace only";
                return Err(line.wrong(problem.to_owned()));
            }
            keyword if keyword.starts_with("login_") || keyword.starts_with("tls-") => {}
            keyword => return Ok(WITHOUT_MEANING.contains(&keyword)),
        }
        Ok(true)
    }

    fn resolve(self, path: &Path, secrets: &Secrets) -> Result<ClientConfig, ConfigError> {
        let with_secrets = |servers: Vec<RawServer>| {
            let servers = servers.into_iter().map(|server| {
                let secret = server
                    .secret
                    .or_else(|| secrets.of(&server.host))
                    .ok_or_else(|| {
                        let file = self.servers.as_ref().map_or_else(
                            || "there is no 'servers' file".to_owned(),
                            |file| format!("{} has none", file.display()),
                        );
                        ConfigError::Line {
                            path: path.to_owned(),
                            line: server.line,
                            problem: format!("no secret for the server '{}': {file}", server.host),
                        }
                    })?;
                Ok(ServerAddress {
                    host: server.host,
                    port: server.port,
                    secret,
                })
            });
            servers.collect::<Result<Vec<_>, ConfigError>>()
        };
        let config = ClientConfig {
            auth_servers: with_secrets(self.auth)?,
            acct_servers: with_secrets(self.acct)?,
            ..self.config
        };
        if config.auth_servers.is_empty() && config.acct_servers.is_empty() {
            return Err(ConfigError::Missing {
                path: path.to_owned(),
                problem: "neither 'authserver' nor 'acctserver' is set".to_owned(),
            });
        }
        Ok(config)
    }
}

/// `host[:port[:secret]]`, several with commas between them; IPv6 addresses in brackets.
fn take_servers(list: &mut Vec<RawServer>, line: &Line<'_>, port: u16) -> Result<(), ConfigError> {
    for text in line.value()?.split(',').map(str::trim) {
        if list.len() == SERVERS_MAX {
            return Err(line.wrong(format!("more than {SERVERS_MAX} servers")));
        }
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => {
                let (host, rest) = text
                    .split_once(']')
                    .ok_or_else(|| line.wrong(format!("'{text}' lacks a bracket")))?;
                (host, rest.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((host, rest)) => (host, Some(rest)),
                None => (text, None),
            },
        };
        let (own_port, secret) = match rest.map(|rest| rest.split_once(':').unwrap_or((rest, ""))) {
            Some((port, secret)) => (port, secret),
            None => ("", ""),
        };
        if host.is_empty() {
            return Err(line.wrong("a server without a name".to_owned()));
        }
        let port = match own_port {
            "" => port,
            number => number
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| line.wrong(format!("'{number}' is no port")))?,
        };
        list.push(RawServer {
            line: line.number,
            host: host.to_owned(),
            port,
            secret: (!secret.is_empty()).then(|| SecretBytes::new(secret.as_bytes().to_vec())),
        });
    }
    Ok(())
}
