use std::time::Instant;

use culvert_dtls::{ApplicationSealer, Connection, Error, Opened};
use culvert_record::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenedFrame, PacketSealer, SealError,
};

use crate::wire::{frame_kind, type_octet};

/// Octets of the frame type before each payload.
const TYPE_LEN: usize = 1;

/// The UDP channel: one frame per DTLS record, a type octet before the payload
/// (`specs/cstp-dtls.md` §12.1).
pub struct DtlsChannel {
    dtls: Connection,
}

impl DtlsChannel {
    /// Frames over this association, which may still be in its handshake.
    pub fn new(dtls: Connection) -> Self {
        Self { dtls }
    }

    /// The association.
    pub fn connection(&self) -> &Connection {
        &self.dtls
    }

    /// Most octets that a record and the type octet add to a payload.
    pub fn record_overhead(&self) -> usize {
        self.dtls.record_overhead() + TYPE_LEN
    }

    /// Ends the association; [`DatagramChannel::poll_transmit`] then has the alert.
    pub fn close(&mut self) {
        self.dtls.close();
    }

    /// The association, for a hand-over to another process.
    pub fn into_inner(self) -> Connection {
        self.dtls
    }
}

/// The sealing half of a [`DtlsChannel`].
pub struct DtlsSealer(ApplicationSealer);

impl PacketSealer for DtlsSealer {
    fn headroom(&self) -> usize {
        self.0.headroom() + TYPE_LEN
    }

    fn tailroom(&self) -> usize {
        self.0.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.0.sealed_len(TYPE_LEN + len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        *buffer.get_mut(self.0.headroom()).ok_or(SealError::Buffer)? = type_octet(kind);
        self.0.seal_application(buffer, TYPE_LEN + len)
    }
}

impl PacketSealer for DtlsChannel {
    fn headroom(&self) -> usize {
        self.dtls.headroom() + TYPE_LEN
    }

    fn tailroom(&self) -> usize {
        self.dtls.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.dtls.sealed_len(TYPE_LEN + len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        *buffer.get_mut(self.dtls.headroom()).ok_or(SealError::Buffer)? = type_octet(kind);
        self.dtls.seal_application(buffer, TYPE_LEN + len)
    }
}

impl DatagramChannel for DtlsChannel {
    type Sealer = DtlsSealer;

    fn take_sealer(&mut self) -> Option<DtlsSealer> {
        self.dtls.take_sealer().map(DtlsSealer)
    }

    fn put_sealer(&mut self, sealer: DtlsSealer) {
        self.dtls.put_sealer(sealer.0);
    }

    fn state(&self) -> ChannelState {
        self.dtls.state()
    }

    fn is_refused(&self) -> bool {
        self.dtls.failure() == Some(&Error::ResumptionRefused)
    }

    fn open(&mut self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
        let (consumed, payload) = match self.dtls.open_record(now, datagram) {
            Opened::Nothing { consumed } => return DatagramOpened::Nothing { consumed },
            Opened::Application { consumed, payload } => (consumed, payload),
        };
        match datagram.get(payload.start) {
            Some(&octet) if !payload.is_empty() => DatagramOpened::Frame {
                consumed,
                frame: OpenedFrame {
                    kind: frame_kind(octet),
                    payload: payload.start + TYPE_LEN..payload.end,
                },
            },
            _ => DatagramOpened::Nothing { consumed },
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dtls.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.dtls.poll_transmit()
    }

    fn start_rekey(&mut self, now: Instant) -> bool {
        self.dtls.start_rekey(now)
    }

    fn description(&self) -> Option<&str> {
        self.dtls.description()
    }
}
