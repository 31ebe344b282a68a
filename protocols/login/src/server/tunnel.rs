//! From a client's wish to its tunnel: who gets one is decided elsewhere, how it is announced and
//! which channels it has is the protocol's.

use std::time::{Duration, Instant};

use culvert_record::{AnyDatagramChannel, StreamOpener, StreamSealer};
use culvert_tls::{Negotiated, Opener, Sealer, TlsError};
use culvert_vocab::{Mtu, SessionId, Timers, TunnelConfig};
use culvert_wire::http::Response;
use ipnet::IpNet;

use super::{Claims, ClientDescription, ReportName};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Its session.
    pub session: SessionId,
    /// What it says of that.
    pub claims: Claims,
    /// What it says about itself.
    pub client: ClientDescription,
    /// Its host name, not yet validated.
    pub hostname: Option<String>,
    /// It wants an IPv4 address.
    pub ipv4: bool,
    /// It wants an IPv6 address.
    pub ipv6: bool,
    /// It offers a UDP channel that this server supports.
    pub datagrams: bool,
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The session is over, or may not be used here.
    NotAcceptable,
    /// No addresses are left, or the like.
    Configuration,
    /// The server failed.
    Internal,
}

/// What a session gets.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Addresses, routes, timers; `mtu` is the largest that a link may have.
    pub config: TunnelConfig,
    /// User of the session.
    pub user: String,
    /// Networks behind the client, from which packets may come, too.
    pub networks_behind: Vec<IpNet>,
    /// Present when the session may use UDP.
    pub datagram: Option<DatagramGrant>,
    /// The client's host name, as far as it is one.
    pub hostname: Option<String>,
    /// Time that a login is worth, all of it.
    pub session_timeout: Option<Duration>,
    /// Lines to add to the answer's header.
    pub custom_headers: Vec<String>,
    /// UDP silence after which data goes over TLS.
    pub switch_to_stream: Option<Duration>,
    /// The last report about the host that was taken from this address, and how long ago.
    pub report: Option<(ReportName, Duration)>,
}

/// How a session may use UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramGrant {
    /// Names the session in its first datagram.
    pub id: [u8; 32],
    /// Port of the server.
    pub port: u16,
}

/// Fills octets with random ones; false when there are none.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> bool;

/// Fills octets with keying material for a label.
pub type Export<'a> = &'a dyn Fn(&str, &mut [u8]) -> Result<(), TlsError>;

/// The connection over which a client asked.
pub struct Link<'a> {
    /// Its TLS.
    pub tls: &'a Negotiated,
    /// Keying material of its TLS, for a label (RFC 5705).
    pub export: Export<'a>,
    /// The client's address is one of IPv6.
    pub ipv6: bool,
    /// Largest packet that its path carries, as far as TCP knows.
    pub path_mtu: Option<u16>,
    /// The system's random numbers.
    pub random: Random<'a>,
}

/// A tunnel as the client gets it.
#[derive(Debug)]
pub struct Opened<Channels> {
    /// What to answer.
    pub answer: Vec<u8>,
    /// Largest packet that it carries.
    pub mtu: Mtu,
    /// The most that a probe of the client may raise that to.
    pub mtu_limit: u16,
    /// Timers of the TLS channel.
    pub stream: Timers,
    /// Timers of the UDP channel.
    pub datagram: Timers,
    /// The server renews the keys of the TLS channel itself, this often.
    pub own_rekey: Option<Duration>,
    /// UDP silence after which data goes over TLS.
    pub switch_to_stream: Option<Duration>,
    /// Its channels.
    pub channels: Channels,
}

/// A client's wish for its tunnel.
pub trait Opening {
    /// The tunnel's [`Channels`].
    type Channels;

    /// What to ask for.
    fn demand(&self, tls: &Negotiated) -> Demand;

    /// The answer when there is no tunnel. The connection ends then.
    fn refuse(&self, why: Refusal) -> Response;

    /// Opens the tunnel. When the answer has been sent, the connection is what
    /// [`Channels::take_connection`] makes of it.
    ///
    /// # Errors
    /// TLS does not give what the channels need.
    fn open(self, granted: &Granted, link: Link<'_>) -> Result<Opened<Self::Channels>, TlsError>;
}

/// The frames of a protocol in the records of a connection.
pub type Stream = (Box<dyn StreamSealer>, Box<dyn StreamOpener>);

/// What a client's connection is to an open tunnel.
pub enum Connection {
    /// Its TLS channel.
    Stream(Stream),
    /// A way to speak about it.
    Beside(Box<dyn Beside>),
}

/// The channels of a tunnel. They can be sent to the process that carries it.
pub trait Channels {
    /// What becomes of the connection over which the tunnel was opened.
    fn take_connection(&mut self, now: Instant, sealer: Sealer, opener: Opener) -> Connection;

    /// The UDP channel that a first datagram begins: a handshake if it is a `hello`, as far as
    /// anybody can see. `established`: there is one already. `None`: it begins nothing.
    fn begin_datagrams(&self, now: Instant, hello: bool, established: bool) -> Option<AnyDatagramChannel>;

    /// The UDP channel that has begun works. Keys that may begin only one have to be forgotten: another
    /// channel would not know which packets this one has seen.
    fn datagrams_work(&mut self) {}

    /// What the log says when the UDP channel works.
    fn established(&self) -> &'static str;
}

/// A client's connection beside its tunnel: TLS records in and out, sans-IO.
pub trait Beside {
    /// Reads octets of the client.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    fn handle_input(&mut self, now: Instant, octets: &[u8], random: Random<'_>) -> Result<(), Broken>;

    /// Octets to send.
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;

    /// What the client wants of the tunnel.
    fn poll_event(&mut self) -> Option<BesideEvent>;
}

/// What a connection beside a tunnel leads to.
pub enum BesideEvent {
    /// A line for the log.
    Note(String),
    /// A report about the client's host has been taken.
    Report(ReportName),
    /// The tunnel's channels are these now; its connection stays beside.
    Channels(Box<dyn Channels>),
    /// The connection is the tunnel's TLS channel from now on, and the only one. Octets that came
    /// already belong to it.
    Stream(Stream, Vec<u8>),
    /// The client has ended its session.
    LoggedOut,
}

/// A connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;
