//! From the settings of a session to a table of nftables.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ipc::session::SessionSettings;

/// The transaction that makes `table` for the client behind the interface `device` (its index, or
/// its quoted name).
pub(super) fn table(table: &str, device: &str, settings: &SessionSettings) -> String {
    let mut forward = Chain::new(device);
    forward.line(&format!("oif {device} ct state established,related accept"));
    for server in &settings.dns {
        let to = to_address(*server);
        forward.rule(format_args!("{to} udp dport 53 ct state established,new accept"));
        forward.rule(format_args!("{to} tcp dport 53 ct state established,new accept"));
    }
    let mut allowed = None;
    match &settings.restrict_ports {
        Some((true, ports)) => {
            for (protocol, port) in items(ports) {
                let how = match protocol {
                    "icmp" => " with icmp port-unreachable",
                    "icmpv6" => " with icmpv6 port-unreachable",
                    _ => "",
                };
                forward.rule(format_args!("{} reject{how}", matching(protocol, port)));
            }
            routes(&mut forward, settings);
        }
        Some((false, ports)) => {
            for (protocol, port) in items(ports) {
                forward.rule(format_args!("{} jump routes", matching(protocol, port)));
            }
            forward.rule("reject");
            routes(allowed.insert(Chain::new(device)), settings);
        }
        None => routes(&mut forward, settings),
    }

    let mut text = format!("table inet {table} {{\n");
    if let Some(Chain { lines, .. }) = allowed {
        let _infallible = write!(text, "chain routes {{\n{lines}}}\n");
    }
    let lines = forward.lines;
    let _infallible = write!(
        text,
        "chain forward {{\ntype filter hook forward priority filter - 10; policy accept;\n{lines}}}\n}}\n"
    );
    text
}

/// Where the client may go.
fn routes(chain: &mut Chain, settings: &SessionSettings) {
    if !settings.restrict_to_routes {
        return chain.rule("accept");
    }
    for net in &settings.no_routes {
        let family = if matches!(net, IpNet::V4(_)) {
            "icmp"
        } else {
            "icmpv6"
        };
        chain.rule(format_args!(
            "{} reject with {family} port-unreachable",
            to_network(net)
        ));
    }
    for net in &settings.routes {
        chain.rule(format_args!("{} accept", to_network(net)));
    }
    // No routes mean the default route.
    chain.rule(if settings.routes.is_empty() {
        "accept"
    } else {
        "reject"
    });
}

/// Rules for packets from one device.
struct Chain<'d> {
    device: &'d str,
    lines: String,
}

impl<'d> Chain<'d> {
    fn new(device: &'d str) -> Self {
        let lines = String::new();
        Self { device, lines }
    }

    fn rule(&mut self, rule: impl Display) {
        self.line(&format!("iif {} {rule}", self.device));
    }

    fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }
}

fn to_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("ip daddr {address}"),
        IpAddr::V6(address) => format!("ip6 daddr {address}"),
    }
}

fn to_network(network: &IpNet) -> String {
    match network {
        IpNet::V4(network) => format!("ip daddr {}", network.trunc()),
        IpNet::V6(network) => format!("ip6 daddr {}", network.trunc()),
    }
}

/// Protocols and ports of a list: `tcp 443 icmp all `.
fn items(ports: &str) -> impl Iterator<Item = (&str, Option<u16>)> {
    let mut words = ports.split_ascii_whitespace();
    std::iter::from_fn(move || Some((words.next()?, words.next()?.parse().ok())))
}

fn matching(protocol: &str, port: Option<u16>) -> String {
    match (protocol, port) {
        ("tcp" | "udp" | "sctp", Some(port)) => format!("{protocol} dport {port}"),
        ("icmp", _) => "ip protocol icmp".to_owned(),
        // Not the next header alone: an option before it must not hide it.
        ("icmpv6", _) => "meta l4proto ipv6-icmp".to_owned(),
        _ => format!("meta l4proto {protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `specs/vectors/server/fw-rulesets.txt`: environments and the rules of the original program.
    const VECTORS: &str = include_str!("../../../tests/vectors/fw-rulesets.txt");

    fn variable<'c>(case: &'c str, name: &str) -> Option<&'c str> {
        let after = case.split_once(&format!("[{name}="))?.1;
        Some(after.split_once(']')?.0)
    }

    fn networks(case: &str, name: &str) -> Vec<IpNet> {
        let text = variable(case, name).unwrap_or_default();
        let network = |text: &str| {
            let (address, mask) = text.split_once('/').unwrap();
            match mask.parse::<u8>() {
                Ok(length) => IpNet::new(address.parse().unwrap(), length).unwrap(),
                Err(_) => IpNet::with_netmask(address.parse().unwrap(), mask.parse().unwrap()).unwrap(),
            }
        };
        text.split_whitespace().map(network).collect()
    }

    fn settings(case: &str) -> SessionSettings {
        let dns = variable(case, "OCSERV_DNS").unwrap_or_default();
        let ports = |name, denied| variable(case, name).map(|ports| (denied, ports.to_owned()));
        SessionSettings {
            restrict_to_routes: variable(case, "OCSERV_RESTRICT_TO_ROUTES").is_some(),
            routes: networks(case, "OCSERV_ROUTES"),
            no_routes: networks(case, "OCSERV_NO_ROUTES"),
            dns: dns.split_whitespace().map(|text| text.parse().unwrap()).collect(),
            restrict_ports: ports("OCSERV_ALLOW_PORTS", false).or(ports("OCSERV_DENY_PORTS", true)),
            ..SessionSettings::default()
        }
    }

    /// The rules of a chain, without layout.
    fn rules(text: &str, chain: &str) -> Vec<String> {
        let after = text.split_once(&format!("chain {chain} {{"));
        let body = after.map_or("", |(_, after)| after.split_once('}').unwrap().0);
        let rule = |line: &&str| line.starts_with("iif") || line.starts_with("oif");
        body.lines()
            .map(str::trim)
            .filter(rule)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn rule_sets_of_the_original() {
        let cases: Vec<&str> = VECTORS.split("\n### ").skip(1).collect();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let original = case
                .split_once("-- nftables:\n")
                .unwrap()
                .1
                .split_once("\n}\n")
                .unwrap()
                .0;
            let original = original
                .replace("ocserv_rt_ocserv_octest0", "routes")
                .replace("ip6 nexthdr", "meta l4proto")
                .replace(
                    "udp dport 53 ct state new",
                    "udp dport 53 ct state established,new",
                );
            let ours = table("t", "\"octest0\"", &settings(case));
            let name = case.lines().next();
            assert!(!rules(&original, "ocserv_fwd").is_empty());
            assert_eq!(
                rules(&ours, "forward"),
                rules(&original, "ocserv_fwd"),
                "{name:?}"
            );
            assert_eq!(rules(&ours, "routes"), rules(&original, "routes"), "{name:?}");
        }
    }
}
