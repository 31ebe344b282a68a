//! Encoding of messages.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Longest message on any channel between the server's processes, in octets.
pub(crate) const MAX_MESSAGE: usize = 128 * 1024;

/// Bytes that are no message of the expected kind. A worker that sends such bytes is killed;
/// from a privileged process they end the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the encoding of a valid message: unknown kind, truncated, a field out of bounds.
    #[error("malformed message ({0})")]
    Encoding(postcard::Error),
    /// Octets after the end of the message.
    #[error("{0} octets after the end of a message")]
    Trailing(usize),
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("a message of {0} octets")]
    Oversize(usize),
    /// More or fewer descriptors than this message carries.
    #[error("{found} descriptors with a message that carries {expected}")]
    Descriptors {
        /// What the message kind carries.
        expected: usize,
        /// What came with it.
        found: usize,
    },
}

/// Encodes a message. The bytes are wiped after use, since many messages carry secrets.
///
/// # Errors
/// The message is longer than [`MAX_MESSAGE`] or a field breaks its own bounds.
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let bytes = postcard::to_stdvec(message)
        .map(Zeroizing::new)
        .map_err(Malformed::Encoding)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(Malformed::Oversize(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes one message, which must fill `bytes` exactly. Memory use is bounded by the length of
/// `bytes`, and every field is validated by its type.
///
/// # Errors
/// See [`Malformed`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    if bytes.len() > MAX_MESSAGE {
        return Err(Malformed::Oversize(bytes.len()));
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(Malformed::Encoding)?;
    if !rest.is_empty() {
        return Err(Malformed::Trailing(rest.len()));
    }
    Ok(message)
}
