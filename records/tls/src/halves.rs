//! The two halves of a connection that has been taken over.

use culvert_record::{OpenError, SealError};

use crate::opener::{KeyedOpener, Progress};
use crate::protection::KeyState;
use crate::sealer::KeyedSealer;
use crate::{ContentType, Opened, TlsError};

/// Sending half of the record layer of another TLS library.
pub trait ForeignSealer: Send {
    /// Octets to leave free before the payload.
    fn headroom(&self) -> usize;

    /// Most octets that the record adds after the payload.
    fn tailroom(&self) -> usize;

    /// Seals application data as [`Sealer::seal`] does.
    ///
    /// # Errors
    /// See [`SealError`]; the buffer must not be sent then.
    fn seal(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError>;

    /// Appends what the library wants to say by itself: answers of a handshake.
    fn flush(&mut self, out: &mut Vec<u8>);

    /// Appends the alert that closes this direction in an orderly way.
    ///
    /// # Errors
    /// The library cannot make it.
    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), SealError>;
}

/// Receiving half of the record layer of another TLS library.
pub trait ForeignOpener: Send {
    /// Opens the record at the start of `buffer`, at most one per call. When the library has
    /// something to send by itself, that is an [`Opened::KeyUpdate`] which asks for an answer.
    ///
    /// # Errors
    /// Every error ends the connection.
    fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, OpenError>;
}

/// Sending half of a TLS connection: seals one record at a time, in place, without allocation.
pub struct Sealer(SealerKind);

enum SealerKind {
    Keyed(KeyedSealer),
    Foreign(Box<dyn ForeignSealer>),
}

impl Sealer {
    pub(crate) fn new(state: KeyState) -> Result<Self, TlsError> {
        Ok(Self(SealerKind::Keyed(KeyedSealer::new(state)?)))
    }

    /// The sending half of another library.
    pub fn foreign(sealer: Box<dyn ForeignSealer>) -> Self {
        Self(SealerKind::Foreign(sealer))
    }

    /// The keys, unless another library has them.
    pub(crate) fn into_state(self) -> Option<KeyState> {
        match self.0 {
            SealerKind::Keyed(sealer) => Some(sealer.into_state()),
            SealerKind::Foreign(_) => None,
        }
    }

    /// Octets to leave free before the payload.
    pub fn headroom(&self) -> usize {
        match &self.0 {
            SealerKind::Keyed(sealer) => sealer.headroom(),
            SealerKind::Foreign(sealer) => sealer.headroom(),
        }
    }

    /// Most octets that the record adds after the payload.
    pub fn tailroom(&self) -> usize {
        match &self.0 {
            SealerKind::Keyed(sealer) => sealer.tailroom(),
            SealerKind::Foreign(sealer) => sealer.tailroom(),
        }
    }

    /// Octets on the wire of a payload of `len` octets (at most, when another library seals).
    pub fn sealed_len(&self, len: usize) -> usize {
        match &self.0 {
            SealerKind::Keyed(sealer) => sealer.sealed_len(len),
            SealerKind::Foreign(sealer) => sealer.headroom() + len + sealer.tailroom(),
        }
    }

    /// Seals `buffer[headroom..headroom + len]` in place; the finished record begins at
    /// `buffer[0]` and is as long as the returned number says. Another library seals application
    /// data only.
    ///
    /// # Errors
    /// The buffer is smaller than [`Self::sealed_len`], the payload larger than 16384 octets, or
    /// the sequence numbers are used up. The buffer must not be sent then.
    pub fn seal(
        &mut self,
        content_type: ContentType,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        match &mut self.0 {
            SealerKind::Keyed(sealer) => sealer.seal(content_type, buffer, len),
            SealerKind::Foreign(sealer) if content_type == ContentType::ApplicationData => {
                sealer.seal(buffer, len)
            }
            SealerKind::Foreign(_) => Err(SealError::Oversize),
        }
    }

    /// True when the keys have protected as much as one key should and [`Self::key_update`] is due.
    pub fn wants_key_update(&self) -> bool {
        match &self.0 {
            SealerKind::Keyed(sealer) => sealer.wants_key_update(),
            SealerKind::Foreign(_) => false,
        }
    }

    /// Appends a KeyUpdate message to `out` and switches to new keys; `request_peer` asks the peer
    /// to renew its own. TLS 1.2 has no such message: nothing happens. Another library adds its
    /// answer to the peer.
    ///
    /// # Errors
    /// See [`Self::seal`].
    pub fn key_update(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        match &mut self.0 {
            SealerKind::Keyed(sealer) => sealer.key_update(request_peer, out),
            SealerKind::Foreign(sealer) => {
                sealer.flush(out);
                Ok(())
            }
        }
    }

    /// Appends the alert that closes this direction in an orderly way.
    ///
    /// # Errors
    /// See [`Self::seal`].
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        match &mut self.0 {
            SealerKind::Keyed(sealer) => sealer.close_notify(out),
            SealerKind::Foreign(sealer) => sealer.close_notify(out),
        }
    }
}

/// Receiving half of a TLS connection: opens one record at a time, in place, without allocation.
pub struct Opener(OpenerKind);

enum OpenerKind {
    Keyed(KeyedOpener),
    Foreign(Box<dyn ForeignOpener>),
}

impl Opener {
    pub(crate) fn new(state: KeyState, progress: Progress) -> Result<Self, TlsError> {
        Ok(Self(OpenerKind::Keyed(KeyedOpener::new(state, progress)?)))
    }

    /// The receiving half of another library.
    pub fn foreign(opener: Box<dyn ForeignOpener>) -> Self {
        Self(OpenerKind::Foreign(opener))
    }

    /// The keys, unless another library has them.
    pub(crate) fn into_parts(self) -> Option<(KeyState, Progress)> {
        match self.0 {
            OpenerKind::Keyed(opener) => Some(opener.into_parts()),
            OpenerKind::Foreign(_) => None,
        }
    }

    /// Opens the record at the start of `buffer`, at most one per call.
    ///
    /// # Errors
    /// Every error ends the connection. [`OpenError::Alert`] is the peer's,
    /// [`OpenError::Renegotiation`] a handshake message in TLS 1.2.
    pub fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, OpenError> {
        match &mut self.0 {
            OpenerKind::Keyed(opener) => opener.open(buffer),
            OpenerKind::Foreign(opener) => opener.open(buffer),
        }
    }
}
