//! The client configuration file of radcli and freeradius-client, as people have it
//! (`specs/server-auth.md` §2.4).

mod dictionary;
mod lines;
mod servers;
mod transport;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};

pub use dictionary::Dictionary;
use lines::{Line, Lines};
use servers::Secrets;
use transport::{SECRET_OF_TLS, TlsFiles, is_psk};
pub use transport::{TlsSettings, Transport};

/// Port of authentication servers.
const AUTH_PORT: u16 = 1812;
/// Port of accounting servers.
const ACCT_PORT: u16 = 1813;
/// Port of all servers by TLS (RFC 6614 §2.1).
const TLS_PORT: u16 = 2083;
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
    /// Port.
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
    /// `serv-type`, and what is needed for it.
    pub transport: Transport,
    /// `namespace`: name of the network namespace in which sockets are opened.
    pub namespace: Option<String>,
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
#[derive(Clone)]
struct RawServer {
    line: usize,
    host: String,
    /// `None`: that of its kind.
    port: Option<u16>,
    secret: Option<SecretBytes>,
}

struct Raw {
    auth: Vec<RawServer>,
    acct: Vec<RawServer>,
    servers: Option<PathBuf>,
    /// `serv-type`, when it is not udp.
    stream: Option<Stream>,
    tls: TlsFiles,
    config: ClientConfig,
}

/// A transport that has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Tcp,
    Tls,
}

impl Raw {
    fn parse(path: &Path, text: &str, notes: &mut Vec<String>) -> Result<Self, ConfigError> {
        let mut raw = Self {
            auth: Vec::new(),
            acct: Vec::new(),
            servers: None,
            stream: None,
            tls: TlsFiles::default(),
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
                transport: Transport::Udp,
                namespace: None,
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
            "authserver" => take_servers(&mut self.auth, line)?,
            "acctserver" => take_servers(&mut self.acct, line)?,
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
            "serv-type" => {
                self.stream = match line.value()? {
                    "udp" => None,
                    "tcp" => Some(Stream::Tcp),
                    "tls" => Some(Stream::Tls),
                    "dtls" => {
                        return Err(
                            line.wrong("servers are not asked by DTLS; 'tls' protects as well".to_owned())
                        );
                    }
                    other => return Err(line.wrong(format!("'{other}' is neither udp, tcp nor tls"))),
                }
            }
            "tls-ca-file" => self.tls.authorities = Some(line.path()?),
            "tls-cert-file" => self.tls.certificate = Some(line.path()?),
            "tls-key-file" => self.tls.key = Some(line.path()?),
            "tls-verify-hostname" => {
                self.tls.any_name = match line.value()? {
                    "yes" | "true" => false,
                    "no" | "false" => true,
                    other => return Err(line.wrong(format!("'{other}' is neither yes nor no"))),
                }
            }
            "namespace" => {
                let name = line.value()?;
                if name.contains('/') || name == ".." {
                    return Err(line.wrong(format!("'{name}' is no name of a network namespace")));
                }
                config.namespace = Some(name.to_owned());
            }
            keyword if keyword.starts_with("login_") => {}
            keyword => return Ok(WITHOUT_MEANING.contains(&keyword)),
        }
        Ok(true)
    }

    fn resolve(self, path: &Path, secrets: &Secrets) -> Result<ClientConfig, ConfigError> {
        let transport = match self.stream {
            None => Transport::Udp,
            Some(Stream::Tcp) => Transport::Tcp,
            Some(Stream::Tls) => Transport::Tls(Box::new(self.tls.load(path)?)),
        };
        let all = |servers: Vec<RawServer>, port: u16| {
            let servers = servers.into_iter().map(|server| {
                let secret = self.secret_of(path, &server, secrets)?;
                Ok(ServerAddress {
                    host: server.host,
                    port: server.port.unwrap_or(port),
                    secret,
                })
            });
            servers.collect::<Result<Vec<_>, ConfigError>>()
        };
        let (auth_servers, acct_servers) = if self.stream == Some(Stream::Tls) {
            // One connection is for both (RFC 6614 §2.1).
            let servers = all(self.auth.clone(), TLS_PORT)?;
            (servers.clone(), servers)
        } else {
            let (auth, acct) = (self.auth.clone(), self.acct.clone());
            (all(auth, AUTH_PORT)?, all(acct, ACCT_PORT)?)
        };
        if auth_servers.is_empty() && acct_servers.is_empty() {
            return Err(ConfigError::Missing {
                path: path.to_owned(),
                problem: match self.stream {
                    Some(Stream::Tls) => "'authserver' is not set".to_owned(),
                    _ => "neither 'authserver' nor 'acctserver' is set".to_owned(),
                },
            });
        }
        Ok(ClientConfig {
            auth_servers,
            acct_servers,
            transport,
            ..self.config
        })
    }

    fn secret_of(
        &self,
        path: &Path,
        server: &RawServer,
        secrets: &Secrets,
    ) -> Result<SecretBytes, ConfigError> {
        let wrong = |problem| ConfigError::Line {
            path: path.to_owned(),
            line: server.line,
            problem,
        };
        let secret = server.secret.clone().or_else(|| secrets.of(&server.host));
        if self.stream == Some(Stream::Tls) {
            return match secret {
                Some(secret) if is_psk(&secret) => Err(wrong(format!(
                    "the server '{}' has a pre-shared key: TLS is for certificates here",
                    server.host
                ))),
                _ => Ok(SecretBytes::new(SECRET_OF_TLS.to_vec())),
            };
        }
        secret.ok_or_else(|| {
            let file = self.servers.as_ref().map_or_else(
                || "there is no 'servers' file".to_owned(),
                |file| format!("{} has none", file.display()),
            );
            wrong(format!("no secret for the server '{}': {file}", server.host))
        })
    }
}

/// `host[:port[:secret]]`, several with commas between them; IPv6 addresses in brackets.
fn take_servers(list: &mut Vec<RawServer>, line: &Line<'_>) -> Result<(), ConfigError> {
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
            "" => None,
            number => Some(
                number
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| line.wrong(format!("'{number}' is no port")))?,
            ),
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
