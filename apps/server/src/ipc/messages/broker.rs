//! Main and broker: connections, sessions, `occtl`.

use std::net::{IpAddr, SocketAddr};

use culvert_vocab::{GroupName, SafeId, UserName};
use serde::{Deserialize, Serialize};

use super::ConnectionId;
use crate::ipc::fields::Text;
use crate::ipc::link::Message;
use crate::ipc::session::{Addresses, ClientDescription, CloseReason, Counters, ReportName, VerifiedSession};

/// Messages of main to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MainToBroker {
    /// A new connection. One descriptor: the broker's end of the worker's channel.
    Connection {
        /// Its name from now on.
        id: ConnectionId,
        /// Source address (after PROXY), IPv4-mapped addresses unmapped.
        peer: SocketAddr,
        /// The server's address that the client connected to.
        local: SocketAddr,
    },
    /// The connection is over: release what it holds. Sent exactly once per connection, whatever
    /// happened to its worker.
    ConnectionClosed {
        /// Which.
        id: ConnectionId,
        /// Why; decides about the cookie (`specs/server-auth.md` §4.1).
        reason: CloseReason,
        /// What its tunnel carried.
        counters: Counters,
    },
    /// Main could not grant the tunnel that the broker verified: the session is unused again,
    /// the cookie stays valid.
    TunnelRefused(ConnectionId),
    /// The tunnel is open with these addresses.
    TunnelOpened {
        /// Which connection.
        id: ConnectionId,
        /// What the session got.
        addresses: Addresses,
    },
    /// What the open tunnel of an accounted session has carried so far.
    Counters {
        /// Which connection.
        id: ConnectionId,
        /// Octets.
        counters: Counters,
    },
    /// A report about the host of this connection's client has been taken.
    Report {
        /// Which connection.
        id: ConnectionId,
        /// Which report.
        name: ReportName,
    },
    /// This source (IPv6: its /64) is banned now: its pending logins fail.
    Banned(IpAddr),
    /// Read the configuration again. Reply: [`BrokerToMain::Reloaded`].
    Reload,
    /// Read the files again that the present configuration names. Reply: [`BrokerToMain::Reloaded`].
    ReloadFiles,
    /// A question of `occtl`. Reply: [`BrokerToMain::ControlReply`] with the same number.
    Control {
        /// Number of the question.
        number: u32,
        /// The question.
        query: BrokerQuery,
    },
    /// The server stops: write the journal and exit.
    Stop,
}

impl Message for MainToBroker {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Connection { .. }))
    }
}

/// Messages of the broker to main. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerToMain {
    /// Keys, methods and journal are loaded: main may go on with its start.
    Ready,
    /// The start failed; the broker exits. One line for the administrator.
    Failed(Text<2048>),
    /// Answer to [`MainToBroker::Reload`] and `ReloadFiles`: `None` when it worked, else why the old
    /// configuration stays.
    Reloaded(Option<Text<2048>>),
    /// A worker showed a good cookie: open the tunnel.
    OpenTunnel {
        /// Which connection.
        id: ConnectionId,
        /// The verified session.
        session: Box<VerifiedSession>,
        /// What the client asked for.
        wish: TunnelWish,
    },
    /// A login succeeded on this connection (main shows the user in `occtl` and in logs).
    LoggedIn {
        /// Which connection.
        id: ConnectionId,
        /// Who.
        user: UserName,
        /// Group in force.
        group: Option<GroupName>,
        /// Name of the virtual host.
        host: Text<255>,
        /// Milliseconds that the login took inside the broker.
        took_ms: u32,
    },
    /// A cookie is good, but its user has as many connections as he may have (`max-same-clients`); for
    /// the log.
    TooManyClients {
        /// Which connection.
        id: ConnectionId,
        /// Who.
        user: UserName,
        /// Name of the virtual host.
        host: Text<255>,
        /// How many he may have.
        max: u32,
    },
    /// A login step failed: ban points for the source address that main knows.
    LoginFailed {
        /// Which connection.
        id: ConnectionId,
        /// False for failures that cost no points (group refused after the right password).
        points: bool,
    },
    /// Whether more work waits than `rate-limit-ms` lets pass.
    Busy(bool),
    /// A client has sent a message for a KDC: ban points for the source address.
    KdcAsked(ConnectionId),
    /// The worker of this connection broke the protocol: kill it.
    Kill {
        /// Which connection.
        id: ConnectionId,
        /// What it did, for the log.
        why: Text<256>,
    },
    /// Sessions that end now with their connections (`occtl terminate`).
    Disconnect(Vec<ConnectionId>),
    /// Answer to [`MainToBroker::Control`].
    ControlReply {
        /// Number of the question.
        number: u32,
        /// The answer.
        reply: BrokerAnswer,
    },
}

/// What the client asked for with CONNECT, as far as main needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelWish {
    /// What the client says about itself.
    pub client: ClientDescription,
    /// The client's host name, a valid label.
    pub hostname: Option<Text<63>>,
    /// The client wants IPv4.
    pub ipv4: bool,
    /// The client wants IPv6.
    pub ipv6: bool,
    /// The client offered a UDP channel.
    pub udp: bool,
    /// Cipher description of the TLS channel.
    pub tls: Text<128>,
}

/// Questions of `occtl` that only the broker can answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerQuery {
    /// All sessions, from this position on (an answer holds at most 128).
    Sessions {
        /// How many to skip.
        offset: u32,
    },
    /// Remove all sessions of a user (`occtl terminate user`).
    TerminateUser(UserName),
    /// Remove the session of a connection (`occtl terminate id`).
    TerminateConnection(ConnectionId),
    /// Remove one session (`occtl terminate session`).
    TerminateSession(SafeId),
    /// Numbers for `show status`.
    Status,
}

/// Answers to [`BrokerQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerAnswer {
    /// Some sessions, and how many there are in all.
    Sessions {
        /// All of them.
        total: u32,
        /// At most 128 of them.
        list: Vec<SessionSummary>,
    },
    /// How many sessions were removed.
    Terminated(u32),
    /// Numbers for `show status`.
    Status(BrokerStatus),
}

/// One session, as `occtl show sessions` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Printable name.
    pub id: SafeId,
    /// Who, once known.
    pub user: Option<UserName>,
    /// Group in force.
    pub group: Option<GroupName>,
    /// Name of the virtual host.
    pub host: String,
    /// Last known source address.
    pub peer: IpAddr,
    /// What the client said about itself.
    pub client: ClientDescription,
    /// The login succeeded.
    pub authenticated: bool,
    /// A tunnel is open.
    pub in_use: bool,
    /// Seconds since it was created.
    pub age_seconds: u64,
    /// Seconds until it expires; `None` while in use.
    pub expires_in_seconds: Option<u64>,
}

/// Numbers of the broker for `occtl show status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Sessions and pending logins.
    pub entries: u32,
    /// TLS sessions kept for resumption.
    pub tls_sessions: u32,
}

impl Message for BrokerToMain {}
