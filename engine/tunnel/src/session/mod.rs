//! One tunnel: a device, a stream, and at most two datagram channels - the active one, and either a
//! candidate whose handshake never disturbs it or the one before it, which only receives any more.

mod attach;
mod config;
mod control;
mod deliver;
mod downlink;
mod event;
mod interests;
mod loan;
mod runs;
mod socket;
mod timers;
mod transport;
mod uplink;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_record::{DatagramChannel, StreamOpener, StreamSealer};
use culvert_sys::epoll::{self, Interest, Poller};
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
use crate::policy::{Channel, Policy};
use crate::rate::RateLimit;

/// Tokens of the poller that a session uses, beginning with the one it was given.
pub const TOKENS: u64 = 5;

/// How long a datagram channel that was replaced still receives: what the peer has sent before it knew of the
/// new one, also if it has to repeat the end of that handshake once.
const OVERLAP: Duration = Duration::from_secs(3);

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
    /// Until then the other slot has the channel that the active one has replaced.
    replaced_until: Option<Instant>,
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
            replaced_until: None,
            events: VecDeque::new(),
            statistics: Statistics::default(),
            loan: None,
            gauge: Gauge::new(now),
        }
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
                    if self.active == Some(index) {
                        self.after_flush(Channel::Datagram, flushed);
                    } else {
                        self.statistics.dropped += flushed.dropped;
                    }
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

    fn notice(&mut self, notice: Notice) {
        self.events.push_back(Event::Notice(notice));
    }

    /// The buffers serve many sessions: their coalescer must know this one's device.
    fn prepare(&self, buffers: &mut Buffers) {
        let offload = self.device.as_ref().map(|slot| slot.offload).unwrap_or_default();
        buffers.coalescer.set_kinds(offload.tcp, offload.udp);
    }
}
