//! What every record layer offers to the packet path: one half that seals packets and one that
//! opens them, sharing nothing.
//!
//! The packet path writes a packet into a buffer at [`PacketSealer::headroom`] and seals it in
//! place; it receives wire bytes and opens them in place. So a packet is copied once (out of the
//! super-packet that the TUN device delivered) and then only touched by the cipher.
//! Implementations never allocate per packet, take no lock and make no system call.

#![forbid(unsafe_code)]

mod boxed;

use std::any::Any;
use std::ops::Range;

pub use boxed::{AnyDatagramChannel, erase};

/// What one frame of a tunnel carries, in any protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// One IP packet.
    Data,
    /// One IP packet, compressed.
    Compressed,
    /// Dead peer detection: "are you there?"
    ProbeRequest,
    /// Answer to a probe.
    ProbeResponse,
    /// Nothing; keeps middleboxes and the peer's timers quiet.
    Keepalive,
    /// The peer ends the session. The payload is the reason in the protocol's own form.
    Disconnect,
    /// A frame type that the protocol knows and the packet path does not.
    Other(u8),
}

/// A packet could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The buffer has no room for the record; a bug of the caller.
    #[error("the buffer is too small for the sealed record")]
    Buffer,
    /// The payload does not fit one record.
    #[error("the payload does not fit one record")]
    Oversize,
    /// The sequence numbers of this key are used up: rekey or end the session.
    #[error("the record sequence numbers are exhausted")]
    Exhausted,
}

/// Received bytes are no acceptable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a well-formed record or frame.
    #[error("malformed record")]
    Malformed,
    /// The record does not authenticate under the current keys.
    #[error("record authentication failed")]
    Authentication,
    /// The record was seen before, or is too old for the replay window.
    #[error("replayed record")]
    Replay,
    /// The record belongs to no epoch, association or session that is open here.
    #[error("record of an unknown epoch or association")]
    Unknown,
    /// The peer ended the channel with this fatal alert (RFC 8446 §6.2).
    #[error("the peer sent the fatal TLS alert {0}")]
    Alert(u8),
    /// The peer wants to renegotiate the keys in a way that is not supported (TLS 1.2).
    #[error("the peer asked for a renegotiation, which is not supported")]
    Renegotiation,
}

/// Seals packets of one session in one direction; shares nothing with the half that opens, so
/// that it may work on another thread.
pub trait PacketSealer: Any + Send {
    /// Octets to leave free before the payload.
    fn headroom(&self) -> usize;

    /// Most octets that a record adds after the payload.
    fn tailroom(&self) -> usize;

    /// Length on the wire of a payload of `len` octets. The packet path groups packets of equal
    /// wire length into one system call.
    fn sealed_len(&self, len: usize) -> usize;

    /// Seals in place. The payload occupies `buffer[headroom..headroom + len]`; the finished
    /// record begins at `buffer[0]`. `buffer` must have at least `headroom + len + tailroom`
    /// octets. Returns the length of the record.
    ///
    /// # Errors
    /// See [`SealError`]; the buffer's content is then unspecified and must not be sent.
    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError>;

    /// As [`Self::seal`], but may leave work to [`Self::complete`], for record layers that do that of
    /// many records at a time. Until then the record must not be sent: its payload may be clear.
    ///
    /// # Errors
    /// As [`Self::seal`].
    fn prepare(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.seal(kind, buffer, len)
    }

    /// Completes all records that were prepared since the last call: `records` has them one behind
    /// the other, `lengths` their lengths.
    fn complete(&mut self, records: &mut [u8], lengths: &mut dyn Iterator<Item = usize>) {
        let _ = (records, lengths);
    }
}

/// One opened frame: its kind and where its payload lies in the buffer it was opened in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedFrame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Position of the payload in the buffer.
    pub payload: Range<usize>,
}

/// What [`StreamOpener::open`] found at the beginning of a stream's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamOpened {
    /// No complete record yet; at least `need` octets in all are wanted.
    Incomplete {
        /// Octets that the record needs, from the start of the buffer.
        need: usize,
    },
    /// A record without meaning for the packet path.
    Skipped {
        /// Octets to drop from the start of the buffer.
        consumed: usize,
    },
    /// The peer renewed its sending keys and asks for ours to be renewed
    /// (TLS 1.3 KeyUpdate, update_requested): call [`StreamSealer::rekey`].
    KeyUpdateRequested {
        /// Octets to drop from the start of the buffer.
        consumed: usize,
    },
    /// The peer closed the channel in an orderly way.
    Closed {
        /// Octets to drop from the start of the buffer.
        consumed: usize,
    },
    /// A frame; its payload range is relative to the buffer given.
    Frame {
        /// Octets to drop from the start of the buffer once the payload has been used.
        consumed: usize,
        /// The frame.
        frame: OpenedFrame,
    },
}

/// Opens the frames of a byte stream (TLS and what lies in it) in place.
pub trait StreamOpener {
    /// Looks at the start of `buffer`. After `Frame`, `Skipped` and the like the caller drops
    /// `consumed` octets and calls again with the rest; one call opens at most one record.
    ///
    /// # Errors
    /// Every error ends the stream: its octets cannot be trusted any more.
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError>;

    /// Restores a packet that came as [`FrameKind::Compressed`] into `out` and returns its length;
    /// `None` when no compression was agreed on, or the packet is malformed or too long.
    fn decompress(&self, _packet: &[u8], _out: &mut [u8]) -> Option<usize> {
        None
    }
}

/// Seals the frames of a byte stream.
pub trait StreamSealer: PacketSealer {
    /// Appends a message to `out` that announces new sending keys, and switches to them.
    /// Does nothing where the protocol has no such message (TLS 1.2).
    ///
    /// # Errors
    /// See [`SealError`].
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError>;

    /// True when the keys have protected as much as they should: [`Self::rekey`] is due.
    fn wants_rekey(&self) -> bool {
        false
    }
}

/// Where a datagram channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// Handshake or probing in progress.
    Connecting,
    /// Ready for packets.
    Established,
    /// Given up, refused or closed by the peer; a new channel has to be made.
    Failed,
}

/// What [`DatagramChannel::open`] found at the beginning of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatagramOpened {
    /// Nothing for the packet path in the next `consumed` octets (handshake, replay, junk).
    Nothing {
        /// Octets to skip; at least 1 unless the datagram is empty.
        consumed: usize,
    },
    /// A frame; its payload range is relative to the buffer given.
    Frame {
        /// Octets to skip once the payload has been used.
        consumed: usize,
        /// The frame.
        frame: OpenedFrame,
    },
}

/// One UDP channel of a session (DTLS, ESP): handshake state machine plus both record halves.
/// Sans-IO: datagrams and `now` in, datagrams, frames and the next deadline out.
pub trait DatagramChannel: PacketSealer {
    /// The sealing half alone.
    type Sealer: PacketSealer;

    /// Takes the sealing half out, for another thread; `None` unless established and at rest
    /// (no handshake). Until [`Self::put_sealer`] this channel only opens: sealing fails with
    /// [`SealError::Exhausted`], and what the channel would answer by itself is not sent.
    fn take_sealer(&mut self) -> Option<Self::Sealer>;

    /// Puts the sealing half back.
    fn put_sealer(&mut self, sealer: Self::Sealer);

    /// Present state.
    fn state(&self) -> ChannelState;

    /// True when the state is `Failed` because the peer refuses such a channel: another attempt
    /// would fare no better.
    fn is_refused(&self) -> bool {
        false
    }

    /// Opens the next record of a received datagram in place. The caller repeats with the rest
    /// of the datagram until it is used up. Invalid records are dropped silently.
    fn open(&mut self, now: std::time::Instant, datagram: &mut [u8]) -> DatagramOpened;

    /// Looks at datagrams of `segment` octets each (the last may be shorter) which will be opened
    /// next, for record layers that check many at a time. A set bit, from the lowest on, says that
    /// this datagram is authentic.
    fn check_run(&self, run: &[u8], segment: usize) -> u64 {
        let _ = (run, segment);
        0
    }

    /// As [`Self::open`] for a datagram that [`Self::check_run`] has found authentic and that has not
    /// been changed since.
    fn open_checked(&mut self, now: std::time::Instant, datagram: &mut [u8]) -> DatagramOpened {
        self.open(now, datagram)
    }

    /// Restores a packet that came as [`FrameKind::Compressed`] into `out` and returns its length;
    /// `None` when no compression was agreed on, or the packet is malformed or too long.
    fn decompress(&self, _packet: &[u8], _out: &mut [u8]) -> Option<usize> {
        None
    }

    /// To be called at or after [`Self::poll_timeout`].
    fn handle_timeout(&mut self, now: std::time::Instant);

    /// When [`Self::handle_timeout`] wants to be called; `None` when nothing is pending.
    fn poll_timeout(&self) -> Option<std::time::Instant>;

    /// The next datagram of the handshake (or alert, or probe) to send, until `None`.
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;

    /// Starts a renewal of the keys inside the channel, if the protocol has one and this side
    /// may start it; returns false otherwise.
    fn start_rekey(&mut self, now: std::time::Instant) -> bool;

    /// Queues a probe of the peer in the protocol's own form for [`Self::poll_transmit`], or
    /// leaves probing to the peer. Returns false where a frame of kind
    /// [`FrameKind::ProbeRequest`] is the probe.
    fn send_probe(&mut self, now: std::time::Instant) -> bool {
        let _ = now;
        false
    }

    /// Cipher description for logs and tools, e.g. `(DTLS1.2)-(PSK)-(AES-256-GCM)`; known once
    /// the channel is established.
    fn description(&self) -> Option<&str>;
}
