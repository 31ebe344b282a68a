//! The tunnel of one client: its packets between device, TLS and UDP, main's orders, what becomes
//! due; until somebody ends it. Never waits, so that a process can carry many.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_anyconnect::data::{Compressing, Compression, CstpOpener, CstpSealer, DtlsChannel};
use culvert_anyconnect::wire::Goodbye;
use culvert_dtls::{CipherSuite, Connection, ResumptionConfig, ServerConfig};
use culvert_globalprotect::data::{EspChannel, GpstServerOpener, GpstServerSealer, MagicPing};
use culvert_globalprotect::wire::EspParameters;
use culvert_record::{AnyDatagramChannel, FrameKind, StreamOpener, StreamSealer, erase};
use culvert_server_config::Compression as Algorithm;
use culvert_sys::epoll::{self, Interest, Poller};
use culvert_sys::tcp;
use culvert_sys::tun::Tun;
use culvert_sys::udp::{Path, PathMtuDiscovery, UdpSocket};
use culvert_tls::{Opener, Sealer};
use culvert_tunnel::{
    Arrival, Buffers, Channel, DatagramSocket, Device, Event, Marks, Role, Session, SessionConfig,
    SharedSocket, TOKENS,
};
use culvert_vocab::{MTU_MAX, Mtu, RekeyMethod};

use super::control::{Control, Turn};
use crate::ipc::fields::Text;
use crate::ipc::link::LinkError;
use crate::ipc::messages::{LogLevel, MainToWorker, WorkerReason, WorkerToMain};
use crate::ipc::session::{Counters, NetPriority};
use crate::worker::connect::method;
use crate::worker::hand_over::{DatagramHandOver, HandOver, Protocol};
use crate::worker::log::Reporter;

/// Tokens of the poller that a client uses, beginning with the one it is given.
pub(super) const CLIENT_TOKENS: u64 = 8;
/// Main's token, behind the session's.
const MAIN: u64 = TOKENS;
/// Token of the connection beside the tunnel.
const CONTROL: u64 = TOKENS + 1;
/// Time for main to say why a device is gone.
const DEVICELESS: Duration = Duration::from_secs(2);
/// Longest time for the farewell to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// Longest time without any channel: between the configuration and the first sign of the client on
/// it, or after its last.
const WITHOUT_CHANNEL: Duration = Duration::from_secs(30);

type ClientSession = Session<Box<dyn StreamSealer>, Box<dyn StreamOpener>, AnyDatagramChannel>;

/// How the client's UDP channel is opened.
enum Datagrams {
    Dtls(Handshake, Option<Compression>),
    Esp(EspParameters),
}

/// How a DTLS association begins.
enum Handshake {
    Psk(ServerConfig),
    Resumption(ResumptionConfig),
}

impl Handshake {
    fn begin(&self, now: Instant) -> Connection {
        match self {
            Self::Psk(config) => Connection::server(config.clone(), now),
            Self::Resumption(config) => Connection::resuming_server(config.clone(), now),
        }
    }
}

/// A client whose tunnel is open.
pub(super) struct Client {
    session: ClientSession,
    poller: Arc<Poller>,
    reporter: Arc<Reporter>,
    token_base: u64,
    datagram: Option<Datagrams>,
    /// The connection beside a tunnel that does not go over it.
    control: Option<(Box<Control>, OwnedFd)>,
    /// When a tunnel without any channel ends.
    abandoned: Option<Instant>,
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
    /// Goes on with what a login has handed over: the client's connection, and what it is used for
    /// while it is not a channel of the tunnel. Registers with `poller` under [`CLIENT_TOKENS`]
    /// tokens from `token_base` on.
    pub(super) fn new(
        state: HandOver,
        (tcp, control): (OwnedFd, Option<Box<Control>>),
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
        let limit = usize::try_from(state.no_compress_limit).unwrap_or(usize::MAX);
        let compression =
            |agreed: Option<Algorithm>| agreed.map(|agreed| Compression::new(method(agreed), limit));
        let stream_compression = compression(state.stream_compression);
        let datagram_compression = compression(state.datagram_compression);
        let mut session = ClientSession::new(config, Arc::clone(poller), token_base, now);
        session.attach_device(Device::Kernel(Tun::from_fd(tun).map_err(io::Error::other)?))?;
        let control = match (control, state.tls) {
            (Some(control), _) => {
                poller.add(&tcp, token_base + CONTROL, Interest::READ)?;
                Some((control, tcp))
            }
            (None, Some(tls)) => {
                let (sealer, opener) = tls.into_halves().map_err(io::Error::other)?;
                let (sealer, opener) = framed(state.protocol, sealer, opener, stream_compression);
                session.attach_stream(now, tcp, sealer, opener, &state.unread, buffers)?;
                None
            }
            (None, None) => return Err(io::Error::other("a tunnel without a connection")),
        };
        poller.add(&*reporter, token_base + MAIN, Interest::READ)?;
        let rekey_time = state.datagram_timers.rekey;
        let datagram = state.datagram.and_then(|datagram| match datagram {
            DatagramHandOver::Dtls { psk, suites } => {
                let mut config = ServerConfig::new(psk);
                config.suites = suites.into_iter().filter_map(CipherSuite::from_id).collect();
                config.min_rehandshake_interval = rekey_time.map(|time| time / 2);
                Some(Datagrams::Dtls(Handshake::Psk(config), datagram_compression))
            }
            DatagramHandOver::ResumedDtls {
                version,
                suite,
                master_secret,
                session_id,
            } => {
                let suite = CipherSuite::from_id(suite)?;
                let config = ResumptionConfig::server(version, suite, master_secret, session_id.to_vec());
                Some(Datagrams::Dtls(
                    Handshake::Resumption(config),
                    datagram_compression,
                ))
            }
            DatagramHandOver::Esp(keys) => Some(Datagrams::Esp(keys)),
        });
        Ok(Self {
            session,
            poller: Arc::clone(poller),
            reporter,
            token_base,
            datagram,
            control,
            abandoned: None,
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
        })
    }

    /// Acts on the readiness of one of its descriptors.
    pub(super) fn handle_ready(&mut self, now: Instant, event: epoll::Event, buffers: &mut Buffers) {
        if event.token == self.token_base + MAIN {
            self.obey(now, buffers);
        } else if event.token == self.token_base + CONTROL {
            self.serve_control(now, buffers);
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
        if has_channel || self.control.is_some() {
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
            Ok(Some((MainToWorker::Terminate, _))) | Ok(None) => {
                self.part(now, WorkerReason::Told, buffers);
            }
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

    /// A new path of datagrams on the process's UDP socket; false when it does not become one.
    pub(super) fn take_shared(
        &mut self,
        now: Instant,
        (socket, path): (Arc<UdpSocket>, Path),
        hello: bool,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<bool> {
        let marks = match self.net_priority {
            Some(NetPriority::Tos(tos)) => Marks {
                type_of_service: Some(tos),
                ..Marks::default()
            },
            Some(NetPriority::Priority(priority)) => Marks {
                priority,
                ..Marks::default()
            },
            None => Marks::default(),
        };
        let socket = SharedSocket::new(socket, path, marks);
        let begun = self.take_datagram(now, socket.into(), hello, packet, buffers);
        self.settle(now, buffers);
        begun
    }

    /// A new path of datagrams: a handshake goes into the second slot; a record counts only if it
    /// authenticates. False when the path is not used.
    fn take_datagram(
        &mut self,
        now: Instant,
        socket: DatagramSocket,
        hello: bool,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<bool> {
        let channel = match &self.datagram {
            None => return Ok(false),
            Some(Datagrams::Dtls(handshake, compression)) if hello => {
                let channel = DtlsChannel::new(handshake.begin(now));
                Some(erase(Compressing::new(channel, compression.clone())))
            }
            Some(Datagrams::Esp(keys)) if !self.session.datagram_established() => {
                let channel = EspChannel::server(&keys.up, &keys.down, MagicPing::Gateway);
                Some(erase(channel.map_err(io::Error::other)?))
            }
            Some(Datagrams::Dtls(..) | Datagrams::Esp(_)) => None,
        };
        if let Some(channel) = channel {
            self.session
                .attach_datagram(now, socket, channel, packet, buffers)?;
            Ok(true)
        } else {
            let moved = self.session.move_datagram(now, socket, packet, buffers)?;
            self.log(
                LogLevel::Debug,
                if moved {
                    "the client's UDP address has changed"
                } else {
                    "stray datagram"
                },
            );
            Ok(moved)
        }
    }

    /// One turn of the connection beside the tunnel.
    fn serve_control(&mut self, now: Instant, buffers: &mut Buffers) {
        let Some((control, tcp)) = self.control.take() else {
            return;
        };
        let (turn, control) = control.handle_readable(&tcp);
        if let Some(mut control) = control {
            if let Some(note) = control.poll_note() {
                self.log(LogLevel::Info, &note);
            }
            if let Turn::Rekey(keys) = turn {
                self.session.detach_datagram();
                self.datagram = Some(Datagrams::Esp(keys));
            }
            self.control = Some((control, tcp));
            return;
        }
        let _was_registered = self.poller.delete(&tcp);
        match turn {
            Turn::Stream(records) => {
                // The two exclude each other: from now on the keys of ESP are worth nothing.
                self.session.detach_datagram();
                self.datagram = None;
                self.reporter.tell(&WorkerToMain::DatagramChannel(None));
                let (sealer, opener) = framed(Protocol::GlobalProtect, records.sealer, records.opener, None);
                let attached = self
                    .session
                    .attach_stream(now, tcp, sealer, opener, &records.unread, buffers);
                if let Err(error) = attached {
                    self.log(LogLevel::Error, &format!("cannot use the TLS channel: {error}"));
                    self.life = Life::Over(WorkerReason::Error);
                }
            }
            Turn::LoggedOut => {
                self.log(LogLevel::Info, "the client has logged out");
                self.life = Life::Over(WorkerReason::UserLogout);
            }
            Turn::Wait | Turn::Closed | Turn::Rekey(_) => {}
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

    /// Reacts to one event of an open session.
    fn handle(&mut self, now: Instant, event: Event, buffers: &mut Buffers) {
        match event {
            Event::StreamClosed => self.life = Life::Over(WorkerReason::Unspecified),
            Event::StreamFailed(error) => {
                self.log(LogLevel::Info, &format!("the TLS channel ends: {error}"));
                self.life = Life::Over(WorkerReason::Error);
            }
            Event::StreamDead => {
                self.log(LogLevel::Info, "the client does not answer dead peer detection");
                self.life = Life::Over(WorkerReason::DpdTimeout);
            }
            Event::DatagramUp { description } => {
                let what = match &self.datagram {
                    Some(Datagrams::Esp(_)) => "ESP session established",
                    Some(Datagrams::Dtls(..)) | None => "DTLS handshake completed",
                };
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
            Event::IdleTimeout => self.part(now, WorkerReason::IdleTimeout, buffers),
            Event::SessionTimeout => self.part(now, WorkerReason::SessionTimeout, buffers),
            Event::RekeyDue(_) | Event::ProbeResponse { .. } => {}
            Event::LargeProbe { size } => self.change_mtu(size.min(self.mtu_limit.into())),
            Event::DatagramTooLarge { size } => self.shrink(size),
            Event::Frame { kind, .. } => self.strange_frame(now, kind, buffers),
            // When the server stops, main removes all devices and then gives the order to part.
            Event::DeviceFailed(error) => self.device_failure = Some((now + DEVICELESS, error)),
            Event::Notice(notice) => self.log(LogLevel::Debug, &notice.to_string()),
        }
    }

    fn goodbye(&mut self, now: Instant, reason: &[u8], buffers: &mut Buffers) {
        match Goodbye::parse(reason) {
            Goodbye::Ended { reason } => {
                self.log(LogLevel::Info, &format!("received BYE packet: {reason}"));
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
        let Some(socket) = self.session.datagram_socket() else {
            return;
        };
        let headers = match socket.peer_addr() {
            Ok(peer) if peer.is_ipv6() => 48,
            _ => 28,
        };
        // A shared socket knows no path; TCP goes the same one.
        let path = socket.path_mtu().or_else(|| {
            let stream = self.session.stream_socket()?;
            tcp::path_info(stream).ok().map(|info| info.path_mtu)
        });
        let Some(path) = path.and_then(|path| usize::try_from(path).ok()) else {
            return;
        };
        let present = usize::from(self.session.mtu());
        let overhead = size.saturating_sub(present);
        let fits = path.saturating_sub(headers + overhead);
        if fits < present {
            self.change_mtu(fits);
        }
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.reporter.log(level, text);
    }
}

/// The frames of a protocol in the records of a connection.
fn framed(
    protocol: Protocol,
    sealer: Sealer,
    opener: Opener,
    compression: Option<Compression>,
) -> (Box<dyn StreamSealer>, Box<dyn StreamOpener>) {
    match protocol {
        Protocol::AnyConnect => (
            Box::new(Compressing::new(CstpSealer::new(sealer), compression.clone())),
            Box::new(Compressing::new(CstpOpener::new(opener), compression)),
        ),
        Protocol::GlobalProtect => (
            Box::new(GpstServerSealer::new(sealer)),
            Box::new(GpstServerOpener::new(opener)),
        ),
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Descriptors that another process holds copies of would stay known to the poller.
        self.session.detach_stream();
        self.session.detach_datagram();
        drop(self.session.detach_device());
        let _not_registered_yet = self.poller.delete(&*self.reporter);
    }
}
