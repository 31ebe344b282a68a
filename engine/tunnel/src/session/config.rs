use std::time::{Duration, Instant};

use culvert_sys::udp::SEGMENTS_MAX;
use culvert_vocab::Timers;

use super::SecondThread;
use super::runs::Runs;
use crate::policy::{PolicyConfig, Role};

/// Longest queue that options may ask for, in octets.
const QUEUE_OCTETS_MAX: usize = 16 << 20;
/// `--queue-len` unless it is given (`specs/client.md` §2).
const DEFAULT_QUEUE_LEN: usize = 32;
/// Octets that may wait unsent in a stream without a queue length: enough to keep it busy, little
/// enough that a ping does not wait long behind them.
const DEFAULT_UNSENT: usize = 48 * 1024;

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
    /// Packets that may wait in a socket's send buffer (client: `--queue-len`, server:
    /// `output-buffer`); 0 leaves the kernel's default.
    pub queue_len: usize,
    /// Copy the type of service of packets to the datagrams that carry them (`--passtos`).
    pub copy_tos: bool,
    /// When sealing and sending get a thread of their own (client).
    pub second_thread: SecondThread,
    /// Most octets per second of packets to the device; 0 for no limit (server:
    /// `rx-data-per-sec`).
    pub received_per_second: u64,
    /// Most octets per second of packets from the device; 0 for no limit (server:
    /// `tx-data-per-sec`).
    pub sent_per_second: u64,
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
            queue_len: DEFAULT_QUEUE_LEN,
            copy_tos: false,
            second_thread: SecondThread::Never,
            received_per_second: 0,
            sent_per_second: 0,
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

    /// Send buffer of the UDP socket, in octets. The kernel takes what is sent in one call as a
    /// whole as long as there is any room.
    pub(super) fn send_buffer(&self) -> Option<usize> {
        (self.queue_len > 0).then(|| self.queue_octets())
    }

    /// The datagrams that are sent in one call, and then queue together. A whole super-packet by
    /// default; who wants a short queue gets short runs, too.
    pub(super) fn runs(&self) -> Runs {
        Runs::new(if (1..DEFAULT_QUEUE_LEN).contains(&self.queue_len) {
            self.queue_len
        } else {
            SEGMENTS_MAX
        })
    }

    /// Octets that may wait unsent in the stream's socket.
    pub(super) fn unsent_limit(&self) -> u32 {
        let octets = if self.queue_len > 0 {
            self.queue_octets()
        } else {
            DEFAULT_UNSENT
        };
        u32::try_from(octets).unwrap_or(u32::MAX)
    }

    fn queue_octets(&self) -> usize {
        self.queue_len
            .saturating_mul(self.mtu.into())
            .min(QUEUE_OCTETS_MAX)
    }
}
