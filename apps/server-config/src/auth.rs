//! `auth`, `enable-auth` and `acct`: methods with bracket sub-options
//! (`specs/server-config.md` §6.1, `specs/server-auth.md` §1.1-1.2).

use std::path::PathBuf;
use std::time::Duration;

use culvert_vocab::HttpScheme;
use serde::{Deserialize, Serialize};

/// How users of a host prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// `auth` lines: all of them must succeed. At least one; at most one besides `Certificate`.
    pub required: Vec<AuthMethod>,
    /// `enable-auth` lines: any single one suffices instead.
    pub alternatives: Vec<AuthMethod>,
}

/// Whether TLS asks the client for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateRequest {
    /// No.
    No,
    /// Asked, but the handshake goes on without one.
    Optional,
    /// The handshake fails without one.
    Required,
}

impl AuthConfig {
    /// The method entries: what has to succeed together, in order of preference.
    pub fn entries(&self) -> impl Iterator<Item = &[AuthMethod]> {
        let alternatives = self.alternatives.iter().map(std::slice::from_ref);
        std::iter::once(self.required.as_slice()).chain(alternatives)
    }

    /// What TLS has to ask for; `cisco_client_compat` turns "required" into "optional".
    pub fn certificate_request(&self, cisco_client_compat: bool) -> CertificateRequest {
        let mut methods = self.required.iter().chain(&self.alternatives);
        if !methods.any(|method| *method == AuthMethod::Certificate) {
            CertificateRequest::No
        } else if self.alternatives.is_empty() && !cisco_client_compat {
            CertificateRequest::Required
        } else {
            CertificateRequest::Optional
        }
    }
}

/// An authentication method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// A password file, an OTP file, or both. At least one is set.
    Plain {
        /// `ocpasswd` file.
        passwd: Option<PathBuf>,
        /// OTP users file.
        otp: Option<PathBuf>,
        /// PINs in the OTP users file count: `otp-pin`.
        otp_pin: bool,
    },
    /// PAM.
    Pam {
        /// Groups below this id are not offered.
        gid_min: Option<u32>,
        /// PAM service name.
        service: String,
        /// PAM sessions are opened and closed around the users' sessions.
        session: bool,
        /// What modules are told of the terminal; nothing otherwise.
        tty: Option<String>,
    },
    /// RADIUS.
    Radius(Radius),
    /// GSSAPI (SPNEGO over HTTP).
    Gssapi {
        /// The server's keys.
        keytab: Option<PathBuf>,
        /// The principal must map to a local user.
        require_local_user_map: bool,
        /// Greatest age of the ticket.
        tgt_freshness: Option<Duration>,
        /// Groups below this id are not offered.
        gid_min: Option<u32>,
    },
    /// A client certificate.
    Certificate,
    /// OpenID Connect bearer tokens.
    Oidc {
        /// JSON configuration.
        config: PathBuf,
    },
}

impl AuthMethod {
    /// The scheme of HTTP authentication that it uses; `None`: a form, or a certificate.
    pub fn http_scheme(&self) -> Option<HttpScheme> {
        match self {
            Self::Gssapi { .. } => Some(HttpScheme::Negotiate),
            Self::Oidc { .. } => Some(HttpScheme::Bearer),
            Self::Plain { .. } | Self::Pam { .. } | Self::Radius(_) | Self::Certificate => None,
        }
    }

    /// The name in the configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "plain",
            Self::Pam { .. } => "pam",
            Self::Radius(_) => "radius",
            Self::Gssapi { .. } => "gssapi",
            Self::Certificate => "certificate",
            Self::Oidc { .. } => "oidc",
        }
    }
}

/// Sub-options of `radius`, for authentication or accounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Radius {
    /// radcli configuration.
    pub config: PathBuf,
    /// Per-user settings come from RADIUS.
    pub groupconfig: bool,
    /// NAS-Identifier attribute.
    pub nas_identifier: Option<String>,
    /// Separates groups in one attribute.
    pub group_separator: GroupSeparator,
    /// `stats-report-time` counts, whatever the server says.
    pub override_interim_updates: bool,
    /// Files with the networks of pools, by the name in Framed-Pool: `pools`.
    pub pools: Option<PathBuf>,
    /// Filter-Id attributes name groups, after those of Class: `filter-id`.
    pub filter_id: bool,
    /// No tunnel without accounting: `acct-required`.
    pub required: bool,
}

/// `group-separator` of `radius`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupSeparator {
    /// `;`
    #[default]
    Semicolon,
    /// `,`
    Comma,
}

/// An accounting method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountingMethod {
    /// RADIUS accounting.
    Radius(Radius),
    /// PAM account check and session.
    Pam,
}

/// Most sub-options of a method.
const SUBOPTIONS_MAX: usize = 5;

/// A method name and what stands in its brackets.
struct Call<'a> {
    name: &'a str,
    /// Text of the bracket, as written.
    bracket: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn parse(value: &'a str) -> Result<Self, String> {
        let value = value.trim();
        let end = value
            .find(|c: char| c == '[' || c.is_whitespace())
            .unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Self { name, bracket: None });
        }
        let bracket = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'));
        match bracket {
            Some((bracket, after)) if after.trim().is_empty() => Ok(Self {
                name,
                bracket: Some(bracket),
            }),
            _ => Err(format!("error parsing {rest}")),
        }
    }

    /// The old form `[/path,more]`: the comma-separated words.
    fn legacy_words(&self) -> Option<impl Iterator<Item = &'a str>> {
        let bracket = self.bracket?.trim();
        bracket
            .starts_with(['/', '.'])
            .then(|| bracket.split(',').map(str::trim))
    }

    /// Name (lower case) and value of each sub-option.
    fn suboptions(&self) -> Result<Vec<(String, &'a str)>, String> {
        let Some(bracket) = self.bracket.filter(|bracket| !bracket.trim().is_empty()) else {
            return Ok(Vec::new());
        };
        let pairs: Result<Vec<_>, String> = bracket
            .split(',')
            .map(|pair| {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("error parsing [{bracket}]"))?;
                Ok((name.trim().to_ascii_lowercase(), value.trim()))
            })
            .collect();
        match pairs {
            Ok(pairs) if pairs.len() > SUBOPTIONS_MAX => Err(format!(
                "error parsing [{bracket}]: more than {SUBOPTIONS_MAX} options"
            )),
            pairs => pairs,
        }
    }
}

fn unknown(name: &str) -> String {
    format!("unknown option '{name}'")
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("Invalid value for '{name}': {value}"))
}

fn truth(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("yes")
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

impl AuthMethod {
    /// Reads the value of an `auth` or `enable-auth` line.
    ///
    /// # Errors
    /// The text of the configuration error.
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let call = Call::parse(value)?;
        match call.name.to_ascii_lowercase().as_str() {
            "plain" => Self::plain(&call),
            "pam" => Self::pam(&call),
            "radius" => Radius::parse(&call).map(Self::Radius),
            "gssapi" => Self::gssapi(&call),
            "certificate" => match call.suboptions()?.first() {
                None => Ok(Self::Certificate),
                Some((name, _)) => Err(unknown(name)),
            },
            "oidc" => Self::oidc(&call),
            _ => Err(format!("unknown or unsupported auth method: {value}")),
        }
    }

    /// True for methods that ask for a password; a host may use one of them.
    pub(crate) fn is_password(&self) -> bool {
        matches!(self, Self::Plain { .. } | Self::Pam { .. } | Self::Radius(_))
    }

    fn plain(call: &Call<'_>) -> Result<Self, String> {
        let (mut passwd, mut otp, mut otp_pin) = (None, None, false);
        if let Some(mut words) = call.legacy_words() {
            passwd = words.next().map(PathBuf::from);
        } else {
            for (name, value) in call.suboptions()? {
                match name.as_str() {
                    "passwd" => passwd = text(value).map(PathBuf::from),
                    "otp" => otp = text(value).map(PathBuf::from),
                    "otp-pin" => otp_pin = truth(value),
                    _ => return Err(unknown(&name)),
                }
            }
        }
        if passwd.is_none() && otp.is_none() {
            return Err("plain: no password or OTP file specified".to_owned());
        }
        Ok(Self::Plain { passwd, otp, otp_pin })
    }

    fn pam(call: &Call<'_>) -> Result<Self, String> {
        let (mut gid_min, mut service, mut session, mut tty) = (None, "ocserv".to_owned(), false, None);
        for (name, value) in call.suboptions()? {
            match name.as_str() {
                "gid-min" => gid_min = Some(number(&name, value)?),
                // the name selects a file below /etc/pam.d
                "service" if value.is_empty() || value.contains('/') => {
                    return Err(format!("Invalid value for 'service': {value}"));
                }
                "service" => service = value.to_owned(),
                "session" => session = truth(value),
                "tty" => tty = text(value),
                _ => return Err(unknown(&name)),
            }
        }
        Ok(Self::Pam {
            gid_min,
            service,
            session,
            tty,
        })
    }

    fn gssapi(call: &Call<'_>) -> Result<Self, String> {
        let (mut keytab, mut require_local_user_map, mut tgt_freshness, mut gid_min) =
            (None, true, None, None);
        for (name, value) in call.suboptions()? {
            match name.as_str() {
                "keytab" => keytab = text(value).map(PathBuf::from),
                "require-local-user-map" => require_local_user_map = truth(value),
                "tgt-freshness-time" => match number(&name, value)? {
                    0u32 => return Err(format!("Invalid value for '{name}': {value}")),
                    seconds => tgt_freshness = Some(Duration::from_secs(seconds.into())),
                },
                "gid-min" => gid_min = Some(number(&name, value)?),
                _ => return Err(unknown(&name)),
            }
        }
        Ok(Self::Gssapi {
            keytab,
            require_local_user_map,
            tgt_freshness,
            gid_min,
        })
    }

    /// Unknown names are ignored, as ocserv does for this method.
    fn oidc(call: &Call<'_>) -> Result<Self, String> {
        let options = call.suboptions()?;
        let config = options
            .iter()
            .rev()
            .find(|(name, value)| name == "config" && !value.is_empty());
        match config {
            Some((_, path)) => Ok(Self::Oidc {
                config: PathBuf::from(path),
            }),
            None => Err("oidc: no configuration file specified".to_owned()),
        }
    }
}

impl Radius {
    fn parse(call: &Call<'_>) -> Result<Self, String> {
        let (mut config, mut groupconfig, mut nas_identifier) = (None, false, None);
        let mut group_separator = GroupSeparator::Semicolon;
        let mut override_interim_updates = false;
        let (mut filter_id, mut required, mut pools) = (false, false, None);
        if let Some(mut words) = call.legacy_words() {
            config = words.next().map(PathBuf::from);
            for word in words {
                match word {
                    "groupconfig" => groupconfig = true,
                    _ => return Err(unknown(word)),
                }
            }
        } else {
            for (name, value) in call.suboptions()? {
                match name.as_str() {
                    "config" => config = text(value).map(PathBuf::from),
                    "groupconfig" => groupconfig = truth(value),
                    "nas-identifier" => nas_identifier = text(value),
                    "override-interim-updates" => override_interim_updates = truth(value),
                    "pools" => pools = text(value).map(PathBuf::from),
                    "filter-id" => filter_id = truth(value),
                    "acct-required" => required = truth(value),
                    "group-separator" => {
                        group_separator = match value {
                            "semicolon" => GroupSeparator::Semicolon,
                            "comma" => GroupSeparator::Comma,
                            _ => {
                                return Err(format!(
                                    "unknown group-separator value '{value}'; use 'semicolon' or 'comma'"
                                ));
                            }
                        };
                    }
                    _ => return Err(unknown(&name)),
                }
            }
        }
        let bracket = call.bracket.unwrap_or_default();
        let config = config.ok_or_else(|| format!("No radius configuration specified: [{bracket}]"))?;
        Ok(Self {
            config,
            groupconfig,
            nas_identifier,
            group_separator,
            override_interim_updates,
            pools,
            filter_id,
            required,
        })
    }
}

impl AccountingMethod {
    /// Reads the value of an `acct` line.
    ///
    /// # Errors
    /// The text of the configuration error.
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let call = Call::parse(value)?;
        match call.name.to_ascii_lowercase().as_str() {
            "radius" => Radius::parse(&call).map(Self::Radius),
            "pam" => Ok(Self::Pam),
            _ => Err(format!("unknown or unsupported accounting method: {value}")),
        }
    }

    /// The name in the configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Radius(_) => "radius",
            Self::Pam => "pam",
        }
    }
}

#[cfg(test)]
mod tests;
