//! The tunnel of one client: packets between device, TLS and UDP, until somebody ends it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_anyconnect::data::{CstpOpener, CstpSealer, DtlsChannel};
use culvert_anyconnect::wire::Goodbye;
use culvert_dtls::{CipherSuite, Connection, ServerConfig};
use culvert_record::FrameKind;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::signal::{SIGTERM, SignalFd};
use culvert_sys::tun::Tun;
use culvert_sys::udp::{PathMtuDiscovery, UdpSocket};
use culvert_sys::{mem, tcp};
use culvert_tunnel::{Buffers, Channel, Device, Event, Role, Session, SessionConfig};
use culvert_vocab::{MTU_MAX, Mtu, RekeyMethod};

use super::hand_over::Opened;
use super::log::Reporter;
use crate::confine;
use crate::ipc::fields::Text;
use crate::ipc::messages::{LogLevel, MainToWorker, WorkerReason, WorkerToMain};
use crate::ipc::session::{Counters, NetPriority};

/// Tokens of the poller: the session's come first.
const MAIN: u64 = 64;
const SIGNALS: u64 = 65;
/// How often counters are reported.
const REPORT: Duration = Duration::from_secs(10);
/// Longest time for the farewell to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// Carries packets until the session ends; returns why, and what was carried. `isolate`: from now
/// on only with the system calls that this needs.
pub(super) fn run(opened: Opened, reporter: &Reporter, isolate: bool) -> (WorkerReason, Counters) {
    match Worker::new(opened, reporter) {
        Ok(mut worker) => {
            if isolate && let Err(error) = confine::tunnel() {
                let text = format!("system calls are not restricted further: {error}");
                reporter.log(LogLevel::Notice, &text);
            }
            let reason = worker.serve();
            (reason, worker.counters())
        }
        Err(error) => {
            reporter.log(LogLevel::Error, &format!("cannot carry the tunnel: {error}"));
            (WorkerReason::Error, Counters::default())
        }
    }
}

type ClientSession = Session<CstpSealer, CstpOpener, DtlsChannel>;

struct Worker<'r> {
    session: ClientSession,
    buffers: Buffers,
    poller: Arc<Poller>,
    signals: SignalFd,
    reporter: &'r Reporter,
    datagram: Option<ServerConfig>,
    mtu_limit: u16,
    own_rekey: Option<Duration>,
    next_rekey: Option<Instant>,
    next_report: Instant,
    reported: Counters,
    net_priority: Option<NetPriority>,
    discover_mtu: bool,
}

impl<'r> Worker<'r> {
    fn new(opened: Opened, reporter: &'r Reporter) -> io::Result<Self> {
        let Opened { state, tcp, tun } = opened;
        let now = Instant::now();
        let poller = Arc::new(Poller::new()?);
        let mut buffers = Buffers::new();
        let (sealer, opener) = state.tls.into_halves().map_err(io::Error::other)?;
        let mut config = SessionConfig::new(Role::Server, state.config.mtu.get());
        config.stream = state.config.stream;
        // Rekeying in place is the server's own business; a new tunnel is the client's.
        config.stream.rekey = None;
        config.stream.rekey_method = RekeyMethod::None;
        config.datagram = state.config.datagram;
        // In DTLS the client renews the keys.
        config.datagram.rekey = None;
        config.datagram.rekey_method = RekeyMethod::None;
        config.idle_timeout = state.config.idle_timeout;
        config.session_end = state.config.session_left.map(|left| now + left);
        config.switch_to_stream = state.switch_to_stream;
        let mut session = ClientSession::new(config, Arc::clone(&poller), 0, now);
        session.attach_device(Device::Kernel(Tun::from_fd(tun).map_err(io::Error::other)?))?;
        session.attach_stream(
            now,
            tcp,
            CstpSealer::new(sealer),
            CstpOpener::new(opener),
            &state.unread,
            &mut buffers,
        )?;
        poller.add(reporter, MAIN, Interest::READ)?;
        let signals = SignalFd::new(&[SIGTERM])?;
        poller.add(&signals, SIGNALS, Interest::READ)?;
        let rekey_time = state.config.datagram.rekey;
        let datagram = state.datagram.map(|datagram| {
            let mut config = ServerConfig::new(datagram.psk);
            config.suites = datagram
                .suites
                .into_iter()
                .filter_map(CipherSuite::from_id)
                .collect();
            config.min_rehandshake_interval = rekey_time.map(|time| time / 2);
            config
        });
        // The login's memory goes back to the system: tunnels live long.
        mem::trim();
        Ok(Self {
            session,
            buffers,
            poller,
            signals,
            reporter,
            datagram,
            mtu_limit: state.mtu_limit,
            own_rekey: state.own_rekey,
            next_rekey: state.own_rekey.map(|time| now + time),
            next_report: now + REPORT,
            reported: Counters::default(),
            net_priority: state.net_priority,
            discover_mtu: state.discover_mtu,
        })
    }

    fn serve(&mut self) -> WorkerReason {
        let mut events = Events::with_capacity(16);
        loop {
            if let Err(error) = self.poller.wait(&mut events, Some(self.deadline())) {
                self.log(LogLevel::Error, &format!("cannot wait for events: {error}"));
                return WorkerReason::Error;
            }
            let now = Instant::now();
            for index in 0..events.len() {
                let Some(event) = events.get(index) else { break };
                let ended = match event.token {
                    MAIN => self.obey(now),
                    SIGNALS => {
                        let _consumed = self.signals.read();
                        Some(WorkerReason::Told)
                    }
                    _ => {
                        self.session.handle_ready(now, event, &mut self.buffers);
                        None
                    }
                };
                if let Some(reason) = ended {
                    return self.part(reason);
                }
            }
            self.session.handle_timeout(now, &mut self.buffers);
            while let Some(event) = self.session.poll_event() {
                if let Some(reason) = self.handle(event) {
                    return reason;
                }
            }
            self.regular(now);
        }
    }

    fn deadline(&self) -> Instant {
        [self.session.poll_timeout(), self.next_rekey]
            .into_iter()
            .flatten()
            .fold(self.next_report, Instant::min)
    }

    /// What is due regularly: counters, and new keys of the TLS channel.
    fn regular(&mut self, now: Instant) {
        if now >= self.next_report {
            self.next_report = now + REPORT;
            let counters = self.counters();
            if counters != self.reported {
                self.reported = counters;
                self.reporter.tell(&WorkerToMain::Counters(counters));
            }
        }
        if self.next_rekey.is_some_and(|due| now >= due) {
            self.next_rekey = self.own_rekey.map(|time| now + time);
            if self.session.rekey_stream(now, true, &mut self.buffers).is_ok() {
                self.log(LogLevel::Info, "TLS 1.3 session keys refreshed (rekey)");
            }
        }
    }

    /// Obeys main. Returns a reason when the session ends.
    fn obey(&mut self, now: Instant) -> Option<WorkerReason> {
        // The poller says that there is a message, so this does not wait.
        match self.reporter.order(Some(now)) {
            Ok(Some((MainToWorker::Datagram { hello, packet, .. }, descriptors))) => {
                if let Some(socket) = descriptors.into_iter().next()
                    && let Err(error) = self.take_datagram(now, socket, hello, packet.as_slice())
                {
                    self.log(LogLevel::Info, &format!("cannot use a UDP socket: {error}"));
                }
                None
            }
            Ok(Some((MainToWorker::Terminate, _))) | Ok(None) => Some(WorkerReason::Told),
            Ok(Some(_)) => {
                self.log(LogLevel::Error, "main said something that does not fit");
                Some(WorkerReason::Error)
            }
            Err(crate::ipc::link::LinkError::Timeout) => None,
            Err(error) => {
                self.log(LogLevel::Error, &error.to_string());
                Some(WorkerReason::Error)
            }
        }
    }

    /// A new path of datagrams: a handshake goes into the second slot; a record counts only if it
    /// authenticates.
    fn take_datagram(&mut self, now: Instant, socket: OwnedFd, hello: bool, packet: &[u8]) -> io::Result<()> {
        let Some(config) = &self.datagram else {
            return Ok(());
        };
        let socket = UdpSocket::from_fd(socket)?;
        self.prepare(&socket);
        if hello {
            let channel = DtlsChannel::new(Connection::server(config.clone(), now));
            self.session
                .attach_datagram(now, socket, channel, packet, &mut self.buffers)
        } else {
            let moved = self
                .session
                .move_datagram(now, socket, packet, &mut self.buffers)?;
            self.log(
                LogLevel::Debug,
                if moved {
                    "the client's UDP address has changed"
                } else {
                    "stray datagram"
                },
            );
            Ok(())
        }
    }

    fn prepare(&self, socket: &UdpSocket) {
        let mode = if self.discover_mtu {
            PathMtuDiscovery::On
        } else {
            PathMtuDiscovery::Off
        };
        let marked = match self.net_priority {
            Some(NetPriority::Priority(priority)) => tcp::set_priority(socket, priority),
            Some(NetPriority::Tos(tos)) => tcp::set_type_of_service(socket, tos),
            None => Ok(()),
        };
        if let Err(error) = socket.set_path_mtu_discovery(mode).and(marked) {
            self.log(LogLevel::Debug, &format!("cannot set UDP options: {error}"));
        }
    }

    /// Reacts to the session. Returns a reason when it ends.
    fn handle(&mut self, event: Event) -> Option<WorkerReason> {
        match event {
            Event::StreamClosed => Some(WorkerReason::Unspecified),
            Event::StreamFailed(error) => {
                self.log(LogLevel::Info, &format!("the TLS channel ends: {error}"));
                Some(WorkerReason::Error)
            }
            Event::StreamDead => {
                self.log(LogLevel::Info, "the client does not answer dead peer detection");
                Some(WorkerReason::DpdTimeout)
            }
            Event::RekeyDue(_) => None,
            Event::DatagramUp { description } => {
                self.log(
                    LogLevel::Debug,
                    &format!("DTLS handshake completed {description}"),
                );
                self.reporter
                    .tell(&WorkerToMain::DatagramChannel(Some(Text::truncated(
                        &description,
                    ))));
                None
            }
            Event::DatagramFailed => {
                self.log(LogLevel::Info, "a DTLS handshake failed");
                None
            }
            Event::DatagramLost(why) => {
                self.log(LogLevel::Debug, &format!("the DTLS channel is gone: {why}"));
                self.reporter.tell(&WorkerToMain::DatagramChannel(None));
                None
            }
            Event::Disconnect { reason, .. } => Some(self.goodbye(&reason)),
            Event::IdleTimeout => Some(self.part(WorkerReason::IdleTimeout)),
            Event::SessionTimeout => Some(self.part(WorkerReason::SessionTimeout)),
            Event::ProbeResponse { .. } => None,
            Event::LargeProbe { size } => {
                self.change_mtu(size.min(self.mtu_limit.into()));
                None
            }
            Event::DatagramTooLarge { size } => {
                self.shrink(size);
                None
            }
            Event::Frame { kind, .. } => self.strange_frame(kind),
            Event::DeviceFailed(error) => {
                self.log(LogLevel::Error, &format!("the tun device failed: {error}"));
                Some(self.part(WorkerReason::Error))
            }
            Event::Notice(notice) => {
                self.log(LogLevel::Debug, &notice.to_string());
                None
            }
        }
    }

    fn goodbye(&mut self, reason: &[u8]) -> WorkerReason {
        match Goodbye::parse(reason) {
            Goodbye::Ended { reason } => {
                self.log(LogLevel::Info, &format!("received BYE packet: {reason}"));
                WorkerReason::UserLogout
            }
            Goodbye::Temporary => WorkerReason::ClientDisconnect,
            Goodbye::Unknown { code, .. } => {
                self.log(
                    LogLevel::Info,
                    &format!("received BYE packet with unknown code {code:#04x}"),
                );
                self.part(WorkerReason::Error)
            }
        }
    }

    /// Unknown frame types are ignored, compressed data that was never agreed on is not.
    fn strange_frame(&mut self, kind: FrameKind) -> Option<WorkerReason> {
        if kind == FrameKind::Compressed {
            self.log(LogLevel::Info, "received compressed data without agreement");
            return Some(self.part(WorkerReason::Error));
        }
        self.log(
            LogLevel::Debug,
            &format!("ignored a frame of unknown type ({kind:?})"),
        );
        None
    }

    /// Tells the client that the session ends here.
    fn part(&mut self, reason: WorkerReason) -> WorkerReason {
        let now = Instant::now();
        let deadline = now + FAREWELL;
        let sent = self.session.send(
            now,
            Channel::Stream,
            FrameKind::Disconnect,
            &[],
            &mut self.buffers,
        );
        if let Err(error) = sent {
            self.log(LogLevel::Debug, &format!("cannot say goodbye: {error}"));
            return reason;
        }
        let mut events = Events::with_capacity(16);
        while !self.session.stream_flushed() && Instant::now() < deadline {
            if self.poller.wait(&mut events, Some(deadline)).is_err() {
                break;
            }
            for event in events
                .iter()
                .filter(|event| self.session.owns(event.token))
                .collect::<Vec<_>>()
            {
                self.session
                    .handle_ready(Instant::now(), event, &mut self.buffers);
            }
        }
        reason
    }

    fn change_mtu(&mut self, octets: usize) {
        let Ok(mtu) = Mtu::new(octets as u64) else { return };
        if mtu.get() > MTU_MAX || mtu.get() == self.session.mtu() {
            return;
        }
        self.log(
            LogLevel::Debug,
            &format!("MTU of the tunnel is {} now", mtu.get()),
        );
        self.session.set_mtu(mtu.get());
        self.reporter.tell(&WorkerToMain::SetMtu(mtu));
    }

    /// A datagram of `size` octets did not fit: the tunnel's MTU follows the path's.
    fn shrink(&mut self, size: usize) {
        let Some(path) = self
            .session
            .datagram_socket()
            .and_then(|socket| socket.path_mtu().ok())
        else {
            return;
        };
        let path = usize::try_from(path).unwrap_or(usize::MAX);
        let present = usize::from(self.session.mtu());
        let headers = self
            .session
            .datagram_socket()
            .and_then(|socket| socket.peer_addr().ok());
        let headers = if headers.is_some_and(|peer| peer.is_ipv6()) {
            48
        } else {
            28
        };
        let overhead = size.saturating_sub(present);
        let fits = path.saturating_sub(headers + overhead);
        if fits < present {
            self.change_mtu(fits);
        }
    }

    fn counters(&self) -> Counters {
        let statistics = self.session.statistics();
        Counters {
            rx: statistics.received_octets,
            tx: statistics.sent_octets,
        }
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.reporter.log(level, text);
    }
}
