//! From the device to the transports.

use std::io;
use std::time::Instant;

use culvert_record::{DatagramChannel, FrameKind, SealError, StreamOpener, StreamSealer};

use super::event::{DatagramLoss, Event, StreamError};
use super::transport::{Flushed, Outlet};
use super::{Session, Statistics};
use crate::buffers::{Buffers, Outbox, Outgoing};
use crate::device::Device;
use crate::offload::{HEADER_LEN, OffloadError, Splitter, VnetHeader, is_user_data, type_of_service};
use crate::pace::Passed;
use crate::policy::Channel;
use crate::rate::RateLimit;

/// Packets after which other descriptors get their turn.
const BUDGET: usize = 64;

/// A limit on what may pass, and the time.
type Limit<'l> = Option<(&'l mut RateLimit, Instant)>;

/// What passes over the device did.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) packets: u64,
    pub(super) reads: u64,
    octets: u64,
    dropped: u64,
    user_data: bool,
    flushed: Flushed,
    seal_error: Option<SealError>,
    device_error: Option<io::Error>,
}

impl Pass {
    /// What has passed so far.
    pub(super) fn passed(&self) -> Passed {
        Passed {
            packets: self.packets,
            reads: self.reads,
        }
    }

    /// True when there is something that the session has to act on.
    pub(super) fn is_eventful(&self) -> bool {
        self.flushed.is_eventful() || self.seal_error.is_some() || self.device_error.is_some()
    }

    /// Sends what waits in `outlet` since its socket was full.
    pub(super) fn resume(&mut self, outlet: &mut impl Outlet, outgoing: &mut Outgoing) {
        self.flushed.merge(outlet.resume(&mut outgoing.outbox));
    }
}

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Reads packets until the device is empty, the budget is used or the socket is blocked, and
    /// sends them. Never waits for more.
    pub(super) fn uplink(&mut self, now: Instant, buffers: &mut Buffers) {
        let Some(channel) = self.policy.data_channel(now) else {
            return;
        };
        let Some(device) = self.device.as_ref().map(|slot| &slot.device) else {
            return;
        };
        if self.loan.is_some() {
            return;
        }
        let mut limit = self.sent_limit.as_mut().map(|limit| (limit, now));
        let mut pass = Pass::default();
        match channel {
            Channel::Stream => {
                let Some(sender) = self.stream.as_mut().and_then(|stream| stream.sender.as_mut()) else {
                    return;
                };
                pass.carry(device, sender, false, &mut limit, &mut buffers.outgoing);
            }
            Channel::Datagram => {
                let copy_tos = self.config.copy_tos;
                let slot = self.active.and_then(|index| self.datagrams.get_mut(index));
                let Some(datagram) = slot.and_then(Option::as_mut) else {
                    return;
                };
                pass.carry(device, datagram, copy_tos, &mut limit, &mut buffers.outgoing);
            }
        }
        let carried = pass.packets > 0 && !pass.is_eventful();
        self.account(channel, pass, now);
        self.renew_worn_keys(now, buffers);
        if carried {
            self.consider_loan(channel, now);
        }
    }

    /// Takes note of packets that were sent at `now`, and acts on what happened.
    pub(super) fn account(&mut self, channel: Channel, pass: Pass, now: Instant) {
        self.statistics.count_sent(&pass);
        if pass.packets > 0 {
            self.policy.sent(channel, now);
        }
        if pass.user_data {
            self.policy.user_data(now);
        }
        if let Some(error) = pass.device_error {
            self.device_failed(error);
        }
        self.after_flush(channel, pass.flushed);
        if let Some(error) = pass.seal_error {
            match channel {
                Channel::Stream => self.stream_failed(StreamError::Seal(error)),
                Channel::Datagram => self.datagram_lost(DatagramLoss::Seal(error)),
            }
        }
    }

    /// Acts on what happened while sending.
    pub(super) fn after_flush(&mut self, channel: Channel, flushed: Flushed) {
        self.statistics.dropped += flushed.dropped;
        if flushed.segmentation_failed {
            self.notice(super::Notice::NoSegmentation);
        }
        if let Some(size) = flushed.too_large {
            self.events.push_back(Event::DatagramTooLarge { size });
        }
        let Some(error) = flushed.error else { return };
        match (channel, self.config.role) {
            (Channel::Stream, _) => self.stream_failed(StreamError::Io(error)),
            (Channel::Datagram, crate::Role::Client) => self.datagram_lost(DatagramLoss::Io(error)),
            (Channel::Datagram, crate::Role::Server) => self.policy.datagram_failed(),
        }
    }
}

impl Statistics {
    fn count_sent(&mut self, pass: &Pass) {
        self.sent_packets += pass.packets;
        self.reads += pass.reads;
        self.sent_octets += pass.octets;
        self.dropped += pass.dropped;
    }
}

impl Pass {
    /// Reads packets until the device is empty, the budget is used or the socket is blocked, and
    /// sends them.
    pub(super) fn carry(
        &mut self,
        device: &Device,
        outlet: &mut impl Outlet,
        copy_tos: bool,
        limit: &mut Limit<'_>,
        outgoing: &mut Outgoing,
    ) {
        let Outgoing { packet, outbox } = outgoing;
        let vnet_header = device.vnet_header();
        let mut packets = 0;
        while packets < BUDGET && !outlet.is_blocked() && self.flushed.error.is_none() {
            if outbox.batch.wants_flush() {
                self.flushed.merge(outlet.flush(outbox));
                continue;
            }
            let len = match device.read(packet) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.device_error = Some(error);
                    break;
                }
            };
            self.reads += 1;
            let bytes = packet.get_mut(..len).unwrap_or_default();
            let split = if vnet_header {
                VnetHeader::parse(bytes).and_then(|header| {
                    Splitter::new(
                        header,
                        bytes.get_mut(HEADER_LEN..).ok_or(OffloadError::Malformed)?,
                    )
                })
            } else {
                Splitter::new(VnetHeader::PLAIN, bytes)
            };
            let Ok(splitter) = split else {
                self.dropped += 1;
                packets += 1;
                continue;
            };
            let before = self.packets;
            if let Err(error) = self.seal_all(splitter, outlet, copy_tos, limit, outbox) {
                self.seal_error = Some(error);
                break;
            }
            packets += usize::try_from(self.packets - before).unwrap_or(BUDGET).max(1);
        }
        if outlet.is_blocked() {
            outbox.batch.clear();
        } else {
            self.flushed.merge(outlet.flush(outbox));
        }
    }

    /// Seals every segment of a super-packet, straight behind the previous record.
    fn seal_all(
        &mut self,
        mut splitter: Splitter<'_>,
        outlet: &mut impl Outlet,
        copy_tos: bool,
        limit: &mut Limit<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), SealError> {
        self.user_data = self.user_data || is_user_data(splitter.packet());
        let tos = copy_tos.then(|| type_of_service(splitter.packet()));
        while let Some(len) = splitter.next_len() {
            if let Some((limit, now)) = limit
                && !limit.admit(*now, len)
            {
                // Written to nowhere, the segment is lost.
                splitter.write_next(&mut []);
                self.dropped += 1;
                continue;
            }
            // Only super-packets of very small segments come here.
            if outbox.batch.is_full(outlet.sealer(), len) {
                self.flushed.merge(outlet.flush(outbox));
                if outlet.is_blocked() || self.flushed.error.is_some() {
                    self.dropped += 1;
                    return Ok(());
                }
            }
            let sealed = outbox
                .batch
                .seal(outlet.sealer(), FrameKind::Data, len, tos, |out| {
                    splitter.write_next(out);
                });
            match sealed {
                Ok(()) => {
                    self.packets += 1;
                    self.octets += len as u64;
                }
                Err(SealError::Exhausted) => return Err(SealError::Exhausted),
                Err(SealError::Buffer | SealError::Oversize) => {
                    self.dropped += 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
