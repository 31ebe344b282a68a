//! Record layers that hide nothing but notice every changed octet: enough to move packets.

#![allow(dead_code, reason = "each test program uses its part")]

use std::time::{Duration, Instant};

use culvert_record::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenError, OpenedFrame, PacketSealer,
    SealError, StreamOpened, StreamOpener, StreamSealer,
};

/// Length (2), kind, number.
const HEADER: usize = 4;
/// XOR of everything before it.
const TRAILER: usize = 1;
const MASK: u8 = 0x5a;
/// Kinds of the key update messages of a stream: one that asks for an answer, and one that does not.
const KEY_UPDATE_REQUEST: u8 = 200;
const KEY_UPDATE: u8 = 201;

fn kind_number(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Data => 0,
        FrameKind::Compressed => 8,
        FrameKind::ProbeRequest => 3,
        FrameKind::ProbeResponse => 4,
        FrameKind::Keepalive => 7,
        FrameKind::Disconnect => 5,
        FrameKind::Other(number) => number,
    }
}

fn number_kind(number: u8) -> FrameKind {
    match number {
        0 => FrameKind::Data,
        3 => FrameKind::ProbeRequest,
        4 => FrameKind::ProbeResponse,
        5 => FrameKind::Disconnect,
        7 => FrameKind::Keepalive,
        8 => FrameKind::Compressed,
        number => FrameKind::Other(number),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sealer {
    number: u8,
    /// How many more records there are numbers for.
    last_records: Option<u32>,
    /// Records since the last key update, and after how many the next one is due (never if 0).
    worn: u32,
    wears_out_after: u32,
}

impl Sealer {
    /// Has numbers for so many records.
    pub(crate) fn with_last_records(records: u32) -> Self {
        Self {
            last_records: Some(records),
            ..Self::default()
        }
    }

    /// Asks for new keys after so many records.
    pub(crate) fn wearing_out_after(records: u32) -> Self {
        Self {
            wears_out_after: records,
            ..Self::default()
        }
    }
}

impl PacketSealer for Sealer {
    fn headroom(&self) -> usize {
        HEADER
    }

    fn tailroom(&self) -> usize {
        TRAILER
    }

    fn sealed_len(&self, len: usize) -> usize {
        HEADER + len + TRAILER
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        if self.last_records == Some(0) {
            return Err(SealError::Exhausted);
        }
        self.last_records = self.last_records.map(|left| left - 1);
        buffer[..2].copy_from_slice(&(len as u16).to_be_bytes());
        buffer[2] = kind_number(kind);
        buffer[3] = self.number;
        self.number = self.number.wrapping_add(1);
        self.worn += 1;
        buffer[HEADER..HEADER + len]
            .iter_mut()
            .for_each(|octet| *octet ^= MASK);
        buffer[HEADER + len] = buffer[..HEADER + len].iter().fold(0, |sum, octet| sum ^ octet);
        Ok(HEADER + len + TRAILER)
    }
}

impl StreamSealer for Sealer {
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut record = [0; HEADER + TRAILER];
        let kind = if request_peer {
            KEY_UPDATE_REQUEST
        } else {
            KEY_UPDATE
        };
        self.seal(FrameKind::Other(kind), &mut record, 0)?;
        out.extend_from_slice(&record);
        self.worn = 0;
        Ok(())
    }

    fn wants_rekey(&self) -> bool {
        self.wears_out_after > 0 && self.worn >= self.wears_out_after
    }
}

/// Opens the record at the start of `buffer`: kind, payload range and length of the record.
fn open_record(buffer: &mut [u8]) -> Result<Option<(FrameKind, usize, u8)>, OpenError> {
    if buffer.len() < HEADER {
        return Ok(None);
    }
    let len = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
    let Some(record) = buffer.get_mut(..HEADER + len + TRAILER) else {
        return Ok(None);
    };
    if record.iter().fold(0, |sum, octet| sum ^ octet) != 0 {
        return Err(OpenError::Authentication);
    }
    let (kind, number) = (number_kind(record[2]), record[3]);
    record[HEADER..HEADER + len]
        .iter_mut()
        .for_each(|octet| *octet ^= MASK);
    Ok(Some((kind, len, number)))
}

#[derive(Debug, Default)]
pub(crate) struct Opener {
    expected: u8,
}

impl StreamOpener for Opener {
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
        let Some((kind, len, number)) = open_record(buffer)? else {
            let need = buffer.first_chunk::<2>().map_or(HEADER, |len| {
                HEADER + usize::from(u16::from_be_bytes(*len)) + TRAILER
            });
            return Ok(StreamOpened::Incomplete {
                need: need.max(buffer.len() + 1),
            });
        };
        if number != self.expected {
            return Err(OpenError::Replay);
        }
        self.expected = self.expected.wrapping_add(1);
        let consumed = HEADER + len + TRAILER;
        Ok(match kind {
            FrameKind::Other(KEY_UPDATE_REQUEST) => StreamOpened::KeyUpdateRequested { consumed },
            FrameKind::Other(KEY_UPDATE) => StreamOpened::Skipped { consumed },
            kind => StreamOpened::Frame {
                consumed,
                frame: OpenedFrame {
                    kind,
                    payload: HEADER..HEADER + len,
                },
            },
        })
    }
}

/// A channel whose client says hello until the server has said hello, too.
#[derive(Debug)]
pub(crate) struct Datagrams {
    sealer: Sealer,
    client: bool,
    state: ChannelState,
    hello_at: Option<Instant>,
    /// A hello waits to be sent.
    hello_due: bool,
    attempts: u8,
    pub(crate) rekeys: u32,
    /// Number of the last record.
    last: Option<u8>,
    /// Records whose number was not after the one before.
    pub(crate) repeated: u32,
}

/// Kind of a hello.
const HELLO: u8 = 100;
/// Hellos without answer after which the client gives up.
const HELLOS_MAX: u8 = 3;

impl Datagrams {
    pub(crate) fn client(now: Instant) -> Self {
        let hello_at = Some(now + Duration::from_millis(100));
        Self {
            hello_at,
            hello_due: true,
            ..Self::new(true)
        }
    }

    pub(crate) fn server() -> Self {
        Self::new(false)
    }

    fn new(client: bool) -> Self {
        Self {
            sealer: Sealer::default(),
            client,
            state: ChannelState::Connecting,
            hello_at: None,
            hello_due: false,
            attempts: 0,
            rekeys: 0,
            last: None,
            repeated: 0,
        }
    }

    /// Has numbers for so many records.
    pub(crate) fn with_last_records(mut self, records: u32) -> Self {
        self.sealer = Sealer::with_last_records(records);
        self
    }

    fn note_number(&mut self, number: u8) {
        let step = self.last.map_or(1, |last| number.wrapping_sub(last));
        if !(1..128).contains(&step) {
            self.repeated += 1;
        }
        self.last = Some(number);
    }
}

impl PacketSealer for Datagrams {
    fn headroom(&self) -> usize {
        self.sealer.headroom()
    }

    fn tailroom(&self) -> usize {
        self.sealer.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.sealer.sealed_len(len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.sealer.seal(kind, buffer, len)
    }
}

impl DatagramChannel for Datagrams {
    type Sealer = Sealer;

    fn take_sealer(&mut self) -> Option<Sealer> {
        let stand_in = Sealer::with_last_records(0);
        (self.state == ChannelState::Established).then(|| std::mem::replace(&mut self.sealer, stand_in))
    }

    fn put_sealer(&mut self, sealer: Sealer) {
        self.sealer = sealer;
    }

    fn state(&self) -> ChannelState {
        self.state
    }

    fn open(&mut self, _now: Instant, datagram: &mut [u8]) -> DatagramOpened {
        match open_record(datagram) {
            Ok(Some((FrameKind::Other(HELLO), len, _))) => {
                self.state = ChannelState::Established;
                self.hello_at = None;
                self.hello_due = !self.client;
                DatagramOpened::Nothing {
                    consumed: HEADER + len + TRAILER,
                }
            }
            Ok(Some((kind, len, number))) if self.state == ChannelState::Established => {
                self.note_number(number);
                DatagramOpened::Frame {
                    consumed: HEADER + len + TRAILER,
                    frame: OpenedFrame {
                        kind,
                        payload: HEADER..HEADER + len,
                    },
                }
            }
            _ => DatagramOpened::Nothing {
                consumed: datagram.len(),
            },
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.hello_at.is_some_and(|at| at <= now) {
            self.attempts += 1;
            self.hello_due = true;
            self.hello_at = Some(now + Duration::from_millis(100));
            if self.attempts >= HELLOS_MAX {
                self.state = ChannelState::Failed;
                self.hello_at = None;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.hello_at
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.hello_due) || self.state == ChannelState::Failed {
            return None;
        }
        let mut hello = vec![0; HEADER + TRAILER];
        self.sealer.seal(FrameKind::Other(HELLO), &mut hello, 0).ok()?;
        Some(hello)
    }

    fn start_rekey(&mut self, _now: Instant) -> bool {
        self.rekeys += 1;
        true
    }

    fn description(&self) -> Option<&str> {
        Some("(XOR)")
    }
}
