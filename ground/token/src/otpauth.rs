//! `otpauth://totp|hotp/LABEL?secret=BASE32&...` (`specs/client.md` §9.2).

use std::fmt::Write;

use culvert_vocab::SecretString;
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::TokenError;
use crate::oath::{DIGITS, Hash, Mode, Oath, PERIOD, Spelling, digits};
use crate::secret::{counter, decode_base32};

/// What an URI says beside the token itself. Nothing is percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Otpauth {
    label: String,
    issuer: Option<String>,
}

impl Otpauth {
    pub(crate) fn parse(mode: Mode, uri: &str) -> Result<Oath, TokenError> {
        let kind = match mode {
            Mode::Totp => "otpauth://totp/",
            Mode::Hotp => "otpauth://hotp/",
        };
        let rest = uri.strip_prefix(kind).ok_or(TokenError::OtherMode)?;
        let (label, query) = rest
            .split_once('?')
            .ok_or(TokenError::Invalid("the URI has no parameters"))?;
        let mut issuer = None;
        let mut token = Oath {
            mode,
            hash: Hash::Sha1,
            key: Vec::new().into(),
            digits: DIGITS,
            period: PERIOD,
            counter: 0,
            spelling: Spelling::Otpauth(Self {
                label: label.to_owned(),
                issuer: None,
            }),
        };
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "secret" => token.key = decode_base32(value)?.into(),
                "counter" => token.counter = counter(value)?,
                "digits" => token.digits = digits(value)?,
                "algorithm" => token.hash = hash(value)?,
                "issuer" => issuer = Some(value.to_owned()),
                "period" => {
                    let period: i64 = value
                        .parse()
                        .map_err(|_| TokenError::Invalid("the period is no number"))?;
                    token.period = u64::try_from(period)
                        .ok()
                        .filter(|period| *period > 0)
                        .unwrap_or(PERIOD);
                }
                _ => {}
            }
        }
        if token.key.is_empty() {
            return Err(TokenError::Invalid("the URI has no secret"));
        }
        token.spelling = Spelling::Otpauth(Self {
            label: label.to_owned(),
            issuer,
        });
        Ok(token)
    }

    /// The URI with its parameters in the order of the reference.
    pub(crate) fn write(&self, token: &Oath) -> SecretString {
        let kind = match token.mode {
            Mode::Totp => "totp",
            Mode::Hotp => "hotp",
        };
        let key = Zeroizing::new(BASE32_NOPAD.encode(token.key.expose()));
        let mut uri = format!("otpauth://{kind}/{}?secret={}", self.label, *key);
        // Writing to a string cannot fail.
        if token.mode == Mode::Hotp {
            let _ = write!(uri, "&counter={}", token.counter);
        }
        if token.period != PERIOD {
            let _ = write!(uri, "&period={}", token.period);
        }
        match token.hash {
            Hash::Sha1 => {}
            Hash::Sha256 => uri.push_str("&algorithm=SHA256"),
            Hash::Sha512 => uri.push_str("&algorithm=SHA512"),
        }
        if token.digits != DIGITS {
            let _ = write!(uri, "&digits={}", token.digits);
        }
        if let Some(issuer) = &self.issuer {
            let _ = write!(uri, "&issuer={issuer}");
        }
        uri.push('\n');
        uri.into()
    }
}

fn hash(name: &str) -> Result<Hash, TokenError> {
    match name.to_ascii_uppercase().as_str() {
        "SHA1" => Ok(Hash::Sha1),
        "SHA256" => Ok(Hash::Sha256),
        "SHA512" => Ok(Hash::Sha512),
        _ => Err(TokenError::Invalid(
            "the algorithm is none of SHA1, SHA256, SHA512",
        )),
    }
}
