//! The tunnel of one client: its packets between device, TLS and UDP, main's orders, what becomes
//! due; until somebody ends it. Never waits, so that a process can carry many.

mod beside;
mod datagrams;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_anyconnect::wire::Goodbye;
use culvert_login::server::{Beside, Channels, Connection};
use culvert_record::{AnyDatagramChannel, FrameKind, StreamOpener, StreamSealer};
use culvert_sys::epoll::{self, Interest, Poller};
use culvert_sys::tun::Tun;
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{
    Arrival, Buffers, Channel, Device, Event, Passed, Role, Session, SessionConfig, TOKENS,
};
use culvert_vocab::RekeyMethod;

use crate::ipc::fields::Text;
use crate::ipc::link::LinkError;
use crate::ipc::messages::{LogLevel, MainToWorker, WorkerReason, WorkerToMain};
use crate::ipc::session::{Counters, NetPriority};
use crate::worker::hand_over::HandOver;
use crate::worker::log::Reporter;

/// Tokens of the poller that a client uses, beginning with the one it is given.
pub(super) const CLIENT_TOKENS: u64 = 8;
/// Main's token, behind the session's.
const MAIN: u64 = TOKENS;
/// Token of the connection beside the tunnel.
const BESIDE: u64 = TOKENS + 1;
/// Time for main to say why a device is gone.
const DEVICELESS: Duration = Duration::from_secs(2);
/// Longest time for the farewell to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// Longest time without any channel: between the configuration and the first sign of the client on
/// it, or after its last.
const WITHOUT_CHANNEL: Duration = Duration::from_secs(30);

type ClientSession = Session<Box<dyn StreamSealer>, Box<dyn StreamOpener>, AnyDatagramChannel>;

/// A client whose tunnel is open.
pub(super) struct Client {
    session: ClientSession,
    poller: Arc<Poller>,
    reporter: Arc<Reporter>,
    token_base: u64,
    /// `None` when there is nothing but the TLS channel any more.
    channels: Option<Box<dyn Channels>>,
    /// The connection beside a tunnel that does not go over it.
    beside: Option<(Box<dyn Beside>, OwnedFd)>,
    /// When a tunnel without any channel ends.
    abandoned: Option<Instant>,
    /// For the log.
    idle_timeout: Option<Duration>,
    session_timeout: Option<Duration>,
    mtu_limit: u16,
    own_rekey: Option<Duration>,
    next_rekey: Option<Instant>,
    report: Duration,
    next_report: Instant,
    reported: Counters,
    net_priority: Option<NetPriority>,
    discover_mtu: bool,
    life: Life,
    /// The device is gone, for this reason; the client is parted with at that time.
    device_failure: Option<(Instant, io::Error)>,
}

/// How far the tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The farewell has to leave before this time.
    Parting(WorkerReason, Instant),
    Over(WorkerReason),
}

impl Client {
    /// Goes on with what a login has handed over. Registers with `poller` under [`CLIENT_TOKENS`]
    /// tokens from `token_base` on.
    pub(super) fn new(
        state: HandOver,
        tcp: OwnedFd,
        tun: OwnedFd,
        reporter: Arc<Reporter>,
        poller: &Arc<Poller>,
        token_base: u64,
        buffers: &mut Buffers,
    ) -> io::Result<Self> {
        if !state.is_plausible() {
            return Err(io::Error::other("a hand-over with implausible times"));
        }
        let now = Instant::now();
        let mut config = SessionConfig::new(Role::Server, state.mtu.get());
        config.stream = state.stream;
        // Rekeying in place is the server's own business; a new tunnel is the client's.
        config.stream.rekey = None;
        config.stream.rekey_method = RekeyMethod::None;
        config.datagram = state.datagram_timers;
        // In DTLS the client renews the keys.
        config.datagram.rekey = None;
        config.datagram.rekey_method = RekeyMethod::None;
        config.idle_timeout = state.idle_timeout;
        config.session_end = state.session_left.map(|left| now + left);
        config.switch_to_stream = state.switch_to_stream;
        config.received_per_second = state.rx_per_second;
        config.sent_per_second = state.tx_per_second;
        config.queue_len = usize::try_from(state.output_buffer).unwrap_or(usize::MAX);
        let mut session = ClientSession::new(config, Arc::clone(poller), token_base, now);
        session.attach_device(Device::Kernel(Tun::from_fd(tun).map_err(io::Error::other)?))?;
        let (sealer, opener) = state.tls.into_halves().map_err(io::Error::other)?;
        let mut channels = state.channels.erase();
        let beside = match channels.take_connection(now, sealer, opener) {
            Connection::Stream((sealer, opener)) => {
                session.attach_stream(now, tcp, sealer, opener, &state.unread, buffers)?;
                None
            }
            Connection::Beside(beside) => {
                poller.add(&tcp, token_base + BESIDE, Interest::READ)?;
                Some((beside, tcp))
            }
        };
        poller.add(&*reporter, token_base + MAIN, Interest::READ)?;
        let mut client = Self {
            session,
            poller: Arc::clone(poller),
            reporter,
            token_base,
            channels: Some(channels),
            beside,
            abandoned: None,
            idle_timeout: state.idle_timeout,
            session_timeout: state.session_timeout,
            mtu_limit: state.mtu_limit,
            own_rekey: state.own_rekey,
            next_rekey: state.own_rekey.map(|time| now + time),
            report: state.report,
            next_report: now + state.report,
            reported: Counters::default(),
            net_priority: state.net_priority,
            discover_mtu: state.discover_mtu,
            life: Life::Open,
            device_failure: None,
        };
        if client.beside.is_some() && !state.unread.is_empty() {
            client.hear(now, &state.unread, buffers);
        }
        Ok(client)
    }

    /// Acts on the readiness of one of its descriptors.
    pub(super) fn handle_ready(&mut self, now: Instant, event: epoll::Event, buffers: &mut Buffers) {
        if event.token == self.token_base + MAIN {
            self.obey(now, buffers);
        } else if event.token == self.token_base + BESIDE {
            self.serve_beside(now, buffers);
        } else {
            self.session.handle_ready(now, event, buffers);
        }
        self.settle(now, buffers);
    }

    /// Opens datagrams of the process's UDP socket; false when they are not of a channel of this
    /// client.
    pub(super) fn receive_datagrams(
        &mut self,
        now: Instant,
        peer: std::net::SocketAddr,
        arrivals: &[Arrival],
        buffers: &mut Buffers,
    ) -> bool {
        let taken = self.session.receive_datagrams(now, peer, arrivals, buffers);
        if taken {
            self.settle(now, buffers);
        }
        taken
    }

    /// Does what is due; cheap when nothing is.
    pub(super) fn handle_timeout(&mut self, now: Instant, buffers: &mut Buffers) {
        self.session.handle_timeout(now, buffers);
        self.settle(now, buffers);
        if let Some((_, error)) = self.device_failure.take_if(|(deadline, _)| now >= *deadline)
            && self.life == Life::Open
        {
            self.log(LogLevel::Error, &format!("the tun device failed: {error}"));
            self.part(now, WorkerReason::Error, buffers);
        }
        if now >= self.next_report {
            self.next_report = now + self.report;
            let counters = self.counters();
            if counters != self.reported {
                self.reported = counters;
                self.reporter.tell(&WorkerToMain::Counters(counters));
            }
        }
        if self.next_rekey.is_some_and(|due| now >= due) {
            self.next_rekey = self.own_rekey.map(|time| now + time);
            if self.session.rekey_stream(now, true, buffers).is_ok() {
                self.log(LogLevel::Info, "TLS 1.3 session keys refreshed (rekey)");
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Instant {
        let parting = match self.life {
            Life::Parting(_, deadline) => Some(deadline),
            Life::Open => self.device_failure.as_ref().map(|(deadline, _)| *deadline),
            Life::Over(_) => None,
        };
        [
            self.session.poll_timeout(),
            self.next_rekey,
            parting,
            self.abandoned,
        ]
        .into_iter()
        .flatten()
        .fold(self.next_report, Instant::min)
    }

    /// Why it ended, once it has.
    pub(super) fn ended(&self) -> Option<WorkerReason> {
        match self.life {
            Life::Over(reason) => Some(reason),
            Life::Open | Life::Parting(..) => None,
        }
    }

    /// What has passed so far.
    pub(super) fn passed(&self) -> Passed {
        self.session.statistics().passed()
    }

    /// What it carried.
    pub(super) fn counters(&self) -> Counters {
        let statistics = self.session.statistics();
        Counters {
            rx: statistics.received_octets,
            tx: statistics.sent_octets,
        }
    }

    /// Tells the client that the session ends here; it is over when that has left.
    pub(super) fn part(&mut self, now: Instant, reason: WorkerReason, buffers: &mut Buffers) {
        if self.life != Life::Open {
            return;
        }
        let sent = self
            .session
            .send(now, Channel::Stream, FrameKind::Disconnect, &[], buffers);
        self.life = match sent {
            Ok(()) => Life::Parting(reason, now + FAREWELL),
            Err(error) => {
                self.log(LogLevel::Debug, &format!("cannot say goodbye: {error}"));
                Life::Over(reason)
            }
        };
        self.settle(now, buffers);
    }

    /// Reacts to what the session has to say.
    fn settle(&mut self, now: Instant, buffers: &mut Buffers) {
        while let Some(event) = self.session.poll_event() {
            // What happens to a client that is being parted with is of no interest.
            if self.life == Life::Open {
                self.handle(now, event, buffers);
            }
        }
        let has_channel = self.session.stream_socket().is_some() || self.session.datagram_established();
        if has_channel || self.beside.is_some() {
            self.abandoned = None;
        } else if self.life == Life::Open {
            let until = *self.abandoned.get_or_insert(now + WITHOUT_CHANNEL);
            if now >= until {
                self.log(LogLevel::Info, "the client has not come back");
                self.life = Life::Over(WorkerReason::ClientDisconnect);
            }
        }
        if let Life::Parting(reason, deadline) = self.life
            && (self.session.stream_flushed() || now >= deadline)
        {
            self.life = Life::Over(reason);
        }
    }

    /// Obeys main, if it has said something.
    fn obey(&mut self, now: Instant, buffers: &mut Buffers) {
        match self.reporter.order_now() {
            Ok(Some((MainToWorker::Datagram { hello, packet, .. }, descriptors))) => {
                let socket = descriptors.into_iter().next().map(UdpSocket::from_fd);
                let begun = socket.transpose().and_then(|socket| match socket {
                    Some(socket) => {
                        self.prepare(&socket);
                        let socket = socket.without_messages();
                        self.take_datagram(now, socket.into(), hello, packet.as_slice(), buffers)
                    }
                    None => Ok(false),
                });
                if let Err(error) = begun {
                    self.log(LogLevel::Info, &format!("cannot use a UDP socket: {error}"));
                }
            }
            Ok(Some((MainToWorker::Terminate, _))) => self.part(now, WorkerReason::Told, buffers),
            // Main has died or given this connection up. The client hears no goodbye: its session is
            // not over, and it may come back.
            Ok(None) => self.life = Life::Over(WorkerReason::Told),
            Ok(Some(_)) => {
                self.log(LogLevel::Error, "main said something that does not fit");
                self.part(now, WorkerReason::Error, buffers);
            }
            Err(LinkError::Timeout) => {}
            Err(error) => {
                self.log(LogLevel::Error, &error.to_string());
                self.part(now, WorkerReason::Error, buffers);
            }
        }
    }

    /// Reacts to one event of an open session.
    fn handle(&mut self, now: Instant, event: Event, buffers: &mut Buffers) {
        match event {
            Event::StreamClosed => {
                self.log(LogLevel::Debug, "client disconnected prematurely");
                self.life = Life::Over(WorkerReason::Error);
            }
            Event::StreamFailed(error) => {
                self.log(LogLevel::Info, &format!("the TLS channel ends: {error}"));
                self.life = Life::Over(WorkerReason::Error);
            }
            Event::StreamDead => {
                let text = "connection timeout (DPD); tearing down connection";
                self.log(LogLevel::Notice, text);
                self.life = Life::Over(WorkerReason::DpdTimeout);
            }
            Event::DatagramUp { description } => {
                let what = self.channels.as_mut().map_or("established", |channels| {
                    channels.datagrams_work();
                    channels.established()
                });
                self.log(LogLevel::Debug, &format!("{what} {description}"));
                self.reporter
                    .tell(&WorkerToMain::DatagramChannel(Some(Text::truncated(
                        &description,
                    ))));
            }
            Event::DatagramFailed { .. } => self.log(LogLevel::Info, "a DTLS handshake failed"),
            Event::DatagramLost(why) => {
                self.log(LogLevel::Debug, &format!("the DTLS channel is gone: {why}"));
                self.reporter.tell(&WorkerToMain::DatagramChannel(None));
            }
            Event::Disconnect { reason, .. } => self.goodbye(now, &reason, buffers),
            Event::IdleTimeout => {
                self.log_timeout("idle timeout", self.idle_timeout);
                self.part(now, WorkerReason::IdleTimeout, buffers);
            }
            Event::SessionTimeout => {
                self.log_timeout("session timeout", self.session_timeout);
                self.part(now, WorkerReason::SessionTimeout, buffers);
            }
            Event::RekeyDue(_) | Event::ProbeResponse { .. } => {}
            Event::LargeProbe { size } => self.change_mtu(size.min(self.mtu_limit.into())),
            Event::DatagramTooLarge { size } => self.shrink(size),
            Event::Frame { kind, .. } => self.strange_frame(now, kind, buffers),
            // When the server stops, main removes all devices and then gives the order to part.
            Event::DeviceFailed(error) => self.device_failure = Some((now + DEVICELESS, error)),
            Event::Notice(notice) => self.log(LogLevel::Debug, &notice.to_string()),
        }
    }

    fn log_timeout(&self, which: &str, time: Option<Duration>) {
        let seconds = time.unwrap_or_default().as_secs();
        let text = format!("{which} reached for process ({seconds} secs)");
        self.log(LogLevel::Notice, &text);
    }

    fn goodbye(&mut self, now: Instant, reason: &[u8], buffers: &mut Buffers) {
        match Goodbye::parse(reason) {
            Goodbye::Ended { reason } => {
                self.log(LogLevel::Info, "received BYE packet; exiting");
                self.log(LogLevel::Debug, &format!("the client's reason: {reason}"));
                self.life = Life::Over(WorkerReason::UserLogout);
            }
            Goodbye::Temporary => self.life = Life::Over(WorkerReason::ClientDisconnect),
            Goodbye::Unknown { code, .. } => {
                self.log(
                    LogLevel::Info,
                    &format!("received BYE packet with unknown code {code:#04x}"),
                );
                self.part(now, WorkerReason::Error, buffers);
            }
        }
    }

    /// Unknown frame types are ignored, compressed data that cannot be restored is not.
    fn strange_frame(&mut self, now: Instant, kind: FrameKind, buffers: &mut Buffers) {
        if kind == FrameKind::Compressed {
            self.log(
                LogLevel::Info,
                "received compressed data that is malformed or was never agreed on",
            );
            return self.part(now, WorkerReason::Error, buffers);
        }
        self.log(
            LogLevel::Debug,
            &format!("ignored a frame of unknown type ({kind:?})"),
        );
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.reporter.log(level, text);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Descriptors that another process holds copies of would stay known to the poller.
        self.close_beside();
        self.session.detach_stream();
        self.session.detach_datagram();
        drop(self.session.detach_device());
        let _not_registered_yet = self.poller.delete(&*self.reporter);
    }
}
