use std::net::IpAddr;
use std::time::Duration;

use culvert_vocab::{RekeyMethod, TunnelConfig};
use culvert_wire::compress::Method;
use culvert_wire::http::{Headers, Response};
use data_encoding::HEXLOWER;
use ipnet::IpNet;

use super::agent::ClientClass;
use super::connect_request::{ConnectRequest, DtlsMode};
use super::pages::push_raw_lines;
use crate::dtls::PSK_NEGOTIATE;

/// Rekey time told to clients when the server renews the keys itself (TLS 1.3 KeyUpdate).
const REKEY_BY_SERVER: Duration = Duration::from_secs(31_536_000);
/// Longest banner, in octets.
const BANNER_MAX: usize = 255;

/// A tunnel as it is announced to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelGrant {
    /// Addresses, routes, DNS, timers, banner; `mtu` is the data MTU and `includes` is empty for
    /// a default route.
    pub config: TunnelConfig,
    /// Link MTU.
    pub link_mtu: u16,
    /// Host name sent back to the client.
    pub hostname: Option<String>,
    /// Longest life of the session; `config.session_left` is what remains of it.
    pub session_timeout: Option<Duration>,
    /// The UDP channel, if there is one.
    pub dtls: Option<DtlsGrant>,
    /// Compression of the TLS channel.
    pub stream_encoding: Option<Method>,
    /// Compression of the UDP channel.
    pub datagram_encoding: Option<Method>,
    /// Raw lines of `included-http-headers`.
    pub included_headers: Vec<String>,
    /// Raw lines of `custom-header`.
    pub custom_headers: Vec<String>,
}

/// The UDP channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsGrant {
    /// UDP port.
    pub port: u16,
    /// Identifier that the client puts into its ClientHello.
    pub id: [u8; 32],
    /// How it begins.
    pub mode: DtlsMode,
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// No cookie, or none that could be one.
    NoCookie,
    /// Unknown or expired cookie, roaming denied, too many sessions.
    CookieNotAcceptable,
    /// No network or no device is configured.
    Configuration,
    /// Something else failed in the server.
    Internal,
}

/// The response that refuses a CONNECT (`specs/cstp-dtls.md` §3.1). The connection ends after it.
pub fn connect_refusal(refusal: ConnectRefusal) -> Response {
    const UNAVAILABLE: &str = "Service Unavailable";
    match refusal {
        ConnectRefusal::NoCookie => Response::new(503, UNAVAILABLE),
        ConnectRefusal::CookieNotAcceptable => Response::new(401, "Cookie is not acceptable"),
        ConnectRefusal::Configuration => {
            Response::new(503, UNAVAILABLE).with_header("X-Reason", "Server configuration error")
        }
        ConnectRefusal::Internal => Response::new(503, UNAVAILABLE).with_header("X-Reason", "Server error"),
    }
}

/// What clients are told about rekeying of the TLS channel: in TLS 1.3 with method `ssl` the
/// server renews the keys itself; TLS 1.2 has no renegotiation here, and a resumed DTLS session
/// has none anywhere, so that the client opens a new tunnel (`specs/server-config.md` §9.3).
/// `in_place` says that neither is the case.
pub fn advertised_rekey(
    in_place: bool,
    method: RekeyMethod,
    time: Option<Duration>,
) -> (RekeyMethod, Option<Duration>) {
    match (time, method) {
        (None, _) | (_, RekeyMethod::None) => (RekeyMethod::None, None),
        (Some(_), RekeyMethod::Ssl) if in_place => (RekeyMethod::Ssl, Some(REKEY_BY_SERVER)),
        (time, _) => (RekeyMethod::NewTunnel, time),
    }
}

/// The response that opens a tunnel (`specs/cstp-dtls.md` §3.2), headers in ocserv's order.
pub fn connect_response(request: &ConnectRequest, grant: &TunnelGrant) -> Response {
    let mut response = Response::new(200, "CONNECTED");
    response.version = request.version;
    let headers = &mut response.headers;
    push_raw_lines(headers, &grant.included_headers);
    headers.push("X-CSTP-Version", "1");
    headers.push("X-CSTP-Server-Name", "OpenConnect VPN Server");
    push_some(headers, "X-CSTP-Hostname", grant.hostname.as_deref());
    push_seconds(headers, "X-CSTP-DPD", grant.config.stream.dpd);
    push_network(headers, request, &grant.config);
    push_session(headers, grant);
    push_raw_lines(headers, &grant.custom_headers);
    push_dtls(headers, grant);
    headers.push("X-CSTP-Base-MTU", grant.link_mtu.to_string());
    headers.push("X-CSTP-MTU", grant.config.mtu.get().to_string());
    push_some(
        headers,
        "X-CSTP-Banner",
        grant.config.banner.as_deref().map(cut_banner),
    );
    push_some(
        headers,
        "X-DTLS-Content-Encoding",
        grant.datagram_encoding.map(Method::name),
    );
    push_some(
        headers,
        "X-CSTP-Content-Encoding",
        grant.stream_encoding.map(Method::name),
    );
    response
}

/// Addresses, name servers and routes.
fn push_network(headers: &mut Headers, request: &ConnectRequest, config: &TunnelConfig) {
    push_some(
        headers,
        "X-CSTP-Default-Domain",
        join(&config.search_domains).as_deref(),
    );
    if let Some(ipv4) = &config.ipv4 {
        headers.push("X-CSTP-Address", ipv4.address.to_string());
        push_some(
            headers,
            "X-CSTP-Netmask",
            ipv4.netmask.map(|mask| mask.to_string()).as_deref(),
        );
    }
    if let Some(ipv6) = &config.ipv6 {
        let with_prefix = format!("{}/{}", ipv6.address, ipv6.prefix_len);
        if request.full_ipv6 {
            headers.push("X-CSTP-Address-IP6", with_prefix);
        } else {
            headers.push("X-CSTP-Address", ipv6.address.to_string());
            headers.push("X-CSTP-Netmask", with_prefix);
        }
    }
    let separate_dns = request.client.class == ClientClass::AnyConnect;
    for server in &config.dns {
        match server {
            IpAddr::V6(_) if !request.full_ipv6 => {}
            IpAddr::V6(_) if separate_dns => headers.push("X-CSTP-DNS-IP6", server.to_string()),
            _ => headers.push("X-CSTP-DNS", server.to_string()),
        }
    }
    for server in &config.nbns {
        headers.push("X-CSTP-NBNS", server.to_string());
    }
    for domain in &config.split_dns {
        headers.push("X-CSTP-Split-DNS", domain);
    }
    let default_route = config.includes.is_empty();
    if request.client.ios && request.full_ipv6 && config.ipv6.is_some() && !default_route {
        headers.push("X-CSTP-Split-Include-IP6", "2000::/3");
    }
    push_routes(
        headers,
        "X-CSTP-Split-Include",
        &config.includes,
        request.full_ipv6,
    );
    headers.push(
        "X-CSTP-Tunnel-All-DNS",
        (config.tunnel_all_dns || default_route).to_string(),
    );
    headers.push(
        "X-CSTP-Client-Bypass-Protocol",
        config.client_bypass_protocol.to_string(),
    );
    push_routes(
        headers,
        "X-CSTP-Split-Exclude",
        &config.excludes,
        request.full_ipv6,
    );
}

fn push_routes(headers: &mut Headers, name: &str, routes: &[IpNet], full_ipv6: bool) {
    for route in routes {
        match route {
            IpNet::V4(net) => headers.push(name, format!("{}/{}", net.addr(), net.netmask())),
            IpNet::V6(net) if full_ipv6 => headers.push(format!("{name}-IP6"), net.to_string()),
            IpNet::V6(_) => {}
        }
    }
}

/// Timers and constants of the session.
fn push_session(headers: &mut Headers, grant: &TunnelGrant) {
    let config = &grant.config;
    push_seconds(headers, "X-CSTP-Keepalive", config.stream.keepalive);
    headers.push("X-CSTP-Idle-Timeout", seconds_or_none(config.idle_timeout));
    headers.push("X-CSTP-Smartcard-Removal-Disconnect", "true");
    if config.dynamic_dns {
        headers.push("X-CSTP-DynDNS", "true");
    }
    push_seconds(headers, "X-CSTP-Rekey-Time", config.stream.rekey);
    headers.push("X-CSTP-Rekey-Method", rekey_name(config.stream.rekey_method));
    push_some(headers, "X-CSTP-MSIE-Proxy-Pac-URL", config.proxy_pac.as_deref());
    headers.push("X-CSTP-Session-Timeout", seconds_or_none(grant.session_timeout));
    if grant.session_timeout.is_some() {
        push_seconds(headers, "X-CSTP-Session-Timeout-Remaining", config.session_left);
    }
    headers.push("X-CSTP-Disconnected-Timeout", "none");
    headers.push("X-CSTP-Keep", "true");
    headers.push("X-CSTP-TCP-Keepalive", "true");
    headers.push("X-CSTP-License", "accept");
}

fn push_dtls(headers: &mut Headers, grant: &TunnelGrant) {
    let Some(dtls) = &grant.dtls else {
        return;
    };
    let timers = &grant.config.datagram;
    push_seconds(headers, "X-DTLS-DPD", timers.dpd);
    headers.push("X-DTLS-Port", dtls.port.to_string());
    push_seconds(headers, "X-DTLS-Rekey-Time", timers.rekey);
    if timers.rekey_method == RekeyMethod::Ssl {
        headers.push("X-DTLS-Rekey-Method", "ssl");
    }
    push_seconds(headers, "X-DTLS-Keepalive", timers.keepalive);
    match dtls.mode {
        DtlsMode::Psk(place) => {
            headers.push("X-DTLS-App-ID", HEXLOWER.encode(&dtls.id));
            headers.push(place.name(), PSK_NEGOTIATE);
        }
        DtlsMode::Resumed(cipher) => {
            headers.push("X-DTLS-Session-ID", HEXLOWER.encode(&dtls.id));
            headers.push(cipher.header.name(), cipher.name);
            headers.push("X-DTLS-MTU", grant.config.mtu.get().to_string());
        }
    }
}

fn push_some(headers: &mut Headers, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        headers.push(name, value);
    }
}

fn push_seconds(headers: &mut Headers, name: &str, time: Option<Duration>) {
    if let Some(time) = time {
        headers.push(name, time.as_secs().to_string());
    }
}

fn seconds_or_none(time: Option<Duration>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| time.as_secs().to_string())
}

fn rekey_name(method: RekeyMethod) -> &'static str {
    match method {
        RekeyMethod::None => "none",
        RekeyMethod::Ssl => "ssl",
        RekeyMethod::NewTunnel => "new-tunnel",
    }
}

fn join(domains: &[String]) -> Option<String> {
    (!domains.is_empty()).then(|| domains.join(" "))
}

fn cut_banner(banner: &str) -> &str {
    let end = (0..=BANNER_MAX.min(banner.len()))
        .rev()
        .find(|&at| banner.is_char_boundary(at));
    banner.get(..end.unwrap_or(0)).unwrap_or_default()
}
