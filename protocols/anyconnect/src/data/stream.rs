use std::ops::Range;

use culvert_record::{
    FrameKind, OpenError, OpenedFrame, PacketSealer, SealError, StreamOpened, StreamOpener, StreamSealer,
};
use culvert_tls::{ContentType, Opened, Opener, Sealer};

use crate::wire::{FRAME_HEADER_LEN, frame_header, parse_frame_header};

/// Most records over which one frame may be spread.
const RECORDS_PER_FRAME_MAX: u8 = 4;

/// Sends frames: each in exactly one TLS record, as real peers demand
/// (`specs/cstp-dtls.md` §1).
pub struct CstpSealer {
    tls: Sealer,
}

impl CstpSealer {
    /// Frames over these records.
    pub fn new(tls: Sealer) -> Self {
        Self { tls }
    }

    /// True when the record keys have protected as much as they should:
    /// [`StreamSealer::rekey`] is due.
    pub fn wants_rekey(&self) -> bool {
        self.tls.wants_key_update()
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

impl PacketSealer for CstpSealer {
    fn headroom(&self) -> usize {
        self.tls.headroom() + FRAME_HEADER_LEN
    }

    fn tailroom(&self) -> usize {
        self.tls.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.tls.sealed_len(FRAME_HEADER_LEN + len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let header = frame_header(kind, len).ok_or(SealError::Oversize)?;
        let at = self.tls.headroom();
        buffer
            .get_mut(at..at + FRAME_HEADER_LEN)
            .ok_or(SealError::Buffer)?
            .copy_from_slice(&header);
        self.tls
            .seal(ContentType::ApplicationData, buffer, FRAME_HEADER_LEN + len)
    }
}

impl StreamSealer for CstpSealer {
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.tls.key_update(request_peer, out)
    }
}

/// Receives frames. The normal case, one frame per record, is opened in place without copying;
/// frames that share a record or are spread over a few are accepted, too.
pub struct CstpOpener {
    tls: Opener,
    /// Plaintext not yet delivered; relative to the start of the caller's buffer.
    plain: Range<usize>,
    /// Octets from the start of the caller's buffer whose records are open already.
    opened: usize,
    /// Records that `plain` comes from.
    records: u8,
}

impl CstpOpener {
    /// Frames out of these records.
    pub fn new(tls: Opener) -> Self {
        Self {
            tls,
            plain: 0..0,
            opened: 0,
            records: 0,
        }
    }

    /// Takes the frame at the start of the plaintext, if it is complete.
    fn take_frame(&mut self, buffer: &[u8]) -> Result<Option<StreamOpened>, OpenError> {
        let plain = buffer.get(self.plain.clone()).ok_or(OpenError::Malformed)?;
        let Some(header) = plain.first_chunk() else {
            return Ok(None);
        };
        let (kind, len) = parse_frame_header(header).map_err(|_| OpenError::Malformed)?;
        if plain.len() < FRAME_HEADER_LEN + len {
            return Ok(None);
        }
        let start = self.plain.start + FRAME_HEADER_LEN;
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

impl StreamOpener for CstpOpener {
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
