//! Networks of split-include and split-exclude headers (`specs/client.md` §12.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network, and whether host bits had to be cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) net: IpNet,
    pub(super) trimmed: bool,
}

/// Parses `address`, `address/length` or `address/mask`; `None` for anything else.
pub(super) fn parse_route(text: &str) -> Option<Route> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (text, None),
    };
    let net = match address.parse().ok()? {
        IpAddr::V4(address) => IpNet::V4(ipv4_net(address, mask)?),
        IpAddr::V6(address) => IpNet::V6(ipv6_net(address, mask)?),
    };
    Some(Route {
        net: net.trunc(),
        trimmed: net.trunc() != net,
    })
}

fn ipv4_net(address: Ipv4Addr, mask: Option<&str>) -> Option<Ipv4Net> {
    let Some(mask) = mask else {
        return Ipv4Net::new(address, 32).ok();
    };
    match mask.parse() {
        Ok(length) => Ipv4Net::new(address, length).ok(),
        Err(_) => Ipv4Net::with_netmask(address, mask.parse().ok()?).ok(),
    }
}

fn ipv6_net(address: Ipv6Addr, mask: Option<&str>) -> Option<Ipv6Net> {
    let Some(mask) = mask else {
        return Ipv6Net::new(address, 128).ok();
    };
    match mask.parse() {
        Ok(length) => Ipv6Net::new(address, length).ok(),
        Err(_) => Ipv6Net::with_netmask(address, mask.parse().ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms() {
        for (text, net, trimmed) in [
            ("10.0.0.0/255.255.255.0", "10.0.0.0/24", false),
            ("10.0.0.1/24", "10.0.0.0/24", true),
            ("10.0.0.1", "10.0.0.1/32", false),
            ("0.0.0.0/0", "0.0.0.0/0", false),
            ("fd88::/32", "fd88::/32", false),
            ("fd88::1/ffff:ffff::", "fd88::/32", true),
            ("fd88::1", "fd88::1/128", false),
        ] {
            assert_eq!(
                parse_route(text),
                Some(Route {
                    net: net.parse().unwrap(),
                    trimmed
                }),
                "{text}"
            );
        }
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/255.0.255.0",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "fd::/129",
            "10.0.0.0/24/1",
        ] {
            assert_eq!(parse_route(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-f.:/]{0,40}") {
            if let Some(route) = parse_route(&text) {
                prop_assert_eq!(route.net, route.net.trunc());
            }
        }
    }
}
