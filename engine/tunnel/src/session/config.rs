use std::time::{Duration, Instant};

use culvert_vocab::Timers;

use crate::policy::{PolicyConfig, Role};

/// Longest queue that options may ask for, in octets.
const QUEUE_OCTETS_MAX: usize = 16 << 20;

/// What a session needs to know of its tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Which end this is.
    pub role: Role,
    /// Largest packet that the tunnel carries, in octets.
    pub mtu: u16,
    /// Timers of the stream.
    pub stream: Timers,
    /// Timers of the datagram channel.
    pub datagram: Timers,
    /// Longest time without user data (server).
    pub idle_timeout: Option<Duration>,
    /// End of the session (server).
    pub session_end: Option<Instant>,
    /// Data goes over the stream when nothing was received over UDP for this long (server:
    /// `switch-to-tcp-timeout`).
    pub switch_to_stream: Option<Duration>,
    /// Packets that may wait in a socket's send buffer (client: `--queue-len`).
    pub queue_len: usize,
    /// Copy the type of service of packets to the datagrams that carry them (`--passtos`).
    pub copy_tos: bool,
}

impl SessionConfig {
    /// No timers, 32 packets of queue.
    pub fn new(role: Role, mtu: u16) -> Self {
        Self {
            role,
            mtu,
            stream: Timers::default(),
            datagram: Timers::default(),
            idle_timeout: None,
            session_end: None,
            switch_to_stream: None,
            queue_len: 32,
            copy_tos: false,
        }
    }

    pub(super) fn policy(&self) -> PolicyConfig {
        PolicyConfig {
            role: self.role,
            stream: self.stream,
            datagram: self.datagram,
            idle_timeout: self.idle_timeout,
            session_end: self.session_end,
            switch_to_stream: self.switch_to_stream,
        }
    }

    /// Octets of a full queue. The kernel counts its own overhead, which it allows for by
    /// doubling what it is given.
    pub(super) fn queue_octets(&self) -> usize {
        self.queue_len
            .max(1)
            .saturating_mul(self.mtu.max(1500).into())
            .min(QUEUE_OCTETS_MAX)
    }

    /// Octets that may wait unsent in the stream's socket.
    pub(super) fn unsent_limit(&self) -> u32 {
        u32::try_from(self.queue_octets().max(16 * 1024)).unwrap_or(u32::MAX)
    }
}
