//! One tunnel: a device, a stream, and at most two datagram channels - the active one and a
//! candidate whose handshake never disturbs it.

mod config;
mod downlink;
mod event;
mod loan;
mod runs;
mod socket;
mod timers;
mod transport;
mod uplink;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use culvert_record::{DatagramChannel, FrameKind, SealError, StreamOpener, StreamSealer};
use culvert_sys::epoll::{self, Interest, Poller};
use culvert_sys::tcp;
use culvert_sys::tun::Offload;
use culvert_vocab::Timers;

pub use self::config::SessionConfig;
pub use self::event::{DatagramLoss, Event, FrameError, Notice, Statistics, StreamError};
pub use self::loan::SecondThread;
use self::loan::{Gauge, Loan};
pub use self::socket::{DatagramSocket, Marks, SharedSocket};
use self::transport::{Datagram, Outlet, Stream, StreamSender};
use crate::buffers::{Arrival, Buffers};
use crate::device::{Backlog, Device};
use crate::policy::{Channel, Policy, Role};
use crate::rate::RateLimit;

/// Tokens of the poller that a session uses, beginning with the one it was given.
pub const TOKENS: u64 = 5;

/// Octets of receive buffer that UDP sockets ask for: a few runs of datagrams, which the kernel
/// counts with their overhead. A sender that is faster than we are fills it whatever its size, and
/// everybody's packets wait behind that queue; see docs/performance.md.
const RECEIVE_BUFFER: usize = 256 << 10;

const DEVICE: u64 = 0;
const STREAM: u64 = 1;
/// Tokens of the two datagram slots.
const DATAGRAMS: u64 = 2;
/// Token of the line to the thread that has the sending half.
const LOAN: u64 = 4;

/// One tunnel. `S`, `O` and `D` are the record layers of its protocol.
///
/// The application waits with its `Poller` until [`Self::poll_timeout`], hands every event whose
/// token is [owned](Self::owns) to [`Self::handle_ready`], calls [`Self::handle_timeout`], and
/// takes [events](Self::poll_event) until there are none.
pub struct Session<S, O, D: DatagramChannel> {
    config: SessionConfig,
    poller: Arc<Poller>,
    token_base: u64,
    device: Option<DeviceSlot>,
    stream: Option<Stream<S, O>>,
    datagrams: [Option<Datagram<D>>; 2],
    /// Index of the datagram slot that carries data.
    active: Option<usize>,
    policy: Policy,
    events: VecDeque<Event>,
    statistics: Statistics,
    /// The thread that has the sending half of the channel that carries data.
    loan: Option<Loan<S, D::Sealer>>,
    gauge: Gauge,
    received_limit: Option<RateLimit>,
    sent_limit: Option<RateLimit>,
}

struct DeviceSlot {
    device: Arc<Device>,
    /// Kinds of super-packets that the device takes.
    offload: Offload,
    /// Packets that the device did not take yet; reading from the transports stops meanwhile.
    backlog: Backlog,
    interest: Interest,
}

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// A session without device and channels. It registers with `poller` under the tokens
    /// `token_base` to `token_base + TOKENS - 1`.
    pub fn new(config: SessionConfig, poller: Arc<Poller>, token_base: u64, now: Instant) -> Self {
        Self {
            policy: Policy::new(config.policy(), now),
            received_limit: RateLimit::new(config.received_per_second, now),
            sent_limit: RateLimit::new(config.sent_per_second, now),
            config,
            poller,
            token_base,
            device: None,
            stream: None,
            datagrams: [None, None],
            active: None,
            events: VecDeque::new(),
            statistics: Statistics::default(),
            loan: None,
            gauge: Gauge::new(now),
        }
    }

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
    /// becomes the active one when it is established. `first` is a datagram that was received
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

    /// Opens datagrams that the application received on a [shared](DatagramSocket::Shared) socket.
    /// Each arrival lies in [`Buffers::receive_room`]; all are of one peer. Returns false when no
    /// channel of this session talks to that peer: nothing was done then.
    pub fn receive_datagrams(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        arrivals: &[Arrival],
        buffers: &mut Buffers,
    ) -> bool {
        let talks = |slot: &Option<Datagram<D>>| {
            slot.as_ref()
                .is_some_and(|datagram| datagram.socket.is_shared_with(peer))
        };
        let Some(index) = self.datagrams.iter().position(talks) else {
            return false;
        };
        self.prepare(buffers);
        self.open_arrivals(index, now, arrivals, buffers);
        self.update_interests(now);
        true
    }

    /// Closes both datagram channels without a word.
    pub fn detach_datagram(&mut self) {
        self.remove_datagram(0);
        self.remove_datagram(1);
        self.update_interests(Instant::now());
    }

    /// Sends a frame that is no packet of the device: a probe, a keepalive, a farewell.
    ///
    /// # Errors
    /// See [`FrameError`]; `TooLarge` is the answer to a probe of the path MTU.
    pub fn send(
        &mut self,
        now: Instant,
        channel: Channel,
        kind: FrameKind,
        payload: &[u8],
        buffers: &mut Buffers,
    ) -> Result<(), FrameError> {
        self.recall(now);
        let outbox = &mut buffers.outgoing.outbox;
        let write = |out: &mut [u8]| out.copy_from_slice(payload);
        let sent = match channel {
            Channel::Stream => self.stream_sender().map(|sender| {
                sender.send_with(outbox, |sealer, batch| {
                    batch.seal(sealer, kind, payload.len(), None, write)
                })
            }),
            Channel::Datagram => self.active_datagram().map(|datagram| {
                datagram.send_with(outbox, |sealer, batch| {
                    batch.seal(sealer, kind, payload.len(), None, write)
                })
            }),
        };
        let result = match sent {
            None => Err(FrameError::Closed),
            Some(Err(SealError::Oversize)) => Err(FrameError::TooLarge),
            Some(Err(SealError::Buffer)) => Err(FrameError::Full),
            Some(Err(error @ SealError::Exhausted)) => {
                match channel {
                    Channel::Stream => self.stream_failed(StreamError::Seal(error)),
                    Channel::Datagram => self.datagram_lost(DatagramLoss::Seal(error)),
                }
                Err(FrameError::Failed)
            }
            Some(Ok(mut flushed)) => {
                self.policy.sent(channel, now);
                // The caller learns of it by the result, not by an event.
                let too_large = flushed.too_large.take();
                let failed = flushed.error.is_some();
                self.after_flush(channel, flushed);
                match (failed, too_large) {
                    (true, _) => Err(FrameError::Failed),
                    (false, Some(_)) => Err(FrameError::TooLarge),
                    (false, None) => Ok(()),
                }
            }
        };
        self.update_interests(now);
        result
    }

    /// Announces new sending keys on the stream and switches to them, where the protocol can
    /// (TLS 1.3 KeyUpdate).
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn rekey_stream(
        &mut self,
        now: Instant,
        request_peer: bool,
        buffers: &mut Buffers,
    ) -> Result<(), FrameError> {
        self.recall(now);
        let Some(sender) = self.stream_sender() else {
            return Err(FrameError::Closed);
        };
        let sent = sender.send_with(&mut buffers.outgoing.outbox, |sealer, batch| {
            let mut message = Vec::new();
            sealer.rekey(request_peer, &mut message)?;
            batch.append(&message)
        });
        match sent {
            Ok(flushed) => {
                self.policy.rekeyed(Channel::Stream, now);
                self.after_flush(Channel::Stream, flushed);
                self.update_interests(now);
                Ok(())
            }
            Err(error) => {
                // The keys may have changed without the peer knowing.
                self.stream_failed(StreamError::Seal(error));
                Err(FrameError::Failed)
            }
        }
    }

    /// Changes the largest packet that the tunnel carries, in octets. The device's own MTU is
    /// the application's business.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu;
    }

    /// The largest packet that the tunnel carries, in octets.
    pub fn mtu(&self) -> u16 {
        self.config.mtu
    }

    /// Changes the timers of both channels.
    pub fn set_timers(&mut self, stream: Timers, datagram: Timers) {
        (self.config.stream, self.config.datagram) = (stream, datagram);
        self.policy.set_timers(stream, datagram);
    }

    /// Changes the end of the session.
    pub fn set_session_end(&mut self, end: Option<Instant>) {
        self.policy.set_session_end(end);
    }

    /// True when `token` is one of this session's.
    pub fn owns(&self, token: u64) -> bool {
        (self.token_base..self.token_base + TOKENS).contains(&token)
    }

    /// Acts on the readiness of one of this session's descriptors.
    pub fn handle_ready(&mut self, now: Instant, event: epoll::Event, buffers: &mut Buffers) {
        self.prepare(buffers);
        match event.token.wrapping_sub(self.token_base) {
            DEVICE => {
                if event.writable {
                    self.device_writable();
                }
                if event.readable {
                    self.uplink(now, buffers);
                }
            }
            STREAM => {
                if event.writable
                    && let Some(sender) = self.stream_sender()
                {
                    let flushed = sender.resume(&mut buffers.outgoing.outbox);
                    self.after_flush(Channel::Stream, flushed);
                }
                if event.readable {
                    self.stream_readable(now, buffers);
                }
            }
            token @ (DATAGRAMS | 3) => {
                let index = (token - DATAGRAMS) as usize;
                if event.writable
                    && let Some(datagram) = self.datagrams.get_mut(index).and_then(Option::as_mut)
                {
                    let flushed = datagram.resume(&mut buffers.outgoing.outbox);
                    self.after_flush(Channel::Datagram, flushed);
                }
                if event.readable {
                    self.datagram_readable(index, now, buffers);
                }
            }
            LOAN => {
                self.recall(now);
                self.renew_worn_keys(now, buffers);
            }
            _ => {}
        }
        self.update_interests(now);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True when nothing waits for the stream's socket.
    pub fn stream_flushed(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| !stream.is_blocked())
    }

    /// The stream's socket.
    pub fn stream_socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(|stream| stream.socket.as_fd())
    }

    /// True when a datagram channel carries data or could.
    pub fn datagram_established(&self) -> bool {
        self.active.is_some()
    }

    /// True while a candidate is in its handshake.
    pub fn datagram_connecting(&self) -> bool {
        let candidate = self.active.map_or(0, |active| 1 - active);
        self.datagrams.get(candidate).is_some_and(Option::is_some)
    }

    /// The socket of the active datagram channel.
    pub fn datagram_socket(&self) -> Option<&DatagramSocket> {
        self.active
            .and_then(|index| self.datagrams.get(index)?.as_ref())
            .map(|slot| &slot.socket)
    }

    /// The active datagram channel.
    pub fn datagram_channel(&self) -> Option<&D> {
        self.active
            .and_then(|index| self.datagrams.get(index)?.as_ref())
            .map(|slot| &slot.channel)
    }

    /// True while another thread reads the device, seals and sends.
    pub fn is_lending(&self) -> bool {
        self.loan.is_some()
    }

    /// When a channel got its present keys.
    pub fn last_rekey(&self, channel: Channel) -> Option<Instant> {
        self.policy.last_rekey(channel)
    }

    /// What passed the device so far, without what was sent since a loan began: see
    /// [`Self::recall`].
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn stream_sender(&mut self) -> Option<&mut StreamSender<S>> {
        self.stream.as_mut()?.sender.as_mut()
    }

    fn active_datagram(&mut self) -> Option<&mut Datagram<D>> {
        self.active
            .and_then(|index| self.datagrams.get_mut(index)?.as_mut())
    }

    fn stream_failed(&mut self, error: StreamError) {
        self.detach_stream();
        self.events.push_back(Event::StreamFailed(error));
    }

    fn datagram_lost(&mut self, loss: DatagramLoss) {
        if let Some(index) = self.active {
            self.remove_datagram(index);
            self.events.push_back(Event::DatagramLost(loss));
        }
    }

    fn device_failed(&mut self, error: io::Error) {
        self.recall(Instant::now());
        if let Some(slot) = self.device.take() {
            self.unregister(&slot.device);
        }
        self.events.push_back(Event::DeviceFailed(error));
    }

    fn remove_datagram(&mut self, index: usize) {
        self.recall(Instant::now());
        if let Some(datagram) = self.datagrams.get_mut(index).and_then(Option::take) {
            datagram.socket.unregister(&self.poller);
        }
        if self.active == Some(index) {
            self.active = None;
            self.policy.closed(Channel::Datagram);
        }
    }

    /// Closing a descriptor is not enough when another process holds a copy of it.
    fn unregister(&self, fd: impl AsFd) {
        let _ = self.poller.delete(fd);
    }

    fn notice(&mut self, notice: Notice) {
        self.events.push_back(Event::Notice(notice));
    }

    /// A shared socket is the application's to prepare.
    fn prepare_socket(&mut self, socket: &DatagramSocket) {
        let Some(socket) = socket.own() else { return };
        if socket.set_gro(true).is_err() {
            self.notice(Notice::NoReceiveOffload);
        }
        // Refused buffer sizes leave the defaults, which work.
        let _ = socket.set_buffers(self.config.send_buffer(), Some(RECEIVE_BUFFER));
    }

    /// The buffers serve many sessions: their coalescer must know this one's device.
    fn prepare(&self, buffers: &mut Buffers) {
        let offload = self.device.as_ref().map(|slot| slot.offload).unwrap_or_default();
        buffers.coalescer.set_kinds(offload.tcp, offload.udp);
    }

    /// Tells the poller what is wanted: the device is read only while the channel that would
    /// carry its packets takes them; the transports only while the device does.
    fn update_interests(&mut self, now: Instant) {
        let data_channel = self.policy.data_channel(now);
        if self
            .loan
            .as_ref()
            .is_some_and(|loan| data_channel != Some(loan.channel))
        {
            return self.recall(now);
        }
        let stream_blocked = self.stream.as_ref().is_some_and(Stream::is_blocked);
        let datagram_blocked = self
            .active_datagram()
            .is_some_and(|datagram| datagram.blocked.is_some());
        self.policy.set_blocked(Channel::Stream, stream_blocked);
        self.policy.set_blocked(Channel::Datagram, datagram_blocked);
        let readable = match data_channel {
            _ if self.loan.is_some() => false,
            Some(Channel::Stream) => !stream_blocked,
            Some(Channel::Datagram) => !datagram_blocked,
            None => false,
        };
        let device_full = self.device.as_ref().is_some_and(|slot| !slot.backlog.is_empty());
        let (poller, base) = (&self.poller, self.token_base);
        if let Some(slot) = self.device.as_mut() {
            let wanted = Interest {
                readable,
                writable: device_full,
            };
            change_interest(poller, &slot.device, base + DEVICE, &mut slot.interest, wanted);
        }
        if let Some(stream) = self.stream.as_mut() {
            let wanted = Interest {
                readable: !device_full,
                writable: stream_blocked,
            };
            change_interest(
                poller,
                &stream.socket,
                base + STREAM,
                &mut stream.interest,
                wanted,
            );
        }
        for (index, slot) in self.datagrams.iter_mut().enumerate() {
            let Some(datagram) = slot else { continue };
            let wanted = Interest {
                readable: !device_full,
                writable: datagram.blocked.is_some(),
            };
            let token = base + DATAGRAMS + index as u64;
            if datagram.interest != wanted && datagram.socket.set_interest(poller, token, wanted).is_ok() {
                datagram.interest = wanted;
            }
        }
    }
}

fn change_interest(poller: &Poller, fd: impl AsFd, token: u64, present: &mut Interest, wanted: Interest) {
    // A registered descriptor cannot be refused; if it were, the next change tries again.
    if *present != wanted && poller.modify(fd, token, wanted).is_ok() {
        *present = wanted;
    }
}
