//! From the device to the transports.

use std::io;
use std::time::Instant;

use culvert_record::{DatagramChannel, FrameKind, SealError, StreamOpener, StreamSealer};

use super::event::{DatagramLoss, Event, StreamError};
use super::transport::{Flushed, Outlet};
use super::{Session, Statistics};
use crate::buffers::{Buffers, Outbox};
use crate::device::Device;
use crate::offload::{HEADER_LEN, OffloadError, Splitter, VnetHeader, is_user_data, type_of_service};
use crate::policy::Channel;
use crate::rate::RateLimit;

/// Packets after which other descriptors get their turn.
const BUDGET: usize = 64;

/// What one pass over the device did.
#[derive(Default)]
struct Pass {
    packets: u64,
    octets: u64,
    dropped: u64,
    user_data: bool,
    flushed: Flushed,
    seal_error: Option<SealError>,
    device_error: Option<io::Error>,
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
        let mut limit = self.sent_limit.as_mut().map(|limit| (limit, now));
        let pass = match channel {
            Channel::Stream => {
                let Some(stream) = self.stream.as_mut() else {
                    return;
                };
                carry(device, stream, false, &mut limit, buffers)
            }
            Channel::Datagram => {
                let copy_tos = self.config.copy_tos;
                let slot = self.active.and_then(|index| self.datagrams.get_mut(index));
                let Some(datagram) = slot.and_then(Option::as_mut) else {
                    return;
                };
                carry(device, datagram, copy_tos, &mut limit, buffers)
            }
        };
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
        self.sent_octets += pass.octets;
        self.dropped += pass.dropped;
    }
}

/// A limit on what may pass, and the time.
type Limit<'l> = Option<(&'l mut RateLimit, Instant)>;

fn carry(
    device: &Device,
    outlet: &mut impl Outlet,
    copy_tos: bool,
    limit: &mut Limit<'_>,
    buffers: &mut Buffers,
) -> Pass {
    let mut pass = Pass::default();
    let Buffers { packet, outbox, .. } = buffers;
    let vnet_header = device.vnet_header();
    let mut packets = 0;
    while packets < BUDGET && outlet.blocked().is_none() && pass.flushed.error.is_none() {
        if outbox.batch.wants_flush() {
            merge(&mut pass.flushed, outlet.flush(outbox));
            continue;
        }
        let len = match device.read(packet) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                pass.device_error = Some(error);
                break;
            }
        };
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
            pass.dropped += 1;
            packets += 1;
            continue;
        };
        let before = pass.packets;
        if let Err(error) = seal_all(splitter, outlet, copy_tos, limit, outbox, &mut pass) {
            pass.seal_error = Some(error);
            break;
        }
        packets += usize::try_from(pass.packets - before).unwrap_or(BUDGET).max(1);
    }
    if outlet.blocked().is_none() {
        merge(&mut pass.flushed, outlet.flush(outbox));
    } else {
        outbox.batch.clear();
    }
    pass
}

/// Seals every segment of a super-packet, straight behind the previous record.
fn seal_all(
    mut splitter: Splitter<'_>,
    outlet: &mut impl Outlet,
    copy_tos: bool,
    limit: &mut Limit<'_>,
    outbox: &mut Outbox,
    pass: &mut Pass,
) -> Result<(), SealError> {
    pass.user_data = pass.user_data || is_user_data(splitter.packet());
    let tos = copy_tos.then(|| type_of_service(splitter.packet()));
    while let Some(len) = splitter.next_len() {
        if let Some((limit, now)) = limit
            && !limit.admit(*now, len)
        {
            // Written to nowhere, the segment is lost.
            splitter.write_next(&mut []);
            pass.dropped += 1;
            continue;
        }
        // Only super-packets of very small segments come here.
        if outbox.batch.is_full(outlet.sealer(), len) {
            merge(&mut pass.flushed, outlet.flush(outbox));
            if outlet.blocked().is_some() || pass.flushed.error.is_some() {
                pass.dropped += 1;
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
                pass.packets += 1;
                pass.octets += len as u64;
            }
            Err(SealError::Exhausted) => return Err(SealError::Exhausted),
            Err(SealError::Buffer | SealError::Oversize) => {
                pass.dropped += 1;
                return Ok(());
            }
        }
    }
    Ok(())
}

fn merge(total: &mut Flushed, part: Flushed) {
    total.segmentation_failed |= part.segmentation_failed;
    total.too_large = part.too_large.or(total.too_large);
    total.dropped += part.dropped;
    total.error = part.error.or(total.error.take());
}
