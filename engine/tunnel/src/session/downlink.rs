//! From the transports to the device.

use std::io;
use std::ops::Range;
use std::time::Instant;

use culvert_record::{ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenError, OpenedFrame};
use culvert_record::{StreamOpened, StreamOpener, StreamSealer};
use culvert_sys::tcp;
use culvert_sys::udp::SendError;

use super::deliver::restore;
use super::event::{DatagramLoss, Event, StreamError};
use super::socket::DatagramSocket;
use super::{OVERLAP, Session};
use crate::buffers::{Arrival, Buffers, RECEIVE_MAX};
use crate::offload::is_user_data;
use crate::policy::{Channel, Role};
use crate::rate::RateLimit;

/// Receive calls of one pass: empty datagrams and junk, which anybody can send, must not keep it
/// from its end.
const RECEIVES: usize = 128;
/// Octets of a stream that one pass reads at most.
const STREAM_PASS: usize = 128 * 1024;
/// Longest start of a record that is kept; TLS records are much shorter.
const PARTIAL_MAX: usize = 64 * 1024;

/// What one pass over received records found.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) frames: bool,
    pub(super) data: bool,
    pub(super) user_data: bool,
    key_update: bool,
    /// Packets beyond the limit.
    dropped: u64,
    /// Frames other than packets; empty in steady state.
    control: Vec<(FrameKind, Vec<u8>)>,
}

impl Pass {
    /// Sorts one frame: packets go to the coalescer, everything else waits for the end of the
    /// pass.
    fn frame(
        &mut self,
        now: Instant,
        buffers: &mut Buffers,
        kind: FrameKind,
        payload: Range<usize>,
        limit: &mut Option<RateLimit>,
    ) {
        self.frames = true;
        let Some(bytes) = buffers.receive.get(payload.clone()) else {
            return;
        };
        match kind {
            FrameKind::Data => {
                self.data = true;
                self.user_data = self.user_data || is_user_data(bytes);
                if limit.as_mut().is_none_or(|limit| limit.admit(now, bytes.len())) {
                    buffers.coalescer.push(&buffers.receive, payload);
                } else {
                    self.dropped += 1;
                }
            }
            FrameKind::Keepalive => {}
            kind => self.control.push((kind, bytes.to_vec())),
        }
    }
}

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Reads the stream once and delivers what it carries.
    pub(super) fn stream_readable(&mut self, now: Instant, buffers: &mut Buffers) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let kept = stream.partial.len();
        let room = buffers
            .receive
            .get_mut(kept..kept + STREAM_PASS)
            .unwrap_or_default();
        let read = match tcp::receive(&stream.socket, room) {
            Ok(0) => {
                self.detach_stream();
                self.events.push_back(Event::StreamClosed);
                return;
            }
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return self.stream_failed(StreamError::Io(error)),
        };
        if let Some(start) = buffers.receive.get_mut(..kept) {
            start.copy_from_slice(&stream.partial);
        }
        stream.partial.clear();
        self.open_stream(now, kept + read, buffers);
    }

    /// Opens the records in the first `filled` octets of the receive buffer.
    pub(super) fn open_stream(&mut self, now: Instant, filled: usize, buffers: &mut Buffers) {
        self.statistics.reads += 1;
        let mut pass = Pass::default();
        let mut at = 0;
        let end = loop {
            let Some(stream) = self.stream.as_mut() else {
                return;
            };
            let rest = buffers.receive.get_mut(at..filled).unwrap_or_default();
            if rest.is_empty() {
                break Ok(false);
            }
            match stream.opener.open(rest) {
                Ok(StreamOpened::Incomplete { need }) if need <= rest.len() || need > PARTIAL_MAX => {
                    break Err(OpenError::Malformed);
                }
                Ok(StreamOpened::Incomplete { .. }) => {
                    stream.partial.extend_from_slice(rest);
                    break Ok(false);
                }
                // An opener that makes no progress would be asked for ever.
                Ok(StreamOpened::Skipped { consumed: 0 }) => break Err(OpenError::Malformed),
                Ok(StreamOpened::Skipped { consumed }) => at += consumed,
                Ok(StreamOpened::KeyUpdateRequested { consumed }) => {
                    at += consumed;
                    pass.key_update = true;
                }
                Ok(StreamOpened::Closed { .. }) => break Ok(true),
                Err(error) => break Err(error),
                Ok(StreamOpened::Frame {
                    consumed,
                    frame: OpenedFrame { kind, payload },
                }) => {
                    let payload = at + payload.start..at + payload.end;
                    at += consumed;
                    if kind == FrameKind::Compressed
                        && let Some(len) = restore(buffers, payload.clone(), |packet, out| {
                            stream.opener.decompress(packet, out)
                        })
                    {
                        self.deliver_restored(now, len, &mut pass, buffers);
                        continue;
                    }
                    pass.frame(now, buffers, kind, payload, &mut self.received_limit);
                    if buffers.coalescer.is_full() {
                        self.deliver(buffers);
                    }
                }
            }
        };
        self.finish_pass(Channel::Stream, now, pass, buffers);
        match end {
            Ok(false) => {}
            Ok(true) => {
                self.detach_stream();
                self.events.push_back(Event::StreamClosed);
            }
            Err(error) => {
                // A client whose frames make no sense is told that this is the end of the tunnel
                // (`specs/cstp-dtls.md` §4); it may be gone.
                if error == OpenError::Malformed && self.config.role == Role::Server {
                    let _ = self.send(now, Channel::Stream, FrameKind::Disconnect, &[], buffers);
                }
                self.stream_failed(StreamError::Open(error));
            }
        }
    }

    /// Receives datagrams until there are none or enough, and delivers them.
    pub(super) fn datagram_readable(&mut self, index: usize, now: Instant, buffers: &mut Buffers) {
        let mut pass = Pass::default();
        let mut filled = 0;
        for _ in 0..RECEIVES {
            let Some(datagram) = self.datagrams.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            let Some(room) = buffers
                .receive
                .get_mut(filled..)
                .filter(|room| room.len() >= RECEIVE_MAX)
            else {
                break;
            };
            // A shared socket only ever reports room in its send buffer here.
            let Some(socket) = datagram.socket.own() else {
                return;
            };
            match socket.receive(room) {
                Ok(received) => {
                    let end = filled + received.len;
                    self.open_run(index, now, filled..end, received.segment, &mut pass, buffers);
                    filled = end;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // "Port unreachable" and its like may be forged; dead peer detection decides.
                Err(_) => {}
            }
            if buffers.coalescer.is_full() {
                break;
            }
        }
        self.finish_datagram_pass(index, now, pass, buffers);
    }

    /// Opens datagrams that lie in the receive buffer already.
    pub(super) fn open_arrivals(
        &mut self,
        index: usize,
        now: Instant,
        arrivals: &[Arrival],
        buffers: &mut Buffers,
    ) {
        let mut pass = Pass::default();
        for arrival in arrivals {
            let (run, segment) = (arrival.octets.clone(), arrival.segment);
            self.open_run(index, now, run, segment, &mut pass, buffers);
        }
        self.finish_datagram_pass(index, now, pass, buffers);
    }

    /// Opens datagrams of `segment` octets each, the last one possibly shorter.
    fn open_run(
        &mut self,
        index: usize,
        now: Instant,
        run: Range<usize>,
        segment: usize,
        pass: &mut Pass,
        buffers: &mut Buffers,
    ) {
        self.statistics.reads += 1;
        let segment = segment.max(1);
        let slot = self.datagrams.get(index).and_then(Option::as_ref);
        let mut authentic = match (slot, buffers.receive.get(run.clone())) {
            (Some(slot), Some(octets)) => slot.channel.check_run(octets, segment),
            _ => 0,
        };
        let mut at = run.start;
        while at < run.end {
            let next = (at + segment).min(run.end);
            self.open_datagram(index, now, at..next, authentic & 1 == 1, pass, buffers);
            authentic >>= 1;
            at = next;
        }
    }

    /// Opens one datagram, which may hold several records; true when one of them was a frame.
    /// `checked`: the channel has just found it authentic.
    fn open_datagram(
        &mut self,
        index: usize,
        now: Instant,
        datagram: Range<usize>,
        checked: bool,
        pass: &mut Pass,
        buffers: &mut Buffers,
    ) -> bool {
        let mut at = datagram.start;
        let mut found = false;
        while at < datagram.end {
            let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut) else {
                break;
            };
            let Some(rest) = buffers.receive.get_mut(at..datagram.end) else {
                break;
            };
            // What is behind the first record is no datagram that was checked.
            let opened = if checked && at == datagram.start {
                slot.channel.open_checked(now, rest)
            } else {
                slot.channel.open(now, rest)
            };
            match opened {
                DatagramOpened::Nothing { consumed } => at += consumed.max(1),
                DatagramOpened::Frame {
                    consumed,
                    frame: OpenedFrame { kind, payload },
                } => {
                    found = true;
                    let payload = at + payload.start..at + payload.end;
                    at += consumed.max(1);
                    if kind == FrameKind::Compressed
                        && let Some(len) = restore(buffers, payload.clone(), |packet, out| {
                            slot.channel.decompress(packet, out)
                        })
                    {
                        self.deliver_restored(now, len, pass, buffers);
                        continue;
                    }
                    if buffers.coalescer.is_full() {
                        self.deliver(buffers);
                    }
                    pass.frame(now, buffers, kind, payload, &mut self.received_limit);
                }
            }
        }
        found
    }

    /// Processes a datagram that another process received, in slot `index`. True when it held a
    /// frame.
    pub(super) fn inject_datagram(
        &mut self,
        index: usize,
        now: Instant,
        datagram: &[u8],
        buffers: &mut Buffers,
    ) -> bool {
        let Some(room) = buffers.receive.get_mut(..datagram.len()) else {
            return false;
        };
        room.copy_from_slice(datagram);
        let mut pass = Pass::default();
        let found = self.open_datagram(index, now, 0..datagram.len(), false, &mut pass, buffers);
        self.finish_datagram_pass(index, now, pass, buffers);
        found
    }

    fn finish_datagram_pass(&mut self, index: usize, now: Instant, pass: Pass, buffers: &mut Buffers) {
        self.check_datagram(index, now);
        if self.active == Some(index) {
            self.finish_pass(Channel::Datagram, now, pass, buffers);
        } else {
            // It was replaced. Whether the peer is there is for the other one to show.
            self.deliver(buffers);
            self.statistics.dropped += pass.dropped;
            if pass.user_data {
                self.policy.user_data(now);
            }
        }
    }

    /// Sends what the handshake wants sent and notices changes of its state.
    pub(super) fn check_datagram(&mut self, index: usize, now: Instant) {
        let replaced = self.is_replaced(index);
        let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        while let Some(datagram) = slot.channel.poll_transmit() {
            send_best_effort(&slot.socket, &datagram);
        }
        match slot.channel.state() {
            ChannelState::Connecting => {}
            ChannelState::Established if replaced || self.active == Some(index) => {}
            ChannelState::Established => {
                let description = slot.channel.description().unwrap_or_default().to_owned();
                self.recall(now);
                if self.active.replace(index).is_some() {
                    self.replaced_until = Some(now + OVERLAP);
                }
                self.policy.opened(Channel::Datagram, now);
                self.events.push_back(Event::DatagramUp { description });
            }
            ChannelState::Failed if self.active == Some(index) => self.datagram_lost(DatagramLoss::Closed),
            ChannelState::Failed if replaced => self.remove_datagram(index),
            ChannelState::Failed => {
                let refused = slot.channel.is_refused();
                self.remove_datagram(index);
                self.events.push_back(Event::DatagramFailed { refused });
            }
        }
    }

    fn finish_pass(&mut self, channel: Channel, now: Instant, pass: Pass, buffers: &mut Buffers) {
        self.deliver(buffers);
        self.statistics.dropped += pass.dropped;
        if pass.frames {
            self.policy.received(channel, pass.data, now);
        }
        if pass.user_data {
            self.policy.user_data(now);
        }
        if pass.key_update {
            // An error has become an event already.
            let _ = self.rekey_stream(now, false, buffers);
        }
        for (kind, payload) in pass.control {
            self.control_frame(channel, kind, payload, now, buffers);
        }
    }
}

/// Handshake datagrams are repeated by their own timers, so a loss here needs no care. An error may belong
/// to an earlier datagram.
fn send_best_effort(socket: &DatagramSocket, datagram: &[u8]) {
    match socket.send(datagram, datagram.len(), None) {
        Ok(()) | Err(SendError::WouldBlock) => {}
        Err(_) => {
            let _ = socket.send(datagram, datagram.len(), None);
        }
    }
}
