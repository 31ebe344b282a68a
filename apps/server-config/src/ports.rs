//! `restrict-user-to-ports` (`specs/server-config.md` §14.2).

use serde::{Deserialize, Serialize};

/// Ports that a user may, or may not, reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRestriction {
    /// True for `!(…)`: `items` are closed, all else is open. False: only `items` are open.
    pub deny: bool,
    /// In the order of the file.
    pub items: Vec<PortItem>,
}

/// One `PROTO(PORT)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortItem {
    /// Protocol.
    pub protocol: PortProtocol,
    /// Port; 0 is all, also for protocols without ports.
    pub port: u16,
}

/// Protocols of a [`PortItem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// IPsec ESP.
    Esp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
}
