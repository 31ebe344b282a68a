//! Framing of the control socket: four bytes of length (little-endian) and a postcard message.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest request, in bytes without the length: names are short.
pub const REQUEST_MAX: usize = 4096;
/// Longest reply frame, in bytes without the length: one connection with its lists.
pub const REPLY_MAX: usize = 1 << 20;

/// Length of the length.
const HEADER: usize = 4;

/// Why a frame cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More bytes than the limit of its direction.
    #[error("control message of {size} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Bytes announced or needed.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not a message of this version.
    #[error("malformed control message")]
    Malformed(#[from] postcard::Error),
    /// Bytes after the message within its frame.
    #[error("control message with {0} superfluous bytes")]
    Trailing(usize),
}

/// One message as a frame.
///
/// # Errors
/// The message is longer than `limit` ([`REQUEST_MAX`] or [`REPLY_MAX`]).
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message)?;
    if body.len() > limit {
        return Err(FrameError::TooLong {
            size: body.len(),
            limit,
        });
    }
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong {
        size: body.len(),
        limit,
    })?;
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Collects received bytes and gives whole messages. Holds at most one frame plus what one call
/// to [`FrameBuffer::extend`] added.
#[derive(Debug)]
pub struct FrameBuffer {
    limit: usize,
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Accepts frames of up to `limit` bytes ([`REQUEST_MAX`] or [`REPLY_MAX`]).
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: Vec::new(),
        }
    }

    /// Adds bytes from the socket. Drain with [`FrameBuffer::next_message`] after each call.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The frame is too long or is not a `T`; the connection is then useless.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let size = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if size > self.limit {
            return Err(FrameError::TooLong {
                size,
                limit: self.limit,
            });
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + size) else {
            return Ok(None);
        };
        let (message, rest) = postcard::take_from_bytes(body)?;
        if !rest.is_empty() {
            return Err(FrameError::Trailing(rest.len()));
        }
        self.bytes.drain(..HEADER + size);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Reply, Request};
    use proptest::prelude::*;

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let first = Request::DisconnectUser("alice".into());
        let mut wire = encode(&first, REQUEST_MAX).expect("short");
        wire.extend(encode(&Request::Status, REQUEST_MAX).expect("short"));
        let mut buffer = FrameBuffer::new(REQUEST_MAX);
        let mut seen = Vec::new();
        for byte in wire {
            buffer.extend(&[byte]);
            seen.extend(buffer.next_message::<Request>().expect("well-formed"));
        }
        assert_eq!(seen, [first, Request::Status]);
    }

    #[test]
    fn long_and_malformed_frames_are_refused() {
        let name = "x".repeat(REQUEST_MAX);
        assert!(matches!(
            encode(&Request::User(name), REQUEST_MAX),
            Err(FrameError::TooLong { .. })
        ));

        let mut buffer = FrameBuffer::new(REQUEST_MAX);
        buffer.extend(&u32::MAX.to_le_bytes());
        assert!(matches!(
            buffer.next_message::<Request>(),
            Err(FrameError::TooLong { .. })
        ));

        let mut buffer = FrameBuffer::new(REQUEST_MAX);
        buffer.extend(&[1, 0, 0, 0, 0xff]);
        assert!(matches!(
            buffer.next_message::<Request>(),
            Err(FrameError::Malformed(_))
        ));

        let mut buffer = FrameBuffer::new(REQUEST_MAX);
        buffer.extend(&[2, 0, 0, 0, 0, 0]);
        assert!(matches!(
            buffer.next_message::<Request>(),
            Err(FrameError::Trailing(1))
        ));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = FrameBuffer::new(REPLY_MAX);
            buffer.extend(&bytes);
            while let Ok(Some(_)) = buffer.next_message::<Reply>() {}
        }
    }
}
