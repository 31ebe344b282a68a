//! What main knows: its connections, and the events that change them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use culvert_control::messages as control;
use culvert_server_config::Config;
use culvert_sys::netns::NetworkNamespace;
use culvert_sys::tun::Tun;
use culvert_vocab::SafeId;
use tokio::sync::{mpsc, oneshot};

use super::children::Confinement;
use super::datagrams::{self, FirstDatagram};
use super::device::SessionDevice;
use super::pid_file::PidFile;
use super::pool::Pool;
use super::scripts::{Scripts, Subject};
use crate::bans::{BanPolicy, BanTable};
use crate::control::ControlRequest;
use crate::ipc::link::Sender;
use crate::ipc::messages::{
    BrokerToMain, ConnectionId, MainToWorker, PoolNumber, TunnelWish, WorkerReason, WorkerToMain,
    ZygoteToMain,
};
use crate::ipc::pool::PoolToMain;
use crate::ipc::session::{Addresses, CloseReason, Counters, VerifiedSession};
use crate::leases::LeaseTable;
use crate::log::{self, Level};

/// Everything that can happen to main. All of it is handled one after the other by
/// `Server::handle`, which never waits.
pub(crate) enum Event {
    /// A client connected.
    Accepted(super::accept::Arrival),
    /// A datagram that opens a new path of a session came to a listening UDP socket.
    Datagram(FirstDatagram),
    /// A worker says something.
    Worker(ConnectionId, WorkerToMain),
    /// A worker broke the protocol.
    WorkerBroke(ConnectionId, String),
    /// A worker's process has ended (or never began).
    WorkerGone(ConnectionId),
    /// The broker says something.
    Broker(BrokerToMain),
    /// The broker is gone, or cannot be understood.
    BrokerGone(String),
    /// The zygote with this number says something.
    Zygote(u64, ZygoteToMain),
    /// It is gone, or cannot be understood.
    ZygoteGone(u64, String),
    /// The process of a worker has ended; others may hold its channel.
    WorkerExited(ConnectionId),
    /// A pool process says something.
    Pool(PoolNumber, PoolToMain),
    /// A pool process broke the protocol.
    PoolBroke(PoolNumber, String),
    /// A pool process has ended (or never began).
    PoolGone(PoolNumber),
    /// It is time to start a pool process again.
    StartPool(PoolNumber),
    /// Whether somebody has the address that is to be leased.
    LeasePinged(ConnectionId, bool),
    /// The connect script of a session has ended.
    ConnectScript(ConnectionId, Result<(), String>),
    /// A script that nobody waits for has ended.
    ScriptEnded(Result<(), String>),
    /// `occtl` wants something.
    Control(ControlRequest),
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGUSR2, or the regular interval.
    Maintain,
    /// All TUN devices were removed, for the end of the server.
    DevicesRemoved(io::Result<()>),
    /// The time of `server-drain-ms`, or of a stop, is over.
    TimeIsUp(Stage),
    /// A connection that was replaced should be gone by now.
    ReplacedTooLong(ConnectionId),
}

/// Where the server's life stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Serving,
    /// No new connections; sessions go on (`server-drain-ms`).
    Draining,
    /// Sessions are being ended.
    Stopping,
    /// Time is up: leave.
    Over,
}

/// One TCP connection and its worker.
pub(crate) struct Connection {
    /// Client, unmapped.
    pub(crate) peer: SocketAddr,
    /// Our address.
    pub(crate) local: SocketAddr,
    /// Channel to the worker.
    pub(crate) worker: Sender,
    /// Its process, once the zygote has cloned it.
    pub(crate) pid: Option<i32>,
    /// Tells the connection's task about the process; taken when it is known.
    pub(crate) process: Option<oneshot::Sender<OwnedFd>>,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// What `occtl` shows.
    pub(crate) shown: control::Connection,
    /// How far it is.
    pub(crate) phase: Phase,
    /// Main's own reason to end it; stronger than what the worker reports.
    pub(crate) ended_by_us: Option<CloseReason>,
    /// What the worker reported at its end.
    pub(crate) reported: Option<WorkerReason>,
    /// Octets carried, as reported.
    pub(crate) counters: Counters,
    /// Log lines that the worker may still write in this interval.
    pub(crate) log_budget: u32,
    /// Messages that it may still send in this interval before it is killed.
    pub(crate) message_budget: u32,
}

/// How far a connection is.
pub(crate) enum Phase {
    /// Not yet at CONNECT.
    Login,
    /// Its session is on another connection, which has to end first.
    Waiting(Box<(VerifiedSession, TunnelWish)>),
    /// Somebody else may have its address (`ping-leases`).
    Pinging(Box<Pinging>),
    /// The connect script runs.
    Opening(Box<Opening>),
    /// The tunnel is open.
    Open(Box<Tunnel>),
    /// Refused, or ended by us.
    Ending,
}

/// A tunnel whose address is not settled yet.
pub(crate) struct Pinging {
    /// The session.
    pub(crate) session: VerifiedSession,
    /// What the client asked for.
    pub(crate) wish: TunnelWish,
    /// The addresses that it is going to have.
    pub(crate) addresses: Addresses,
    /// How many addresses were tried, this one included.
    pub(crate) tried: u8,
}

/// A tunnel that is ready but for the connect script.
pub(crate) struct Opening {
    /// What scripts are told.
    pub(crate) subject: Subject,
    /// The device.
    pub(crate) device: SessionDevice,
}

/// An open tunnel.
pub(crate) struct Tunnel {
    /// What scripts are told.
    pub(crate) subject: Subject,
    /// Index of its device.
    pub(crate) device_index: u32,
    /// Who carries it, unless the login's own process.
    pub(crate) pool: Option<Pooled>,
    /// When it was opened.
    pub(crate) opened: Instant,
}

/// A tunnel that a pool process carries.
pub(crate) struct Pooled {
    /// Which process.
    pub(crate) process: PoolNumber,
    /// The device: closing it last takes long beside thousands of others, so a process with
    /// clients must not do it.
    pub(crate) device: Option<Tun>,
}

/// The main process.
pub(crate) struct Server {
    /// Present configuration.
    pub(crate) config: Rc<Config>,
    /// The file it comes from.
    pub(crate) config_path: PathBuf,
    /// Names and ports that a reload does not change.
    pub(crate) fixed: Fixed,
    /// Channel to the broker.
    pub(crate) broker: Sender,
    /// Who makes workers.
    pub(crate) zygotes: super::zygotes::Zygotes,
    /// Where tasks report to.
    pub(crate) events: mpsc::Sender<Event>,
    /// All connections.
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    /// The connection that a session is on.
    pub(crate) sessions: HashMap<SafeId, ConnectionId>,
    /// When OCSP responses were changed last, as workers have them.
    pub(crate) staple_times: Vec<Option<SystemTime>>,
    /// When the files of certificates and keys were changed last, as far as they have been read.
    pub(crate) certificate_times: Vec<Option<SystemTime>>,
    /// When that was looked at.
    pub(crate) certificates_checked: Instant,
    /// Addresses of the connections that ended last.
    pub(crate) departed: std::collections::VecDeque<(ConnectionId, std::net::IpAddr)>,
    /// Connections that wait for the end of another one.
    pub(crate) successors: HashMap<ConnectionId, ConnectionId>,
    /// Scripts that run for connections that are gone.
    pub(crate) orphans: HashMap<ConnectionId, Subject>,
    /// Sessions that may use UDP.
    pub(crate) datagram_sessions: datagrams::Sessions,
    /// Pool processes, unless every client has a worker of its own.
    pub(crate) pool: Option<Pool>,
    /// Tunnel addresses.
    pub(crate) leases: LeaseTable,
    /// Points and bans.
    pub(crate) bans: BanTable,
    /// Number of the next connection.
    pub(crate) next_id: u64,
    /// Whether to go on.
    pub(crate) stage: Stage,
    /// Exit code of the process.
    pub(crate) exit_code: u8,
    /// Tasks that accept connections and datagrams.
    pub(crate) accepting: Vec<tokio::task::JoinHandle<()>>,
    /// What the tasks that accept have to know.
    pub(crate) admission: super::accept::Admission,
    /// What happens to connections while a reload is under way: they wait here.
    pub(crate) reloading: Option<super::reload::Reloading>,
    /// Listeners of `occtl show events`.
    pub(crate) listeners: Vec<mpsc::UnboundedSender<control::Reply>>,
    /// Questions of `occtl` that the broker has not answered yet.
    pub(crate) questions: super::control::Questions,
    /// Counters of `occtl show status`.
    pub(crate) statistics: super::statistics::Statistics,
    /// Scripts that run.
    pub(crate) scripts: Scripts,
    /// How many of them nobody waits for.
    pub(crate) running_scripts: usize,
    /// Removed at the end.
    pub(crate) pid_file: Option<PidFile>,
}

/// What is fixed from the start on (options of class S).
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    /// Prefix of TUN devices.
    pub(crate) device: String,
    /// Group of their interfaces.
    pub(crate) device_group: u32,
    /// Connections that there are descriptors for.
    pub(crate) clients_max: usize,
    /// Where sockets for clients are made; `None`: in the main process's own namespace.
    pub(crate) listen_namespace: Option<Rc<NetworkNamespace>>,
    /// Announced UDP port.
    pub(crate) udp_port: Option<u16>,
    /// User, group and root of the workers.
    pub(crate) confinement: Confinement,
    /// Log level in force.
    pub(crate) log_level: u8,
    /// Process id of the broker.
    pub(crate) broker_pid: u32,
    /// Options that broker and zygote are started with.
    pub(crate) child_arguments: Vec<std::ffi::OsString>,
    /// Not in the foreground: children have no standard error.
    pub(crate) daemon: bool,
}

impl Fixed {
    /// Makes sockets for clients.
    ///
    /// # Errors
    /// Their namespace cannot be entered.
    pub(crate) fn in_listen_namespace<T>(&self, make: impl FnOnce() -> T) -> std::io::Result<T> {
        match &self.listen_namespace {
            Some(namespace) => namespace.enter(make),
            None => Ok(make()),
        }
    }
}

impl Server {
    /// Writes a log line about a connection: `main[USER]:IP:PORT message`.
    pub(crate) fn log(&self, id: ConnectionId, level: Level, message: &str) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let peer = connection.peer;
        let (ip, port) = (peer.ip(), peer.port());
        log::write(
            level,
            &format!("main{}:{ip}:{port} {message}", connection.label()),
        );
    }

    /// Sends a message to the worker of a connection. A worker that cannot be reached is about to
    /// be reported as gone.
    pub(crate) fn tell_worker(&self, id: ConnectionId, message: &MainToWorker, descriptors: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get(&id)
            && let Err(error) = connection.worker.send(message, descriptors)
        {
            self.log(id, Level::Debug, &format!("cannot reach the worker: {error}"));
        }
    }

    /// Kills the worker of a connection. Its end is reported as [`Event::WorkerGone`].
    pub(crate) fn kill(&self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.pool().is_some() || connection.pid.is_none() {
            // The process has other clients, or nobody has said yet which one it is: it is told by the
            // end of the channel.
            connection.worker.shut_down();
        }
        if let Some(pid) = connection.pid {
            // It is our child and not reaped before its connection is forgotten, so the number
            // cannot mean another process.
            let _already_dead = culvert_sys::process::kill(pid, culvert_sys::signal::SIGKILL);
        }
    }
}

impl Connection {
    /// The pool process that carries the tunnel.
    pub(crate) fn pool(&self) -> Option<PoolNumber> {
        match &self.phase {
            Phase::Open(tunnel) => tunnel.pool.as_ref().map(|pool| pool.process),
            _ => None,
        }
    }

    /// `[USER]`, `[vhost:NAME: USER]` or nothing.
    pub(crate) fn label(&self) -> String {
        let Some(user) = &self.shown.username else {
            return String::new();
        };
        match self.shown.vhost.as_str() {
            "" | "default" => format!("[{user}]"),
            host => format!("[vhost:{host}: {user}]"),
        }
    }
}

/// The ban policy of a configuration.
pub(crate) fn ban_policy(config: &Config) -> BanPolicy {
    let ban = &config.global.ban;
    BanPolicy {
        max_score: ban.max_score.unwrap_or(0),
        ban_time: ban.time,
        reset_time: ban.reset_time,
    }
}

/// Seconds since 1970, as the control socket wants them.
pub(crate) fn unix_time(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
