//! The sending half of a session on a thread of its own.
//!
//! A loan is a thread. It starts with the reading side of the device, the sealer and the sending
//! side of the socket of the channel that carries data, and gives them back when it ends. In
//! between the session does not have them: no record number can be used twice, and no packet
//! needs a lock. The session ends the loan before it does anything that needs one of them: frames
//! of its own, new keys, another channel, timers. The thread ends it when there is something
//! that the session has to act on, or too little to do.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use culvert_record::{DatagramChannel, PacketSealer, StreamOpener, StreamSealer};
use culvert_sys::epoll::{Events, Interest, Poller};

use super::event::{DatagramLoss, StreamError};
use super::transport::{Datagram, Outlet, StreamSender};
use super::uplink::Pass;
use super::{LOAN, Session};
use crate::buffers::Outgoing;
use crate::device::Device;
use crate::pace::Pace;
use crate::policy::Channel;

/// When sealing and sending get a thread of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecondThread {
    /// Never: everything is done by the thread that drives the session.
    #[default]
    Never,
    /// While more than 10,000 packets per second pass.
    WhenBusy,
    /// From the first packet on, which shows the hand-overs to tests.
    Always,
}

/// Packets per second, both directions together, that are worth a thread.
const BUSY: u64 = 10_000;
/// Packets per second of the sending direction that are not worth it any more: the
/// acknowledgements of a fast download are.
const IDLE: u64 = 1_000;
/// Time over which the rate is measured.
const WINDOW: Duration = Duration::from_millis(250);

/// Tokens of the thread's own poller.
const LINE: u64 = 0;
const DEVICE: u64 = 1;
const SOCKET: u64 = 2;

/// Measures the rate of packets, window by window.
#[derive(Debug)]
pub(super) struct Gauge {
    since: Instant,
    packets: u64,
}

impl Gauge {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            packets: 0,
        }
    }

    /// `packets` have passed in all until `now`. At the end of a window: how many per second.
    fn rate(&mut self, packets: u64, now: Instant) -> Option<u64> {
        let time = now.saturating_duration_since(self.since);
        if time < WINDOW {
            return None;
        }
        let passed = packets.saturating_sub(self.packets);
        *self = Self { since: now, packets };
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(passed.saturating_mul(1000) / milliseconds)
    }
}

/// A running loan, as the session sees it.
pub(super) struct Loan<S, L> {
    pub(super) channel: Channel,
    /// Closing it recalls the loan; it becomes readable when the thread ends by itself.
    line: UnixStream,
    thread: JoinHandle<Option<Box<Half<S, L>>>>,
}

/// What is lent.
struct Half<S, L> {
    device: Arc<Device>,
    outlet: Lent<S, L>,
    copy_tos: bool,
    outgoing: Outgoing,
    /// What has been done with it.
    pass: Pass,
    last_sent: Option<Instant>,
}

enum Lent<S, L> {
    Stream(StreamSender<S>),
    Datagram(Datagram<L>),
}

impl<S: StreamSealer, L: PacketSealer> Loan<S, L> {
    /// Starts the thread; gives the half back if that is not possible.
    fn start(channel: Channel, half: Box<Half<S, L>>) -> Result<Self, Box<Half<S, L>>> {
        let (give, take) = mpsc::channel::<Box<Half<S, L>>>();
        let started = UnixStream::pair().and_then(|(line, far_end)| {
            let work = move || take.recv().ok().map(|half| half.work(&far_end));
            let thread = thread::Builder::new().name("uplink".into()).spawn(work)?;
            Ok((line, thread))
        });
        let Ok((line, thread)) = started else {
            return Err(half);
        };
        give.send(half).map_err(|unsent| unsent.0)?;
        Ok(Self {
            channel,
            line,
            thread,
        })
    }

    /// Waits for the end of the thread's present pass. `None` if the thread panicked.
    fn end(self) -> Option<Box<Half<S, L>>> {
        drop(self.line);
        self.thread.join().ok().flatten()
    }
}

impl<S: StreamSealer, L: PacketSealer> Half<S, L> {
    /// The thread.
    fn work(mut self: Box<Self>, line: &UnixStream) -> Box<Self> {
        // Without a poller the session goes on alone.
        let _ = self.carry(line);
        self
    }

    /// Carries packets until the line is closed, something happened, or little passes.
    fn carry(&mut self, line: &UnixStream) -> io::Result<()> {
        let poller = Poller::new()?;
        poller.add(line, LINE, Interest::READ)?;
        poller.add(&self.device, DEVICE, Interest::READ)?;
        let mut events = Events::with_capacity(3);
        let (mut gauge, mut pace) = (Gauge::new(Instant::now()), Pace::new(Instant::now()));
        let mut blocked = false;
        loop {
            poller.wait(&mut events, Some(Instant::now() + WINDOW))?;
            if events.iter().any(|event| event.token == LINE || event.hangup) {
                return Ok(());
            }
            let now = Instant::now();
            let before = self.pass.packets;
            let blocked_now = self.turn();
            if self.pass.packets > before {
                self.last_sent = Some(now);
            }
            let idle = gauge.rate(self.pass.packets, now).is_some_and(|rate| rate < IDLE);
            if self.pass.is_eventful() || idle || self.wants_rekey() {
                return Ok(());
            }
            if blocked_now != blocked {
                blocked = blocked_now;
                self.watch(&poller, blocked)?;
            }
            if let Some(rest) = pace.after_turn(now, self.pass.passed()) {
                thread::sleep(rest);
            }
        }
    }

    /// One pass over the device; true if the socket is full then.
    fn turn(&mut self) -> bool {
        let Self {
            device,
            outlet,
            copy_tos,
            outgoing,
            pass,
            ..
        } = self;
        match outlet {
            Lent::Stream(sender) => turn(pass, device, sender, false, outgoing),
            Lent::Datagram(datagram) => turn(pass, device, datagram, *copy_tos, outgoing),
        }
    }

    /// New keys are the session's to announce.
    fn wants_rekey(&self) -> bool {
        matches!(&self.outlet, Lent::Stream(sender) if sender.sealer.wants_rekey())
    }

    /// The device is read only while the socket takes packets.
    fn watch(&mut self, poller: &Poller, blocked: bool) -> io::Result<()> {
        let device = if blocked { Interest::NONE } else { Interest::READ };
        poller.modify(&self.device, DEVICE, device)?;
        match &mut self.outlet {
            Lent::Stream(sender) if blocked => poller.add(&sender.socket, SOCKET, Interest::WRITE),
            Lent::Stream(sender) => poller.delete(&sender.socket),
            Lent::Datagram(datagram) if blocked => {
                datagram.socket.register(poller, SOCKET)?;
                datagram.socket.set_interest(poller, SOCKET, Interest::WRITE)
            }
            Lent::Datagram(datagram) => {
                datagram.socket.unregister(poller);
                Ok(())
            }
        }
    }
}

fn turn(
    pass: &mut Pass,
    device: &Device,
    outlet: &mut impl Outlet,
    copy_tos: bool,
    outgoing: &mut Outgoing,
) -> bool {
    pass.resume(outlet, outgoing);
    pass.carry(device, outlet, copy_tos, &mut None, outgoing);
    outlet.is_blocked()
}

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Ends the loan, if there is one: afterwards the session has everything. Statistics are
    /// complete then.
    pub fn recall(&mut self, now: Instant) {
        let Some(loan) = self.loan.take() else { return };
        self.unregister(&loan.line);
        let channel = loan.channel;
        match (loan.end(), channel) {
            (Some(half), _) => self.take_back(channel, *half, now),
            (None, Channel::Stream) => self.stream_failed(StreamError::Io(thread_lost())),
            (None, Channel::Datagram) => self.datagram_lost(DatagramLoss::Io(thread_lost())),
        }
    }

    /// Lends the sending half of `channel` if that is worth it.
    pub(super) fn consider_loan(&mut self, channel: Channel, now: Instant) {
        let wanted = match self.config.second_thread {
            SecondThread::Never => false,
            SecondThread::WhenBusy => {
                let packets = self.statistics.sent_packets + self.statistics.received_packets;
                self.gauge.rate(packets, now).is_some_and(|rate| rate >= BUSY)
            }
            SecondThread::Always => true,
        };
        // A limit counts both what is sent here and there.
        if !wanted || self.sent_limit.is_some() {
            return;
        }
        let Some(half) = self.take_half(channel) else {
            return;
        };
        match Loan::start(channel, Box::new(half)) {
            Ok(loan) => {
                let registered = self
                    .poller
                    .add(&loan.line, self.token_base + LOAN, Interest::READ);
                self.loan = Some(loan);
                if registered.is_err() {
                    self.recall(now);
                }
            }
            Err(half) => {
                self.config.second_thread = SecondThread::Never;
                self.take_back(channel, *half, now);
            }
        }
    }

    /// What another thread needs to send on `channel`; `None` while that is not possible.
    fn take_half(&mut self, channel: Channel) -> Option<Half<S, D::Sealer>> {
        let device = Arc::clone(&self.device.as_ref()?.device);
        let outlet = match channel {
            Channel::Stream => Lent::Stream(self.stream.as_mut()?.sender.take()?),
            Channel::Datagram => {
                let slot = self.active_datagram()?;
                let socket = slot.socket.lend()?;
                Lent::Datagram(Datagram {
                    channel: slot.channel.take_sealer()?,
                    socket,
                    blocked: slot.blocked.take(),
                    interest: Interest::NONE,
                    runs: slot.runs,
                })
            }
        };
        Some(Half {
            device,
            outlet,
            copy_tos: self.config.copy_tos,
            outgoing: Outgoing::new(),
            pass: Pass::default(),
            last_sent: None,
        })
    }

    fn take_back(&mut self, channel: Channel, half: Half<S, D::Sealer>, now: Instant) {
        match half.outlet {
            Lent::Stream(sender) => {
                if let Some(stream) = self.stream.as_mut() {
                    stream.sender = Some(sender);
                }
            }
            Lent::Datagram(lent) => {
                if let Some(slot) = self.active_datagram() {
                    slot.channel.put_sealer(lent.channel);
                    slot.blocked = lent.blocked;
                    slot.runs = lent.runs;
                }
            }
        }
        self.account(channel, half.pass, half.last_sent.unwrap_or(now));
        self.update_interests(now);
    }
}

fn thread_lost() -> io::Error {
    io::Error::other("the sending thread has failed")
}
