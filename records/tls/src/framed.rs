//! Frames with a header in TLS records: what carries packets in the TLS channel of a protocol.

use std::marker::PhantomData;
use std::ops::Range;

use culvert_record::{
    FrameKind, OpenError, OpenedFrame, PacketSealer, SealError, StreamOpened, StreamOpener, StreamSealer,
};

use crate::{ContentType, Opened, Opener, Sealer};

/// Most records over which one frame may be spread.
const RECORDS_PER_FRAME_MAX: u8 = 4;

/// The header of a protocol's frames.
pub trait Framing: Send + 'static {
    /// Octets of the header.
    const HEADER_LEN: usize;

    /// Writes the header of a frame with this payload; `None` when there is none. `header` has
    /// [`Self::HEADER_LEN`] octets.
    fn write_header(header: &mut [u8], kind: FrameKind, payload: &[u8]) -> Option<()>;

    /// Kind and payload length of a frame with this header; `None` when it is none. `header` has
    /// [`Self::HEADER_LEN`] octets.
    fn parse_header(header: &[u8]) -> Option<(FrameKind, usize)>;
}

/// Sends frames: each in exactly one TLS record, as real peers demand.
pub struct FrameSealer<F> {
    tls: Sealer,
    framing: PhantomData<F>,
}

impl<F: Framing> FrameSealer<F> {
    /// Frames over these records.
    pub fn new(tls: Sealer) -> Self {
        Self {
            tls,
            framing: PhantomData,
        }
    }

    /// Appends the alert that closes this direction in an orderly way.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.tls.close_notify(out)
    }

    /// The records, for a hand-over to another process.
    pub fn into_inner(self) -> Sealer {
        self.tls
    }
}

impl<F: Framing> PacketSealer for FrameSealer<F> {
    fn headroom(&self) -> usize {
        self.tls.headroom() + F::HEADER_LEN
    }

    fn tailroom(&self) -> usize {
        self.tls.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.tls.sealed_len(F::HEADER_LEN + len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let (header, payload) = buffer
            .get_mut(self.tls.headroom()..)
            .and_then(|frame| frame.split_at_mut_checked(F::HEADER_LEN))
            .ok_or(SealError::Buffer)?;
        let payload = payload.get(..len).ok_or(SealError::Buffer)?;
        F::write_header(header, kind, payload).ok_or(SealError::Oversize)?;
        self.tls
            .seal(ContentType::ApplicationData, buffer, F::HEADER_LEN + len)
    }
}

impl<F: Framing> StreamSealer for FrameSealer<F> {
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.tls.key_update(request_peer, out)
    }

    fn wants_rekey(&self) -> bool {
        self.tls.wants_key_update()
    }
}

/// Receives frames. The normal case, one frame per record, is opened in place without copying;
/// frames that share a record or are spread over a few are accepted, too.
pub struct FrameOpener<F> {
    tls: Opener,
    framing: PhantomData<F>,
    /// Plaintext not yet delivered; relative to the start of the caller's buffer.
    plain: Range<usize>,
    /// Octets from the start of the caller's buffer whose records are open already.
    opened: usize,
    /// Records that `plain` comes from.
    records: u8,
}

impl<F: Framing> FrameOpener<F> {
    /// Frames out of these records.
    pub fn new(tls: Opener) -> Self {
        Self {
            tls,
            framing: PhantomData,
            plain: 0..0,
            opened: 0,
            records: 0,
        }
    }

    /// Takes the frame at the start of the plaintext, if it is complete.
    fn take_frame(&mut self, buffer: &[u8]) -> Result<Option<StreamOpened>, OpenError> {
        let plain = buffer.get(self.plain.clone()).ok_or(OpenError::Malformed)?;
        let Some(header) = plain.get(..F::HEADER_LEN) else {
            return Ok(None);
        };
        let (kind, len) = F::parse_header(header).ok_or(OpenError::Malformed)?;
        if plain.len() < F::HEADER_LEN + len {
            return Ok(None);
        }
        let start = self.plain.start + F::HEADER_LEN;
        let payload = start..start + len;
        let consumed = if payload.end == self.plain.end {
            self.opened
        } else {
            payload.end
        };
        self.opened -= consumed;
        self.plain = if self.opened == 0 {
            0..0
        } else {
            0..self.plain.end - consumed
        };
        self.records = u8::from(self.opened > 0);
        Ok(Some(StreamOpened::Frame {
            consumed,
            frame: OpenedFrame { kind, payload },
        }))
    }

    /// Appends the payload of the record that lies behind the opened ones.
    fn append(&mut self, buffer: &mut [u8], payload: Range<usize>, consumed: usize) {
        let payload = self.opened + payload.start..self.opened + payload.end;
        if self.plain.is_empty() {
            self.plain = payload;
        } else {
            // A frame goes on here: close the gap that the records' framing leaves.
            let len = payload.len();
            buffer.copy_within(payload, self.plain.end);
            self.plain.end += len;
        }
        self.opened += consumed;
    }
}

impl<F: Framing> StreamOpener for FrameOpener<F> {
    /// As the trait says; inside a frame that is spread over records, `KeyUpdateRequested` has
    /// `consumed` 0, and the octets before the rest of the frame stay in the buffer.
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
        loop {
            if !self.plain.is_empty()
                && let Some(frame) = self.take_frame(buffer)?
            {
                return Ok(frame);
            }
            if self.records == RECORDS_PER_FRAME_MAX {
                return Err(OpenError::Malformed);
            }
            let rest = buffer.get_mut(self.opened..).ok_or(OpenError::Malformed)?;
            let within_frame = !self.plain.is_empty();
            match self.tls.open(rest)? {
                Opened::Incomplete { need } => {
                    return Ok(StreamOpened::Incomplete {
                        need: self.opened + need,
                    });
                }
                Opened::ApplicationData { consumed, payload } => {
                    self.append(buffer, payload, consumed);
                    self.records += 1;
                }
                Opened::Closed { consumed } => {
                    return Ok(StreamOpened::Closed {
                        consumed: self.opened + consumed,
                    });
                }
                Opened::Ignored { consumed }
                | Opened::KeyUpdate {
                    consumed,
                    requested: false,
                } => {
                    if !within_frame {
                        return Ok(StreamOpened::Skipped { consumed });
                    }
                    self.opened += consumed;
                    self.records += 1;
                }
                Opened::KeyUpdate {
                    consumed,
                    requested: true,
                } => {
                    if !within_frame {
                        return Ok(StreamOpened::KeyUpdateRequested { consumed });
                    }
                    self.opened += consumed;
                    self.records += 1;
                    return Ok(StreamOpened::KeyUpdateRequested { consumed: 0 });
                }
            }
        }
    }
}
