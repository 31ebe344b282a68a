//! Both halves with the probes of a protocol: a channel for the packet path.

use std::time::{Duration, Instant};

use culvert_record::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenedFrame, PacketSealer, SealError,
};

use crate::association::{Association, KeyError};
use crate::inbound::Inbound;
use crate::lzo;
use crate::packet::{NextHeader, PREFIX_LEN};
use crate::probe::{Examined, Probe};
use crate::sealer::{self, Sealer};

/// Time between two probes while the channel is unproven.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time after which the client gives up an attempt.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A peer that has used so many numbers soon has none left (`specs/esp.md` §5.3): the client gives the
/// channel up while everything still arrives.
const NUMBERS: u64 = (1 << 32) - (1 << 20);
/// Packets that wait to be sent: probes, and answers to those of the peer.
const OUTGOING_MAX: usize = 16;

/// How far the channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Client: probes are out, no answer has come.
    Probing {
        next: Instant,
        until: Instant,
    },
    /// Server: nothing has been received.
    Waiting,
    Proven,
    Failed,
}

/// One UDP channel.
///
/// A client sends probes until one is answered; for five seconds, two at the start and then one
/// per second. A server says nothing until a first packet authenticates, which must be the first
/// one that is given to it.
pub struct Channel<P> {
    inbound: Inbound,
    /// Absent while another thread has it.
    outbound: Option<Sealer>,
    icv_len: usize,
    probe: P,
    stage: Stage,
    /// This end asks, and makes new channels.
    is_client: bool,
    outgoing: Vec<Vec<u8>>,
    description: String,
}

impl<P: Probe> Channel<P> {
    /// The end that asks. `inbound` is the association that this end receives on.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn client(
        inbound: &Association,
        outbound: &Association,
        probe: P,
        now: Instant,
    ) -> Result<Self, KeyError> {
        let stage = Stage::Probing {
            next: now + INTERVAL,
            until: now + ATTEMPT,
        };
        let mut channel = Self::new(inbound, outbound, probe, stage)?;
        channel.send_request();
        channel.send_request();
        Ok(channel)
    }

    /// The end that answers. `inbound` is the association that this end receives on.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn server(inbound: &Association, outbound: &Association, probe: P) -> Result<Self, KeyError> {
        Self::new(inbound, outbound, probe, Stage::Waiting)
    }

    fn new(inbound: &Association, outbound: &Association, probe: P, stage: Stage) -> Result<Self, KeyError> {
        Ok(Self {
            inbound: Inbound::new(inbound)?,
            outbound: Some(Sealer::new(outbound)?),
            icv_len: outbound.integrity().icv_len(),
            probe,
            is_client: matches!(stage, Stage::Probing { .. }),
            stage,
            outgoing: Vec::new(),
            description: inbound.description(),
        })
    }

    /// Goes on with new keys; late packets under the previous ones are taken for a while
    /// (Juniper NC and Pulse; GlobalProtect makes a new channel).
    ///
    /// # Errors
    /// See [`KeyError`]; nothing has changed then.
    pub fn rekey(
        &mut self,
        now: Instant,
        inbound: &Association,
        outbound: &Association,
    ) -> Result<(), KeyError> {
        let sealer = Sealer::new(outbound)?;
        self.inbound.replace(now, inbound)?;
        self.outbound = Some(sealer);
        self.icv_len = outbound.integrity().icv_len();
        self.description = inbound.description();
        Ok(())
    }

    fn send_request(&mut self) -> bool {
        match self.probe.request() {
            Some((next_header, payload)) => {
                self.enqueue(next_header, &payload);
                true
            }
            None => false,
        }
    }

    fn enqueue(&mut self, next_header: NextHeader, payload: &[u8]) {
        let Some(sealer) = self.outbound.as_mut() else {
            return;
        };
        if self.outgoing.len() == OUTGOING_MAX {
            return;
        }
        let mut packet = vec![0; PREFIX_LEN];
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + sealer.tailroom(), 0);
        match sealer.seal_as(next_header, &mut packet, payload.len()) {
            Ok(len) => {
                packet.truncate(len);
                self.outgoing.push(packet);
            }
            Err(SealError::Exhausted) => self.stage = Stage::Failed,
            // A ping that is too large for any answer.
            Err(SealError::Buffer | SealError::Oversize) => {}
        }
    }

    fn open_as(&mut self, now: Instant, datagram: &mut [u8], checked: bool) -> DatagramOpened {
        let consumed = datagram.len();
        let nothing = DatagramOpened::Nothing { consumed };
        let Ok(opened) = self.inbound.open_as(now, datagram, checked) else {
            if self.stage == Stage::Waiting {
                self.stage = Stage::Failed;
            }
            return nothing;
        };
        let payload = datagram.get(opened.payload.clone()).unwrap_or_default();
        let kind = self.opened(opened.next_header, payload);
        if self.is_client && self.inbound.next_expected() >= NUMBERS {
            self.stage = Stage::Failed;
        }
        if kind == FrameKind::Data && !is_consistent(opened.next_header, payload) {
            return nothing;
        }
        DatagramOpened::Frame {
            consumed,
            frame: OpenedFrame {
                kind,
                payload: opened.payload,
            },
        }
    }

    fn opened(&mut self, next_header: NextHeader, payload: &[u8]) -> FrameKind {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Proven;
        }
        match self.probe.examine(next_header, payload) {
            Some(Examined::Answer) => {
                self.stage = Stage::Proven;
                FrameKind::ProbeResponse
            }
            Some(Examined::Request(next_header, answer)) => {
                self.enqueue(next_header, &answer);
                FrameKind::Keepalive
            }
            Some(Examined::Foreign) => FrameKind::Keepalive,
            None => match next_header {
                NextHeader::Lzo => FrameKind::Compressed,
                NextHeader::Dummy => FrameKind::Keepalive,
                NextHeader::Ipv4 | NextHeader::Ipv6 => FrameKind::Data,
            },
        }
    }
}

/// True when the payload is what the next header says.
fn is_consistent(next_header: NextHeader, payload: &[u8]) -> bool {
    let version = payload.first().map_or(0, |octet| octet >> 4);
    match next_header {
        NextHeader::Ipv4 => version == 4,
        NextHeader::Ipv6 => version == 6,
        NextHeader::Lzo | NextHeader::Dummy => true,
    }
}

impl<P: Probe> PacketSealer for Channel<P> {
    fn headroom(&self) -> usize {
        PREFIX_LEN
    }

    fn tailroom(&self) -> usize {
        sealer::tailroom(self.icv_len)
    }

    fn sealed_len(&self, len: usize) -> usize {
        sealer::sealed_len(self.icv_len, len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let sealer = self.outbound.as_mut().ok_or(SealError::Exhausted)?;
        sealer.seal(kind, buffer, len)
    }

    fn prepare(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let sealer = self.outbound.as_mut().ok_or(SealError::Exhausted)?;
        sealer.prepare(kind, buffer, len)
    }

    fn complete(&mut self, records: &mut [u8], lengths: &mut dyn Iterator<Item = usize>) {
        if let Some(sealer) = self.outbound.as_mut() {
            sealer.complete(records, lengths);
        }
    }
}

impl<P: Probe> DatagramChannel for Channel<P> {
    type Sealer = Sealer;

    fn take_sealer(&mut self) -> Option<Sealer> {
        match self.stage {
            Stage::Proven if self.outgoing.is_empty() => self.outbound.take(),
            _ => None,
        }
    }

    fn put_sealer(&mut self, sealer: Sealer) {
        self.outbound = Some(sealer);
    }

    fn state(&self) -> ChannelState {
        match self.stage {
            Stage::Probing { .. } | Stage::Waiting => ChannelState::Connecting,
            Stage::Proven => ChannelState::Established,
            Stage::Failed => ChannelState::Failed,
        }
    }

    fn open(&mut self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
        self.open_as(now, datagram, false)
    }

    fn check_run(&self, run: &[u8], segment: usize) -> u64 {
        self.inbound.check_run(run, segment)
    }

    fn open_checked(&mut self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
        self.open_as(now, datagram, true)
    }

    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        lzo::decompress(packet, out).ok().filter(|len| *len > 0)
    }

    fn handle_timeout(&mut self, now: Instant) {
        let Stage::Probing { next, until } = self.stage else {
            return;
        };
        if now >= until {
            self.stage = Stage::Failed;
        } else if now >= next {
            self.stage = Stage::Probing {
                next: now + INTERVAL,
                until,
            };
            self.send_request();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Probing { next, until } => Some(next.min(until)),
            _ => None,
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.remove(0))
    }

    fn start_rekey(&mut self, _now: Instant) -> bool {
        false
    }

    fn send_probe(&mut self, _now: Instant) -> bool {
        // An end that only answers leaves it to the peer to ask.
        self.send_request();
        true
    }

    fn description(&self) -> Option<&str> {
        Some(&self.description)
    }
}
