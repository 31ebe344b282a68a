//! What the privileged side knows about a session and hands to main and to its worker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use culvert_tls::CHANNEL_BINDING_LEN;
use culvert_vocab::{AddressV4, AddressV6, GroupName, SafeId, UserName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::fields::{Bytes, Text};

/// What names a client's TLS connection and no other, on both of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelBinding {
    /// In TLS 1.3: "tls-exporter" (RFC 9266).
    Exporter([u8; CHANNEL_BINDING_LEN]),
    /// In TLS 1.2: "tls-unique" (RFC 5929 §3).
    Unique([u8; 12]),
    /// It has no name: a resumed session of TLS 1.2.
    Nameless,
}

impl ChannelBinding {
    /// The name with its kind, as GSSAPI takes it (RFC 5801 §3).
    pub fn name(&self) -> Vec<u8> {
        match self {
            Self::Exporter(name) => [b"tls-exporter:".as_slice(), name].concat(),
            Self::Unique(name) => [b"tls-unique:".as_slice(), name].concat(),
            // No kind: nobody means this one.
            Self::Nameless => Vec::new(),
        }
    }
}

/// What a client says about itself. Text of the client: escape it before it reaches a log, a
/// terminal or a script's environment (`specs/server-auth.md` §0).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDescription {
    /// `User-Agent`, cut to 63 octets.
    pub user_agent: Text<63>,
    /// `X-AnyConnect-Identifier-DeviceType`; empty when absent or too long.
    pub device_type: Text<63>,
    /// `X-AnyConnect-Identifier-Platform`; empty when absent or too long. A value that begins
    /// with `android` or `apple-ios` (any case) makes the client a mobile one.
    pub device_platform: Text<63>,
    /// The name of its host, as it gave it with the login.
    pub computer: Text<63>,
}

/// What a client says about the session whose cookie it shows; `None`: it says nothing, or need not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Its user.
    pub user: Option<Text<1024>>,
    /// The name that the client's host had at the login.
    pub computer: Option<Text<63>>,
}

/// Names a report of a client about its host.
pub(crate) type ReportName = [u8; 16];

impl ClientDescription {
    /// True when the mobile timers apply (`specs/server-config.md` §8.5 `mobile-dpd`).
    pub fn is_mobile(&self) -> bool {
        let platform = self.device_platform.as_str().to_ascii_lowercase();
        platform.starts_with("android") || platform.starts_with("apple-ios")
    }
}

/// The effective configuration of one session: the virtual host's options with those of the
/// group's and the user's file applied (`specs/server-config.md` §9.4). The broker computes it
/// when a tunnel opens; main and the worker only read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSettings {
    /// IPv4 pool.
    pub ipv4_pool: Option<Ipv4Net>,
    /// IPv6 pool.
    pub ipv6_pool: Option<Ipv6Net>,
    /// Prefix length that each client gets out of the IPv6 pool (`ipv6-subnet-prefix`).
    pub ipv6_client_prefix: u8,
    /// Fixed IPv4 address (`explicit-ipv4`).
    pub explicit_ipv4: Option<Ipv4Addr>,
    /// Prefix length of the network around it; that of the pool when unset.
    pub explicit_ipv4_prefix: Option<u8>,
    /// Fixed IPv6 address (`explicit-ipv6`).
    pub explicit_ipv6: Option<Ipv6Addr>,
    /// Prefix length of the network around it; that of every client when unset.
    pub explicit_ipv6_prefix: Option<u8>,
    /// Addresses derive from the user name.
    pub predictable_ips: bool,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// NetBIOS name servers.
    pub nbns: Vec<IpAddr>,
    /// Domains of `default-domain`.
    pub search_domains: Vec<String>,
    /// Domains that are resolved through the tunnel.
    pub split_dns: Vec<String>,
    /// All DNS queries go through the tunnel. Already true when a default route of the group's
    /// or user's file forces it.
    pub tunnel_all_dns: bool,
    /// Routes to announce; empty means default route. Already without `default` and with the
    /// exposed iroutes of others.
    pub routes: Vec<IpNet>,
    /// Routes that stay outside the tunnel.
    pub no_routes: Vec<IpNet>,
    /// Networks behind the client.
    pub iroutes: Vec<IpNet>,
    /// `restrict-user-to-routes`.
    pub restrict_to_routes: bool,
    /// `restrict-user-to-ports` in the form of the script's environment: (denied, text).
    pub restrict_ports: Option<(bool, String)>,
    /// Host name sent in place of the client's own (`hostname`).
    pub hostname: Option<String>,
    /// Raw header lines of `custom-header`, with `%{U}` and `%{G}` replaced.
    pub custom_headers: Vec<String>,
    /// `proxy-url` with `%{U}` and `%{G}` replaced.
    pub proxy_pac: Option<String>,
    /// Text shown after connecting.
    pub banner: Option<String>,
    /// `client-bypass-protocol`.
    pub client_bypass_protocol: bool,
    /// `listen-host-is-dyndns`.
    pub dynamic_dns: bool,
    /// `keepalive`.
    pub keepalive: Option<Duration>,
    /// `dpd`, or `mobile-dpd` for a mobile client.
    pub dpd: Option<Duration>,
    /// `rekey-time`, without the per-session random offset.
    pub rekey_time: Option<Duration>,
    /// `rekey-method`: true for `ssl`, false for `new-tunnel` or unset.
    pub rekey_ssl: bool,
    /// `idle-timeout`, or `mobile-idle-timeout` for a mobile client.
    pub idle_timeout: Option<Duration>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `switch-to-tcp-timeout`.
    pub switch_to_tcp: Option<Duration>,
    /// Link MTU offered (`mtu`); `None` = the device's default of 1500.
    pub mtu: Option<u16>,
    /// No UDP for this session.
    pub no_udp: bool,
    /// `net-priority`.
    pub net_priority: Option<NetPriority>,
    /// `stats-report-time`.
    pub stats_report: Option<Duration>,
    /// Bytes per second from the client, 0 = unlimited.
    pub rx_per_second: u64,
    /// Bytes per second to the client, 0 = unlimited.
    pub tx_per_second: u64,
    /// `output-buffer`, in packets.
    pub output_buffer: u32,
}

/// `net-priority` (`specs/server-config.md` §13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetPriority {
    /// `SO_PRIORITY`, 0 to 6.
    Priority(u8),
    /// `IP_TOS` / `IPV6_TCLASS`.
    Tos(u8),
}

/// Settings of a session that its method of authentication brings (RADIUS with `groupconfig`). They
/// stay with the session; `None` and empty lists leave the configured values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenSettings {
    /// Name of the pool of addresses.
    pub pool: Option<GroupName>,
    /// Fixed IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Prefix length of the client's IPv4 network.
    pub ipv4_prefix: Option<u8>,
    /// Fixed IPv6 address, with the prefix length of the client's network.
    pub ipv6: Option<Ipv6Net>,
    /// Routes to announce.
    pub routes: Vec<IpNet>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `idle-timeout`.
    pub idle_timeout: Option<Duration>,
    /// `stats-report-time`.
    pub stats_report: Option<Duration>,
    /// Bytes per second from the client.
    pub rx_per_second: Option<u64>,
    /// Bytes per second to the client.
    pub tx_per_second: Option<u64>,
    /// Class attributes, which go back with the session's accounting.
    pub classes: Vec<Bytes<253>>,
}

/// A verified session, as the broker tells main when a tunnel is to be opened. Main cannot make
/// one itself: it only ever comes from the broker's check of a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedSession {
    /// Printable name; the key under which main keeps addresses and finds the old connection.
    pub id: SafeId,
    /// Who.
    pub user: UserName,
    /// Group in force.
    pub group: Option<GroupName>,
    /// Name of the virtual host (`default` for the default one).
    pub host: String,
    /// When the login succeeded (wall clock, for reports).
    pub authenticated_at: SystemTime,
    /// What is left of `session-timeout`.
    pub session_left: Option<Duration>,
    /// Addresses of the session's last tunnel; it gets them again while they are free.
    pub previous: Addresses,
    /// The broker wants to know what the tunnel carries while it is open.
    pub accounted: bool,
    /// The last report about the client's host that was taken from its address, and how long ago.
    pub report: Option<(ReportName, Duration)>,
    /// Effective configuration.
    pub settings: SessionSettings,
}

/// Addresses that main has given to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The client's IPv4 address with the pool's mask.
    pub ipv4: Option<AddressV4>,
    /// The server's end for IPv4.
    pub ipv4_local: Option<Ipv4Addr>,
    /// The client's IPv6 address with its prefix length.
    pub ipv6: Option<AddressV6>,
    /// The server's end for IPv6.
    pub ipv6_local: Option<Ipv6Addr>,
}

/// Octets of user data that a session carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// From the client.
    pub rx: u64,
    /// To the client.
    pub tx: u64,
}

/// Why a connection ended (`specs/server-tools.md` §3.9; texts are read by log watchers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// The worker ended without saying why (crash, connection lost).
    Unspecified,
    /// The client logged out (disconnect code `b0`): the cookie ends with it.
    UserLogout,
    /// The client disconnected and means to come back.
    ClientDisconnect,
    /// The server stops, or a newer connection of the same session replaced this one.
    ServerDisconnect,
    /// The administrator ended it: the cookie ends with it unless `persistent-cookies`.
    AdminDisconnect,
    /// `idle-timeout`.
    IdleTimeout,
    /// Dead peer.
    DpdTimeout,
    /// `session-timeout`: the cookie ends with it.
    SessionTimeout,
    /// Protocol violation or another error.
    Error,
}

impl CloseReason {
    /// The text of logs and `occtl`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::UserLogout => "user disconnected",
            Self::ClientDisconnect => "anyconnect client disconnected",
            Self::ServerDisconnect | Self::AdminDisconnect => "server disconnected",
            Self::IdleTimeout => "idle timeout",
            Self::DpdTimeout => "DPD timeout",
            Self::SessionTimeout => "session timeout",
            Self::Error => "unspecified error",
        }
    }
}
