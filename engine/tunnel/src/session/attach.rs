//! What comes and goes: the device, the stream, the datagram channels.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use culvert_record::{DatagramChannel, StreamOpener, StreamSealer};
use culvert_sys::epoll::Interest;
use culvert_sys::tcp;

use super::event::{DatagramLoss, Event, Notice, StreamError};
use super::socket::DatagramSocket;
use super::transport::{Datagram, Stream, StreamSender};
use super::{DATAGRAMS, DEVICE, DeviceSlot, STREAM, Session};
use crate::buffers::Buffers;
use crate::device::{Backlog, Device};
use crate::policy::Channel;

/// Octets of receive buffer that UDP sockets ask for: a few runs of datagrams, which the kernel
/// counts with their overhead. A sender that is faster than we are fills it whatever its size, and
/// everybody's packets wait behind that queue; see docs/performance.md.
const RECEIVE_BUFFER: usize = 256 << 10;

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Gives the session its device; before that, received packets are dropped.
    ///
    /// # Errors
    /// The device cannot be polled.
    pub fn attach_device(&mut self, device: Device) -> io::Result<()> {
        self.recall(Instant::now());
        let offload = device.offload();
        self.poller
            .add(&device, self.token_base + DEVICE, Interest::NONE)?;
        if matches!(device, Device::Kernel(_)) {
            if !device.vnet_header() {
                self.notice(Notice::NoVnetHeader);
            } else if !offload.udp {
                self.notice(Notice::NoUdpSuperPackets);
            }
        }
        self.device = Some(DeviceSlot {
            device: Arc::new(device),
            offload,
            backlog: Backlog::default(),
            interest: Interest::NONE,
        });
        self.update_interests(Instant::now());
        Ok(())
    }

    /// Gives the device back, if there is one.
    pub fn detach_device(&mut self) -> Option<Device> {
        self.recall(Instant::now());
        let slot = self.device.take()?;
        self.unregister(&slot.device);
        Arc::into_inner(slot.device)
    }

    /// Gives the session a (new) stream; the previous one is closed. `received` are octets of
    /// the connection that were read already.
    ///
    /// # Errors
    /// The socket cannot be polled.
    pub fn attach_stream(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        sealer: S,
        opener: O,
        received: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        self.detach_stream();
        self.poller
            .add(&socket, self.token_base + STREAM, Interest::NONE)?;
        // Both keep latency low and are not vital: a socket that refuses works all the same.
        let _ = tcp::set_nodelay(&socket);
        let _ = tcp::set_unsent_limit(&socket, self.config.unsent_limit());
        let socket = Arc::new(socket);
        let sender = StreamSender {
            socket: Arc::clone(&socket),
            sealer,
            blocked: None,
        };
        self.stream = Some(Stream {
            socket,
            sender: Some(sender),
            opener,
            partial: Vec::new(),
            interest: Interest::NONE,
        });
        self.policy.opened(Channel::Stream, now);
        if let Some(room) = buffers.receive.get_mut(..received.len()) {
            room.copy_from_slice(received);
            self.prepare(buffers);
            self.open_stream(now, received.len(), buffers);
        }
        self.update_interests(now);
        Ok(())
    }

    /// Closes the stream without a word.
    pub fn detach_stream(&mut self) {
        self.recall(Instant::now());
        if let Some(stream) = self.stream.take() {
            self.unregister(&stream.socket);
        }
        self.policy.closed(Channel::Stream);
        self.update_interests(Instant::now());
    }

    /// Starts a new datagram channel in the candidate slot, replacing an earlier candidate. It
    /// becomes the active one when it is established; the one before it receives for a moment longer. `first` is a datagram that was received
    /// for it already, or empty.
    ///
    /// # Errors
    /// The socket cannot be polled.
    pub fn attach_datagram(
        &mut self,
        now: Instant,
        socket: impl Into<DatagramSocket>,
        channel: D,
        first: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        self.recall(now);
        let socket = socket.into();
        let index = self.active.map_or(0, |active| 1 - active);
        self.remove_datagram(index);
        socket.register(&self.poller, self.token_base + DATAGRAMS + index as u64)?;
        self.prepare_socket(&socket);
        self.datagrams[index] = Some(Datagram {
            socket,
            channel,
            blocked: None,
            interest: Interest::READ,
            runs: self.config.runs(),
        });
        if !first.is_empty() {
            self.prepare(buffers);
            self.inject_datagram(index, now, first, buffers);
        }
        self.check_datagram(index, now);
        self.update_interests(now);
        Ok(())
    }

    /// The peer's address has changed (roaming): `first` came from the new one, to which
    /// `socket` is connected. The socket is taken over only if `first` authenticates in the
    /// active channel; tells whether it did.
    ///
    /// # Errors
    /// The socket cannot be polled.
    pub fn move_datagram(
        &mut self,
        now: Instant,
        socket: impl Into<DatagramSocket>,
        first: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<bool> {
        self.recall(now);
        let socket = socket.into();
        self.prepare(buffers);
        let Some(index) = self.active else {
            return Ok(false);
        };
        if !self.inject_datagram(index, now, first, buffers) || self.active != Some(index) {
            return Ok(false);
        }
        socket.register(&self.poller, self.token_base + DATAGRAMS + index as u64)?;
        self.prepare_socket(&socket);
        if let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut) {
            slot.interest = Interest::READ;
            slot.runs = self.config.runs();
            let previous = std::mem::replace(&mut slot.socket, socket);
            previous.unregister(&self.poller);
        }
        self.update_interests(now);
        Ok(true)
    }

    /// Closes both datagram channels without a word.
    pub fn detach_datagram(&mut self) {
        self.remove_datagram(0);
        self.remove_datagram(1);
        self.update_interests(Instant::now());
    }

    pub(super) fn stream_failed(&mut self, error: StreamError) {
        self.detach_stream();
        self.events.push_back(Event::StreamFailed(error));
    }

    pub(super) fn datagram_lost(&mut self, loss: DatagramLoss) {
        if let Some(index) = self.active {
            self.remove_datagram(index);
            self.events.push_back(Event::DatagramLost(loss));
        }
    }

    pub(super) fn device_failed(&mut self, error: io::Error) {
        self.recall(Instant::now());
        if let Some(slot) = self.device.take() {
            self.unregister(&slot.device);
        }
        self.events.push_back(Event::DeviceFailed(error));
    }

    pub(super) fn remove_datagram(&mut self, index: usize) {
        self.recall(Instant::now());
        if let Some(datagram) = self.datagrams.get_mut(index).and_then(Option::take) {
            datagram.socket.unregister(&self.poller);
        }
        let had_replaced = self.replaced_until.take().is_some();
        if self.active == Some(index) {
            self.active = None;
            self.policy.closed(Channel::Datagram);
            if had_replaced {
                self.remove_datagram(1 - index);
            }
        }
    }

    /// True for the slot of a channel that was replaced and only receives.
    pub(super) fn is_replaced(&self, index: usize) -> bool {
        self.replaced_until.is_some() && self.active != Some(index)
    }

    /// Closing a descriptor is not enough when another process holds a copy of it.
    pub(super) fn unregister(&self, fd: impl AsFd) {
        let _ = self.poller.delete(fd);
    }

    /// A shared socket is the application's to prepare.
    pub(super) fn prepare_socket(&mut self, socket: &DatagramSocket) {
        let Some(socket) = socket.own() else { return };
        if socket.set_gro(true).is_err() {
            self.notice(Notice::NoReceiveOffload);
        }
        // Refused buffer sizes leave the defaults, which work.
        let _ = socket.set_buffers(self.config.send_buffer(), Some(RECEIVE_BUFFER));
    }
}
