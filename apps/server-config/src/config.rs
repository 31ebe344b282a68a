//! The typed configuration. Every value has been parsed and checked; nothing below re-checks it.
//!
//! Conventions: `Option<Duration>` is `None` for "off"; paths and texts are `None` when not set.
//! Each field names its option where the names differ. Effects: `specs/server-config.md` §8.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use culvert_vocab::{GroupName, SecretString, UserName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::auth::{AccountingMethod, AuthConfig};
use crate::kkdcp::Kkdcp;
use crate::ports::PortRestriction;
use culvert_priorities::TlsPriorities;

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Options that concern the process.
    pub global: Global,
    /// The host that serves clients without a matching server name.
    pub default_host: Host,
    /// Virtual hosts in the order of the file, selected by TLS server name.
    pub vhosts: Vec<Host>,
}

impl Config {
    /// The host for a TLS server name: exact match without regard to case, else the default host.
    pub fn host_for(&self, server_name: Option<&str>) -> &Host {
        server_name
            .and_then(|wanted| {
                self.vhosts.iter().find(|host| {
                    host.name
                        .as_deref()
                        .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                })
            })
            .unwrap_or(&self.default_host)
    }

    /// All hosts, the default one first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.default_host).chain(&self.vhosts)
    }
}

impl Global {
    /// GlobalProtect is among the protocols.
    pub fn serves_globalprotect(&self) -> bool {
        self.protocols.contains(&Protocol::GlobalProtect)
    }
}

/// Options of scope G: set once, in the default part of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Name or address to listen on; all addresses when unset.
    pub listen_host: Option<String>,
    /// The same for UDP; `listen_host` when unset.
    pub udp_listen_host: Option<String>,
    /// Network namespace of the listening sockets.
    pub listen_netns: Option<String>,
    /// Connections begin with a PROXY header.
    pub listen_proxy_proto: bool,
    /// TCP port, never 0.
    pub tcp_port: u16,
    /// UDP port; `None` switches DTLS off.
    pub udp_port: Option<u16>,
    /// User of the workers.
    pub run_as_user: Option<String>,
    /// Group of the workers.
    pub run_as_group: Option<String>,
    /// Root directory of the workers.
    pub chroot_dir: Option<PathBuf>,
    /// Prefix of internal files and sockets of this instance.
    pub socket_file: PathBuf,
    /// Control socket.
    pub occtl_socket_file: PathBuf,
    /// Open the control socket.
    pub use_occtl: bool,
    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Restrict the system calls of the workers.
    pub isolate_workers: bool,
    /// Processes that share the open tunnels; `None` gives every client one of its own.
    pub worker_processes: Option<NonZeroU16>,
    /// Protocols that are served beside AnyConnect's.
    pub protocols: Vec<Protocol>,
    /// Limit the memory of the workers.
    pub limit_worker_memory: bool,
    /// Number of brokers; 0 is automatic.
    pub sec_mod_scale: u32,
    /// 0 to 9.
    pub log_level: u8,
    /// Facility of syslog messages.
    pub syslog_facility: SyslogFacility,
    /// Write utmp and wtmp entries.
    pub use_utmp: bool,
    /// Most connections at a time; `None` is unlimited.
    pub max_clients: Option<u32>,
    /// `rate-limit-ms`: pause between accepts under load.
    pub rate_limit: Option<Duration>,
    /// `server-drain-ms`: time from SIGTERM to the end of the sessions.
    pub server_drain: Option<Duration>,
    /// Length of a statistics period.
    pub server_stats_reset_time: Duration,
    /// Points and bans.
    pub ban: BanPolicy,
    /// Time for a connection to log in.
    pub auth_timeout: Option<Duration>,
    /// Offer DTLS with PSK-NEGOTIATE.
    pub dtls_psk: bool,
    /// Probe the path MTU of UDP.
    pub try_mtu_discovery: bool,
    /// Compression algorithms, best first.
    pub compression_algo_priority: Vec<Compression>,
    /// Prefix of the names of tunnel devices.
    pub device: String,
    /// Ping an address before leasing it.
    pub ping_leases: bool,
    /// Command that installs an iroute.
    pub route_add_cmd: Option<String>,
    /// Command that removes an iroute.
    pub route_del_cmd: Option<String>,
    /// Run before a client gets its tunnel.
    pub connect_script: Option<PathBuf>,
    /// Run at the end of a session.
    pub disconnect_script: Option<PathBuf>,
    /// Run when the client's host name becomes known.
    pub host_update_script: Option<PathBuf>,
    /// Test hook: workers do not report their end to the broker.
    pub debug_no_secmod_stats: bool,
    /// `sec-mod-db-cleanup-time`: interval of session expiry in the broker.
    pub session_expiry_interval: Option<Duration>,
}

/// Points and bans (`specs/server-config.md` §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanPolicy {
    /// Points that lead to a ban; `None` switches bans off.
    pub max_score: Option<u32>,
    /// Length of a ban.
    pub time: Duration,
    /// Points restart at 0 after this.
    pub reset_time: Duration,
    /// Points of a failed login step.
    pub points_wrong_password: u32,
    /// Points of a TCP connection.
    pub points_connection: u32,
    /// Points of a KKDCP request.
    pub points_kkdcp: u32,
}

/// Facilities that `syslog-facility` names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogFacility {
    /// LOG_DAEMON.
    #[default]
    Daemon,
    /// LOG_USER.
    User,
    /// LOG_AUTH.
    Auth,
    /// LOG_AUTHPRIV.
    AuthPriv,
    /// LOG_LOCAL0 to LOG_LOCAL7.
    Local(u8),
}

impl SyslogFacility {
    /// Reads a facility name in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "daemon" => Some(Self::Daemon),
            "user" => Some(Self::User),
            "auth" => Some(Self::Auth),
            "authpriv" => Some(Self::AuthPriv),
            _ => {
                let number: u8 = lower.strip_prefix("local")?.parse().ok()?;
                (number <= 7 && lower.len() == "local0".len()).then_some(Self::Local(number))
            }
        }
    }
}

/// Protocols beside AnyConnect's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// `globalprotect`
    GlobalProtect,
}

/// Stateless compression algorithms of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// `oc-lz4`.
    OcLz4,
    /// `lzs`.
    Lzs,
}

impl Compression {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::OcLz4 => "oc-lz4",
            Self::Lzs => "lzs",
        }
    }
}

/// What a client must show again that comes back to a session that was begun with a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertRebind {
    /// A certificate with the same key.
    #[default]
    Key,
    /// A certificate for the same user: it may have been renewed meanwhile.
    Name,
}

/// What becomes of the spelling of user names, before anything is looked up under them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UsernameCase {
    /// They stay as they are.
    #[default]
    Keep,
    /// Small letters.
    Lower,
}

impl UsernameCase {
    /// The name that counts; one that gets too long by it stays as it is.
    pub fn apply(self, name: UserName) -> UserName {
        match self {
            Self::Keep => name,
            Self::Lower => UserName::new(&name.as_str().to_lowercase()).unwrap_or(name),
        }
    }
}

/// Options of scope V: one value per host. Options that per-user files may change are in
/// [`SessionSettings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Name of the virtual host (A-label form); `None` for the default host.
    pub name: Option<String>,
    /// `auth` and `enable-auth`.
    pub auth: AuthConfig,
    /// `acct`.
    pub accounting: Option<AccountingMethod>,
    /// Where the user name is in a client certificate; set whenever one is asked for.
    pub cert_user_oid: Option<String>,
    /// Where group names are in a client certificate.
    pub cert_group_oid: Option<String>,
    /// What of a certificate a session is bound to.
    pub cert_rebind: CertRebind,
    /// What becomes of the spelling of user names.
    pub username_case: UsernameCase,
    /// Trust anchors for client certificates.
    pub ca_cert: Option<PathBuf>,
    /// Revoked client certificates.
    pub crl: Option<PathBuf>,
    /// Groups offered by the login form.
    pub select_group: Vec<SelectGroup>,
    /// Offer the groups that the authentication method knows.
    pub auto_select_group: bool,
    /// First entry of the group list: no explicit choice.
    pub default_select_group: Option<String>,
    /// A URL path names the group.
    pub select_group_by_url: bool,
    /// Life of a cookie after disconnection.
    pub cookie_timeout: Duration,
    /// A goodbye of the client does not end the session.
    pub persistent_cookies: bool,
    /// Kerberos KDC proxies.
    pub kkdcp: Vec<Kkdcp>,
    /// Clients must resolve the server's name again.
    pub listen_host_is_dyndns: bool,
    /// Certificate files; as many as `server_key`, at least one.
    pub server_cert: Vec<PathBuf>,
    /// Key files or URLs, each belonging to the certificate with the same index.
    pub server_key: Vec<String>,
    /// File with the key's PIN.
    pub pin_file: Option<PathBuf>,
    /// File with the storage root key's PIN.
    pub srk_pin_file: Option<PathBuf>,
    /// The key's PIN.
    pub key_pin: Option<SecretString>,
    /// The storage root key's PIN.
    pub srk_pin: Option<SecretString>,
    /// Diffie-Hellman parameters.
    pub dh_params: Option<PathBuf>,
    /// OCSP response to staple.
    pub ocsp_response: Option<PathBuf>,
    /// GnuTLS priority string.
    pub tls_priorities: TlsPriorities,
    /// DTLS must use the cipher of TLS.
    pub match_tls_dtls_ciphers: bool,
    /// Offer DTLS by session resumption.
    pub dtls_legacy: bool,
    /// Work-arounds for Cisco's clients.
    pub cisco_client_compat: bool,
    /// Clients of GlobalProtect are asked for reports about their hosts.
    pub host_reports: bool,
    /// Work-arounds for Cisco's phones.
    pub cisco_svc_client_compat: bool,
    /// Life of the keys.
    pub rekey_time: Option<Duration>,
    /// How keys are renewed.
    pub rekey_method: RekeyMethod,
    /// UDP silence after which the server sends over TCP.
    pub switch_to_tcp_timeout: Option<Duration>,
    /// Send buffer of the TCP socket in packets; `None` is the kernel's default.
    pub output_buffer: Option<u32>,
    /// Negotiate compression.
    pub compression: bool,
    /// Packets not larger than this many bytes are sent uncompressed.
    pub no_compress_limit: u32,
    /// Shown after connecting; at most 256 bytes.
    pub banner: Option<String>,
    /// Shown before the login.
    pub pre_login_banner: Option<String>,
    /// Domains of the client, separated by blanks.
    pub default_domain: Option<String>,
    /// Proxy auto-configuration, a template.
    pub proxy_url: Option<String>,
    /// Header lines for the CONNECT reply, templates.
    pub custom_header: Vec<String>,
    /// Header lines for every successful reply.
    pub included_http_headers: Vec<String>,
    /// Lease addresses derived from the user name.
    pub predictable_ips: bool,
    /// Routes of per-user files are added to those of the host.
    pub append_routes: bool,
    /// Push all iroutes to everybody else.
    pub expose_iroutes: bool,
    /// Directory of per-user files.
    pub config_per_user: Option<PathBuf>,
    /// Directory of per-group files.
    pub config_per_group: Option<PathBuf>,
    /// For users without a file.
    pub default_user_config: Option<PathBuf>,
    /// For groups without a file.
    pub default_group_config: Option<PathBuf>,
    /// Hide the server.
    pub camouflage: bool,
    /// Query that shows the hidden server.
    pub camouflage_secret: Option<SecretString>,
    /// Realm of the fake authentication.
    pub camouflage_realm: Option<String>,
    /// What per-user files may change.
    pub session: SessionSettings,
}

impl Host {
    /// The name that tools, logs and scripts show: `default` for the default host.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or("default")
    }
}

/// One `select-group` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectGroup {
    /// The group's name.
    pub name: GroupName,
    /// What the form shows.
    pub label: String,
}

/// How keys are renewed (`rekey-method`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RekeyMethod {
    /// In place.
    Ssl,
    /// By a new CONNECT.
    #[default]
    NewTunnel,
}

/// `net-priority`: how packets to the client are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetPriority {
    /// SO_PRIORITY, 0 to 6.
    Priority(u8),
    /// IP_TOS and IPV6_TCLASS.
    Tos(u8),
}

/// Routes pushed to a client (`specs/server-config.md` §12.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// `default` was written; `nets` is then empty.
    pub default: bool,
    /// Networks to push, host bits as written. Empty means all traffic; so does a family without
    /// networks.
    pub nets: Vec<IpNet>,
}

/// Settings of one session: the host's, as changed by per-group and per-user files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSettings {
    /// No DTLS.
    pub no_udp: bool,
    /// The cookie is only good from the address that authenticated.
    pub deny_roaming: bool,
    /// Block destinations outside the routes.
    pub restrict_user_to_routes: bool,
    /// Open or closed ports.
    pub restrict_user_to_ports: Option<PortRestriction>,
    /// All DNS queries go through the tunnel.
    pub tunnel_all_dns: bool,
    /// Networks behind the server.
    pub routes: Routes,
    /// Networks to keep outside the tunnel.
    pub no_routes: Vec<IpNet>,
    /// Networks behind the client; per-user files only.
    pub iroutes: Vec<IpNet>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// NetBIOS name servers.
    pub nbns: Vec<IpAddr>,
    /// Domains resolved through the tunnel.
    pub split_dns: Vec<String>,
    /// IPv4 pool.
    pub ipv4_network: Option<Ipv4Net>,
    /// IPv6 pool.
    pub ipv6_network: Option<Ipv6Net>,
    /// Prefix length of what one client gets out of the IPv6 pool.
    pub ipv6_subnet_prefix: u8,
    /// Fixed IPv4 lease; per-user files only.
    pub explicit_ipv4: Option<std::net::Ipv4Addr>,
    /// Fixed IPv6 lease; per-user files only.
    pub explicit_ipv6: Option<std::net::Ipv6Addr>,
    /// Host name told to the client; per-user files only.
    pub hostname: Option<String>,
    /// Limit from the client, bytes/s.
    pub rx_data_per_sec: Option<u64>,
    /// Limit to the client, bytes/s.
    pub tx_data_per_sec: Option<u64>,
    /// Interval of accounting updates.
    pub stats_report_time: Option<Duration>,
    /// Longest life of a session.
    pub session_timeout: Option<Duration>,
    /// Link MTU; that of the device when unset.
    pub mtu: Option<u16>,
    /// Dead peer detection.
    pub dpd: Option<Duration>,
    /// The same for mobile clients; `None` means `dpd`.
    pub mobile_dpd: Option<Duration>,
    /// Time without user data that ends a session.
    pub idle_timeout: Option<Duration>,
    /// The same for mobile clients; `None` means `idle_timeout`, zero means off.
    pub mobile_idle_timeout: Option<Duration>,
    /// Keepalive interval.
    pub keepalive: Option<Duration>,
    /// Most connections of one user; `None` is unlimited.
    pub max_same_clients: Option<u32>,
    /// Marks of packets.
    pub net_priority: Option<NetPriority>,
    /// Profile XML served to clients.
    pub user_profile: Option<PathBuf>,
    /// Families outside the tunnel may go direct.
    pub client_bypass_protocol: bool,
}

impl SessionSettings {
    /// Dead peer detection interval for a client of this kind.
    pub fn dpd_for(&self, mobile: bool) -> Option<Duration> {
        if mobile {
            self.mobile_dpd.or(self.dpd)
        } else {
            self.dpd
        }
    }

    /// Idle time-out for a client of this kind.
    pub fn idle_timeout_for(&self, mobile: bool) -> Option<Duration> {
        let timeout = if mobile {
            self.mobile_idle_timeout.or(self.idle_timeout)
        } else {
            self.idle_timeout
        };
        timeout.filter(|time| !time.is_zero())
    }
}
