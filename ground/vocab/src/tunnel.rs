use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Smallest tunnel MTU that options and peers may ask for, in octets.
pub const MTU_MIN: u16 = 576;
/// Smallest tunnel MTU that can carry IPv6 (RFC 8200 §5), in octets.
pub const MTU_MIN_IPV6: u16 = 1280;
/// Largest tunnel MTU: what fits one TLS record with its frame header, in octets.
pub const MTU_MAX: u16 = 16376;

/// A number that is no usable MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an MTU must be between {MTU_MIN} and {MTU_MAX}, not {0}")]
pub struct MtuError(pub u64);

/// MTU of the tunnel device: the largest IP packet it carries, 576 to 16376 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Mtu(u16);

impl Mtu {
    /// Accepts 576 to 16376.
    ///
    /// # Errors
    /// The number is outside that range.
    pub fn new(mtu: u64) -> Result<Self, MtuError> {
        match u16::try_from(mtu) {
            Ok(small) if (MTU_MIN..=MTU_MAX).contains(&small) => Ok(Self(small)),
            _ => Err(MtuError(mtu)),
        }
    }

    /// The nearest usable MTU.
    pub fn clamped(mtu: u64) -> Self {
        Self(u16::try_from(mtu).unwrap_or(MTU_MAX).clamp(MTU_MIN, MTU_MAX))
    }

    /// Octets.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Mtu {
    type Error = MtuError;

    fn try_from(mtu: u16) -> Result<Self, MtuError> {
        Self::new(mtu.into())
    }
}

impl From<Mtu> for u16 {
    fn from(mtu: Mtu) -> u16 {
        mtu.0
    }
}

/// IPv4 address of the tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressV4 {
    /// The client's address.
    pub address: Ipv4Addr,
    /// Netmask as the server gave it; not always contiguous or useful.
    pub netmask: Option<Ipv4Addr>,
}

/// IPv6 address of the tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressV6 {
    /// The client's address.
    pub address: Ipv6Addr,
    /// Prefix length, 0 to 128.
    pub prefix_len: u8,
}

/// How a channel renews its keys (`specs/cstp-dtls.md` §6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RekeyMethod {
    /// Never.
    #[default]
    None,
    /// In place: TLS KeyUpdate or a new DTLS handshake inside the session.
    Ssl,
    /// A new connection with the same cookie.
    NewTunnel,
}

/// Timers of one channel. `None` means the timer is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Silence after which the peer is probed (dead peer detection); it is dead after twice that.
    pub dpd: Option<Duration>,
    /// Longest time without sending anything.
    pub keepalive: Option<Duration>,
    /// Life of the keys.
    pub rekey: Option<Duration>,
    /// What happens when `rekey` has passed.
    pub rekey_method: RekeyMethod,
}

/// Everything that both ends agree on when a tunnel opens, whatever the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelConfig {
    /// The client's IPv4 address, if any.
    pub ipv4: Option<AddressV4>,
    /// The client's IPv6 address, if any.
    pub ipv6: Option<AddressV6>,
    /// MTU of the tunnel device.
    pub mtu: Mtu,
    /// DNS servers in order of preference.
    pub dns: Vec<IpAddr>,
    /// NetBIOS name servers.
    pub nbns: Vec<IpAddr>,
    /// Search domains (`default-domain`).
    pub search_domains: Vec<String>,
    /// Domains resolved through the tunnel; empty means all.
    pub split_dns: Vec<String>,
    /// All DNS queries go through the tunnel.
    pub tunnel_all_dns: bool,
    /// Networks behind the tunnel, in the order received; empty means everything.
    pub includes: Vec<IpNet>,
    /// Networks that stay outside the tunnel, in the order received.
    pub excludes: Vec<IpNet>,
    /// Families that the tunnel does not carry may go outside it.
    pub client_bypass_protocol: bool,
    /// URL of a proxy auto-configuration file.
    pub proxy_pac: Option<String>,
    /// Text to show to the user after connecting.
    pub banner: Option<String>,
    /// Timers of the TLS channel.
    pub stream: Timers,
    /// Timers of the UDP channel.
    pub datagram: Timers,
    /// The server ends the session after this long without user data.
    pub idle_timeout: Option<Duration>,
    /// Time left until the login expires.
    pub session_left: Option<Duration>,
    /// The server's name is dynamic: resolve it again before reconnecting.
    pub dynamic_dns: bool,
    /// Raw options as received, name and value in order, for scripts (`CISCO_CSTP_OPTIONS`).
    pub options: Vec<(String, String)>,
}

impl TunnelConfig {
    /// A configuration with this MTU and nothing else.
    pub fn new(mtu: Mtu) -> Self {
        Self {
            ipv4: None,
            ipv6: None,
            mtu,
            dns: Vec::new(),
            nbns: Vec::new(),
            search_domains: Vec::new(),
            split_dns: Vec::new(),
            tunnel_all_dns: false,
            includes: Vec::new(),
            excludes: Vec::new(),
            client_bypass_protocol: false,
            proxy_pac: None,
            banner: None,
            stream: Timers::default(),
            datagram: Timers::default(),
            idle_timeout: None,
            session_left: None,
            dynamic_dns: false,
            options: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_range() {
        assert_eq!(Mtu::new(575), Err(MtuError(575)));
        assert_eq!(Mtu::new(16377), Err(MtuError(16377)));
        assert_eq!(Mtu::new(1434).map(Mtu::get), Ok(1434));
        assert_eq!(Mtu::clamped(0).get(), MTU_MIN);
        assert_eq!(Mtu::clamped(u64::MAX).get(), MTU_MAX);
    }
}
