//! The public part of the configuration: all that zygote and workers ever see of it. No key, no
//! PIN, no password file, no path.

use std::time::{Duration, SystemTime};

use culvert_server_config::{Compression, RekeyMethod, TlsPriorities};
use culvert_vocab::{GroupName, HttpScheme, SecretString};
use serde::{Deserialize, Serialize};

/// Public configuration of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Virtual hosts; the position is the `HostIndex`, the first one is the default host.
    pub hosts: Vec<HostSnapshot>,
    /// Time for a connection to log in.
    pub auth_timeout: Option<Duration>,
    /// Lines above this level are not worth sending to main.
    pub log_level: u8,
    /// Octets of data that a worker may use for its client (`limit-worker-memory`).
    pub memory_limit: Option<u64>,
    /// The same for a pool process, which may have all clients.
    pub pool_memory_limit: Option<u64>,
    /// Workers are restricted to the system calls that they need (`isolate-workers`).
    pub isolate_workers: bool,
    /// UDP is served, with PSK-NEGOTIATE.
    pub dtls_psk: bool,
    /// GlobalProtect clients are served, too (`protocols`).
    pub globalprotect: bool,
    /// Don't-fragment on UDP sockets.
    pub try_mtu_discovery: bool,
}

/// Public configuration of one virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostSnapshot {
    /// Name in logs: `default` for the default host.
    pub name: String,
    /// Certificate chains (DER, leaf first); the position is the number of the key.
    pub chains: Vec<Vec<Vec<u8>>>,
    /// OCSP response (DER) for the first leaf certificate, to be stapled until this time (`None`: as
    /// long as it is there).
    pub ocsp: Option<(Vec<u8>, Option<SystemTime>)>,
    /// SHA-1 of the first leaf certificate.
    pub certificate_sha1: [u8; 20],
    /// TLS versions and ciphers.
    pub tls_priorities: TlsPriorities,
    /// What clients are asked for in the handshake.
    pub client_certificates: Option<ClientCertificates>,
    /// What clients without a certificate may log in with.
    pub login: LoginOffer,
    /// Text shown before the login.
    pub pre_login_banner: Option<String>,
    /// Text shown after the login.
    pub banner: Option<String>,
    /// Groups that the form offers: name and label.
    pub groups: Vec<(GroupName, String)>,
    /// First entry of the group list, meaning no choice.
    pub default_group: Option<String>,
    /// Paths and realms of the proxy to KDCs, at the positions of the `kkdcp` lines.
    pub kkdcp: Vec<(String, String)>,
    /// A URL path names the group.
    pub select_group_by_url: bool,
    /// Who does not know a secret sees no VPN here.
    pub camouflage: Option<CamouflageSnapshot>,
    /// Life of a cookie after disconnection.
    pub cookie_timeout: Duration,
    /// Header lines of every successful reply.
    pub included_headers: Vec<String>,
    /// Profile document: file name and content.
    pub profile: Option<(String, Vec<u8>)>,
    /// How keys are renewed.
    pub rekey_method: RekeyMethod,
    /// UDP must use the cipher of TLS.
    pub match_tls_dtls_ciphers: bool,
    /// `dtls-legacy`.
    pub dtls_legacy: bool,
    /// `host-reports`.
    pub host_reports: bool,
    /// `cisco-svc-client-compat`.
    pub phones: bool,
    /// Compression that clients may ask for, best first; empty for none.
    pub compression: Vec<Compression>,
    /// Packets of at most this many octets are not compressed.
    pub no_compress_limit: u32,
}

/// Camouflage of a virtual host. The secret is no more than a part of its URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CamouflageSnapshot {
    /// `camouflage_secret`.
    pub secret: SecretString,
    /// `camouflage_realm`.
    pub realm: Option<String>,
}

/// How clients are asked for certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientCertificates {
    /// The handshake fails without one.
    pub mandatory: bool,
    /// DER names of the issuers, as a hint to the client.
    pub issuers: Vec<Vec<u8>>,
    /// What clients with a certificate have to log in with, too.
    pub login: LoginOffer,
}

/// Ways to log in; with none of them a certificate decides alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoginOffer {
    /// A name and a password are asked for.
    pub form: bool,
    /// HTTP authentication, in order of preference.
    pub http: Vec<HttpScheme>,
    /// HTTP authentication comes before the form also for clients that do not say that they know it.
    pub http_first: bool,
}
