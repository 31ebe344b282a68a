//! Messages between main and the processes of the pool (`worker-processes = N`).
//!
//! A pool process carries the tunnels of many clients. What concerns one of them goes over that
//! client's own channel, with the messages of a worker ([`super::messages`]): the channel is the
//! identity there, too. The channel of the process itself carries the rest.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::fields::{Bytes, Text};
use super::link::Message;
use super::messages::LogLevel;

/// Messages of main to a pool process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MainToPool {
    /// Receive datagrams here. One descriptor: a UDP socket bound to this address.
    Socket(SocketAddr),
    /// A login is about to hand its tunnel over. Two descriptors: the TUN device, and the end of a
    /// channel on which the login's worker sends one message.
    Adopt(Adoption),
}

impl Message for MainToPool {
    fn descriptors(&self) -> usize {
        match self {
            Self::Socket(_) => 1,
            Self::Adopt(_) => 2,
        }
    }
}

/// What main itself says about a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adoption {
    /// The client's address.
    pub peer: IpAddr,
    /// Names the session in a ClientHello; `None` without UDP.
    pub datagram_id: Option<[u8; 32]>,
}

/// Messages of a pool process to main. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PoolToMain {
    /// A log line that concerns no single client.
    Log {
        /// Severity.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
    /// A first datagram of no session here: perhaps another process has it.
    Stray {
        /// Our address that it was sent to.
        local: SocketAddr,
        /// Who sent it.
        peer: SocketAddr,
        /// Its content.
        packet: Bytes<4096>,
    },
    /// Sent by the handler of a forbidden system call, as
    /// [`WorkerToMain::Forbidden`](super::messages::WorkerToMain::Forbidden).
    Forbidden([u8; 4]),
}

impl Message for PoolToMain {}
