//! `--token-mode` and `--token-secret` (`specs/client.md` §9).

use std::path::{Path, PathBuf};

use culvert_token::{Mode, Oath, SecurId, TokenError};
use culvert_vocab::{SecretString, TokenKind};

use super::{Host, LoginOptions, Stop};
use crate::prompt::reason;

/// Longest token file, in octets.
const FILE_MAX: usize = 1 << 20;

/// What the two options say.
#[derive(Debug, Default)]
pub(super) struct TokenArguments {
    pub(super) mode: Option<TokenMode>,
    pub(super) secret: Option<SecretString>,
}

/// Modes of `--token-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenMode {
    Rsa,
    Totp,
    Hotp,
    YubiOath,
    Oidc,
}

/// A token that generates codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenOptions {
    /// TOTP or HOTP.
    Oath(OathOptions),
    /// RSA SecurID.
    SecurId(SecurIdOptions),
    /// OATH by a YubiKey.
    Yubikey {
        /// Name of the credential; the first if none is given.
        credential: Option<String>,
    },
}

impl TokenOptions {
    /// Which fields get the codes.
    pub fn kind(&self) -> TokenKind {
        match self {
            Self::Oath(_) | Self::Yubikey { .. } => TokenKind::Oath,
            Self::SecurId(_) => TokenKind::SecurId,
        }
    }
}

/// A SecurID token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurIdOptions {
    /// The token, perhaps locked.
    pub token: SecurId,
    /// The PIN of `~/.stokenrc`.
    pub pin: Option<SecretString>,
}

/// A software token of OATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OathOptions {
    /// What changes from code to code.
    pub mode: Mode,
    /// The secret, which can be read.
    pub secret: TokenSecret,
}

/// `--token-secret`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSecret {
    /// The secret itself.
    Text(SecretString),
    /// The file that holds it.
    File(PathBuf),
}

impl TokenMode {
    pub(super) fn parse(mode: &str) -> Result<Self, Stop> {
        match mode.to_ascii_lowercase().as_str() {
            "rsa" => Ok(Self::Rsa),
            "totp" => Ok(Self::Totp),
            "hotp" => Ok(Self::Hotp),
            "yubioath" => Ok(Self::YubiOath),
            "oidc" => Ok(Self::Oidc),
            _ => Err(Stop::Error(format!("Invalid software token mode \"{mode}\""))),
        }
    }
}

impl TokenArguments {
    /// Checks the token once all options are known, before anything is connected to.
    pub(super) fn apply(self, host: &mut dyn Host, login: &mut LoginOptions) -> Result<(), Stop> {
        let Some(mode) = self.mode else {
            return Ok(());
        };
        let given = self.secret;
        let secret = || given.clone().map(TokenSecret::new);
        match mode {
            TokenMode::Totp => login.token = Some(oath(Mode::Totp, secret(), host)?),
            TokenMode::Hotp => login.token = Some(oath(Mode::Hotp, secret(), host)?),
            TokenMode::Oidc => {
                const FAILED: &str = "Can't open oidc file";
                let secret = secret().ok_or_else(|| Stop::Error(FAILED.into()))?;
                let text = secret.read(host).map_err(|stop| with_line(stop, FAILED))?;
                login.bearer = Some(text.expose().trim_end().into());
            }
            TokenMode::Rsa => login.token = Some(securid(secret(), host)?),
            TokenMode::YubiOath => {
                // Not the name of a file, whatever it begins with.
                let credential = given.map(|name| name.expose().to_owned());
                login.token = Some(TokenOptions::Yubikey { credential });
            }
        }
        Ok(())
    }
}

fn oath(mode: Mode, secret: Option<TokenSecret>, host: &mut dyn Host) -> Result<TokenOptions, Stop> {
    let invalid = || Stop::Error("Soft token string is invalid".into());
    let secret = secret.ok_or_else(invalid)?;
    match Oath::parse(mode, secret.read(host)?.expose()) {
        Ok(_) => Ok(TokenOptions::Oath(OathOptions { mode, secret })),
        Err(error @ (TokenError::Base32 | TokenError::EncryptedPskc | TokenError::OtherMode)) => {
            Err(Stop::Error(format!("{error}\nSoft token string is invalid")))
        }
        Err(_) => Err(invalid()),
    }
}

/// The same error with one more line.
fn with_line(stop: Stop, line: &str) -> Stop {
    match stop {
        Stop::Error(text) => Stop::Error(format!("{text}\n{line}")),
        other => other,
    }
}

/// The token of the option, of the file that it names, or of `~/.stokenrc`.
fn securid(secret: Option<TokenSecret>, host: &mut dyn Host) -> Result<TokenOptions, Stop> {
    let text = match secret {
        Some(secret) => secret
            .read(host)
            .map_err(|stop| with_line(stop, "Can't open stoken file"))?,
        None => {
            let failed = || Stop::Error("Can't open ~/.stokenrc file".into());
            let home = host.home().ok_or_else(failed)?;
            read_file(host, &home.join(".stokenrc")).map_err(|_| failed())?
        }
    };
    let line = |name: &str| {
        let mut lines = text.expose().lines();
        lines.find_map(|line| Some(line.trim().strip_prefix(name)?.strip_prefix([' ', '\t'])?.trim()))
    };
    let token = SecurId::parse(line("token").unwrap_or(text.expose())).map_err(|error| {
        let text = format!("{error}\nSoft token string is invalid");
        Stop::Error(text)
    })?;
    let pin = line("pin").map(SecretString::from);
    Ok(TokenOptions::SecurId(SecurIdOptions { token, pin }))
}

impl TokenSecret {
    /// `@FILE` and `/FILE` name files.
    fn new(argument: SecretString) -> Self {
        match argument.expose().strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if argument.expose().starts_with('/') => Self::File(argument.expose().into()),
            None => Self::Text(argument),
        }
    }

    fn read(&self, host: &mut dyn Host) -> Result<SecretString, Stop> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => read_file(host, path),
        }
    }
}

fn read_file(host: &mut dyn Host, path: &Path) -> Result<SecretString, Stop> {
    let failed = |text: &str| Stop::Error(format!("Failed to open {}: {text}", path.display()));
    let content = host.read_file(path).map_err(|error| failed(&reason(&error)))?;
    if content.len() > FILE_MAX {
        return Err(failed("the file is too large"));
    }
    match String::from_utf8(content) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(failed("the file is no text")),
    }
}
