//! Field types of messages that carry their own bounds: what decodes is within them.

use std::fmt;

use culvert_vocab::{SecretBytes, SecretString};
use serde::{Deserialize, Serialize};

/// A field was longer than its type allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field of {len} octets where {max} are allowed")]
pub struct FieldTooLong {
    /// What was given.
    pub len: usize,
    /// What is allowed.
    pub max: usize,
}

fn bounded(len: usize, max: usize) -> Result<(), FieldTooLong> {
    if len > max {
        Err(FieldTooLong { len, max })
    } else {
        Ok(())
    }
}

/// UTF-8 text of at most `MAX` octets. It may hold control characters: it comes from a client
/// and must be escaped before it reaches a log, a terminal or a script.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes text within the bound.
    ///
    /// # Errors
    /// The text is longer than `MAX` octets.
    pub fn new(text: String) -> Result<Self, FieldTooLong> {
        bounded(text.len(), MAX)?;
        Ok(Self(text))
    }

    /// As much of `text` as fits, cut at a character boundary.
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text.get(..end).unwrap_or_default().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = FieldTooLong;

    fn try_from(text: String) -> Result<Self, FieldTooLong> {
        Self::new(text)
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> String {
        text.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Octets, at most `MAX` of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Bytes<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Bytes<MAX> {
    /// Takes octets within the bound.
    ///
    /// # Errors
    /// There are more than `MAX` octets.
    pub fn new(bytes: Vec<u8>) -> Result<Self, FieldTooLong> {
        bounded(bytes.len(), MAX)?;
        Ok(Self(bytes))
    }

    /// The octets.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The octets, moved out.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> TryFrom<Vec<u8>> for Bytes<MAX> {
    type Error = FieldTooLong;

    fn try_from(bytes: Vec<u8>) -> Result<Self, FieldTooLong> {
        Self::new(bytes)
    }
}

impl<const MAX: usize> From<Bytes<MAX>> for Vec<u8> {
    fn from(bytes: Bytes<MAX>) -> Vec<u8> {
        bytes.0
    }
}

/// Secret text of at most `MAX` octets (a password): wiped, never printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SecretString", into = "SecretString")]
pub struct SecretText<const MAX: usize>(SecretString);

impl<const MAX: usize> SecretText<MAX> {
    /// Takes a secret within the bound.
    ///
    /// # Errors
    /// The text is longer than `MAX` octets.
    pub fn new(secret: SecretString) -> Result<Self, FieldTooLong> {
        bounded(secret.expose().len(), MAX)?;
        Ok(Self(secret))
    }

    /// The secret.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<SecretString> for SecretText<MAX> {
    type Error = FieldTooLong;

    fn try_from(secret: SecretString) -> Result<Self, FieldTooLong> {
        Self::new(secret)
    }
}

impl<const MAX: usize> From<SecretText<MAX>> for SecretString {
    fn from(text: SecretText<MAX>) -> SecretString {
        text.0
    }
}

/// Secret octets, at most `MAX` of them: wiped, never printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SecretBytes", into = "SecretBytes")]
pub struct SecretField<const MAX: usize>(SecretBytes);

impl<const MAX: usize> SecretField<MAX> {
    /// Takes secret octets within the bound.
    ///
    /// # Errors
    /// There are more than `MAX` octets.
    pub fn new(secret: SecretBytes) -> Result<Self, FieldTooLong> {
        bounded(secret.len(), MAX)?;
        Ok(Self(secret))
    }

    /// The octets.
    pub fn secret(&self) -> &SecretBytes {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<SecretBytes> for SecretField<MAX> {
    type Error = FieldTooLong;

    fn try_from(secret: SecretBytes) -> Result<Self, FieldTooLong> {
        Self::new(secret)
    }
}

impl<const MAX: usize> From<SecretField<MAX>> for SecretBytes {
    fn from(field: SecretField<MAX>) -> SecretBytes {
        field.0
    }
}
