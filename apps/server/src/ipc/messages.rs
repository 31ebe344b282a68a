//! The message set: **the privilege boundary of the server**.
//!
//! Rules (`specs/server-auth.md` §7.3):
//! - A worker's messages carry no identity. Who it is (source address, virtual host, pending
//!   login, session) is known by the channel on which the message comes.
//! - Every field is bounded by its type and validated when it is decoded, on the privileged side.
//!   A message that does not decode, comes out of turn or carries a descriptor kills its worker.
//! - Workers never send descriptors. Main sends a TUN device only with a verified session.
//! - A worker has at most one request to the broker outstanding; each gets exactly one reply.
//!   Descriptors per message: see the implementations of [`Message`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use culvert_vocab::{GroupName, HttpScheme, Mtu, SafeId, SessionId, TunnelConfig, UserName};
use serde::{Deserialize, Serialize};

use super::fields::{Bytes, SecretField, SecretText, Text};
use super::link::Message;
use super::session::{Addresses, ClientDescription, CloseReason, Counters, NetPriority, VerifiedSession};

/// Names a connection between main, broker and zygote. Workers never see or send one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Names a pool process between main and zygote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolNumber(pub u16);

/// Index of a virtual host in the configuration that was in force when the connection was
/// accepted; 0 is the default host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostIndex(pub u16);

// ---------------------------------------------------------------------------------------------
// worker -> broker
// ---------------------------------------------------------------------------------------------

/// Requests of a worker on its connection's channel to the broker. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerToBroker {
    /// The server name of the ClientHello (lower case), `None` without one. Exactly once, before
    /// every other request. It fixes the virtual host of this connection, and so its keys and
    /// methods. Reply: [`BrokerToWorker::Host`].
    ServerName(Option<Text<255>>),
    /// Signs a TLS handshake message with a key of this connection's host. The broker checks
    /// that the message has the form of one and signs a few times per connection at most.
    /// Reply: [`BrokerToWorker::Signature`].
    Sign {
        /// Which of the host's `server-key`s.
        key: u8,
        /// TLS `SignatureScheme`.
        scheme: u16,
        /// What is to be signed, before hashing.
        message: Bytes<16384>,
    },
    /// Keeps a TLS session for resumption, bound to client address and host.
    /// Reply: [`BrokerToWorker::Stored`].
    StoreTlsSession {
        /// Session id or ticket name.
        id: Bytes<64>,
        /// The TLS library's state, which contains secrets.
        data: SecretField<4096>,
    },
    /// Looks up a TLS session. Reply: [`BrokerToWorker::TlsSession`].
    FetchTlsSession {
        /// Session id or ticket name.
        id: Bytes<64>,
        /// Take it out (single use).
        take: bool,
    },
    /// What the client has signed in the handshake to prove its certificate. At most once.
    /// Reply: [`BrokerToWorker::Certificate`].
    Certificate(Box<CertificateProof>),
    /// Starts a login. Reply: [`BrokerToWorker::Login`].
    Login(LoginStart),
    /// Starts a login by HTTP authentication, or goes on with the one that is pending on this
    /// connection. Reply: [`BrokerToWorker::Login`].
    HttpLogin(HttpLogin),
    /// Answers the prompt of the login that is pending on this connection.
    /// Reply: [`BrokerToWorker::Login`].
    LoginAnswer(SecretText<4096>),
    /// Goes on with a login that another connection of the same source address began
    /// (cookie `webvpncontext`). Behaves like a wrong id when it is not pending.
    /// Reply: [`BrokerToWorker::Login`].
    LoginResume {
        /// The pending login's id, as the client gave it.
        context: SessionId,
        /// The answer to its prompt.
        answer: SecretText<4096>,
    },
    /// Is this the cookie of a live session of this host (for `/profiles`)?
    /// Reply: [`BrokerToWorker::Cookie`].
    CheckCookie(SessionId),
    /// Is this the cookie of a live session of this host, or names it a login that a connection of
    /// this source address began (for `camouflage`)? Reply: [`BrokerToWorker::Cookie`].
    Recognise(SessionId),
    /// The client ends its session: the cookie becomes worthless, unless cookies persist, and a
    /// tunnel on another connection ends. Reply: [`BrokerToWorker::Cookie`], whether there was one.
    EndSession(SessionId),
    /// Carries a request for a ticket to a KDC. Reply: [`BrokerToWorker::Kdc`].
    AskKdc {
        /// Position in the host's list of `kkdcp` lines.
        server: u8,
        /// The Kerberos message, without its length.
        message: Bytes<65536>,
    },
    /// Asks for the tunnel of a session. At most once per connection.
    /// Reply: [`BrokerToWorker::Tunnel`]; when accepted, main decides on the main channel.
    OpenTunnel(TunnelRequest),
}

/// The end of a handshake with a client certificate, for the broker to judge by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateProof {
    /// TLS 1.3; otherwise 1.2.
    pub tls13: bool,
    /// The handshake messages that the client's signature covers.
    pub transcript: Bytes<98304>,
    /// TLS `SignatureScheme`.
    pub scheme: u16,
    /// The client's signature.
    pub signature: Bytes<2048>,
}

/// First step of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStart {
    /// User name as typed, empty when a certificate says it; the broker validates it (a bad name is a failed login).
    pub user: Text<1024>,
    /// Password, when the form carried one.
    pub password: Option<SecretText<4096>>,
    /// Group wish, already mapped from friendly to real name.
    pub group: Option<Text<1024>>,
    /// What the client says about itself.
    pub client: ClientDescription,
}

/// A step of a login by HTTP authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpLogin {
    /// Scheme of the `Authorization` line.
    pub scheme: HttpScheme,
    /// What the line holds after the scheme; nobody has looked at it.
    pub token: SecretText<16384>,
    /// Group wish, already mapped from friendly to real name.
    pub group: Option<Text<1024>>,
    /// What the client says about itself.
    pub client: ClientDescription,
}

/// What a client asks for with CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRequest {
    /// The session cookie.
    pub cookie: SessionId,
    /// What the client says about itself.
    pub client: ClientDescription,
    /// `X-CSTP-Hostname` without domain part: letters, digits and hyphens (checked again by the
    /// broker; a bad one is dropped).
    pub hostname: Option<Text<63>>,
    /// The client wants IPv4.
    pub ipv4: bool,
    /// The client wants IPv6.
    pub ipv6: bool,
    /// The client offered a UDP channel that this host supports.
    pub udp: bool,
    /// The tunnel stays with its worker, also where a pool carries the others: the connection is
    /// not a tunnel yet.
    pub own_process: bool,
    /// Cipher description of the TLS channel, for `occtl`.
    pub tls: Text<128>,
}

/// Replies of the broker to a worker. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerToWorker {
    /// The virtual host of this connection.
    Host(HostIndex),
    /// The signature, or `None` when the broker refused.
    Signature(Option<Bytes<2048>>),
    /// Whether the TLS session was kept.
    Stored(bool),
    /// The TLS session, if there is one for this client.
    TlsSession(Option<SecretField<4096>>),
    /// Whether the client's certificate is good.
    Certificate(bool),
    /// Where the login stands.
    Login(LoginReply),
    /// Whether the cookie is good.
    Cookie(bool),
    /// What the KDC answers, without its length; `None` when it does not.
    Kdc(Option<Bytes<65536>>),
    /// Whether a tunnel may be opened.
    Tunnel(TunnelReply),
}

/// Where a login stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginReply {
    /// One more answer is wanted.
    Prompt {
        /// Id of the pending login, for the `webvpncontext` cookie.
        context: SessionId,
        /// Text of the form.
        message: Text<1024>,
        /// 0 for the password, n for the n-th additional one.
        number: u8,
    },
    /// Logged in.
    Success {
        /// The session cookie.
        cookie: SessionId,
        /// Who.
        user: UserName,
        /// Group in force.
        group: Option<GroupName>,
        /// The last token of HTTP authentication.
        token: Option<SecretText<16384>>,
    },
    /// HTTP authentication goes on with this token for the client.
    Challenge(SecretText<16384>),
    /// HTTP authentication failed; the form is another way in on this connection.
    Fallback,
    /// The certificate is of several groups: the client has to choose one and begin anew.
    ChooseGroup(Vec<GroupName>),
    /// Refused; the connection ends with 401 and this reason.
    Failed(LoginFailure),
    /// [`WorkerToBroker::LoginResume`] named nothing that is pending: start again with the form.
    NotPending,
}

/// Why a login failed, as far as the client may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginFailure {
    /// `Authentication failed`
    Credentials,
    /// `No certificate`
    NoCertificate,
    /// `Internal error`
    Internal,
}

/// Whether a tunnel may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelReply {
    /// The cookie is good; main answers next ([`MainToWorker::Grant`] or
    /// [`MainToWorker::Refuse`]).
    Accepted,
    /// Refused.
    Refused(Refusal),
}

/// Why there is no tunnel (`specs/server-config.md` §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// 401 `Cookie is not acceptable`.
    NotAcceptable,
    /// 503 `Server configuration error`.
    Configuration,
    /// 503 `Server error`.
    Server,
}

// ---------------------------------------------------------------------------------------------
// worker <-> main
// ---------------------------------------------------------------------------------------------

/// Messages of a worker to main. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerToMain {
    /// A log line; main adds who it is from.
    Log {
        /// Level of `specs/server-config.md` §3.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
    /// MTU of the TUN device; only with a tunnel.
    SetMtu(Mtu),
    /// Cipher description of the UDP channel, `None` when there is none; only with a tunnel.
    DatagramChannel(Option<Text<128>>),
    /// Octets carried so far; only with a tunnel; counters only grow.
    Counters(Counters),
    /// Sent by the handler of a forbidden system call, in place of everything that the worker
    /// still had to say: the number of the call, little end first.
    Forbidden([u8; 4]),
    /// Last message before the worker exits.
    Closing {
        /// Why.
        reason: WorkerReason,
        /// Final counters.
        counters: Counters,
    },
}

/// Reasons that a worker may report. Administrator's and server's reasons are main's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerReason {
    /// The TCP connection ended.
    Unspecified,
    /// The client logged out.
    UserLogout,
    /// The client disconnected and means to come back.
    ClientDisconnect,
    /// Told by main ([`MainToWorker::Terminate`]).
    Told,
    /// `idle-timeout`.
    IdleTimeout,
    /// Dead peer.
    DpdTimeout,
    /// `session-timeout`.
    SessionTimeout,
    /// Protocol violation or another error.
    Error,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// LOG_ERR.
    Error,
    /// LOG_WARNING.
    Warning,
    /// LOG_NOTICE.
    Notice,
    /// LOG_INFO, from log-level 2.
    Info,
    /// LOG_DEBUG, from log-level 3.
    Debug,
    /// HTTP headers, from log-level 4.
    Http,
    /// Packets of the transfer and DTLS, from log-level 5.
    Transfer,
    /// Cookies and keys, from log-level 8.
    Sensitive,
    /// The TLS library, from log-level 9.
    Tls,
}

/// Messages of main to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MainToWorker {
    /// The tunnel is open. One descriptor: the TUN device, or a channel to the pool process that
    /// gets it ([`TunnelGrant::pooled`]).
    Grant(Box<TunnelGrant>),
    /// No tunnel.
    Refuse(Refusal),
    /// The first datagram of a new UDP path. One descriptor: the connected socket.
    Datagram {
        /// The client's address.
        peer: SocketAddr,
        /// It is a DTLS ClientHello with the id of this session; otherwise a record from the
        /// client's address, which counts only if it authenticates.
        hello: bool,
        /// The datagram.
        packet: Bytes<4096>,
    },
    /// Tell the client that the session ends here, then exit.
    Terminate,
}

impl Message for MainToWorker {
    fn descriptors(&self) -> usize {
        match self {
            Self::Grant(_) | Self::Datagram { .. } => 1,
            Self::Refuse(_) | Self::Terminate => 0,
        }
    }
}

/// An open tunnel, as main grants it to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelGrant {
    /// Who, for logs.
    pub user: UserName,
    /// Name of the TUN device.
    pub device: String,
    /// A pool process carries the tunnel: hand it over and exit.
    pub pooled: bool,
    /// Addresses, DNS, routes, timers, banner. `mtu` is the largest link MTU to offer.
    pub config: TunnelConfig,
    /// `session-timeout`, for the header; `config.session_left` is what remains.
    pub session_timeout: Option<Duration>,
    /// Present when the session may use UDP.
    pub datagram: Option<DatagramGrant>,
    /// `X-CSTP-Hostname` to send back.
    pub hostname: Option<String>,
    /// Raw lines of `custom-header`.
    pub custom_headers: Vec<String>,
    /// `switch-to-tcp-timeout`.
    pub switch_to_tcp: Option<Duration>,
    /// `net-priority`.
    pub net_priority: Option<NetPriority>,
    /// `stats-report-time`.
    pub stats_report: Option<Duration>,
    /// Bytes per second from the client, 0 = unlimited.
    pub rx_per_second: u64,
    /// Bytes per second to the client, 0 = unlimited.
    pub tx_per_second: u64,
    /// `output-buffer`, in packets, 0 = the kernel's default.
    pub output_buffer: u32,
}

/// How a session may use UDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramGrant {
    /// `X-DTLS-App-ID`: names the session in a ClientHello.
    pub id: [u8; 32],
    /// `X-DTLS-Port`.
    pub port: u16,
}

// ---------------------------------------------------------------------------------------------
// main <-> broker
// ---------------------------------------------------------------------------------------------

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
    /// The tunnel stays with its worker.
    pub own_process: bool,
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

// ---------------------------------------------------------------------------------------------
// main <-> zygote
// ---------------------------------------------------------------------------------------------

/// Messages of main to the zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MainToZygote {
    /// First message: give up every privilege and become this user. Reply: log lines, then
    /// [`ZygoteToMain::Ready`].
    Confine {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Root directory from then on (`chroot-dir`).
        root: Option<Text<4096>>,
    },
    /// A piece of the public configuration snapshot; `last` completes it. Workers cloned
    /// afterwards use it.
    Snapshot {
        /// Encoded public configuration snapshot.
        piece: Bytes<65536>,
        /// The last piece.
        last: bool,
    },
    /// Clone a worker. Three descriptors: the TCP connection, the worker's end of its channel
    /// to main, the worker's end of its channel to the broker.
    Spawn(SpawnRequest),
    /// Clone a pool process. One descriptor: its end of its channel to main
    /// ([`super::pool`]).
    SpawnPool(PoolNumber),
}

impl Message for MainToZygote {
    fn descriptors(&self) -> usize {
        match self {
            Self::Confine { .. } | Self::Snapshot { .. } => 0,
            Self::Spawn(_) => 3,
            Self::SpawnPool(_) => 1,
        }
    }
}

/// A worker to be cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Which connection.
    pub id: ConnectionId,
    /// The client's address.
    pub peer: SocketAddr,
    /// The server's address that the client connected to.
    pub local: SocketAddr,
}

/// Messages of the zygote to main. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZygoteToMain {
    /// Confined and ready to clone.
    Ready,
    /// A log line (a confinement step that is not available here).
    Log {
        /// Severity.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
    /// The worker of a connection runs; main reaps it.
    Spawned {
        /// Which connection.
        id: ConnectionId,
        /// Its process.
        pid: u32,
    },
    /// A pool process runs; main reaps it.
    PoolSpawned {
        /// Which.
        number: PoolNumber,
        /// Its process.
        pid: u32,
    },
    /// There is no worker for this connection.
    SpawnFailed {
        /// Which connection.
        id: ConnectionId,
        /// Why.
        why: Text<256>,
    },
}

impl Message for WorkerToBroker {}
impl Message for BrokerToWorker {}
impl Message for WorkerToMain {}
impl Message for BrokerToMain {}
impl Message for ZygoteToMain {}
