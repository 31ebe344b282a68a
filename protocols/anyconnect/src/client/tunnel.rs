use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use culvert_login::client::NAME_SERVERS_MAX;
use culvert_vocab::{AddressV4, AddressV6, Mtu, RekeyMethod, Timers, TunnelConfig};
use culvert_wire::compress::Method;
use culvert_wire::http::{Response, Version};
use data_encoding::HEXLOWER_PERMISSIVE;
use ipnet::IpNet;

use super::routes::parse_route;
use crate::dtls::{CipherHeader, PSK_NEGOTIATE, ResumedCipher};

/// Longest identifier of a DTLS session, in octets.
const APP_ID_MAX: usize = 32;
/// Length of the session id of a resumed DTLS session, in octets.
const DTLS_SESSION_ID_LEN: usize = 32;
/// Routes, domains and raw options that are kept, each.
const LIST_MAX: usize = 16384;

/// Why there is no tunnel. The texts are for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// 401 or 403: the cookie is not valid (any more). Exit code 2.
    #[error("Got inappropriate HTTP CONNECT response: {0}")]
    CookieRejected(String),
    /// 503.
    #[error("VPN service unavailable; reason: {0}")]
    Unavailable(String),
    /// Another status.
    #[error("Got inappropriate HTTP CONNECT response: {0}")]
    Status(String),
    /// No `X-CSTP-MTU`, or one of 0.
    #[error("No MTU received. Aborting")]
    NoMtu,
    /// Neither an IPv4 nor an IPv6 address.
    #[error("No IP address received. Aborting")]
    NoAddress,
    /// `X-DTLS-App-ID` is not hex of at most 32 octets.
    #[error("X-DTLS-App-ID from the server is invalid")]
    AppId,
    /// `X-DTLS-Session-ID` is not hex of 32 octets.
    #[error("X-DTLS-Session-ID not 64 characters; is: \"{0}\"")]
    DtlsSessionId(String),
    /// A compression method that was not offered.
    #[error("Unknown {channel}-Content-Encoding {method}")]
    Encoding {
        /// `CSTP` or `DTLS`.
        channel: &'static str,
        /// What the server chose.
        method: String,
    },
}

impl ConnectError {
    /// True when the cookie is to blame: exit code 2, end of reconnecting.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::CookieRejected(_))
    }
}

/// A tunnel as the server announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Addresses, routes, DNS, timers.
    pub config: TunnelConfig,
    /// `X-CSTP-Base-MTU`: size of outer packets that the server counts on.
    pub base_mtu: Option<u16>,
    /// The UDP channel, or why there is none that this client can use.
    pub dtls: Result<DtlsOffer, String>,
    /// Compression of the TLS channel.
    pub stream_encoding: Option<Method>,
    /// Compression of the UDP channel.
    pub datagram_encoding: Option<Method>,
    /// Warnings for the log: what was ignored, and why.
    pub notes: Vec<String>,
}

/// A UDP channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsOffer {
    /// UDP port.
    pub port: u16,
    /// Goes into the ClientHello as session id.
    pub id: Vec<u8>,
    /// How it begins.
    pub mode: DtlsMode,
}

/// How a DTLS channel begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsMode {
    /// With a pre-shared key.
    Psk,
    /// As a resumed session.
    Resumed(&'static ResumedCipher),
}

/// Reads the response to CONNECT (`specs/cstp-dtls.md` §3). Numbers are clamped, lists bounded,
/// control characters in texts replaced.
///
/// # Errors
/// See [`ConnectError`].
pub fn parse_connect_response(response: &Response) -> Result<Connected, ConnectError> {
    check_status(response)?;
    let mut reader = Reader::default();
    for (name, value) in response.headers.iter() {
        if let Some(name) = name.strip_prefix("X-CSTP-") {
            reader.cstp(name, &clean(value))?;
        } else if let Some(name) = name.strip_prefix("X-DTLS-") {
            reader.dtls(CipherHeader::Dtls, name, value.trim())?;
        } else if let Some(name) = name.strip_prefix("X-DTLS12-") {
            reader.dtls(CipherHeader::Dtls12, name, value.trim())?;
        }
    }
    reader.finish()
}

fn check_status(response: &Response) -> Result<(), ConnectError> {
    match response.status {
        200 if response.version == Version::Http11 => Ok(()),
        401 | 403 => Err(ConnectError::CookieRejected(clean(&response.status_line()))),
        503 => {
            let reason = response.headers.get("X-Reason").unwrap_or("<unknown>");
            Err(ConnectError::Unavailable(clean(reason)))
        }
        _ => Err(ConnectError::Status(clean(&response.status_line()))),
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Reader {
    ipv4: Option<Ipv4Addr>,
    netmask: Option<Ipv4Addr>,
    ipv6: Option<AddressV6>,
    mtu: Option<u64>,
    base_mtu: Option<u16>,
    stream: Timers,
    datagram: Timers,
    dns: Vec<IpAddr>,
    nbns: Vec<IpAddr>,
    search_domains: Vec<String>,
    split_dns: Vec<String>,
    includes: Vec<IpNet>,
    excludes: Vec<IpNet>,
    tunnel_all_dns: bool,
    client_bypass_protocol: bool,
    dynamic_dns: bool,
    proxy_pac: Option<String>,
    banner: Option<String>,
    idle_timeout: Option<Duration>,
    session_left: Option<Duration>,
    options: Vec<(String, String)>,
    dtls_port: Option<u16>,
    app_id: Option<Vec<u8>>,
    dtls_session_id: Option<Vec<u8>>,
    dtls_cipher: Option<(CipherHeader, String)>,
    dtls_mtu: Option<u64>,
    stream_encoding: Option<Method>,
    datagram_encoding: Option<Method>,
    notes: Vec<String>,
}

impl Reader {
    /// A header that began with `X-CSTP-`.
    fn cstp(&mut self, name: &str, value: &str) -> Result<(), ConnectError> {
        push_bounded(&mut self.options, (format!("X-CSTP-{name}"), value.to_owned()));
        match name {
            "Address" => self.address(value),
            "Netmask" => self.netmask(value),
            "Address-IP6" => self.ipv6_prefix(value),
            "MTU" => self.mtu = value.parse().ok(),
            "Base-MTU" => self.base_mtu = value.parse().ok(),
            "DPD" => self.stream.dpd = seconds(value),
            "Keepalive" => self.stream.keepalive = seconds(value),
            "Rekey-Time" => self.stream.rekey = seconds(value),
            "Rekey-Method" => self.stream.rekey_method = rekey_method(value),
            "Idle-Timeout" => self.idle_timeout = seconds(value),
            "Session-Timeout" | "Session-Timeout-Remaining" | "Lease-Duration" => {
                self.session_left = [self.session_left, seconds(value)].into_iter().flatten().min();
            }
            "DNS" | "DNS-IP6" => self.name_server(value),
            "NBNS" => {
                if let Some(server) = server(value).filter(|_| self.nbns.len() < NAME_SERVERS_MAX) {
                    self.nbns.push(server);
                }
            }
            "Default-Domain" => {
                let domains = value.split([' ', ',', ';']).filter(|domain| !domain.is_empty());
                self.search_domains.extend(domains.take(64).map(str::to_owned));
            }
            "Split-DNS" => push_bounded(&mut self.split_dns, value.to_owned()),
            "Split-Include" | "Split-Include-IP6" => self.route("include", value),
            "Split-Exclude" | "Split-Exclude-IP6" => self.route("exclude", value),
            "Tunnel-All-DNS" => self.tunnel_all_dns = value == "true",
            "Client-Bypass-Protocol" => self.client_bypass_protocol = value == "true",
            "DynDNS" => self.dynamic_dns = value == "true",
            "MSIE-Proxy-PAC-URL" | "MSIE-Proxy-Pac-URL" => self.proxy_pac = Some(value.to_owned()),
            "Banner" => self.banner = Some(value.to_owned()).filter(|banner| !banner.is_empty()),
            "Content-Encoding" => self.stream_encoding = Some(encoding("CSTP", value)?),
            _ => {}
        }
        Ok(())
    }

    /// A header that began with `X-DTLS-` or `X-DTLS12-`.
    fn dtls(&mut self, header: CipherHeader, name: &str, value: &str) -> Result<(), ConnectError> {
        match name {
            "Port" => self.dtls_port = value.parse().ok().filter(|&port| port != 0),
            "App-ID" => self.app_id = Some(app_id(value).ok_or(ConnectError::AppId)?),
            "Session-ID" => self.dtls_session_id = Some(dtls_session_id(value)?),
            "CipherSuite" => self.dtls_cipher = Some((header, clean(value))),
            "MTU" => self.dtls_mtu = value.parse().ok(),
            "DPD" => self.datagram.dpd = seconds(value),
            "Keepalive" => self.datagram.keepalive = seconds(value),
            "Rekey-Time" => self.datagram.rekey = seconds(value),
            "Rekey-Method" => self.datagram.rekey_method = rekey_method(value),
            "Content-Encoding" => self.datagram_encoding = Some(encoding("DTLS", value)?),
            _ => {}
        }
        Ok(())
    }

    fn address(&mut self, value: &str) {
        if value.contains(':') {
            self.ipv6_prefix(value);
        } else if let Ok(address) = value.parse() {
            self.ipv4 = Some(address);
        }
    }

    fn netmask(&mut self, value: &str) {
        if value.contains(':') {
            self.ipv6_prefix(value);
        } else if let Ok(netmask) = value.parse() {
            self.netmask = Some(netmask);
        }
    }

    /// `address/prefix` or an address alone. A netmask header repeats the address with its
    /// prefix, or names the network: it then gives only the prefix.
    fn ipv6_prefix(&mut self, value: &str) {
        let (address, prefix) = value.split_once('/').unwrap_or((value, "128"));
        let (Ok(address), Ok(prefix_len)) = (address.parse(), prefix.parse::<u8>()) else {
            return self.notes.push(format!("Discard bad IPv6 address: \"{value}\""));
        };
        if prefix_len > 128 {
            return self.notes.push(format!("Discard bad IPv6 address: \"{value}\""));
        }
        let address = self.ipv6.map_or(address, |known| known.address);
        self.ipv6 = Some(AddressV6 { address, prefix_len });
    }

    fn name_server(&mut self, value: &str) {
        match server(value) {
            Some(server) if self.dns.len() < NAME_SERVERS_MAX => self.dns.push(server),
            Some(_) => {}
            None => self.notes.push(format!("Discard bad DNS server: \"{value}\"")),
        }
    }

    fn route(&mut self, kind: &str, value: &str) {
        let Some(route) = parse_route(value) else {
            return push_bounded(&mut self.notes, format!("Discard bad split {kind}: \"{value}\""));
        };
        if route.trimmed {
            let note = format!(
                "WARNING: Split {kind} \"{value}\" has host bits set, replacing with \"{}\".",
                route.net
            );
            push_bounded(&mut self.notes, note);
        }
        let list = if kind == "include" {
            &mut self.includes
        } else {
            &mut self.excludes
        };
        push_bounded(list, route.net);
    }

    fn finish(mut self) -> Result<Connected, ConnectError> {
        let mtu = self.mtu.filter(|&mtu| mtu > 0).ok_or(ConnectError::NoMtu)?;
        let mtu = mtu.max(self.dtls_mtu.unwrap_or_default());
        if self.ipv4.is_none() && self.ipv6.is_none() {
            return Err(ConnectError::NoAddress);
        }
        let dtls = self.take_dtls();
        let mut config = TunnelConfig::new(Mtu::clamped(mtu));
        config.ipv4 = self.ipv4.map(|address| AddressV4 {
            address,
            netmask: self.netmask,
        });
        config.ipv6 = self.ipv6;
        config.dns = self.dns;
        config.nbns = self.nbns;
        config.search_domains = self.search_domains;
        config.split_dns = self.split_dns;
        config.tunnel_all_dns = self.tunnel_all_dns;
        config.includes = self.includes;
        config.excludes = self.excludes;
        config.client_bypass_protocol = self.client_bypass_protocol;
        config.proxy_pac = self.proxy_pac;
        config.banner = self.banner;
        config.stream = without_idle_rekey(self.stream);
        config.datagram = without_idle_rekey(self.datagram);
        config.idle_timeout = self.idle_timeout;
        config.session_left = self.session_left;
        config.dynamic_dns = self.dynamic_dns;
        config.options = self.options;
        Ok(Connected {
            config,
            base_mtu: self.base_mtu,
            dtls,
            stream_encoding: self.stream_encoding,
            datagram_encoding: self.datagram_encoding,
            notes: self.notes,
        })
    }

    fn take_dtls(&mut self) -> Result<DtlsOffer, String> {
        let no_cipher = "Server offered no DTLS cipher option";
        let port = self.dtls_port.ok_or("No DTLS address")?;
        let (header, cipher) = self.dtls_cipher.take().ok_or(no_cipher)?;
        let (mode, id, id_header) = if cipher == PSK_NEGOTIATE {
            (DtlsMode::Psk, self.app_id.take(), "X-DTLS-App-ID")
        } else if let Some(cipher) = ResumedCipher::find(header, &cipher) {
            let id = self.dtls_session_id.take();
            (DtlsMode::Resumed(cipher), id, "X-DTLS-Session-ID")
        } else {
            return Err(format!(
                "No DTLS: the server chose cipher {cipher}, which is not available"
            ));
        };
        let id = id.ok_or_else(|| format!("No DTLS: the server sent no {id_header}"))?;
        Ok(DtlsOffer { port, id, mode })
    }
}

/// A rekey time and a method make sense only together.
fn without_idle_rekey(timers: Timers) -> Timers {
    match (timers.rekey, timers.rekey_method) {
        (Some(_), method) if method != RekeyMethod::None => timers,
        _ => Timers {
            rekey: None,
            rekey_method: RekeyMethod::None,
            ..timers
        },
    }
}

fn seconds(value: &str) -> Option<Duration> {
    value
        .parse::<u32>()
        .ok()
        .filter(|&seconds| seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()))
}

fn rekey_method(value: &str) -> RekeyMethod {
    match value {
        "ssl" => RekeyMethod::Ssl,
        "new-tunnel" => RekeyMethod::NewTunnel,
        _ => RekeyMethod::None,
    }
}

fn server(value: &str) -> Option<IpAddr> {
    value.parse().ok()
}

fn encoding(channel: &'static str, value: &str) -> Result<Method, ConnectError> {
    Method::from_name(value).ok_or_else(|| ConnectError::Encoding {
        channel,
        method: clean(value),
    })
}

fn app_id(value: &str) -> Option<Vec<u8>> {
    let id = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok()?;
    (1..=APP_ID_MAX).contains(&id.len()).then_some(id)
}

fn dtls_session_id(value: &str) -> Result<Vec<u8>, ConnectError> {
    let id = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok();
    id.filter(|id| id.len() == DTLS_SESSION_ID_LEN)
        .ok_or_else(|| ConnectError::DtlsSessionId(clean(value)))
}

fn clean(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() < LIST_MAX {
        list.push(item);
    }
}
