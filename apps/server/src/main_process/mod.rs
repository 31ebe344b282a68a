//! The main process: listens, admits, leases, makes devices, runs scripts, reaps. It reads no
//! byte of a client but the session name of a first datagram.
//!
//! One event loop ([`Server::handle`]) owns all state. Tasks around it wait for sockets, channels
//! and scripts, and only send it events.

mod accept;
mod admit;
mod broker;
mod children;
mod control;
mod datagrams;
mod device;
mod filter;
mod firewall;
mod grant;
mod iroutes;
mod listen;
mod pid_file;
mod ping;
mod pool;
mod reload;
mod scripts;
mod service_manager;
mod state;
mod statistics;
mod stop;
mod tunnels;
mod utmp;
mod workers;
mod zygotes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_server_config::{Config, Global};
use culvert_sys::udp::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::bans::BanTable;
use crate::control::{ControlRequest, ControlSocket};
use crate::first_datagrams::FirstDatagrams;
use crate::ipc::link;
use crate::ipc::messages::ConnectionId;
use crate::leases::LeaseTable;
use crate::log::{self, Level};

pub(crate) use self::children::{Confinement, Started, start_broker, start_zygote};
pub(crate) use self::device::free_group;
pub(crate) use self::listen::Listeners;
pub(crate) use self::pid_file::PidFile;
use self::pool::Pool;
pub(crate) use self::reload::{send_snapshot, snapshot};
pub(crate) use self::service_manager::{inherited_sockets, ready as tell_ready};
pub(crate) use self::state::Fixed;
use self::state::{Event, Server, Stage, ban_policy};
use self::zygotes::Zygotes;

/// Events that may wait. Whoever produces more has to wait itself.
const EVENTS: usize = 512;
/// Threads that close devices.
const CLOSING_THREADS: usize = 4;
/// Time for the broker to end, the last accounting included.
const BROKER_END: Duration = Duration::from_secs(6);
/// Regular maintenance.
const MAINTENANCE: Duration = Duration::from_secs(30);

/// All that the start has prepared.
pub(crate) struct Prepared {
    /// The configuration.
    pub(crate) config: Config,
    /// Its file.
    pub(crate) config_path: PathBuf,
    /// What a reload does not change.
    pub(crate) fixed: Fixed,
    /// The broker, ready.
    pub(crate) broker: Started,
    /// The zygote, ready and with a snapshot.
    pub(crate) zygote: Started,
    /// Sockets.
    pub(crate) listeners: Listeners,
    /// Control socket, unless `use-occtl` is off: its path.
    pub(crate) control: Option<PathBuf>,
    /// Pid file.
    pub(crate) pid_file: Option<PidFile>,
}

/// A failure of the event loop's own set-up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The runtime, a channel or a signal handler.
    #[error("error: cannot set up the event loop: {0}")]
    System(#[from] std::io::Error),
    /// The control socket.
    #[error("error: cannot open the control socket '{}': {cause}", path.display())]
    Control {
        /// Its path.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
}

/// Serves until the server is told to end; returns the exit code. `ready` is called once all is
/// set up.
///
/// # Errors
/// See [`RunError`]; nothing has been served then.
pub(crate) fn run(prepared: Prepared, ready: impl FnOnce()) -> Result<u8, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CLOSING_THREADS)
        .build()?;
    LocalSet::new().block_on(&runtime, serve(prepared, ready))
}

async fn serve(prepared: Prepared, ready: impl FnOnce()) -> Result<u8, RunError> {
    let Prepared {
        config,
        config_path,
        fixed,
        broker,
        zygote,
        listeners,
        control,
        pid_file,
    } = prepared;
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let control = match control {
        Some(path) => Some(ControlSocket::bind(&path).map_err(|cause| RunError::Control { path, cause })?),
        None => None,
    };
    let (broker_sender, broker_receiver) = link::split(broker.channel.into_channel())?;
    let zygotes = Zygotes::new(zygote, &events)?;
    let (broker_ended, broker_end) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(broker::watch(broker_receiver, events.clone(), broker_ended));
    watch_signals(&events)?;

    let admission = accept::Admission::new(&config.global, fixed.clients_max);
    let datagram_sessions: datagrams::Sessions = Rc::new(RefCell::new(FirstDatagrams::new()));
    let mut udp = listeners.udp;
    let pool = make_pool(&config.global, &fixed, &mut udp)?;
    let of_tcp = listeners
        .tcp
        .into_iter()
        .map(|socket| tokio::task::spawn_local(accept::accept(socket, events.clone(), admission.clone())));
    let of_udp = udp.into_iter().map(|(socket, address)| {
        let sessions = Rc::clone(&datagram_sessions);
        tokio::task::spawn_local(datagrams::receive(socket, address, sessions, events.clone()))
    });
    let accepting = of_tcp.chain(of_udp).collect();
    if let Some(socket) = control {
        let (requests, received) = mpsc::channel(16);
        tokio::task::spawn_local(socket.serve(requests));
        tokio::task::spawn_local(pass_on(received, events.clone()));
    }
    let mut server = Server {
        bans: BanTable::new(ban_policy(&config), local_networks()),
        staple_times: reload::staple_times(&config),
        certificate_times: reload::certificate_times(&config),
        certificates_checked: Instant::now(),
        config: Rc::new(config),
        config_path,
        fixed,
        broker: broker_sender,
        zygotes,
        events,
        connections: HashMap::new(),
        sessions: HashMap::new(),
        departed: std::collections::VecDeque::new(),
        successors: HashMap::new(),
        orphans: HashMap::new(),
        datagram_sessions,
        pool,
        leases: LeaseTable::new(),
        next_id: 1,
        stage: Stage::Serving,
        exit_code: 0,
        accepting,
        admission,
        reloading: None,
        listeners: Vec::new(),
        questions: control::Questions::default(),
        statistics: statistics::Statistics::new(),
        scripts: scripts::Scripts::default(),
        running_scripts: 0,
        pid_file,
    };
    server.start_pool();
    firewall::remove_stale();
    log::write(
        Level::Info,
        &format!("main: initialized ocserv {}", env!("CARGO_PKG_VERSION")),
    );
    ready();
    let mut broker = broker.child;
    while !server.is_over() {
        let Some(event) = inbox.recv().await else { break };
        server.handle(event, &mut broker);
    }
    let code = server.exit_code;
    server.finish(broker, broker_end).await;
    Ok(code)
}

/// The pool of the configuration (`worker-processes`), which takes the UDP sockets that it serves.
fn make_pool(
    global: &Global,
    fixed: &Fixed,
    udp: &mut Vec<(UdpSocket, SocketAddr)>,
) -> std::io::Result<Option<Pool>> {
    let Some(count) = global.worker_processes else {
        return Ok(None);
    };
    let (discover_mtu, esp) = (global.try_mtu_discovery, global.serves_globalprotect());
    fixed
        .in_listen_namespace(|| Pool::new(count.get(), udp, discover_mtu, esp))
        .map(Some)
}

impl Server {
    /// The one place where main's state changes.
    fn handle(&mut self, event: Event, broker: &mut Child) {
        match event {
            Event::Accepted(arrival) => self.handle_accepted(arrival),
            Event::Datagram(datagram) => self.handle_datagram(datagram),
            Event::Worker(id, message) => self.handle_worker(id, message),
            Event::WorkerBroke(id, why) => self.handle_broken_worker(id, &why),
            Event::WorkerGone(id) => self.handle_worker_gone(id),
            Event::WorkerExited(id) => self.handle_worker_exited(id),
            Event::Pool(number, message) => self.handle_pool(number, message),
            Event::PoolBroke(number, why) => self.handle_broken_pool(number, &why),
            Event::PoolGone(number) => self.handle_pool_gone(number),
            Event::StartPool(number) => self.start_pool_process(number),
            Event::Broker(message) => self.handle_broker(message),
            Event::BrokerGone(why) => {
                children::log_end("sec-mod", broker);
                self.handle_broker_gone(&why);
            }
            Event::Zygote(number, message) => self.handle_zygote(number, message),
            Event::ZygoteGone(number, why) => self.handle_zygote_gone(number, &why),
            Event::LeasePinged(id, answered) => self.handle_pinged(id, answered),
            Event::ConnectScript(id, result) => self.handle_connect_script(id, result),
            Event::ScriptEnded(result) => {
                self.running_scripts = self.running_scripts.saturating_sub(1);
                if let Err(why) = result {
                    log::write(Level::Warning, &format!("main: {why}"));
                }
            }
            Event::Control(request) => self.handle_control(request),
            Event::Reload => self.reload(),
            Event::Stop => self.stop(),
            Event::Maintain => self.maintain(),
            Event::DevicesRemoved(result) => self.handle_devices_removed(result),
            Event::TimeIsUp(stage) => self.time_is_up(stage),
            Event::ReplacedTooLong(id) => self.kill(id),
        }
    }

    fn maintain(&mut self) {
        self.bans.expire(Instant::now());
        self.statistics.renew(self.config.global.server_stats_reset_time);
        self.expire_logins();
        self.leases.forget_avoided();
        self.maintain_zygotes();
        self.refresh_staples();
        self.listeners.retain(|listener| !listener.is_closed());
        for connection in self.connections.values_mut() {
            connection.log_budget = admit::LOG_BUDGET;
            connection.message_budget = admit::MESSAGE_BUDGET;
        }
    }

    /// Leaves nothing behind: no process, no file. (Devices went with their workers.)
    async fn finish(mut self, mut broker: Child, broker_end: tokio::sync::oneshot::Receiver<()>) {
        let told = self
            .broker
            .send(&crate::ipc::messages::MainToBroker::Stop, Vec::new())
            .is_ok();
        if told {
            let _may_be_late = tokio::time::timeout(BROKER_END, broker_end).await;
        }
        // After its channel has closed the broker has nothing left to write.
        let _already_dead = broker.kill();
        let _reaped = broker.wait();
        self.scripts.kill_all();
        let late: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in late {
            self.kill(id);
            self.handle_worker_gone(id);
        }
        self.zygotes.end();
        if let Some(pool) = &mut self.pool {
            pool.kill_all();
        }
        drop(self.pid_file.take());
        log::write(Level::Info, "main: exiting");
    }
}

async fn pass_on(mut requests: mpsc::Receiver<ControlRequest>, events: mpsc::Sender<Event>) {
    while let Some(request) = requests.recv().await {
        if events.send(Event::Control(request)).await.is_err() {
            return;
        }
    }
}

/// Turns signals and the passing of time into events. SIGUSR1 is accepted and means nothing.
fn watch_signals(events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let events = events.clone();
    tokio::task::spawn_local(async move {
        let mut regular = tokio::time::interval(MAINTENANCE);
        loop {
            let event = tokio::select! {
                _ = hangup.recv() => Event::Reload,
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
                _ = user2.recv() => Event::Maintain,
                _ = user1.recv() => continue,
                _ = regular.tick() => Event::Maintain,
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Subnets of the host's interfaces: their addresses are never banned.
fn local_networks() -> Vec<ipnet::IpNet> {
    let subnets = culvert_sys::interfaces::subnets().unwrap_or_else(|error| {
        log::write(
            Level::Warning,
            &format!("main: cannot list the interfaces, no address is local: {error}"),
        );
        Vec::new()
    });
    subnets
        .into_iter()
        .filter_map(|(address, length)| ipnet::IpNet::new(address, length).ok())
        .collect()
}
