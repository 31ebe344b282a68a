//! Flights: the messages that go out together, their records, and when they go out again
//! (RFC 6347 §4.2.3-4.2.4).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::messages::kind;
use super::reassembly::MESSAGE_HEADER_LEN;
use crate::record::{DTLS10, Epochs, MAX_PLAINTEXT, Sealer, content_type};
use crate::{Error, Version};

/// Least datagram size that flights are cut for: room for headers, IV, MAC, padding and some text.
const MIN_MTU: usize = 256;
/// A new datagram rather than a fragment with less content than this.
const MIN_FRAGMENT: usize = 32;
/// Longest wait between retransmissions.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// A message of a flight, and the epoch that protects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FlightMessage {
    Handshake {
        epoch: u16,
        kind: u8,
        message_seq: u16,
        body: Vec<u8>,
    },
    ChangeCipherSpec {
        epoch: u16,
        /// Only DTLS 0.9 numbers it.
        message_seq: Option<u16>,
    },
}

/// Cuts and seals a flight into datagrams of at most `mtu` octets.
pub(crate) fn seal_flight(
    flight: &[FlightMessage],
    sealers: &mut Epochs<Sealer>,
    mtu: usize,
    out: &mut VecDeque<Vec<u8>>,
) -> Result<(), Error> {
    let mut packer = Packer {
        version: sealers.active.version(),
        sealers,
        mtu: mtu.max(MIN_MTU),
        datagram: Vec::new(),
        out,
    };
    for message in flight {
        match message {
            FlightMessage::ChangeCipherSpec { epoch, message_seq } => {
                packer.push_change_cipher_spec(*epoch, *message_seq)?;
            }
            FlightMessage::Handshake {
                epoch,
                kind,
                message_seq,
                body,
            } => {
                packer.push_message(*epoch, *kind, *message_seq, body)?;
            }
        }
    }
    packer.flush();
    Ok(())
}

struct Packer<'a> {
    version: Version,
    sealers: &'a mut Epochs<Sealer>,
    mtu: usize,
    datagram: Vec<u8>,
    out: &'a mut VecDeque<Vec<u8>>,
}

impl Packer<'_> {
    fn push_change_cipher_spec(&mut self, epoch: u16, message_seq: Option<u16>) -> Result<(), Error> {
        let message_seq = message_seq.map(u16::to_be_bytes);
        let message_seq = message_seq.as_ref().map_or(&[][..], |octets| octets);
        if self.room(epoch)? < 1 + message_seq.len() {
            self.flush();
        }
        self.push_record(
            epoch,
            None,
            content_type::CHANGE_CIPHER_SPEC,
            &[&[1], message_seq],
        )
    }

    fn push_message(&mut self, epoch: u16, kind: u8, message_seq: u16, body: &[u8]) -> Result<(), Error> {
        // Before DTLS 1.2 is agreed, records carry the version of DTLS 1.0.
        let is_first = epoch == 0 && matches!(kind, kind::CLIENT_HELLO | kind::HELLO_VERIFY_REQUEST);
        let version = (is_first && self.version == Version::Dtls12).then_some(DTLS10);
        let length = u24(body.len());
        let mut offset = 0;
        loop {
            let rest = body.get(offset..).unwrap_or_default();
            let wanted = MESSAGE_HEADER_LEN + rest.len().min(MIN_FRAGMENT);
            if self.room(epoch)? < wanted {
                self.flush();
            }
            let room = self.room(epoch)?.saturating_sub(MESSAGE_HEADER_LEN);
            let (content, _) = rest.split_at(rest.len().min(room));
            let [s0, s1] = message_seq.to_be_bytes();
            let [o0, o1, o2] = u24(offset);
            let [f0, f1, f2] = u24(content.len());
            let [l0, l1, l2] = length;
            let header = [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2];
            self.push_record(epoch, version, content_type::HANDSHAKE, &[&header, content])?;
            offset += content.len();
            if offset >= body.len() {
                return Ok(());
            }
        }
    }

    /// Octets of content that a further record in this datagram can have.
    fn room(&mut self, epoch: u16) -> Result<usize, Error> {
        let used = self.datagram.len();
        let sealer = self.sealers.get_mut(epoch).ok_or(Error::Exhausted)?;
        Ok(self
            .mtu
            .saturating_sub(used + sealer.headroom() + sealer.tailroom())
            .min(MAX_PLAINTEXT))
    }

    fn push_record(
        &mut self,
        epoch: u16,
        version: Option<u16>,
        content_type: u8,
        parts: &[&[u8]],
    ) -> Result<(), Error> {
        let sealer = self.sealers.get_mut(epoch).ok_or(Error::Exhausted)?;
        let start = self.datagram.len();
        self.datagram.resize(start + sealer.headroom(), 0);
        for part in parts {
            self.datagram.extend_from_slice(part);
        }
        let len = parts.iter().map(|part| part.len()).sum();
        self.datagram.resize(self.datagram.len() + sealer.tailroom(), 0);
        let record = self.datagram.get_mut(start..).unwrap_or_default();
        let record_len = sealer
            .seal_as(version, content_type, record, len)
            .map_err(|_| Error::Exhausted)?;
        self.datagram.truncate(start + record_len);
        Ok(())
    }

    fn flush(&mut self) {
        if !self.datagram.is_empty() {
            self.out.push_back(std::mem::take(&mut self.datagram));
        }
    }
}

fn u24(value: usize) -> [u8; 3] {
    let [_, a, b, c] = (value as u32).to_be_bytes();
    [a, b, c]
}

/// When a flight goes out again.
#[derive(Debug)]
pub(crate) struct Retransmission {
    first: Duration,
    interval: Duration,
    /// `None`: not by itself.
    next_at: Option<Instant>,
    last_sent: Option<Instant>,
}

impl Retransmission {
    /// `first`: the first interval.
    pub(crate) fn new(first: Duration) -> Self {
        Self {
            first,
            interval: first,
            next_at: None,
            last_sent: None,
        }
    }

    /// A new flight was sent that the peer must answer.
    pub(crate) fn sent_new(&mut self, now: Instant) {
        self.interval = self.first;
        self.next_at = Some(now + self.interval);
        self.last_sent = Some(now);
    }

    /// A new flight was sent that is repeated only when the peer repeats its own.
    pub(crate) fn sent_final(&mut self, now: Instant) {
        self.next_at = None;
        self.last_sent = Some(now);
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Whether the flight has to go out again now because its time has come; counts it as sent.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next_at.is_some_and(|at| at <= now);
        if due {
            self.interval = (self.interval * 2).min(MAX_INTERVAL);
            self.next_at = Some(now + self.interval);
            self.last_sent = Some(now);
        }
        due
    }

    /// Whether to send again because the peer repeated its flight; counts it as sent. Not more
    /// often than every half of the first interval, so that doubled packets do not multiply.
    pub(crate) fn answers_repeat(&mut self, now: Instant) -> bool {
        let answers = self
            .last_sent
            .is_some_and(|last| now.saturating_duration_since(last) >= self.first / 2);
        if answers {
            self.last_sent = Some(now);
        }
        answers
    }
}
