//! What passes from a login to the tunnel: everything that carries a session on, in this process
//! or in another one.

use std::os::fd::OwnedFd;
use std::time::Duration;

use culvert_tls::HandOver as TlsHandOver;
use culvert_vocab::{MTU_MAX, Mtu, Timers};
use serde::{Deserialize, Serialize};

use super::protocols::Channels;
use crate::ipc::link::Message;
use crate::ipc::session::NetPriority;

/// State of a session at the moment its wish for a tunnel was answered. A secret: it contains record keys.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandOver {
    /// Largest packet that the tunnel carries.
    pub(super) mtu: Mtu,
    /// Timers of the TLS channel.
    pub(super) stream: Timers,
    /// Timers of the UDP channel.
    pub(super) datagram_timers: Timers,
    /// Longest time without user data.
    pub(super) idle_timeout: Option<Duration>,
    /// Longest life of the session, for the log.
    pub(super) session_timeout: Option<Duration>,
    /// Time left until the login expires.
    pub(super) session_left: Option<Duration>,
    /// Keys and sequence numbers of the client's connection.
    pub(super) tls: TlsHandOver,
    /// Octets of it that came already.
    pub(super) unread: Vec<u8>,
    /// The protocol's part.
    pub(super) channels: Channels,
    /// Largest data MTU that a probe of the client may raise the tunnel to.
    pub(super) mtu_limit: u16,
    /// The server renews the keys of the TLS channel itself, this often.
    pub(super) own_rekey: Option<Duration>,
    /// UDP silence after which data goes over TLS.
    pub(super) switch_to_stream: Option<Duration>,
    /// Marks of packets to the client.
    pub(super) net_priority: Option<NetPriority>,
    /// Don't-fragment on UDP.
    pub(super) discover_mtu: bool,
    /// Octets per second from the client, 0 for no limit.
    pub(super) rx_per_second: u64,
    /// Octets per second to the client, 0 for no limit.
    pub(super) tx_per_second: u64,
    /// Packets that may wait in the socket's send buffer (`output-buffer`); 0 for the kernel's
    /// default.
    pub(super) output_buffer: u32,
    /// How often main is told what was carried.
    pub(super) report: Duration,
}

/// Longest time that a configuration can name, rounded up: times are added to the clock.
const LONGEST: Duration = Duration::from_secs(1 << 33);
/// Shortest: a process that carries others, too, must not be busy with one client's timers.
const SHORTEST: Duration = Duration::from_millis(100);

impl HandOver {
    /// False when no login of ours hands over such values. A pool process gets them from a process
    /// that reads what strangers send.
    pub(super) fn is_plausible(&self) -> bool {
        let timers = [self.stream, self.datagram_timers];
        let timers = timers
            .iter()
            .flat_map(|timers| [timers.dpd, timers.keepalive, timers.rekey]);
        let repeated = [
            self.idle_timeout,
            self.own_rekey,
            self.switch_to_stream,
            Some(self.report),
        ];
        timers
            .chain(repeated)
            .flatten()
            .all(|time| (SHORTEST..=LONGEST).contains(&time))
            && self.session_left.is_none_or(|left| left <= LONGEST)
            && self.mtu_limit <= MTU_MAX
    }
}

/// From a login to a pool process, on a channel that main has made for this one message. Two
/// descriptors: the client's connection and the channel to main. (The device comes from main.)
impl Message for HandOver {
    fn descriptors(&self) -> usize {
        2
    }
}

/// A session on its way from login to tunnel, with its descriptors.
pub(super) struct Opened {
    /// State.
    pub(super) state: HandOver,
    /// The client's connection.
    pub(super) tcp: OwnedFd,
    /// Who carries it.
    pub(super) carrier: Carrier,
}

/// Who carries a tunnel.
pub(super) enum Carrier {
    /// This process, with this device.
    Here(OwnedFd),
    /// A pool process, at the other end of this channel.
    Pool(OwnedFd),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::decode;

    proptest! {
        #[test]
        fn no_bytes_make_a_pool_process_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(state) = decode::<HandOver>(&bytes) {
                let _plausible = state.is_plausible();
                let _refused = state.tls.into_halves();
                let _channels = state.channels.erase();
            }
        }
    }
}
