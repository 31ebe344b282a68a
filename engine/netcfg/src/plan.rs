use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use culvert_vocab::{AddressV4, TunnelConfig};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most included plus excluded networks that are accepted from a server.
pub const ROUTES_MAX: usize = 10_000;

/// Metric of IPv6 routes into the tunnel: better than what router advertisements install.
const METRIC_V6: u32 = 1;
/// Metric of IPv4 routes into the tunnel: the best there is.
const METRIC_V4: u32 = 0;

/// One network that is routed into the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TunnelRoute {
    /// The destination.
    pub net: IpNet,
    /// Its metric; smaller wins.
    pub metric: u32,
}

/// What the resolver has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPlan {
    /// Name servers in order.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Domains that only these servers answer; empty when they answer everything.
    pub split: Vec<String>,
}

/// Everything that has to be configured for one tunnel; pure data, made by [`Plan::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// MTU of the TUN device.
    pub mtu: u32,
    /// Addresses of the TUN device with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Networks that keep the route they have now: the gateway and the excludes.
    pub bypass: Vec<IpNet>,
    /// Networks routed into the tunnel.
    pub routes: Vec<TunnelRoute>,
    /// Networks that must not be reached beside the tunnel if it turns out to have no IPv6: all of
    /// IPv6, when the tunnel takes all of IPv4.
    pub unreachable: Vec<IpNet>,
    /// The resolver, if the server named DNS servers.
    pub dns: Option<DnsPlan>,
}

impl Plan {
    /// Works out what `specs/client.md` §13 asks for.
    ///
    /// # Errors
    /// [`Error::TooManyRoutes`].
    pub fn new(config: &TunnelConfig, gateway: IpAddr) -> Result<Self, Error> {
        let count = config.includes.len() + config.excludes.len();
        if count > ROUTES_MAX {
            return Err(Error::TooManyRoutes(count));
        }
        let mut bypass = Vec::new();
        if !gateway.is_loopback() {
            bypass.push(host(gateway));
        }
        bypass.extend(
            config
                .excludes
                .iter()
                .map(IpNet::trunc)
                .filter(|net| !is_special(net)),
        );

        let mut addresses = Vec::new();
        let mut routes = Vec::new();
        if let Some(v4) = config.ipv4 {
            addresses.push(host(v4.address.into()));
            routes.extend(own_network(v4).map(|net| TunnelRoute {
                net: net.into(),
                metric: METRIC_V4,
            }));
            routes.extend(includes(
                config,
                |net| net.addr().is_ipv4(),
                Ipv4Net::default().into(),
                METRIC_V4,
            ));
        }
        if let Some(v6) = config.ipv6 {
            let net = Ipv6Net::new(v6.address, v6.prefix_len).unwrap_or_else(|_| Ipv6Net::from(v6.address));
            addresses.push(net.into());
            routes.extend(includes(
                config,
                |net| net.addr().is_ipv6(),
                Ipv6Net::default().into(),
                METRIC_V6,
            ));
        }

        let dns = (!config.dns.is_empty()).then(|| DnsPlan {
            servers: config.dns.clone(),
            search: config.search_domains.clone(),
            split: if config.tunnel_all_dns {
                Vec::new()
            } else {
                config.split_dns.clone()
            },
        });
        Ok(Self {
            mtu: config.mtu.get().into(),
            addresses,
            bypass: once(bypass),
            unreachable: unreachable(config),
            routes: once(routes),
            dns,
        })
    }
}

/// Each element once, in order. What is set up twice would be taken for somebody else's the second
/// time, and stay.
fn once<T: Copy + Eq + Hash>(elements: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    elements
        .into_iter()
        .filter(|element| seen.insert(*element))
        .collect()
}

/// The host route of an address.
pub(crate) fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The included networks of one family, or everything when the server named none.
fn includes(
    config: &TunnelConfig,
    family: impl Fn(&IpNet) -> bool,
    everything: IpNet,
    metric: u32,
) -> Vec<TunnelRoute> {
    let named: Vec<_> = config
        .includes
        .iter()
        .filter(|net| family(net))
        .map(IpNet::trunc)
        .collect();
    let nets = if named.is_empty() { vec![everything] } else { named };
    nets.into_iter().map(|net| TunnelRoute { net, metric }).collect()
}

/// Two halves: more specific than a default route that the host may have, less than its links.
fn unreachable(config: &TunnelConfig) -> Vec<IpNet> {
    let everything = includes(
        config,
        |net| net.addr().is_ipv4(),
        Ipv4Net::default().into(),
        METRIC_V4,
    );
    let takes_all = config.ipv4.is_some() && everything.iter().any(|route| route.net.prefix_len() == 0);
    if !takes_all {
        return Vec::new();
    }
    let halves = Ipv6Net::default().subnets(1);
    halves.into_iter().flatten().map(IpNet::from).collect()
}

/// The network of the client's own netmask, when it says more than the address itself.
fn own_network(v4: AddressV4) -> Option<Ipv4Net> {
    let net = Ipv4Net::with_netmask(v4.address, v4.netmask?).ok()?.trunc();
    (1..32).contains(&net.prefix_len()).then_some(net)
}

/// Networks that never leave the host or the link, so excluding them means nothing.
fn is_special(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.octets()[0] == 0,
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use culvert_vocab::{AddressV6, Mtu};

    use super::*;

    fn config() -> TunnelConfig {
        let mut config = TunnelConfig::new(Mtu::clamped(1400));
        config.ipv4 = Some(AddressV4 {
            address: Ipv4Addr::new(10, 9, 0, 7),
            netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        });
        config
    }

    fn nets(plan: &Plan) -> Vec<String> {
        plan.routes
            .iter()
            .map(|route| format!("{} {}", route.net, route.metric))
            .collect()
    }

    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn no_includes_route_everything() {
        let plan = Plan::new(&config(), GATEWAY).unwrap();
        assert_eq!(nets(&plan), ["10.9.0.0/24 0", "0.0.0.0/0 0"]);
        assert_eq!(plan.bypass, [host(GATEWAY)]);
        assert_eq!(plan.addresses[0].to_string(), "10.9.0.7/32");
        assert_eq!(plan.dns, None);
        // IPv6 would pass the tunnel by.
        let unreachable: Vec<_> = plan.unreachable.iter().map(ToString::to_string).collect();
        assert_eq!(unreachable, ["::/1", "8000::/1"]);
    }

    #[test]
    fn includes_and_excludes_of_both_families() {
        let mut config = config();
        config.ipv6 = Some(AddressV6 {
            address: "fd00::7".parse().unwrap(),
            prefix_len: 64,
        });
        config.includes = vec!["172.16.5.9/16".parse().unwrap(), "fd01::/48".parse().unwrap()];
        config.excludes = ["172.16.9.0/24", "127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let plan = Plan::new(&config, GATEWAY).unwrap();
        assert_eq!(nets(&plan), ["10.9.0.0/24 0", "172.16.0.0/16 0", "fd01::/48 1"]);
        assert_eq!(plan.bypass, [host(GATEWAY), "172.16.9.0/24".parse().unwrap()]);
        assert_eq!(plan.addresses[1].to_string(), "fd00::7/64");
        assert!(plan.unreachable.is_empty());
    }

    #[test]
    fn networks_that_come_twice_are_set_up_once() {
        let mut config = config();
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        config.includes = parse(&["172.16.0.0/16", "10.9.0.0/24", "172.16.1.1/16"]);
        config.excludes = parse(&["172.16.9.0/24", "192.0.2.1/32", "172.16.9.1/24"]);
        let plan = Plan::new(&config, GATEWAY).unwrap();
        assert_eq!(nets(&plan), ["10.9.0.0/24 0", "172.16.0.0/16 0"]);
        assert_eq!(plan.bypass, [host(GATEWAY), "172.16.9.0/24".parse().unwrap()]);
    }

    #[test]
    fn ipv6_without_ipv6_includes_is_the_default_route() {
        let mut config = config();
        config.ipv6 = Some(AddressV6 {
            address: "fd00::7".parse().unwrap(),
            prefix_len: 128,
        });
        config.includes = vec!["172.16.0.0/16".parse().unwrap()];
        let plan = Plan::new(&config, GATEWAY).unwrap();
        assert_eq!(nets(&plan), ["10.9.0.0/24 0", "172.16.0.0/16 0", "::/0 1"]);
    }

    #[test]
    fn a_netmask_that_is_no_netmask_adds_no_route() {
        let mut config = config();
        config.ipv4 = Some(AddressV4 {
            address: Ipv4Addr::new(10, 9, 0, 7),
            netmask: Some(Ipv4Addr::new(255, 0, 255, 0)),
        });
        assert_eq!(nets(&Plan::new(&config, GATEWAY).unwrap()), ["0.0.0.0/0 0"]);
    }

    #[test]
    fn a_loopback_gateway_needs_no_route() {
        let plan = Plan::new(&config(), Ipv4Addr::LOCALHOST.into()).unwrap();
        assert!(plan.bypass.is_empty());
    }

    #[test]
    fn floods_of_routes_are_refused() {
        let mut config = config();
        config.includes = vec!["10.0.0.0/8".parse().unwrap(); ROUTES_MAX + 1];
        assert!(matches!(Plan::new(&config, GATEWAY), Err(Error::TooManyRoutes(n)) if n == ROUTES_MAX + 1));
    }

    #[test]
    fn split_dns_gives_way_to_tunnel_all_dns() {
        let mut config = config();
        config.dns = vec!["10.9.0.1".parse().unwrap()];
        config.split_dns = vec!["example.com".to_owned()];
        assert_eq!(
            Plan::new(&config, GATEWAY).unwrap().dns.unwrap().split,
            ["example.com"]
        );
        config.tunnel_all_dns = true;
        assert!(Plan::new(&config, GATEWAY).unwrap().dns.unwrap().split.is_empty());
    }
}
