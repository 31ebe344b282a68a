//! What each option does to [`Options`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use culvert_http_auth::Schemes;
use culvert_priorities::TlsPriorities;
use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use super::proxy::Proxy;
use super::table::{self, Opt};
use super::token::{TokenArguments, TokenMode};
use super::{
    CookieMode, FormEntry, Host, KeyPair, NetworkOptions, Options, ProtocolName, Resolve, Stop, TcpKeepalive,
    UserIds,
};
use crate::charset;

/// Smallest MTU that an option may ask for.
const MTU_OPTION_MIN: i64 = 576;
/// Largest MTU that an option may ask for; more cannot be carried anyway.
const MTU_OPTION_MAX: i64 = 65535;
/// Names for `--os` (`specs/client.md` §2).
pub(super) const OS_NAMES: [&str; 6] = ["linux", "linux-64", "win", "mac-intel", "android", "apple-ios"];
/// Protocols of the specification that this version does not speak.
const LATER_PROTOCOLS: [&str; 6] = ["nc", "pulse", "f5", "fortinet", "array", "nullppp"];

/// Collects options one by one.
pub(super) struct Applier<'a> {
    host: &'a mut dyn Host,
    options: Options,
    /// `--server`
    server: Option<String>,
    key_pair: KeyPair,
    second_key_pair: KeyPair,
    token: TokenArguments,
}

impl<'a> Applier<'a> {
    pub(super) fn new(host: &'a mut dyn Host) -> Self {
        Self {
            host,
            options: Options::new(),
            server: None,
            key_pair: KeyPair::default(),
            second_key_pair: KeyPair::default(),
            token: TokenArguments::default(),
        }
    }

    pub(super) fn host(&mut self) -> &mut dyn Host {
        self.host
    }

    /// The options, with the arguments that belong to none: the server, unless `--server` names it.
    pub(super) fn finish(self, arguments: Vec<OsString>) -> Result<Options, Stop> {
        let mut options = self.options;
        let mut arguments = arguments.into_iter();
        (options.server, options.server_is_url) = match (self.server, arguments.next()) {
            (None, None) => return Err(Stop::Usage("No server specified".into())),
            (Some(server), None) => (server, true),
            (None, Some(argument)) if arguments.next().is_none() => (text("SERVER", argument)?, false),
            _ => return Err(Stop::Usage("Too many arguments on command line".into())),
        };
        self.token.apply(self.host, &mut options.login)?;
        // A key without a certificate is never used.
        let given = |pair: KeyPair| Some(pair).filter(|pair| !pair.certificate.is_empty());
        options.credentials.primary = given(self.key_pair);
        options.credentials.secondary = given(self.second_key_pair);
        if options.output.dump_http {
            options.output.level = options.output.level.max(2);
        }
        Ok(options)
    }

    /// Applies one option; `value` is present exactly when the table says so.
    pub(super) fn apply(&mut self, opt: Opt, value: Option<OsString>) -> Result<(), Stop> {
        let name = table::name(opt);
        let given = value.is_some();
        let value = value.unwrap_or_default();
        let options = &mut self.options;
        match opt {
            Opt::Help => return Err(Stop::Help),
            Opt::Version => return Err(Stop::Version),
            Opt::Config => return Err(error("Cannot use 'config' option inside config file")),
            Opt::Server => self.server = Some(server(name, value)?),

            Opt::User => options.login.user = Some(text(name, value)?),
            Opt::UserGroup => options.login.user_group = Some(text(name, value)?),
            Opt::AuthGroup => options.login.auth_group = Some(text(name, value)?),
            Opt::FormEntry => options.login.form_entries.push(form_entry(&text(name, value)?)?),
            Opt::PasswdOnStdin => options.login.password = Some(read_line(self.host)?),
            Opt::CookieOnStdin => options.login.cookie = non_empty(read_line(self.host)?),
            Opt::Cookie => options.login.cookie = Some(text(name, value)?.into()),
            Opt::NoPasswd => options.login.no_password = true,
            Opt::NonInter => options.login.non_interactive = true,
            Opt::NoXmlPost => options.login.no_xml_post = true,
            Opt::NoExternalAuth => options.login.no_external_auth = true,
            Opt::ExternalBrowser => options.login.browser = Some(value.into()),
            Opt::XmlConfig => options.login.profile = Some(value.into()),
            Opt::Authenticate => options.login.cookie_mode = CookieMode::Authenticate,
            Opt::CookieOnly => options.login.cookie_mode = CookieMode::Only,
            Opt::PrintCookie => options.login.cookie_mode = CookieMode::PrintAndConnect,

            Opt::CsdWrapper => options.host_scan.wrapper = Some(value.into()),
            Opt::CsdUser => options.host_scan.user = Some(user(self.host, &text(name, value)?)?),
            Opt::ForceTrojan => options.host_scan.interval = Some(number(name, value, given)?),

            Opt::CaFile => options.trust.ca_file = Some(value.into()),
            Opt::NoSystemTrust => options.trust.no_system_trust = true,
            Opt::ServerCert => {
                options.trust.pins.push(text(name, value)?);
                options.trust.no_system_trust = true;
            }
            Opt::GnutlsPriority => {
                options.trust.priorities = Some(priorities(self.host, &text(name, value)?)?)
            }
            Opt::GnutlsDebug => options.trust.tls_debug = number(name, value, given)?,
            Opt::Sni => options.trust.sni = Some(text(name, value)?),

            Opt::Resolve => options.network.resolve.push(resolve(&text(name, value)?)?),
            Opt::NoHttpKeepalive => {
                options.network.http_keepalive = false;
                self.host
                    .warn("Disabling HTTP connection re-use. Please report the server that needs this.");
            }
            Opt::TcpKeepalive => options.network.tcp_keepalive = tcp_keepalive(number(name, value, given)?),
            Opt::LibProxy => choose_proxy(&mut options.network, ProxyChoice::Libproxy),
            Opt::NoProxy => choose_proxy(&mut options.network, ProxyChoice::None),
            Opt::Proxy => choose_proxy(
                &mut options.network,
                ProxyChoice::This(proxy(&text(name, value)?)?),
            ),
            Opt::ProxyAuth => options.network.proxy_auth = Schemes::parse(&text(name, value)?),
            Opt::HttpAuth => options.network.http_auth = Schemes::parse(&text(name, value)?),
            Opt::PassTos => options.network.pass_tos = true,
            Opt::DtlsLocalPort => options.network.udp_port = number(name, value, given)?,
            Opt::ReconnectTimeout => options.network.reconnect_timeout = number(name, value, given)?,

            Opt::UserAgent => options.identity.user_agent = Some(header_text(name, value)?),
            Opt::VersionString => options.identity.version = Some(header_text(name, value)?),
            Opt::LocalHostname => options.identity.host_name = Some(header_text(name, value)?),
            Opt::Os => options.identity.os = Some(os_name(text(name, value)?)?),

            Opt::Mtu => options.tunnel.mtu = Some(mtu(self.host, name, value)?),
            Opt::BaseMtu => options.tunnel.base_mtu = Some(mtu(self.host, name, value)?),
            Opt::ForceDpd => options.tunnel.force_dpd = dpd(number(name, value, given)?),
            Opt::NoDtls => options.tunnel.no_dtls = true,
            Opt::DisableIpv6 => options.tunnel.disable_ipv6 = true,
            Opt::QueueLen => options.tunnel.queue_len = queue_len(self.host, number(name, value, given)?),
            Opt::DtlsCiphers => options.tunnel.dtls_ciphers = Some(text(name, value)?),
            Opt::Dtls12Ciphers => options.tunnel.dtls12_ciphers = Some(text(name, value)?),

            Opt::Interface => options.setup.interface = Some(text(name, value)?),
            Opt::Script => options.setup.script = Some(value),
            Opt::ScriptTun => options.setup.script_tun = true,

            Opt::Background => options.process.background = true,
            Opt::PidFile => options.process.pid_file = Some(value.into()),
            Opt::SetUid => options.process.user = Some(user(self.host, &text(name, value)?)?),

            Opt::Verbose => options.output.level = options.output.level.saturating_add(1),
            Opt::Quiet => options.output.level = 0,
            Opt::Timestamp => options.output.timestamp = true,
            Opt::Syslog => options.output.syslog = true,
            Opt::DumpHttpTraffic => options.output.dump_http = true,

            Opt::Protocol => options.protocol = protocol(&text(name, value)?)?,
            Opt::Compression => options.tunnel.compression = compression(&text(name, value)?)?,
            Opt::Deflate => options.tunnel.compression = true,
            Opt::NoDeflate => options.tunnel.compression = false,
            Opt::TokenMode => self.token.mode = Some(TokenMode::parse(&text(name, value)?)?),
            Opt::TokenSecret => self.token.secret = Some(text(name, value)?.into()),
            Opt::AllowInsecureCrypto if cfg!(feature = "legacy-tls") => {
                options.trust.allow_insecure_crypto = true;
            }
            Opt::AllowInsecureCrypto => {
                let text = "Cannot enable insecure 3DES or RC4 ciphers: this version does not have them";
                return Err(error(text));
            }
            Opt::NoCertCheck => {
                let text = "The --no-cert-check option was insecure and has been removed.\n\
                            Fix your server's certificate or use --servercert to trust it.";
                return Err(error(text));
            }
            Opt::Juniper => {
                self.host
                    .warn("WARNING: --juniper is deprecated, use --protocol=nc instead.");
                return Err(unavailable("--protocol=nc"));
            }

            Opt::Pfs => options.trust.forward_secrecy = true,
            Opt::Certificate => self.key_pair.certificate = value,
            Opt::SslKey => self.key_pair.key = Some(value),
            Opt::KeyPassword => self.key_pair.password = Some(text(name, value)?.into()),
            Opt::KeyPasswordFromFsid => self.key_pair.password_from_fsid = true,
            Opt::CertExpireWarning => {
                options.credentials.expire_warning_days = number(name, value, given)?;
            }

            Opt::McaCertificate => self.second_key_pair.certificate = value,
            Opt::McaKey => self.second_key_pair.key = Some(value),
            Opt::McaKeyPassword => self.second_key_pair.password = Some(text(name, value)?.into()),
        }
        Ok(())
    }
}

/// What `--libproxy`, `--no-proxy` and `--proxy` say, the last of which counts.
enum ProxyChoice {
    Libproxy,
    None,
    This(Proxy),
}

fn choose_proxy(network: &mut NetworkOptions, choice: ProxyChoice) {
    network.libproxy = matches!(choice, ProxyChoice::Libproxy);
    network.no_proxy = matches!(choice, ProxyChoice::None);
    network.proxy = match choice {
        ProxyChoice::This(proxy) => Some(proxy),
        ProxyChoice::Libproxy | ProxyChoice::None => None,
    };
}

fn error(text: &str) -> Stop {
    Stop::Error(text.to_owned())
}

pub(super) fn unavailable(what: &str) -> Stop {
    Stop::Error(format!("{what} is not available in this version"))
}

fn server(name: &str, value: OsString) -> Result<String, Stop> {
    let server = text(name, value)?;
    ServerUrl::parse(&server).map_err(|error| Stop::Error(error.to_string()))?;
    Ok(server)
}

fn non_empty(text: SecretString) -> Option<SecretString> {
    Some(text).filter(|text| !text.is_empty())
}

fn priorities(host: &mut dyn Host, text: &str) -> Result<TlsPriorities, Stop> {
    let priorities = TlsPriorities::parse(text).map_err(Stop::Error)?;
    host.warn(
        "WARNING: --gnutls-priority replaces the choice of ciphers. Please report the server that needs it.",
    );
    Ok(priorities)
}

fn proxy(url: &str) -> Result<Proxy, Stop> {
    Proxy::parse(url).map_err(|error| Stop::Error(error.to_string()))
}

fn tcp_keepalive(seconds: u32) -> TcpKeepalive {
    match seconds {
        0 => TcpKeepalive::SystemInterval,
        seconds => TcpKeepalive::Seconds(seconds),
    }
}

/// At least two seconds; 0 leaves it to the server.
fn dpd(seconds: u32) -> Option<u32> {
    match seconds {
        0 => None,
        1 => Some(2),
        seconds => Some(seconds),
    }
}

fn queue_len(host: &mut dyn Host, len: usize) -> usize {
    if len == 0 {
        host.warn("Queue length zero not permitted; using 1");
    }
    len.max(1)
}

/// The value as text.
pub(super) fn text(name: &str, value: OsString) -> Result<String, Stop> {
    charset::decode(value.as_bytes()).ok_or_else(|| {
        Stop::Error(format!(
            "The value of {name} is no text in this locale's character set"
        ))
    })
}

/// A value that becomes part of an HTTP header.
fn header_text(name: &str, value: OsString) -> Result<String, Stop> {
    let value = text(name, value)?;
    if value.chars().any(char::is_control) {
        return Err(Stop::Error(format!(
            "The value of --{name} contains control characters"
        )));
    }
    Ok(value)
}

fn number<T: std::str::FromStr + Default>(name: &str, value: OsString, given: bool) -> Result<T, Stop> {
    if !given {
        return Ok(T::default());
    }
    let value = text(name, value)?;
    value
        .trim()
        .parse()
        .map_err(|_| Stop::Error(format!("Invalid number '{value}' for option --{name}")))
}

fn mtu(host: &mut dyn Host, name: &str, value: OsString) -> Result<u16, Stop> {
    let mtu: i64 = number(name, value, true)?;
    if mtu < MTU_OPTION_MIN {
        host.warn(&format!("MTU {mtu} too small"));
    }
    u16::try_from(mtu.clamp(MTU_OPTION_MIN, MTU_OPTION_MAX))
        .map_err(|_| Stop::Error(format!("Invalid number '{mtu}' for option --{name}")))
}

fn read_line(host: &mut dyn Host) -> Result<SecretString, Stop> {
    host.read_line()
        .map_err(|error| Stop::Error(format!("fgets (stdin): {error}")))
}

fn form_entry(value: &str) -> Result<FormEntry, Stop> {
    let malformed = || Stop::Error("Form field invalid. Use --form-entry=FORM_ID:OPT_NAME=VALUE".into());
    let (names, answer) = match value.split_once('=') {
        Some((names, answer)) => (names, Some(answer.into())),
        None => (value, None),
    };
    let (form, field) = names.split_once(':').ok_or_else(malformed)?;
    if form.is_empty() {
        return Err(malformed());
    }
    Ok(FormEntry {
        form: form.into(),
        field: field.into(),
        value: answer,
    })
}

fn resolve(value: &str) -> Result<Resolve, Stop> {
    let (host, address) = value
        .split_once(':')
        .ok_or_else(|| Stop::Error("Missing colon in resolve option".into()))?;
    Ok(Resolve {
        host: host.into(),
        address: address.into(),
    })
}

fn os_name(name: String) -> Result<String, Stop> {
    if OS_NAMES.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(Stop::Error(format!(
        "Invalid OS identity \"{name}\"\nAllowed values: {}",
        OS_NAMES.join(", ")
    )))
}

fn protocol(name: &str) -> Result<ProtocolName, Stop> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "anyconnect" => return Ok(ProtocolName::AnyConnect),
        "gp" => return Ok(ProtocolName::GlobalProtect),
        _ => {}
    }
    if LATER_PROTOCOLS.contains(&lower.as_str()) {
        return Err(unavailable(&format!("--protocol={lower}")));
    }
    Err(Stop::Error(format!("Unknown VPN protocol '{name}'")))
}

/// Stateful compression is not offered: `all` means the methods that there are.
fn compression(mode: &str) -> Result<bool, Stop> {
    match mode {
        "none" | "off" => Ok(false),
        "stateless" | "all" => Ok(true),
        _ => Err(Stop::Error(format!("Invalid compression mode '{mode}'"))),
    }
}

/// A user by number (decimal, `0x` or leading zero octal, as strtol with base 0) or by name.
fn user(host: &mut dyn Host, given: &str) -> Result<UserIds, Stop> {
    let id = if let Some(hex) = given.strip_prefix("0x") {
        u32::from_str_radix(hex, 16).ok()
    } else if given.len() > 1 && given.starts_with('0') {
        u32::from_str_radix(given, 8).ok()
    } else {
        given.parse().ok()
    };
    match id {
        Some(id) => host
            .user_by_id(id)
            .ok_or_else(|| Stop::Error(format!("Invalid user ID \"{id}\": no such user"))),
        None => host
            .user_by_name(given)
            .ok_or_else(|| Stop::Error(format!("Invalid user \"{given}\": no such user"))),
    }
}
