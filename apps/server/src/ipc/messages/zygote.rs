//! Main and zygote: the making of workers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConnectionId, LogLevel, PoolNumber};
use crate::ipc::fields::{Bytes, Text};
use crate::ipc::link::Message;

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
    /// ([`crate::ipc::pool`]).
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

impl Message for ZygoteToMain {}
