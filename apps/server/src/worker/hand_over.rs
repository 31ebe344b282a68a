//! What passes from a login to the tunnel: everything that carries a session on, in this process
//! or in another one.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use culvert_tls::HandOver as TlsHandOver;
use culvert_vocab::{SecretBytes, TunnelConfig};
use serde::{Deserialize, Serialize};

use crate::ipc::session::NetPriority;

/// State of a session at the moment its CONNECT was answered. A secret: it contains record keys.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandOver {
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// Timers, limits and the data MTU.
    pub(super) config: TunnelConfig,
    /// Keys and sequence numbers of the TLS channel.
    pub(super) tls: TlsHandOver,
    /// Octets that came after CONNECT already.
    pub(super) unread: Vec<u8>,
    /// The UDP channel that the client may open.
    pub(super) datagram: Option<DatagramHandOver>,
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
}

/// What a DTLS handshake with the client needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DatagramHandOver {
    /// Pre-shared key, exported from the TLS channel.
    pub(super) psk: SecretBytes,
    /// Numbers of the acceptable cipher suites, best first.
    pub(super) suites: Vec<u16>,
}

/// A session on its way from login to tunnel, with its descriptors.
pub(super) struct Opened {
    /// State.
    pub(super) state: HandOver,
    /// The client's connection.
    pub(super) tcp: OwnedFd,
    /// The device.
    pub(super) tun: OwnedFd,
}
