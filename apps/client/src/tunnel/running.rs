//! A tunnel that carries packets.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use culvert_record::{AnyDatagramChannel, StreamOpener, StreamSealer};
use culvert_sys::clock::suspended;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_tunnel::{Buffers, Channel, Event, Pace, Role, SecondThread, Session, SessionConfig};
use culvert_vocab::{RekeyMethod, Timers};

use super::datagram::Datagram;
use super::ending::Ending;
use super::roaming::Roaming;
use super::setup::{Facts, NetworkSetup};
use super::status;
use crate::connect::{ConnectFailure, Connector, Stream, Tunnel};
use crate::context::Context;
use crate::options::ProtocolName;
use crate::process::PidFile;
use crate::signals::Signal;

/// Tokens of the session begin here.
const SESSION_TOKENS: u64 = 16;
pub(super) const SIGNAL_TOKEN: u64 = 0;
pub(super) const PROGRAM_TOKEN: u64 = 1;
pub(super) const NETWORK_TOKEN: u64 = 2;
/// News of a sleep of the machine.
pub(super) const SLEEP_TOKEN: u64 = 3;

type ClientSession = Session<Box<dyn StreamSealer>, Box<dyn StreamOpener>, AnyDatagramChannel>;

/// A session and everything that belongs to it.
pub(super) struct Running {
    pub(super) context: Arc<Context>,
    pub(super) connector: Box<dyn Connector>,
    pub(super) setup: NetworkSetup,
    pub(super) tunnel: Facts,
    pub(super) session: ClientSession,
    pub(super) datagram: Datagram,
    pub(super) poller: Arc<Poller>,
    pub(super) roaming: Roaming,
    pub(super) events: Events,
    pub(super) buffers: Buffers,
    pace: Pace,
    pub(super) cipher: String,
    /// The TLS channel's name, for the user.
    pub(super) stream_name: String,
    /// The keys of the TLS channel can be renewed in place.
    renews_keys: bool,
    /// When the server wants to hear about this host again.
    next_check: Option<Instant>,
    pub(super) expires: Option<SystemTime>,
    /// The device exists.
    pub(super) device_up: bool,
}

impl Running {
    /// Puts a connected tunnel to work; UDP is tried at once.
    pub(super) fn start(
        context: Arc<Context>,
        connector: Box<dyn Connector>,
        tunnel: Tunnel,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let poller = Arc::new(Poller::new()?);
        poller.add(&*context.signals, SIGNAL_TOKEN, Interest::READ)?;
        let options = &context.options;
        let mut config = SessionConfig::new(Role::Client, tunnel.config.mtu.get());
        config.queue_len = options.tunnel.queue_len;
        config.copy_tos = options.network.pass_tos;
        config.second_thread = second_thread();
        let session = Session::new(config, Arc::clone(&poller), SESSION_TOKENS, now);
        let roaming = Roaming::watch(context.changes.as_ref(), &poller)?;
        let mut running = Self {
            setup: NetworkSetup::new(Arc::clone(&context)),
            connector,
            session,
            datagram: Datagram::new(None, false),
            poller,
            roaming,
            events: Events::with_capacity(16),
            buffers: Buffers::new(),
            pace: Pace::new(now),
            cipher: String::new(),
            stream_name: status::with_compression("SSL", None),
            renews_keys: false,
            next_check: None,
            expires: None,
            device_up: false,
            tunnel: Facts {
                config: tunnel.config.clone(),
                gateway: tunnel.address,
            },
            context,
        };
        running.attach(tunnel)?;
        Ok(running)
    }

    /// Uses a new connection to the server, at the start or after a reconnect.
    pub(super) fn attach(&mut self, tunnel: Tunnel) -> io::Result<()> {
        let now = Instant::now();
        let config = &tunnel.config;
        self.session
            .set_timers(self.timers(config.stream), self.timers(config.datagram));
        self.session.set_mtu(config.mtu.get());
        match tunnel.stream {
            Some(stream) => self.attach_stream(now, stream, config.stream)?,
            None => self.session.detach_stream(),
        }
        self.expires = config.session_left.map(|left| SystemTime::now() + left);
        self.next_check = self.connector.check_interval().map(|interval| now + interval);
        self.tunnel = Facts {
            config: tunnel.config,
            gateway: tunnel.address,
        };
        self.set_device_mtu();
        self.session.detach_datagram();
        let options = &self.context.options;
        // In AnyConnect a server that does not offer it disables it for good.
        let refused = tunnel.datagram.is_none() && options.protocol == ProtocolName::AnyConnect;
        self.datagram = Datagram::new(tunnel.datagram, options.tunnel.no_dtls || refused);
        self.start_datagram(now);
        Ok(())
    }

    /// Uses this TLS channel.
    pub(super) fn attach_stream(&mut self, now: Instant, stream: Stream, timers: Timers) -> io::Result<()> {
        let timers = self.timers(timers);
        self.context.output.info(&format!(
            "CSTP connected. DPD {}, Keepalive {}",
            seconds(timers.dpd),
            seconds(timers.keepalive)
        ));
        self.cipher = stream.cipher;
        self.stream_name = status::with_compression("SSL", stream.compression);
        self.renews_keys = stream.renews_keys;
        self.session.attach_stream(
            now,
            OwnedFd::from(stream.socket),
            stream.sealer,
            stream.opener,
            &stream.unread,
            &mut self.buffers,
        )
    }

    /// True when the tunnel has no TLS channel: UDP carries everything, or is being tried.
    pub(super) fn is_datagram_only(&self) -> bool {
        self.session.stream_socket().is_none()
    }

    /// Tells the server about this host, when it is time.
    fn check_host(&mut self, now: Instant) -> Result<(), Ending> {
        if self.next_check.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.next_check = self.connector.check_interval().map(|interval| now + interval);
        let over_stream = !self.is_datagram_only();
        self.session.detach_stream();
        match self.connector.check_host() {
            Ok(()) if over_stream => self.fall_back(),
            Ok(()) => Ok(()),
            Err(ConnectFailure::Interrupted(signal)) => self.interrupted(signal),
            Err(_) => Err(Ending::HostCheckFailed),
        }
    }

    /// The server's timers, as far as the user does not overrule them.
    pub(super) fn timers(&self, mut timers: Timers) -> Timers {
        if let Some(dpd) = self.context.options.tunnel.force_dpd {
            timers.dpd = Some(Duration::from_secs(dpd.into()));
        }
        timers
    }

    /// Brings the device up, carries packets, and cleans up at the end.
    pub(super) fn run(&mut self, pid_file: Option<PidFile>) -> Ending {
        let mut pid_file = pid_file;
        let ending = match self.bring_up(&mut pid_file) {
            Err(ending) => ending,
            Ok(()) => loop {
                if let Err(ending) = self.step(None) {
                    break ending;
                }
            },
        };
        if ending == Ending::InBackground {
            return ending;
        }
        self.say_goodbye(&ending);
        if self.device_up {
            self.setup.take_down(&self.tunnel);
        }
        if let Some(file) = pid_file {
            file.remove();
        }
        ending
    }

    /// One round: waits until something happens (or `until`) and deals with it.
    ///
    /// # Errors
    /// The session is over.
    pub(super) fn step(&mut self, until: Option<Instant>) -> Result<(), Ending> {
        let timeouts = [
            until,
            self.session.poll_timeout(),
            self.datagram.poll_timeout(),
            self.next_check,
            self.roaming.poll_timeout(),
        ];
        let deadline = timeouts.into_iter().flatten().min();
        self.poller
            .wait(&mut self.events, deadline)
            .map_err(|error| Ending::Setup(format!("Failed to wait for events: {error}")))?;
        let now = Instant::now();
        let mut signalled = false;
        for index in 0..self.events.len() {
            match self.events.get(index) {
                Some(event) if self.session.owns(event.token) => {
                    self.session.handle_ready(now, event, &mut self.buffers);
                }
                Some(event) if event.token == PROGRAM_TOKEN => {
                    self.context.output.error("Client connection terminated");
                    return Err(Ending::DeviceLost);
                }
                Some(event) if event.token == NETWORK_TOKEN => self.network_changed(now),
                Some(event) if event.token == SLEEP_TOKEN => self.roaming.woken(now),
                Some(_) => signalled = true,
                None => {}
            }
        }
        self.session.handle_timeout(now, &mut self.buffers);
        while let Some(event) = self.session.poll_event() {
            self.handle_event(now, event)?;
        }
        if self.datagram.wants_attempt(now) {
            self.start_datagram(now);
        }
        self.search_mtu(now);
        self.check_host(now)?;
        self.roaming.notice_sleep(now, suspended());
        self.check_network(now)?;
        while signalled && let Some(signal) = self.context.signals.next() {
            self.handle_signal(signal)?;
        }
        if let Some(rest) = self.pace.after_turn(now, self.session.statistics().passed()) {
            thread::sleep(rest);
        }
        Ok(())
    }

    fn handle_event(&mut self, now: Instant, event: Event) -> Result<(), Ending> {
        let output = Arc::clone(&self.context.output);
        match event {
            Event::StreamClosed => {
                output.error("SSL connection closed by the server");
                return self.reconnect();
            }
            Event::StreamFailed(error) => {
                output.error(&format!("SSL connection failed: {error}"));
                return self.reconnect();
            }
            Event::StreamDead => {
                output.error("CSTP Dead Peer Detection detected dead peer!");
                return self.reconnect();
            }
            Event::RekeyDue(Channel::Stream) => return self.rekey_stream(now),
            Event::RekeyDue(Channel::Datagram) => return self.rekey_datagram(now),
            Event::DatagramUp { description } => self.datagram_up(now, description),
            Event::DatagramFailed { refused } => return self.datagram_failed(now, refused),
            Event::DatagramLost(loss) => return self.datagram_lost(now, &loss),
            Event::Disconnect { reason, .. } => {
                let reason = String::from_utf8_lossy(reason.get(1..).unwrap_or_default()).into_owned();
                output.error(&format!("Received server disconnect: '{reason}'"));
                return Err(Ending::ServerEnded);
            }
            // The server enforces these; the client has no such timers.
            Event::IdleTimeout | Event::SessionTimeout => {}
            Event::ProbeResponse {
                channel: Channel::Datagram,
                payload_len,
            } => {
                if let Some(prober) = self.datagram.prober() {
                    prober.handle_response(now, payload_len);
                }
            }
            Event::ProbeResponse { .. } | Event::LargeProbe { .. } => {}
            Event::DatagramTooLarge { size } => {
                output.trace(&format!("A datagram of {size} bytes is too large for the path"));
            }
            Event::Frame { channel, kind, .. } => {
                output.debug(&format!("Unknown packet received on {channel:?}: {kind:?}"));
            }
            Event::DeviceFailed(error) => {
                output.error(&format!("The tun device failed: {error}"));
                return Err(Ending::DeviceLost);
            }
            Event::Notice(notice) => output.debug(&notice.to_string()),
        }
        Ok(())
    }

    fn rekey_stream(&mut self, now: Instant) -> Result<(), Ending> {
        self.context.output.info("CSTP rekey due");
        let in_place = self.renews_keys && self.tunnel.config.stream.rekey_method == RekeyMethod::Ssl;
        if in_place && self.session.rekey_stream(now, true, &mut self.buffers).is_ok() {
            return Ok(());
        }
        self.reconnect()
    }

    fn handle_signal(&mut self, signal: Signal) -> Result<(), Ending> {
        match signal {
            Signal::Statistics => {
                self.session.recall(Instant::now());
                self.show_statistics();
                Ok(())
            }
            Signal::Reconnect => {
                self.tell_reconnect();
                self.reconnect()
            }
            Signal::Terminate => Err(Ending::UserEnded),
            Signal::Detach => Err(Ending::Detached),
        }
    }

    /// Closes the transports before a reconnect.
    pub(super) fn detach(&mut self) {
        self.session.detach_stream();
        self.session.detach_datagram();
        // What the old channels still had to say must not be taken for news of the next ones.
        while self.session.poll_event().is_some() {}
    }
}

/// Sealing gets a thread of its own where two of ours leave cores to those whose packets they are.
/// `CULVERT_SECOND_THREAD=always|never` overrules that for tests.
fn second_thread() -> SecondThread {
    const CORES: usize = 4;
    match std::env::var("CULVERT_SECOND_THREAD").as_deref() {
        Ok("always") => SecondThread::Always,
        Ok("never") => SecondThread::Never,
        _ if thread::available_parallelism().is_ok_and(|cores| cores.get() >= CORES) => {
            SecondThread::WhenBusy
        }
        _ => SecondThread::Never,
    }
}

/// A timer for the user; 0 is none.
pub(super) fn seconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| time.as_secs())
}
