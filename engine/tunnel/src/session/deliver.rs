//! What was received goes to the device.

use std::io;
use std::ops::Range;
use std::time::Instant;

use culvert_record::{DatagramChannel, StreamOpener, StreamSealer};
use culvert_sys::tun::Offload;

use super::Session;
use super::downlink::Pass;
use super::event::Notice;
use crate::buffers::Buffers;
use crate::offload::{HEADER_LEN, is_user_data};

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Writes the collected packets to the device.
    pub(super) fn deliver(&mut self, buffers: &mut Buffers) {
        let Buffers {
            receive, coalescer, ..
        } = buffers;
        let Some(slot) = self.device.as_mut() else {
            coalescer.flush(receive, |joined, _| {
                self.statistics.dropped += joined.packets as u64
            });
            return;
        };
        let mut refused = false;
        let mut gone = None;
        let statistics = &mut self.statistics;
        coalescer.flush(receive, |joined, parts| {
            let written = if slot.backlog.is_empty() {
                slot.device.write(parts)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
            match written {
                Ok(()) => {
                    statistics.received_packets += joined.packets as u64;
                    statistics.received_octets += joined.octets as u64;
                }
                Err(error) if is_full(&error) => {
                    slot.backlog.push(parts);
                }
                Err(error) => {
                    statistics.dropped += joined.packets as u64;
                    refused |= joined.packets > 1 && error.kind() == io::ErrorKind::InvalidInput;
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected
                    ) {
                        gone = Some(error);
                    }
                }
            }
        });
        if refused {
            slot.offload = Offload::default();
            self.notice(Notice::NoSuperPackets);
        }
        if let Some(error) = gone {
            self.device_failed(error);
        }
    }

    /// Writes a packet that was restored to the packet buffer, after those before it. It is not
    /// joined with others: lines that are worth compressing for are slow.
    pub(super) fn deliver_restored(
        &mut self,
        now: Instant,
        len: usize,
        pass: &mut Pass,
        buffers: &mut Buffers,
    ) {
        self.deliver(buffers);
        let (header, body) = buffers.outgoing.packet.split_at_mut(HEADER_LEN);
        header.fill(0);
        let body = body.get(..len).unwrap_or_default();
        (pass.frames, pass.data) = (true, true);
        pass.user_data = pass.user_data || is_user_data(body);
        let limit = &mut self.received_limit;
        let admitted = limit.as_mut().is_none_or(|limit| limit.admit(now, len));
        let Some(slot) = self.device.as_mut().filter(|_| admitted) else {
            self.statistics.dropped += 1;
            return;
        };
        let parts = [io::IoSlice::new(header), io::IoSlice::new(body)];
        let written = if slot.backlog.is_empty() {
            slot.device.write(&parts)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        match written {
            Ok(()) => {
                self.statistics.received_packets += 1;
                self.statistics.received_octets += len as u64;
            }
            Err(error) if is_full(&error) => slot.backlog.push(&parts),
            Err(_) => self.statistics.dropped += 1,
        }
    }

    /// Writes what waited for the device.
    pub(super) fn device_writable(&mut self) {
        let Some(slot) = self.device.as_mut() else { return };
        while let Some(packet) = slot.backlog.front() {
            let (header, body) = packet.split_at(HEADER_LEN.min(packet.len()));
            match slot
                .device
                .write(&[io::IoSlice::new(header), io::IoSlice::new(body)])
            {
                Err(error) if is_full(&error) => return,
                Ok(()) => {
                    self.statistics.received_packets += 1;
                    self.statistics.received_octets += body.len() as u64;
                }
                Err(_) => self.statistics.dropped += 1,
            }
            slot.backlog.pop();
        }
    }
}

/// Has a compressed packet of the receive buffer restored to the packet buffer, behind room for
/// the device's header; gives its length.
pub(super) fn restore(
    buffers: &mut Buffers,
    payload: Range<usize>,
    decompress: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>,
) -> Option<usize> {
    let out = buffers.outgoing.packet.get_mut(HEADER_LEN..)?;
    decompress(buffers.receive.get(payload)?, out)
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
