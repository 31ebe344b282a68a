//! What travels on the control socket (`specs/server-tools.md` §3.12: internal, root only).
//!
//! One request per connection. The answer is a sequence of [`Reply`] frames: actions end with one
//! [`Reply::Done`]; lists send one frame per entry and then [`Reply::End`]; [`Request::Events`]
//! sends the present users, [`Reply::End`], and then one [`Reply::Event`] per event until either
//! end closes.
//!
//! Times are seconds since 1970-01-01 UTC, intervals are seconds, data sizes are bytes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_vocab::SafeId;
use serde::{Deserialize, Serialize};

/// A command of `occtl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answer: one [`Reply::Status`].
    Status,
    /// Answer: all connections, also those that are not logged in.
    Users,
    /// Answer: the connections of this user name.
    User(String),
    /// Answer: the connection with this id, or none.
    Id(u32),
    /// Answer: sessions; only those in state authenticated when `valid_only`.
    Sessions {
        /// Leave out what cannot be used to reconnect.
        valid_only: bool,
    },
    /// Answer: every address that has points, banned or not.
    Bans,
    /// Answer: connections now and events from now on.
    Events,
    /// End all connections of a user; the cookies of those sessions become invalid.
    DisconnectUser(String),
    /// End one connection; its cookie becomes invalid.
    DisconnectId(u32),
    /// End all connections of a user and remove all sessions, also those without a connection.
    TerminateUser(String),
    /// End one connection and remove all sessions of its user.
    TerminateId(u32),
    /// Remove one session; a connection that uses it goes on.
    TerminateSession(SafeId),
    /// Forget the points and the ban of an address.
    Unban(IpAddr),
    /// Read the configuration again, like SIGHUP.
    Reload,
    /// End the server, like SIGTERM.
    Stop,
}

/// One frame of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// One connection of a list.
    User(Box<Connection>),
    /// One session of a list.
    Session(Box<Session>),
    /// One address of the ban table.
    Ban(Ban),
    /// A list is complete.
    End,
    /// Something happened to a connection.
    Event(Box<Event>),
    /// An action was done (true), or there was nothing to do it to (false).
    Done(bool),
}

/// State and counters of the server (`specs/server-tools.md` §3.5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Process id of main.
    pub server_pid: u32,
    /// Process id of the broker, the `sec-mod` of ocserv.
    pub secmod_pid: u32,
    /// Number of broker processes.
    pub secmod_instances: u32,
    /// Start of the server.
    pub up_since: u64,
    /// Connections now, also those that are not logged in.
    pub active_sessions: u64,
    /// Sessions closed since the start.
    pub total_sessions: u64,
    /// Failed logins since the start.
    pub total_auth_failures: u64,
    /// Addresses banned now.
    pub banned_ips: u64,
    /// Entries in the broker's session table.
    pub secmod_client_entries: u64,
    /// Entries in the TLS session cache.
    pub tls_db_entries: u64,
    /// Time a packet spends in the server, where it is measured.
    pub latency: Option<Latency>,
    /// Counters of the present statistics period.
    pub period: PeriodStats,
}

/// Time that a packet spends in the server, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub median: u64,
    /// Standard deviation.
    pub deviation: u64,
}

/// Counters since the last statistics reset; they grow when a connection ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodStats {
    /// When the counters were last set to zero; `None` if never.
    pub last_reset: Option<u64>,
    /// Sessions that ended.
    pub sessions_handled: u64,
    /// Sessions that ended by the session time-out.
    pub timed_out: u64,
    /// Sessions that ended by the idle time-out.
    pub timed_out_idle: u64,
    /// Sessions that ended by an error.
    pub closed_by_error: u64,
    /// Failed logins and refused session openings.
    pub auth_failures: u64,
    /// Mean duration of a login.
    pub average_auth_time: u64,
    /// Longest login.
    pub max_auth_time: u64,
    /// Mean duration of a session.
    pub average_session_time: u64,
    /// Longest session.
    pub max_session_time: u64,
    /// Smallest tunnel MTU seen, 0 if none.
    pub min_mtu: u16,
    /// Largest tunnel MTU seen, 0 if none.
    pub max_mtu: u16,
    /// Received from clients.
    pub rx_bytes: u64,
    /// Sent to clients.
    pub tx_bytes: u64,
}

/// How far a login has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthState {
    /// No credentials yet.
    #[default]
    PreAuth,
    /// In progress.
    Authenticating,
    /// Refused.
    Failed,
    /// Logged in.
    Authenticated,
}

/// Both addresses of a point-to-point tunnel, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelAddresses<Address> {
    /// The client's.
    pub client: Address,
    /// The server's.
    pub server: Address,
}

/// Bytes through the tunnel device: its kernel counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the client.
    pub rx: u64,
    /// To the client.
    pub tx: u64,
}

/// One connection (`specs/server-tools.md` §3.7). Texts that come from the client are raw here;
/// `occtl` sanitises them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Process-like number of the connection.
    pub id: u32,
    /// User name once known.
    pub username: Option<String>,
    /// Group, if the user has one.
    pub groupname: Option<String>,
    /// State of the login; `Authenticated` shows as `connected`.
    pub state: AuthState,
    /// Virtual host, `default` for the default one.
    pub vhost: String,
    /// Tunnel device once it exists.
    pub device: Option<String>,
    /// MTU of the tunnel.
    pub mtu: Option<u16>,
    /// The client's public address.
    pub remote_ip: Option<IpAddr>,
    /// The server's address that the client connected to.
    pub local_ip: Option<IpAddr>,
    /// City and country of the client where a database knows them.
    pub location: Option<String>,
    /// IPv4 addresses of the tunnel.
    pub ipv4: Option<TunnelAddresses<Ipv4Addr>>,
    /// IPv6 addresses of the tunnel.
    pub ipv6: Option<TunnelAddresses<Ipv6Addr>>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// Limit from the client, bytes/s.
    pub rx_limit: Option<u64>,
    /// Limit to the client, bytes/s.
    pub tx_limit: Option<u64>,
    /// Counters of the device; `None` when it is gone.
    pub traffic: Option<Traffic>,
    /// Dead peer detection interval.
    pub dpd: u32,
    /// Keepalive interval.
    pub keepalive: u32,
    /// Host name as told by the client.
    pub hostname: Option<String>,
    /// When this connection was made.
    pub connected_at: u64,
    /// When the user authenticated.
    pub session_started_at: u64,
    /// Printable name of the session.
    pub session: Option<SafeId>,
    /// TLS parameters in GnuTLS's form, `(TLS1.3)-(ECDHE-…)-(…)-(AES-256-GCM)`.
    pub tls_ciphersuite: Option<String>,
    /// DTLS parameters in GnuTLS's form, `(DTLS1.2)-(PSK)-(AES-256-GCM)`.
    pub dtls_cipher: Option<String>,
    /// Compression on the TLS channel.
    pub cstp_compression: Option<String>,
    /// Compression on the UDP channel.
    pub dtls_compression: Option<String>,
    /// DNS servers given to the client.
    pub dns: Vec<String>,
    /// NetBIOS name servers given to the client.
    pub nbns: Vec<String>,
    /// Domains given to the client.
    pub split_dns: Vec<String>,
    /// The client sends everything through the tunnel; `routes` is then empty.
    pub default_route: bool,
    /// Routes given to the client.
    pub routes: Vec<String>,
    /// Routes excluded from the tunnel.
    pub no_routes: Vec<String>,
    /// Networks behind the client.
    pub iroutes: Vec<String>,
    /// Traffic to other destinations than `routes` is blocked.
    pub restricted_to_routes: bool,
    /// Ports that are open (or, with `!`, closed), as `tcp(443)`.
    pub restricted_to_ports: Vec<String>,
}

/// One session of the broker (`specs/server-tools.md` §3.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Printable name.
    pub id: SafeId,
    /// When the login began.
    pub created: u64,
    /// When the cookie expires; `None` while the session is in use.
    pub expires: Option<u64>,
    /// State of the login.
    pub state: AuthState,
    /// User name once known.
    pub username: Option<String>,
    /// Group, if the user has one.
    pub groupname: Option<String>,
    /// Virtual host, `default` for the default one.
    pub vhost: String,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// Address that authenticated.
    pub remote_ip: Option<IpAddr>,
    /// City and country of the client where a database knows them.
    pub location: Option<String>,
    /// A connection uses the session.
    pub in_use: bool,
    /// A tunnel was opened with it.
    pub is_open: bool,
    /// A client certificate was verified.
    pub tls_auth_ok: bool,
}

/// An address in the ban table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The address; for IPv6 the first one of its /64.
    pub ip: IpAddr,
    /// Points.
    pub score: u32,
    /// End of the ban; `None` when the address is not banned.
    pub banned_until: Option<u64>,
}

/// Beginning or end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub connection: Connection,
}

/// Kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The tunnel was opened.
    Connect,
    /// The tunnel was closed.
    Disconnect {
        /// Why.
        reason: DisconnectReason,
        /// How long the connection lasted, in seconds.
        duration: u64,
    },
}

/// Why a session ended; the texts are ocserv's (`specs/server-tools.md` §3.10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DisconnectReason {
    /// Not known.
    #[default]
    Unspecified,
    /// The client said goodbye.
    User,
    /// An AnyConnect client went away in a way that allows it to come back.
    AnyConnectClient,
    /// The server or its administrator ended it.
    Server,
    /// No user data for `idle-timeout`.
    IdleTimeout,
    /// The peer did not answer dead peer detection.
    DpdTimeout,
    /// An error.
    Error,
    /// `session-timeout` has passed.
    SessionTimeout,
    /// A connection that only tested whether the port is open.
    HealthProbe,
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::User => "user disconnected",
            Self::AnyConnectClient => "anyconnect client disconnected",
            Self::Server => "server disconnected",
            Self::IdleTimeout => "idle timeout",
            Self::DpdTimeout => "DPD timeout",
            Self::Error => "unspecified error",
            Self::SessionTimeout => "session timeout",
            Self::HealthProbe => "TCP health probe",
        })
    }
}
