//! The answer to `getconfig` (`specs/globalprotect.md` §9.2, §17.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_vocab::TunnelConfig;
use culvert_wire::http::Response;
use culvert_wire::xml::Element;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::pages::{document, error, text};
use crate::wire::{EspParameters, path};

/// Shorter lives would have clients fetch the configuration all the time.
const TIMEOUT_MIN: u64 = 300;
/// What clients ping inside the tunnel: addresses that nobody has, since the server answers to all
/// (RFC 7600 §4.8, RFC 6666).
const PING_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const PING_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);
/// Default routes.
const ALL_IPV4: &str = "0.0.0.0/0";
const ALL_IPV6: &str = "::/0";

/// A tunnel as it is announced to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    /// Addresses, routes, DNS; `includes` is empty for a default route, `mtu` is not announced.
    pub(super) config: TunnelConfig,
    /// Name of portal and gateway.
    pub(super) portal: String,
    /// User of the session.
    pub(super) user: String,
    /// The ESP channel, if there is one.
    pub(super) esp: Option<EspParameters>,
}

/// The configuration.
pub(super) fn config_answer(grant: &Grant) -> Response {
    let config = &grant.config;
    let seconds = |name: &str, time: Option<std::time::Duration>| {
        time.map(|time| text(name, &time.as_secs().to_string()))
    };
    let mut root = Element::new("response")
        .with_attribute("status", "success")
        .with_child(text("need-tunnel", "yes"))
        .with_child(text("ssl-tunnel-url", &format!("/{}", path::TUNNEL)))
        .with_child(text("portal", &grant.portal))
        .with_child(text("user", &grant.user));
    root = with_some(root, seconds("lifetime", config.session_left));
    let rekey = config
        .stream
        .rekey
        .map(|time| text("timeout", &time.as_secs().max(TIMEOUT_MIN).to_string()));
    root = with_some(root, rekey);
    root = with_some(root, seconds("disconnect-on-idle", config.idle_timeout));
    root = root.with_child(match config.ipv4 {
        Some(_) => text("gw-address", &PING_V4.to_string()),
        None => text("gw-address-v6", &PING_V6.to_string()),
    });
    if let Some(ipv4) = config.ipv4 {
        root = root
            .with_child(text("ip-address", &ipv4.address.to_string()))
            .with_child(text("netmask", "255.255.255.255"));
    }
    if let Some(ipv6) = config.ipv6 {
        root = root.with_child(text("ip-address-v6", &ipv6.address.to_string()));
    }
    let (dns_v4, dns_v6): (Vec<IpAddr>, Vec<IpAddr>) = config.dns.iter().partition(|ip| ip.is_ipv4());
    root = with_some(root, members("dns", &dns_v4));
    root = with_some(root, members("dns-v6", &dns_v6));
    root = with_some(root, members("wins", &config.nbns));
    root = root.with_child(text("mtu", "0"));
    let suffixes: Vec<_> = config.search_domains.iter().chain(&config.split_dns).collect();
    root = with_some(root, members("dns-suffix", &suffixes));
    root = root.with_child(text("no-direct-access-to-local-network", "no"));
    let (v4, v6) = split(&config.includes);
    let (v4, v6) = match config.includes.is_empty() {
        true => (vec![ALL_IPV4.to_owned()], vec![ALL_IPV6.to_owned()]),
        false => (v4, v6),
    };
    root = with_some(
        root,
        members("access-routes", &v4).filter(|_| config.ipv4.is_some()),
    );
    root = with_some(
        root,
        members("access-routes-v6", &v6).filter(|_| config.ipv6.is_some()),
    );
    let (v4, v6) = split(&config.excludes);
    root = with_some(root, members("exclude-access-routes", &v4));
    root = with_some(root, members("exclude-access-routes-v6", &v6));
    document(&with_some(
        root,
        grant.esp.as_ref().map(EspParameters::to_element),
    ))
}

/// There is no tunnel for this cookie: the client gives up.
pub(super) fn config_refusal(permanent: bool) -> Response {
    error(if permanent {
        "Invalid authentication cookie"
    } else {
        "Assign private IP address failed"
    })
}

fn with_some(root: Element, child: Option<Element>) -> Element {
    match child {
        Some(child) => root.with_child(child),
        None => root,
    }
}

fn members(name: &str, values: &[impl ToString]) -> Option<Element> {
    (!values.is_empty()).then(|| {
        values.iter().fold(Element::new(name), |list, value| {
            list.with_child(text("member", &value.to_string()))
        })
    })
}

fn split(routes: &[IpNet]) -> (Vec<String>, Vec<String>) {
    let texts = |v4: bool| {
        routes
            .iter()
            .filter(|route| matches!(route, IpNet::V4(_)) == v4)
            .map(ToString::to_string)
            .collect()
    };
    (texts(true), texts(false))
}
