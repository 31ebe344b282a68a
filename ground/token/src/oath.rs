use std::fmt;

use aws_lc_rs::hmac;
use culvert_vocab::{SecretBytes, SecretString};

use crate::otpauth::Otpauth;
use crate::pskc::Pskc;
use crate::secret::Encoding;
use crate::{TokenError, secret};

/// Length of a code where nothing else is said.
pub(crate) const DIGITS: u32 = 6;
/// Seconds for which a time-based code is good where nothing else is said.
pub const PERIOD: u64 = 30;

/// What changes from code to code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The time (RFC 6238).
    Totp,
    /// A counter (RFC 4226).
    Hotp,
}

/// Hash function of the HMAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, the usual one.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A TOTP or HOTP token.
#[derive(Clone, PartialEq, Eq)]
pub struct Oath {
    pub(crate) mode: Mode,
    pub(crate) hash: Hash,
    pub(crate) key: SecretBytes,
    pub(crate) digits: u32,
    pub(crate) period: u64,
    pub(crate) counter: u64,
    pub(crate) spelling: Spelling,
}

/// How the secret was written, to write it back.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Spelling {
    Secret(Encoding),
    Otpauth(Otpauth),
    Pskc(Pskc),
}

impl Oath {
    /// Reads the text of `--token-secret` or of the file that it names (`specs/client.md` §9.2).
    /// White space at the end does not count.
    ///
    /// # Errors
    /// The text is no secret, or one of the other mode.
    pub fn parse(mode: Mode, text: &str) -> Result<Self, TokenError> {
        let text = text.trim_end();
        if text.starts_with("<?xml") {
            Pskc::parse(mode, text)
        } else if text.starts_with("otpauth://") {
            Otpauth::parse(mode, text)
        } else {
            secret::parse(mode, text)
        }
    }

    /// Seconds for which a time-based code is good.
    pub fn period(&self) -> u64 {
        self.period
    }

    /// The code at a time, in seconds since 1970. For counter-based tokens [`Self::next_code`].
    pub fn code_at(&self, time: u64) -> SecretString {
        self.code(time / self.period)
    }

    /// The code of the present counter, which then goes up by one.
    ///
    /// # Errors
    /// There is no next counter.
    pub fn next_code(&mut self) -> Result<SecretString, TokenError> {
        let code = self.code(self.counter);
        self.counter = self
            .counter
            .checked_add(1)
            .filter(|counter| i64::try_from(*counter).is_ok())
            .ok_or(TokenError::Exhausted)?;
        Ok(code)
    }

    /// The token's text with the present counter, as it is kept in a file.
    pub fn to_text(&self) -> SecretString {
        match &self.spelling {
            Spelling::Secret(encoding) => secret::write(self, *encoding),
            Spelling::Otpauth(otpauth) => otpauth.write(self),
            Spelling::Pskc(pskc) => pskc.write(self.counter),
        }
    }

    /// RFC 4226 §5.3.
    fn code(&self, moving_factor: u64) -> SecretString {
        let algorithm = match self.hash {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        let key = hmac::Key::new(algorithm, self.key.expose());
        let tag = hmac::sign(&key, &moving_factor.to_be_bytes());
        let offset = tag.as_ref().last().map_or(0, |last| usize::from(last & 0x0f));
        let word = tag.as_ref().get(offset..).and_then(|rest| rest.first_chunk());
        // Every hash has at least 20 octets.
        let number = u32::from_be_bytes(*word.unwrap_or(&[0; 4])) & 0x7fff_ffff;
        let width = self.digits as usize;
        format!("{:0width$}", number % 10_u32.pow(self.digits)).into()
    }
}

impl fmt::Debug for Oath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oath")
            .field("mode", &self.mode)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// A number of digits that tokens have.
pub(crate) fn digits(number: &str) -> Result<u32, TokenError> {
    match number.parse() {
        Ok(digits @ 6..=8) => Ok(digits),
        _ => Err(TokenError::Invalid("a code must have 6, 7 or 8 digits")),
    }
}
