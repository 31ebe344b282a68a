//! Worker and main: the tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use culvert_server_config::Compression;
use culvert_vocab::{Mtu, TunnelConfig, UserName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{LogLevel, Refusal};
use crate::ipc::fields::{Bytes, Text};
use crate::ipc::link::Message;
use crate::ipc::session::{Counters, NetPriority, ReportName};

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
    /// Agreed compression; only with a tunnel.
    Compression {
        /// Of the TLS channel.
        stream: Option<Compression>,
        /// Of the UDP channel, while there is one.
        datagram: Option<Compression>,
    },
    /// Cipher description of the UDP channel, `None` when there is none; only with a tunnel.
    DatagramChannel(Option<Text<128>>),
    /// Octets carried so far; only with a tunnel; counters only grow.
    Counters(Counters),
    /// A report about the client's host has been taken; only with a tunnel.
    Report(ReportName),
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
    /// The connection ended before there was a tunnel.
    Unspecified,
    /// The tunnel was refused.
    Refused,
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
    /// The client has gone without a word, a protocol violation, or another error.
    Error,
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
    /// Networks behind the client (`iroute`).
    pub networks_behind: Vec<IpNet>,
    /// Present when the session may use UDP.
    pub datagram: Option<DatagramGrant>,
    /// `X-CSTP-Hostname` to send back.
    pub hostname: Option<String>,
    /// Raw lines of `custom-header`.
    pub custom_headers: Vec<String>,
    /// The last report about the client's host that was taken from its address, and how long ago.
    pub report: Option<(ReportName, Duration)>,
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

impl Message for WorkerToMain {}
