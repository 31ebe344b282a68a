//! Session settings: defaults, the host's values, and what per-user files change. One function
//! reads them all, because the options are the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::{NetPriority, Routes, SessionSettings};
use crate::ports::PortRestriction;
use crate::reader::Reader;
use crate::report::Check;
use crate::route::parse_net;

/// IPv6 prefix lengths that pools and subnets may have.
const IPV6_PREFIXES: std::ops::RangeInclusive<u8> = 11..=128;
/// Longest host name given to a client, in bytes.
const HOSTNAME_MAX: usize = 63;
/// Values below this many bytes/s mean no limit; limits are multiples of it.
const RATE_UNIT: u64 = 1000;

impl Default for SessionSettings {
    /// What ocserv 1.5 does when nothing is configured (`specs/server-config.md` §7).
    fn default() -> Self {
        Self {
            no_udp: false,
            deny_roaming: false,
            restrict_user_to_routes: false,
            restrict_user_to_ports: None,
            tunnel_all_dns: false,
            routes: Routes::default(),
            no_routes: Vec::new(),
            iroutes: Vec::new(),
            dns: Vec::new(),
            nbns: Vec::new(),
            split_dns: Vec::new(),
            ipv4_network: None,
            ipv6_network: None,
            ipv6_subnet_prefix: 128,
            explicit_ipv4: None,
            explicit_ipv6: None,
            hostname: None,
            rx_data_per_sec: None,
            tx_data_per_sec: None,
            stats_report_time: None,
            session_timeout: None,
            mtu: None,
            dpd: Some(Duration::from_secs(90)),
            mobile_dpd: Some(Duration::from_secs(1800)),
            idle_timeout: None,
            mobile_idle_timeout: None,
            keepalive: Some(Duration::from_secs(32400)),
            max_same_clients: None,
            net_priority: None,
            user_profile: None,
            client_bypass_protocol: false,
        }
    }
}

/// `base` with everything that `reader`'s values change. Lists replace those of `base`.
pub(crate) fn read(reader: &mut Reader<'_>, base: &SessionSettings) -> SessionSettings {
    let ipv4_network = ipv4_network(reader).or(base.ipv4_network);
    let (ipv6_network, ipv6_subnet_prefix) = ipv6_network(reader, base);
    SessionSettings {
        no_udp: reader.flag("no-udp", base.no_udp),
        deny_roaming: reader.flag("deny-roaming", base.deny_roaming),
        restrict_user_to_routes: reader.flag("restrict-user-to-routes", base.restrict_user_to_routes),
        restrict_user_to_ports: ports(reader).or_else(|| base.restrict_user_to_ports.clone()),
        tunnel_all_dns: reader.flag("tunnel-all-dns", base.tunnel_all_dns),
        routes: routes(reader).unwrap_or_else(|| base.routes.clone()),
        no_routes: replaced(reader.parsed_list("no-route", parse_net), &base.no_routes),
        iroutes: replaced(reader.parsed_list("iroute", parse_net), &base.iroutes),
        dns: dns(reader).unwrap_or_else(|| base.dns.clone()),
        nbns: replaced(
            reader.parsed_list("nbns", |text| {
                text.parse()
                    .map_err(|_| format!("invalid NBNS server address '{text}'"))
            }),
            &base.nbns,
        ),
        split_dns: replaced(reader.list("split-dns"), &base.split_dns),
        ipv4_network,
        ipv6_network,
        ipv6_subnet_prefix,
        explicit_ipv4: reader
            .parsed_last("explicit-ipv4", ipv4_address)
            .or(base.explicit_ipv4),
        explicit_ipv6: reader
            .parsed_last("explicit-ipv6", ipv6_address)
            .or(base.explicit_ipv6),
        hostname: reader
            .parsed_last("hostname", hostname)
            .or_else(|| base.hostname.clone()),
        rx_data_per_sec: rate(reader, "rx-data-per-sec", base.rx_data_per_sec),
        tx_data_per_sec: rate(reader, "tx-data-per-sec", base.tx_data_per_sec),
        stats_report_time: reader.seconds("stats-report-time", base.stats_report_time),
        session_timeout: reader.seconds("session-timeout", base.session_timeout),
        mtu: mtu(reader, base.mtu),
        dpd: reader.seconds("dpd", base.dpd),
        mobile_dpd: reader.seconds("mobile-dpd", base.mobile_dpd),
        idle_timeout: reader.seconds("idle-timeout", base.idle_timeout),
        mobile_idle_timeout: reader
            .number("mobile-idle-timeout")
            .map(|seconds| Duration::from_secs(seconds.into()))
            .or(base.mobile_idle_timeout),
        keepalive: reader.seconds("keepalive", base.keepalive),
        max_same_clients: reader.limit("max-same-clients", base.max_same_clients),
        net_priority: net_priority(reader).or(base.net_priority),
        user_profile: reader.path("user-profile").or_else(|| base.user_profile.clone()),
        client_bypass_protocol: reader.flag("client-bypass-protocol", base.client_bypass_protocol),
    }
}

fn replaced<T: Clone>(own: Vec<T>, base: &[T]) -> Vec<T> {
    if own.is_empty() { base.to_vec() } else { own }
}

fn ipv4_address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv4 address '{text}'"))
}

fn ipv6_address(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv6 address '{text}'"))
}

fn hostname(text: &str) -> Result<String, String> {
    if text.len() > HOSTNAME_MAX || text.chars().any(char::is_control) {
        return Err(format!("invalid hostname '{}'", text.escape_debug()));
    }
    Ok(text.to_owned())
}

fn routes(reader: &mut Reader<'_>) -> Option<Routes> {
    let lines = reader.values.all("route");
    match Routes::parse(lines.iter().map(|value| value.text.as_str())) {
        _ if lines.is_empty() => None,
        Ok(routes) => Some(routes),
        Err((index, message)) => {
            reader
                .report
                .fail_at(lines.get(index).map_or(0, |value| value.line), message);
            None
        }
    }
}

fn ports(reader: &mut Reader<'_>) -> Option<PortRestriction> {
    let lines = reader.values.all("restrict-user-to-ports");
    for value in lines {
        if let Err(message) = PortRestriction::parse([value.text.as_str()]) {
            reader.report.fail_at(value.line, message);
            return None;
        }
    }
    PortRestriction::parse(lines.iter().map(|value| value.text.as_str()))
        .ok()
        .flatten()
}

fn dns(reader: &mut Reader<'_>) -> Option<Vec<IpAddr>> {
    let lines = reader.values.all("dns");
    let mut servers = Vec::new();
    for value in lines {
        match value.text.parse() {
            Ok(address) => servers.push(address),
            Err(_) if value.text == "local" => {
                let message = "the 'local' DNS keyword is no longer supported.";
                reader.fail(Check::LocalDns, Some(value.line), message);
            }
            Err(_) => {
                reader
                    .report
                    .fail_at(value.line, format!("invalid DNS server address '{}'", value.text));
            }
        }
    }
    (!lines.is_empty()).then_some(servers)
}

/// The pool, host bits masked off.
fn ipv4_network(reader: &mut Reader<'_>) -> Option<Ipv4Net> {
    let value = reader.values.last("ipv4-network")?;
    let (address, prefix) = match value.text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.to_owned())),
        None => (value.text.as_str(), reader.text("ipv4-netmask")),
    };
    let Some(prefix) = prefix else {
        reader.fail(
            Check::Network,
            Some(value.line),
            "no mask found for IPv4 network.",
        );
        return None;
    };
    match format!("{address}/{prefix}").parse::<Ipv4Net>() {
        Ok(net) => Some(net.trunc()),
        Err(_) => match parse_net(&format!("{address}/{prefix}")) {
            Ok(ipnet::IpNet::V4(net)) => Some(net.trunc()),
            _ => {
                reader
                    .report
                    .fail_at(value.line, format!("invalid IPv4 network '{address}/{prefix}'"));
                None
            }
        },
    }
}

/// The pool, host bits masked off, and the prefix length of a client's part.
fn ipv6_network(reader: &mut Reader<'_>, base: &SessionSettings) -> (Option<Ipv6Net>, u8) {
    let own = reader.values.last("ipv6-network").cloned();
    let pool = own
        .as_ref()
        .and_then(|value| ipv6_pool(reader, &value.text, value.line))
        .or(base.ipv6_network);
    let subnet = match reader.values.last("ipv6-subnet-prefix") {
        None => base.ipv6_subnet_prefix,
        Some(value) => match value
            .text
            .parse()
            .ok()
            .filter(|prefix| IPV6_PREFIXES.contains(prefix))
        {
            Some(prefix) => prefix,
            None => {
                let message = format!("invalid IPv6 subnet prefix: {}", value.text);
                reader.report.fail_at(value.line, message);
                base.ipv6_subnet_prefix
            }
        },
    };
    if let Some(pool) = pool.filter(|pool| subnet <= pool.prefix_len()) {
        let message = format!(
            "the subnet prefix ({subnet}) cannot be smaller or equal to network's ({})",
            pool.prefix_len()
        );
        let line = reader.line("ipv6-subnet-prefix").or(reader.line("ipv6-network"));
        reader.fail(Check::SubnetPrefix, line, message);
    }
    (pool, subnet)
}

fn ipv6_pool(reader: &mut Reader<'_>, text: &str, line: usize) -> Option<Ipv6Net> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.to_owned())),
        None => (text, reader.text("ipv6-prefix")),
    };
    // Wrong where it does not count, either.
    if let (Some(unused), Some(line)) = (reader.text("ipv6-prefix"), reader.line("ipv6-prefix"))
        && text.contains('/')
        && ipv6_prefix(&unused).is_none()
    {
        let message = format!("invalid IPv6 prefix: {unused}");
        reader.report.fail_at(line, message);
    }
    let Some(prefix) = prefix else {
        reader.fail(Check::Network, Some(line), "no prefix found for IPv6 network.");
        return None;
    };
    let Some(prefix) = ipv6_prefix(&prefix) else {
        reader
            .report
            .fail_at(line, format!("invalid IPv6 prefix: {prefix}"));
        return None;
    };
    let net = ipv6_address(address).and_then(|address| {
        Ipv6Net::new(address, prefix).map_err(|_| format!("invalid IPv6 prefix: {prefix}"))
    });
    match net {
        Ok(net) => Some(net.trunc()),
        Err(message) => {
            reader.report.fail_at(line, message);
            None
        }
    }
}

fn ipv6_prefix(text: &str) -> Option<u8> {
    text.parse().ok().filter(|prefix| IPV6_PREFIXES.contains(prefix))
}

fn rate(reader: &Reader<'_>, name: &str, base: Option<u64>) -> Option<u64> {
    match reader.number(name) {
        None => base,
        Some(number) => Some(u64::from(number) / RATE_UNIT * RATE_UNIT).filter(|&rate| rate > 0),
    }
}

fn mtu(reader: &mut Reader<'_>, base: Option<u16>) -> Option<u16> {
    if reader.values.last("mtu").is_none() {
        base
    } else {
        reader.small("mtu").filter(|&mtu| mtu > 0)
    }
}

fn net_priority(reader: &mut Reader<'_>) -> Option<NetPriority> {
    let value = reader.values.last("net-priority")?;
    let parsed = match value
        .text
        .strip_prefix("0x")
        .or_else(|| value.text.strip_prefix("0X"))
    {
        Some(hex) => u8::from_str_radix(hex, 16).ok().map(NetPriority::Tos),
        None => value
            .text
            .parse()
            .ok()
            .filter(|&priority: &u8| priority <= 6)
            .map(NetPriority::Priority),
    };
    if parsed.is_none() {
        let message = format!(
            "option 'net-priority' in line {}: '{}' is neither 0 to 6 nor 0xNN; ignored",
            value.line, value.text
        );
        reader.report.warn_at(value.line, message);
    }
    parsed
}
