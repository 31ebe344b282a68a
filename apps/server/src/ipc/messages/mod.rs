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

mod broker;
mod login;
mod worker;
mod zygote;

use serde::{Deserialize, Serialize};

pub use self::broker::{
    BrokerAnswer, BrokerQuery, BrokerStatus, BrokerToMain, MainToBroker, SessionSummary, TunnelWish,
};
pub use self::login::{
    BrokerToWorker, CertificateProof, HttpLogin, LoginFailure, LoginReply, LoginStart, Refusal, TunnelReply,
    TunnelRequest, WorkerToBroker,
};
pub use self::worker::{DatagramGrant, MainToWorker, TunnelGrant, WorkerReason, WorkerToMain};
pub use self::zygote::{MainToZygote, SpawnRequest, ZygoteToMain};

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
    /// Cookies and keys, from log-level 8.
    Sensitive,
}
