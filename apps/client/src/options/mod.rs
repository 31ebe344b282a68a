//! Command line and configuration file (`specs/client.md` §1, §2): text in, [`Options`] out.

mod apply;
mod completion;
mod config_file;
mod help;
mod parse;
mod proxy;
mod table;
#[cfg(test)]
mod tests;
mod token;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use culvert_http_auth::Schemes;
use culvert_priorities::TlsPriorities;
use culvert_vocab::SecretString;

pub use completion::complete;
pub use help::{help_text, version_text};
pub use parse::parse;
pub use proxy::{Proxy, ProxyKind, ProxyUrlError, is_excepted};
pub use token::{OathOptions, SecurIdOptions, TokenOptions, TokenSecret};

/// What the command line asks for. Every value has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The server's URL as given, or its name in the file of `--xmlconfig`.
    pub server: String,
    /// The server comes from `--server`, which takes no such names.
    pub server_is_url: bool,
    /// `--protocol`
    pub protocol: ProtocolName,
    /// How to log in.
    pub login: LoginOptions,
    /// Programs that look at this host.
    pub host_scan: HostScanOptions,
    /// Certificates and keys.
    pub credentials: CredentialOptions,
    /// Which servers to trust.
    pub trust: TrustOptions,
    /// The way to the server.
    pub network: NetworkOptions,
    /// What the server is told about this client.
    pub identity: IdentityOptions,
    /// MTU, timers and transports of the tunnel.
    pub tunnel: TunnelOptions,
    /// Device and script.
    pub setup: SetupOptions,
    /// Background, pid file, user.
    pub process: ProcessOptions,
    /// Messages.
    pub output: OutputOptions,
}

/// The protocols that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProtocolName {
    /// `anyconnect`
    #[default]
    AnyConnect,
    /// `gp`
    GlobalProtect,
}

/// How to log in, and what to do with the cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginOptions {
    /// `--user`
    pub user: Option<String>,
    /// `--usergroup`: path of the first request, when the URL has none.
    pub user_group: Option<String>,
    /// `--authgroup`
    pub auth_group: Option<String>,
    /// The line read by `--passwd-on-stdin`.
    pub password: Option<SecretString>,
    /// `--token-mode`, `--token-secret`: a token that generates codes.
    pub token: Option<TokenOptions>,
    /// `--token-mode=oidc`: a bearer token for HTTP.
    pub bearer: Option<SecretString>,
    /// `--no-passwd`
    pub no_password: bool,
    /// `--non-inter`
    pub non_interactive: bool,
    /// `--form-entry`, in the order given.
    pub form_entries: Vec<FormEntry>,
    /// `--no-xmlpost`
    pub no_xml_post: bool,
    /// `--no-external-auth`
    pub no_external_auth: bool,
    /// `--cookie`, `--cookie-on-stdin`
    pub cookie: Option<SecretString>,
    /// What to do after the login.
    pub cookie_mode: CookieMode,
    /// `--external-browser`: the program for sign-ins with a browser.
    pub browser: Option<PathBuf>,
    /// `--xmlconfig`: file of the server's list or profile.
    pub profile: Option<PathBuf>,
}

/// Programs that look at this host for the server (`specs/client.md` §15).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostScanOptions {
    /// `--csd-wrapper`
    pub wrapper: Option<PathBuf>,
    /// `--csd-user`
    pub user: Option<UserIds>,
    /// `--force-trojan`: seconds between two looks.
    pub interval: Option<u32>,
}

/// What happens with the cookie of a login; the last option given wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CookieMode {
    /// Connect with it.
    #[default]
    Connect,
    /// `--authenticate`
    Authenticate,
    /// `--cookieonly`
    Only,
    /// `--printcookie`
    PrintAndConnect,
}

/// One `--form-entry=FORM:FIELD[=VALUE]` (`specs/client.md` §5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormEntry {
    /// Form id.
    pub form: String,
    /// Field name.
    pub field: String,
    /// The answer; without one a hidden field is shown and asked.
    pub value: Option<SecretString>,
}

/// Certificates and keys of the client (`specs/client.md` §8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialOptions {
    /// What TLS shows to the server.
    pub primary: Option<KeyPair>,
    /// `--mca-certificate`, `--mca-key`, `--mca-key-password`: what signs a challenge of the login.
    pub secondary: Option<KeyPair>,
    /// `--cert-expire-warning` in days.
    pub expire_warning_days: u32,
}

/// A certificate and its private key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPair {
    /// `--certificate`: a file or a `pkcs11:` URI.
    pub certificate: OsString,
    /// `--sslkey`; without it the key is where the certificate is.
    pub key: Option<OsString>,
    /// `--key-password`
    pub password: Option<SecretString>,
    /// `--key-password-from-fsid`: the passphrase is the id of the file system.
    pub password_from_fsid: bool,
}

impl KeyPair {
    /// Where the key is.
    pub fn key(&self) -> &OsStr {
        self.key.as_deref().unwrap_or(&self.certificate)
    }
}

/// Which servers to trust (`specs/client.md` §7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustOptions {
    /// `--cafile`
    pub ca_file: Option<PathBuf>,
    /// `--no-system-trust`; also set by `--servercert`.
    pub no_system_trust: bool,
    /// `--servercert`, any of which must match.
    pub pins: Vec<String>,
    /// `--sni`
    pub sni: Option<String>,
    /// `--allow-insecure-crypto`: 3DES, RC4, SHA-1 signatures, insecure renegotiation.
    pub allow_insecure_crypto: bool,
    /// `--gnutls-priority`: what may be negotiated.
    pub priorities: Option<TlsPriorities>,
    /// `--gnutls-debug`: records of TLS are shown, unless it is 0.
    pub tls_debug: u32,
    /// `--pfs`: no static RSA.
    pub forward_secrecy: bool,
}

/// The way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// `--resolve`, in the order given.
    pub resolve: Vec<Resolve>,
    /// False with `--no-http-keepalive`.
    pub http_keepalive: bool,
    /// `--tcp-keepalive`
    pub tcp_keepalive: TcpKeepalive,
    /// `--proxy`
    pub proxy: Option<Proxy>,
    /// `--libproxy`: libproxy is asked for each connection.
    pub libproxy: bool,
    /// `--no-proxy`: not even the one of the environment.
    pub no_proxy: bool,
    /// `--proxy-auth`
    pub proxy_auth: Schemes,
    /// `--http-auth`
    pub http_auth: Schemes,
    /// `--passtos`
    pub pass_tos: bool,
    /// `--dtls-local-port`; 0 lets the kernel choose.
    pub udp_port: u16,
    /// `--reconnect-timeout` in seconds; zero or less means one attempt.
    pub reconnect_timeout: i64,
}

/// One `--resolve=HOST:IP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// The name that is looked up.
    pub host: String,
    /// Address or name used in its place.
    pub address: String,
}

/// `--tcp-keepalive[=SECONDS]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TcpKeepalive {
    /// Off.
    #[default]
    Off,
    /// On, with the interval of the system.
    SystemInterval,
    /// On, with this many seconds of silence before the first probe.
    Seconds(u32),
}

/// What the server is told about this client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityOptions {
    /// `--useragent`
    pub user_agent: Option<String>,
    /// `--version-string`
    pub version: Option<String>,
    /// `--local-hostname`
    pub host_name: Option<String>,
    /// `--os`
    pub os: Option<String>,
}

/// MTU, timers and transports of the tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelOptions {
    /// `--mtu`, at least 576.
    pub mtu: Option<u16>,
    /// `--base-mtu`, at least 576.
    pub base_mtu: Option<u16>,
    /// `--force-dpd` in seconds.
    pub force_dpd: Option<u32>,
    /// `--no-dtls`
    pub no_dtls: bool,
    /// `--dtls-ciphers`
    pub dtls_ciphers: Option<String>,
    /// `--dtls12-ciphers`
    pub dtls12_ciphers: Option<String>,
    /// Compression of single packets is offered: `--compression`, `--no-deflate`.
    pub compression: bool,
    /// `--disable-ipv6`
    pub disable_ipv6: bool,
    /// `--queue-len`
    pub queue_len: usize,
}

/// Device and script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetupOptions {
    /// `--interface`
    pub interface: Option<String>,
    /// `--script`; without it the built-in network set-up is used.
    pub script: Option<OsString>,
    /// `--script-tun`
    pub script_tun: bool,
}

/// Background, pid file, user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessOptions {
    /// `--background`
    pub background: bool,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--setuid`
    pub user: Option<UserIds>,
}

/// A user to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Messages (`specs/client.md` §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputOptions {
    /// 0 errors, 1 information, 2 debug, 3 trace.
    pub level: u32,
    /// `--timestamp`
    pub timestamp: bool,
    /// `--syslog`
    pub syslog: bool,
    /// `--dump-http-traffic`
    pub dump_http: bool,
}

/// Why parsing ended without options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Help was asked for: print it on stdout, exit 1.
    Help,
    /// The version was asked for: print it on stdout, exit 0.
    Version,
    /// Print this on stderr, then help on stdout, exit 1.
    Usage(String),
    /// Print this on stderr, exit 1.
    Error(String),
}

/// What parsing needs from the machine.
pub trait Host {
    /// Shows a warning on stderr.
    fn warn(&mut self, text: &str);
    /// The next line of standard input without its end.
    ///
    /// # Errors
    /// End of input or a read error, as text.
    fn read_line(&mut self) -> Result<SecretString, String>;
    /// A whole file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read_file(&mut self, path: &std::path::Path) -> std::io::Result<Vec<u8>>;
    /// Home directory of whoever runs the program.
    fn home(&mut self) -> Option<PathBuf>;
    /// Looks a user up by name.
    fn user_by_name(&mut self, name: &str) -> Option<UserIds>;
    /// Looks a user up by number.
    fn user_by_id(&mut self, uid: u32) -> Option<UserIds>;
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            resolve: Vec::new(),
            http_keepalive: true,
            tcp_keepalive: TcpKeepalive::Off,
            proxy: None,
            libproxy: false,
            no_proxy: false,
            proxy_auth: Schemes::default(),
            http_auth: Schemes::default(),
            pass_tos: false,
            udp_port: 0,
            reconnect_timeout: 300,
        }
    }
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            level: 1,
            timestamp: false,
            syslog: false,
            dump_http: false,
        }
    }
}

impl Options {
    fn new() -> Self {
        Self {
            server: String::new(),
            server_is_url: false,
            protocol: ProtocolName::default(),
            login: LoginOptions::default(),
            host_scan: HostScanOptions::default(),
            credentials: CredentialOptions {
                primary: None,
                secondary: None,
                expire_warning_days: 60,
            },
            trust: TrustOptions::default(),
            network: NetworkOptions::default(),
            identity: IdentityOptions::default(),
            tunnel: TunnelOptions {
                queue_len: 32,
                compression: true,
                ..TunnelOptions::default()
            },
            setup: SetupOptions::default(),
            process: ProcessOptions::default(),
            output: OutputOptions::default(),
        }
    }

    /// True when the progress messages go to stderr, because stdout carries a result.
    pub fn result_on_stdout(&self) -> bool {
        self.login.cookie_mode != CookieMode::Connect
    }
}
