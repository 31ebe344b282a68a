//! A tunnel that carries packets.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use culvert_anyconnect::mtu::{PROBE_FILL, client_data_mtu};
use culvert_record::{AnyDatagramChannel, FrameKind, PacketSealer, StreamOpener, StreamSealer};
use culvert_sys::clock::suspended;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::rtnl::{self, LinkChange, Rtnl};
use culvert_tunnel::{
    Buffers, Channel, DatagramLoss, Event, FrameError, Pace, Role, SecondThread, Session, SessionConfig,
};
use culvert_vocab::{Mtu, RekeyMethod, Timers};

use super::datagram::{self, Datagram};
use super::ending::Ending;
use super::roaming::Roaming;
use super::setup::{Facts, NetworkSetup};
use super::status;
use crate::connect::{ConnectFailure, Connector, DatagramOffer, Stream, Tunnel};
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
/// How long the goodbye may wait for a blocked socket.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

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
    events: Events,
    buffers: Buffers,
    pace: Pace,
    cipher: String,
    /// The TLS channel's name, for the user.
    stream_name: String,
    /// The keys of the TLS channel can be renewed in place.
    renews_keys: bool,
    /// When the server wants to hear about this host again.
    next_check: Option<Instant>,
    expires: Option<SystemTime>,
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

    fn attach_stream(&mut self, now: Instant, stream: Stream, timers: Timers) -> io::Result<()> {
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

    /// Opens the TLS channel of a tunnel that has none; UDP is then over.
    fn fall_back(&mut self) -> Result<(), Ending> {
        self.session.detach_datagram();
        self.datagram = Datagram::new(None, false);
        match self.connector.connect_stream() {
            Ok(stream) => self
                .attach_stream(Instant::now(), stream, self.tunnel.config.stream)
                .map_err(|error| Ending::Setup(format!("Failed to use the TLS connection: {error}"))),
            Err(ConnectFailure::Rejected) => Err(Ending::CookieRejected),
            Err(ConnectFailure::Interrupted(signal)) => self.interrupted(signal),
            Err(ConnectFailure::Other) => self.reconnect(),
        }
    }

    /// A signal has ended work without which the tunnel cannot go on as it was.
    fn interrupted(&mut self, signal: Signal) -> Result<(), Ending> {
        match Ending::of_signal(signal) {
            Some(ending) => Err(ending),
            None => {
                self.tell_reconnect();
                self.reconnect()
            }
        }
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
    fn timers(&self, mut timers: Timers) -> Timers {
        if let Some(dpd) = self.context.options.tunnel.force_dpd {
            timers.dpd = Some(Duration::from_secs(dpd.into()));
        }
        timers
    }

    fn start_datagram(&mut self, now: Instant) {
        let Some(offer) = self.datagram.offer() else {
            return;
        };
        let options = &self.context.options;
        let opened = datagram::open(offer, self.tunnel.gateway, options.network.udp_port, now);
        let attached = opened.and_then(|(socket, channel)| {
            self.session
                .attach_datagram(now, socket, channel, &[], &mut self.buffers)
        });
        match attached {
            Ok(()) => {
                if let DatagramOffer::Dtls(_) = offer {
                    let timers = self.timers(self.tunnel.config.datagram);
                    self.context.output.debug(&format!(
                        "DTLS initialised. DPD {}, Keepalive {}",
                        seconds(timers.dpd),
                        seconds(timers.keepalive)
                    ));
                }
                self.datagram.connecting();
            }
            Err(error) => {
                self.context
                    .output
                    .error(&format!("Set up UDP failed; using SSL instead: {error}"));
                self.datagram.failed(now);
            }
        }
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
        self.drive_datagram(now);
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
            Event::RekeyDue(Channel::Datagram) if self.is_datagram_only() => {
                output.info("ESP rekey due");
                return self.reconnect();
            }
            Event::RekeyDue(Channel::Datagram) => self.start_datagram(now),
            Event::DatagramUp { description } => self.datagram_up(now, description),
            Event::DatagramFailed { .. } if self.is_datagram_only() => {
                output.error("Failed to connect ESP tunnel; using HTTPS instead.");
                return self.fall_back();
            }
            Event::DatagramLost(DatagramLoss::Seal(_)) if self.is_datagram_only() => {
                output.info("The ESP keys are used up");
                return self.reconnect();
            }
            Event::DatagramLost(loss) if self.is_datagram_only() => {
                output.error(&format!("ESP connection lost: {loss}"));
                return self.fall_back();
            }
            Event::DatagramFailed { refused: true } => {
                output.error("The server does not resume the DTLS session (possible MITM attack); using SSL");
                self.session.detach_datagram();
                self.datagram.disable();
            }
            Event::DatagramFailed { refused: false } => {
                output.info("DTLS handshake failed; using SSL");
                self.datagram.failed(now);
            }
            Event::DatagramLost(loss) => {
                output.error(&format!("DTLS connection lost: {loss}"));
                self.start_datagram(now);
            }
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

    fn datagram_up(&mut self, now: Instant, cipher: String) {
        let base = match self.datagram.offer() {
            Some(DatagramOffer::Dtls(offer)) => offer.base_mtu,
            Some(DatagramOffer::Esp(_)) | None => {
                self.context
                    .output
                    .info(&format!("ESP session established with server. {cipher}"));
                self.connector.datagram_established();
                return self.datagram.established(cipher);
            }
        };
        self.context.output.info(&format!(
            "Established DTLS connection (using Culvert). Ciphersuite {cipher}."
        ));
        let granted = self.tunnel.config.mtu;
        let mtu = self.session.datagram_channel().map_or(granted, |channel| {
            let overhead = channel.headroom() + channel.tailroom();
            let sealed_len = |len| channel.sealed_len(len);
            client_data_mtu(base, self.tunnel.gateway.is_ipv6(), overhead, sealed_len, granted)
        });
        self.apply_mtu(mtu);
        let inner_ipv6 = self.tunnel.config.ipv6.is_some();
        self.datagram.established(cipher);
        self.datagram.probe(now, mtu, inner_ipv6);
        if let Some((min, max)) = self.datagram.prober().map(|prober| prober.bounds())
            && min < max
        {
            let text = format!("Initiating MTU detection (min={min}, max={max})");
            self.context.output.debug(&text);
        }
    }

    /// Path MTU probes and new attempts.
    fn drive_datagram(&mut self, now: Instant) {
        if self.datagram.wants_attempt(now) {
            self.start_datagram(now);
        }
        let Some(prober) = self.datagram.prober() else {
            return;
        };
        if prober.poll_timeout().is_some_and(|at| at <= now) {
            prober.handle_timeout(now);
        }
        while let Some(size) = self.datagram.prober().and_then(|prober| prober.poll_probe()) {
            let payload = vec![PROBE_FILL; size];
            let sent = self.session.send(
                now,
                Channel::Datagram,
                FrameKind::ProbeRequest,
                &payload,
                &mut self.buffers,
            );
            if sent == Err(FrameError::TooLarge)
                && let Some(prober) = self.datagram.prober()
            {
                prober.handle_too_big(now);
            }
        }
        if let Some(mtu) = self.datagram.take_mtu() {
            let before = self.tunnel.config.mtu;
            let (found, was) = (mtu.get(), before.get());
            match mtu == before {
                true => {
                    let text = format!("No change in MTU after detection (was {was})");
                    self.context.output.debug(&text);
                }
                false => {
                    let text = format!("Detected MTU of {found} bytes (was {was})");
                    self.context.output.info(&text);
                }
            }
            self.apply_mtu(mtu);
        }
    }

    /// Uses `mtu` from now on.
    fn apply_mtu(&mut self, mtu: Mtu) {
        if mtu != self.tunnel.config.mtu {
            self.tunnel.config.mtu = mtu;
            self.session.set_mtu(mtu.get());
            self.set_device_mtu();
        }
    }

    /// Gives the device the tunnel's MTU, if it exists. After `--setuid` with a script it keeps the one
    /// it has.
    fn set_device_mtu(&mut self) {
        let Some(device) = self.setup.device().filter(|_| self.device_up) else {
            return;
        };
        let change = LinkChange {
            mtu: Some(self.tunnel.config.mtu.get().into()),
            ..LinkChange::default()
        };
        let changed = rtnl::interface_index(device).and_then(|index| Rtnl::open()?.set_link(index, change));
        if let Err(error) = changed {
            self.context
                .output
                .debug(&format!("Failed to change the MTU of {device}: {error}"));
            self.setup.renew(&self.tunnel);
        }
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

    /// The "Configured as" lines.
    pub(super) fn summary(&self) -> Vec<String> {
        let configured = status::configured_as(
            &self.tunnel.config,
            &self.stream_name,
            !self.is_datagram_only(),
            &self.datagram.full_name(),
            self.datagram.status(),
        );
        std::iter::once(configured)
            .chain(status::expiry(self.expires))
            .collect()
    }

    fn show_statistics(&self) {
        let left = |channel: Channel, timers: &Timers| {
            let period = timers
                .rekey
                .filter(|_| timers.rekey_method != RekeyMethod::None)?;
            Some(period.saturating_sub(self.session.last_rekey(channel)?.elapsed()))
        };
        let config = &self.tunnel.config;
        let lines = status::statistics(
            &self.session.statistics(),
            &self.cipher,
            self.datagram.name(),
            self.datagram.cipher(),
            left(Channel::Stream, &config.stream),
            left(Channel::Datagram, &config.datagram),
        );
        for line in self.summary().iter().chain(&lines) {
            self.context.output.always(line);
        }
    }

    /// Closes the transports before a reconnect.
    pub(super) fn detach(&mut self) {
        self.session.detach_stream();
        self.session.detach_datagram();
        // What the old channels still had to say must not be taken for news of the next ones.
        while self.session.poll_event().is_some() {}
    }

    /// Tells the server that the session is over, if it is to know, and waits a little until that
    /// has been sent.
    fn say_goodbye(&mut self, ending: &Ending) {
        let Some(reason) = ending.goodbye() else {
            return;
        };
        let Some(bye) = self.connector.log_out(reason) else {
            return;
        };
        let give_up = Instant::now() + GOODBYE_MAX;
        let sent = self.session.send(
            Instant::now(),
            Channel::Stream,
            FrameKind::Disconnect,
            &bye,
            &mut self.buffers,
        );
        if sent.is_err() {
            return;
        }
        while !self.session.stream_flushed() && Instant::now() < give_up {
            if self.poller.wait(&mut self.events, Some(give_up)).is_err() {
                return;
            }
            for index in 0..self.events.len() {
                if let Some(event) = self
                    .events
                    .get(index)
                    .filter(|event| self.session.owns(event.token))
                {
                    self.session
                        .handle_ready(Instant::now(), event, &mut self.buffers);
                }
            }
            // Nothing that happens now matters any more.
            while self.session.poll_event().is_some() {}
        }
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

fn seconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| time.as_secs())
}
