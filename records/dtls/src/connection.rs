//! One DTLS association.

use std::ops::Range;
use std::time::Instant;

use culvert_record::{ChannelState, SealError};
use serde::{Deserialize, Serialize};

use crate::{ClientConfig, Error, Random, ServerConfig};

/// One DTLS association with one peer: handshake and both record halves.
pub struct Connection {
    failure: Option<Error>,
}

/// What [`Connection::open_record`] found at the beginning of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing for the application in the next `consumed` octets (handshake, replay, junk).
    Nothing {
        /// Octets to skip; at least 1 unless the datagram is empty.
        consumed: usize,
    },
    /// Application data, decrypted in place.
    Application {
        /// Octets to skip once the payload has been used.
        consumed: usize,
        /// Position of the payload in the buffer given.
        payload: Range<usize>,
    },
}

/// An established association on its way to another process. Secret: contains keys.
#[derive(Serialize, Deserialize)]
pub struct HandOver {
    verify_data: Vec<u8>,
}

impl Connection {
    /// A client that begins its handshake at once: see [`Self::poll_transmit`].
    pub fn client(config: ClientConfig, now: Instant) -> Self {
        Self::client_with_random(config, now, Box::new(crate::SystemRandom))
    }

    /// As [`Self::client`], with another source of random octets.
    pub fn client_with_random(_config: ClientConfig, _now: Instant, _random: Box<dyn Random>) -> Self {
        Self { failure: None }
    }

    /// A server that waits for a ClientHello; the handshake's time limit starts now.
    pub fn server(config: ServerConfig, now: Instant) -> Self {
        Self::server_with_random(config, now, Box::new(crate::SystemRandom))
    }

    /// As [`Self::server`], with another source of random octets.
    pub fn server_with_random(_config: ServerConfig, _now: Instant, _random: Box<dyn Random>) -> Self {
        Self { failure: None }
    }

    /// Present state. A rehandshake leaves the state `Established`.
    pub fn state(&self) -> ChannelState {
        ChannelState::Connecting
    }

    /// Why the state is [`ChannelState::Failed`].
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Octets to leave free before the application data. May change with a rehandshake.
    pub fn headroom(&self) -> usize {
        0
    }

    /// Most octets that a record adds after the application data. May change with a rehandshake.
    pub fn tailroom(&self) -> usize {
        0
    }

    /// Length of the record for `len` octets of application data.
    pub fn sealed_len(&self, len: usize) -> usize {
        len
    }

    /// Most octets that a record adds to application data.
    pub fn record_overhead(&self) -> usize {
        self.headroom() + self.tailroom()
    }

    /// Seals `len` octets of application data in place. They occupy
    /// `buffer[headroom..headroom + len]`; the record begins at `buffer[0]`. Returns its length.
    ///
    /// # Errors
    /// [`SealError::Buffer`] when `buffer` is shorter than headroom, `len` and tailroom together;
    /// [`SealError::Oversize`] when `len` exceeds 16384 or what the peer accepts;
    /// [`SealError::Exhausted`] unless established.
    pub fn seal_application(&mut self, _buffer: &mut [u8], _len: usize) -> Result<usize, SealError> {
        Err(SealError::Exhausted)
    }

    /// Opens the next record of a received datagram in place; the caller repeats with the rest
    /// until the datagram is used up, then sends what [`Self::poll_transmit`] has.
    /// Invalid records are dropped silently.
    pub fn open_record(&mut self, _now: Instant, datagram: &mut [u8]) -> Opened {
        Opened::Nothing { consumed: datagram.len() }
    }

    /// The next datagram of the handshake, or alert, to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` when nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Retransmits or gives up; to be called at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Begins a rehandshake inside the association (client only). Data flows on meanwhile.
    /// Returns false when this is a server, not established, already in a rehandshake, or the
    /// peer lacks secure renegotiation.
    pub fn start_rekey(&mut self, _now: Instant) -> bool {
        false
    }

    /// True while a rehandshake is under way.
    pub fn is_rekeying(&self) -> bool {
        false
    }

    /// Description as GnuTLS prints it, e.g. `(DTLS1.2)-(PSK)-(AES-256-GCM)`; `None` before the
    /// handshake is complete.
    pub fn description(&self) -> Option<&'static str> {
        None
    }

    /// Ends the association: queues a close_notify alert; the state becomes `Failed`.
    pub fn close(&mut self) {
        self.failure = Some(Error::Closed);
    }

    /// Gives the established association away, to continue in another process.
    /// `None` unless established with no rehandshake under way; the association is then lost.
    pub fn into_hand_over(self, _now: Instant) -> Option<HandOver> {
        None
    }

    /// Continues an association that [`Self::into_hand_over`] gave away.
    ///
    /// # Errors
    /// [`Error::HandOver`] when the state is inconsistent.
    pub fn from_hand_over(_state: HandOver, _now: Instant) -> Result<Self, Error> {
        Ok(Self { failure: None })
    }
}
