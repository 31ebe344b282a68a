use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of the base64 form of a session id: 32 octets.
const ENCODED_LEN: usize = 44;

/// Why text is not a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 form of a 32-octet session identifier")]
pub struct SessionIdError;

/// The 32-octet session identifier (SID). It names a login in progress and, once the login has
/// succeeded, *is* the session cookie (`specs/server-auth.md` §0). Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// Wraps 32 octets, usually fresh from the system's random source.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Decodes the cookie form (44 characters of base64, trailing blanks tolerated).
    ///
    /// # Errors
    /// Anything that is not exactly 32 octets of canonical base64.
    pub fn from_cookie(text: &str) -> Result<Self, SessionIdError> {
        let text = text.trim_end_matches(' ').as_bytes();
        if text.len() != ENCODED_LEN {
            return Err(SessionIdError);
        }
        let mut decoded = BASE64.decode(text).map_err(|_| SessionIdError)?;
        let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| SessionIdError)?;
        decoded.zeroize();
        Ok(Self(bytes))
    }

    /// The cookie form: base64, 44 characters. A credential; send it to its owner only.
    pub fn to_cookie(&self) -> crate::SecretString {
        crate::SecretString::new(BASE64.encode(&self.0))
    }

    /// The octets.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The printable name of this session, which cannot be turned back into the cookie.
    pub fn safe_id(&self) -> SafeId {
        SafeId(BASE64.encode(&Sha1::digest(self.0)))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.safe_id().short())
    }
}

impl PartialEq for SessionId {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionId {}

/// Printable session name: base64(SHA-1(SID)), 28 characters; used in logs, tools and accounting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SafeId(String);

impl SafeId {
    /// All 28 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 6 characters, as lists show them.
    pub fn short(&self) -> &str {
        self.0.get(..6).unwrap_or(&self.0)
    }
}

impl fmt::Display for SafeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_round_trip() {
        let id = SessionId::from_bytes([7; 32]);
        assert_eq!(SessionId::from_cookie(id.to_cookie().expose()), Ok(id.clone()));
        assert_eq!(id.safe_id().as_str().len(), 28);
        assert_eq!(id.safe_id().short().len(), 6);
    }

    #[test]
    fn other_lengths_are_refused() {
        for bytes in [0usize, 31, 33] {
            let text = BASE64.encode(&vec![0u8; bytes]);
            assert_eq!(SessionId::from_cookie(&text), Err(SessionIdError), "{bytes}");
        }
        assert_eq!(SessionId::from_cookie(&"!".repeat(44)), Err(SessionIdError));
    }
}
