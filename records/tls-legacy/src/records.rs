//! OpenSSL's record layer for the packet path. The two halves share one OpenSSL object, which is
//! locked for each record: a connection to an old gateway need not be fast.

use std::sync::{Arc, Mutex, PoisonError};

use culvert_record::{OpenError, SealError};
use culvert_tls::{ForeignOpener, ForeignSealer, Opened};
use openssl::ssl::{ErrorCode, SslStream};

use crate::pipe::Pipe;

/// Octets of a record's header.
pub(crate) const HEADER_LEN: usize = 5;
/// Largest body of a record in any version (RFC 5246 §6.2.3).
pub(crate) const BODY_MAX: usize = 16384 + 2048;
/// Header, initialization vector, the longest MAC, and the padding of a block.
const EXPANSION_MAX: usize = HEADER_LEN + 16 + 48 + 16;

type Shared = Arc<Mutex<SslStream<Pipe>>>;

pub(crate) struct LegacySealer(pub(crate) Shared);

impl ForeignSealer for LegacySealer {
    fn headroom(&self) -> usize {
        0
    }

    fn tailroom(&self) -> usize {
        EXPANSION_MAX
    }

    fn seal(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let payload = buffer.get(..len).ok_or(SealError::Buffer)?;
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // During a renegotiation nothing can be written: the session connects again.
        stream.ssl_write(payload).map_err(|_| SealError::Exhausted)?;
        let output = &mut stream.get_mut().output;
        let len = output.len();
        buffer
            .get_mut(..len)
            .ok_or(SealError::Buffer)?
            .copy_from_slice(output);
        output.clear();
        Ok(len)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.append(&mut stream.get_mut().output);
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.shutdown().map_err(|_| SealError::Exhausted)?;
        out.append(&mut stream.get_mut().output);
        Ok(())
    }
}

pub(crate) struct LegacyOpener(pub(crate) Shared);

impl ForeignOpener for LegacyOpener {
    fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, OpenError> {
        let Some(&[_, major, _, high, low]) = buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(Opened::Incomplete { need: HEADER_LEN });
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 || len > BODY_MAX {
            return Err(OpenError::Malformed);
        }
        let consumed = HEADER_LEN + len;
        let Some(record) = buffer.get_mut(..consumed) else {
            return Ok(Opened::Incomplete { need: consumed });
        };
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.get_mut().input.extend(record.iter());
        match stream.ssl_read(record) {
            Ok(len) => Ok(Opened::ApplicationData {
                consumed,
                payload: 0..len,
            }),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Ok(Opened::KeyUpdate {
                    consumed,
                    requested: !stream.get_ref().output.is_empty(),
                }),
                ErrorCode::ZERO_RETURN => Ok(Opened::Closed { consumed }),
                _ => Err(OpenError::Authentication),
            },
        }
    }
}
