//! From the configuration's settings of a user to those of one tunnel.

use std::net::IpAddr;

use culvert_server_config::{
    ExposedRoute, Host, NetPriority, PortItem, RekeyMethod, SessionSettings as Configured,
};
use culvert_vocab::{GroupName, UserName};
use ipnet::IpNet;

use super::loaded::LoadedHost;
use crate::ipc::Text;
use crate::ipc::session::{self, ClientDescription, GivenSettings, SessionSettings};

/// The settings of a tunnel of this user, group and client.
pub(super) fn for_tunnel(
    loaded: &LoadedHost,
    user: &UserName,
    group: Option<&GroupName>,
    client: &ClientDescription,
    own: &Configured,
    given: Option<&GivenSettings>,
) -> SessionSettings {
    let host: &Host = &loaded.config;
    let mobile = client.is_mobile();
    let fill = |template: &String| fill_in(template, user.as_str(), group.map_or("", |group| group.as_str()));
    SessionSettings {
        ipv4_pool: own.ipv4_network,
        ipv6_pool: own.ipv6_network,
        ipv6_client_prefix: own.ipv6_subnet_prefix,
        explicit_ipv4: own.explicit_ipv4,
        explicit_ipv4_prefix: given.and_then(|given| given.ipv4_prefix),
        explicit_ipv6: own.explicit_ipv6,
        explicit_ipv6_prefix: given.and_then(|given| given.ipv6).map(|net| net.prefix_len()),
        predictable_ips: host.predictable_ips,
        dns: own.dns.clone(),
        nbns: own.nbns.clone(),
        search_domains: host
            .default_domain
            .iter()
            .flat_map(|domains| domains.split_whitespace())
            .map(str::to_owned)
            .collect(),
        split_dns: own.split_dns.clone(),
        tunnel_all_dns: own.tunnel_all_dns,
        routes: routes(own, user, &loaded.exposed),
        no_routes: own.no_routes.clone(),
        iroutes: own.iroutes.clone(),
        restrict_to_routes: own.restrict_user_to_routes,
        restrict_ports: own
            .restrict_user_to_ports
            .as_ref()
            .map(|ports| (ports.deny, ports_text(&ports.items))),
        hostname: own.hostname.clone(),
        custom_headers: host.custom_header.iter().filter_map(fill).collect(),
        proxy_pac: host.proxy_url.as_ref().and_then(fill),
        banner: host.banner.clone(),
        client_bypass_protocol: own.client_bypass_protocol,
        dynamic_dns: host.listen_host_is_dyndns,
        keepalive: own.keepalive,
        dpd: own.dpd_for(mobile),
        rekey_time: host.rekey_time,
        rekey_ssl: host.rekey_method == RekeyMethod::Ssl,
        idle_timeout: own.idle_timeout_for(mobile),
        session_timeout: own.session_timeout,
        switch_to_tcp: host.switch_to_tcp_timeout,
        mtu: own.mtu,
        no_udp: own.no_udp,
        net_priority: own.net_priority.map(|priority| match priority {
            NetPriority::Priority(value) => session::NetPriority::Priority(value),
            NetPriority::Tos(value) => session::NetPriority::Tos(value),
        }),
        stats_report: own.stats_report_time,
        rx_per_second: own.rx_data_per_sec.unwrap_or(0),
        tx_per_second: own.tx_data_per_sec.unwrap_or(0),
        output_buffer: host.output_buffer.unwrap_or(0),
    }
}

/// Puts what a RADIUS server has given in the place of what is configured. Routes are added to the
/// host's if those of users are (`append-routes`).
pub(super) fn apply_given(own: &mut Configured, given: &GivenSettings, append_routes: bool) {
    own.explicit_ipv4 = given.ipv4.or(own.explicit_ipv4);
    own.explicit_ipv6 = given.ipv6.map(|net| net.addr()).or(own.explicit_ipv6);
    if !given.routes.is_empty() {
        if !append_routes {
            own.routes.nets.clear();
        }
        own.routes.default = given.routes.iter().any(|net| net.prefix_len() == 0);
        own.routes
            .nets
            .extend(given.routes.iter().filter(|net| net.prefix_len() > 0));
        own.tunnel_all_dns |= own.routes.default;
    }
    if !given.dns.is_empty() {
        own.dns.clone_from(&given.dns);
    }
    own.session_timeout = given.session_timeout.or(own.session_timeout);
    if given.idle_timeout.is_some() {
        own.idle_timeout = given.idle_timeout;
        own.mobile_idle_timeout = None;
    }
    own.stats_report_time = given.stats_report.or(own.stats_report_time);
    own.rx_data_per_sec = given.rx_per_second.or(own.rx_data_per_sec);
    own.tx_data_per_sec = given.tx_per_second.or(own.tx_data_per_sec);
}

/// The user's routes and the networks behind the others' clients; empty for a client that sends
/// everything into the tunnel.
fn routes(own: &Configured, user: &UserName, exposed: &[ExposedRoute]) -> Vec<IpNet> {
    if own.routes.default || own.routes.nets.is_empty() {
        return Vec::new();
    }
    let of_others = exposed.iter().filter(|route| route.user != user.as_str());
    let mut routes = own.routes.nets.clone();
    routes.extend(of_others.map(|route| route.net));
    routes
}

/// Ports as scripts get them: `tcp 443 udp 53 icmp all ` (`specs/server-config.md` §14.1).
fn ports_text(items: &[PortItem]) -> String {
    items
        .iter()
        .map(|item| match item.port {
            0 => format!("{} all ", item.protocol.name()),
            port => format!("{} {port} ", item.protocol.name()),
        })
        .collect()
}

/// Replaces `%{U}` and `%{G}`. `None`, which leaves the header out, for any other `%` sequence
/// (as ocserv) and for a result that would not be one header line.
fn fill_in(template: &str, user: &str, group: &str) -> Option<String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix("{U}") {
            text.push_str(user);
            rest = after;
        } else {
            rest = after.strip_prefix("{G}")?;
            text.push_str(group);
        }
    }
    text.push_str(rest);
    (!text.chars().any(char::is_control)).then_some(text)
}

/// The client's host name if it is a label that may be shown and put into scripts.
pub(super) fn host_label(name: Option<Text<63>>) -> Option<Text<63>> {
    name.filter(|name| {
        let label = name.as_str();
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// The source address as sessions know it.
pub(super) fn source(address: std::net::SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use culvert_server_config::PortProtocol;

    use super::*;

    #[test]
    fn templates() {
        assert_eq!(
            fill_in("X-User: %{U}/%{G}", "alice", "staff").as_deref(),
            Some("X-User: alice/staff")
        );
        assert_eq!(fill_in("plain", "alice", "").as_deref(), Some("plain"));
        assert_eq!(fill_in("100%", "alice", ""), None);
        assert_eq!(fill_in("%{X}", "alice", ""), None);
        assert_eq!(fill_in("X: %{U}", "a\r\nSet-Cookie: x", ""), None);
        assert_eq!(
            fill_in("%{U}", "%{G}", "staff").as_deref(),
            Some("%{G}"),
            "names are not templates"
        );
    }

    #[test]
    fn ports() {
        let item = |protocol, port| PortItem { protocol, port };
        let items = [item(PortProtocol::Tcp, 443), item(PortProtocol::Icmp, 0)];
        assert_eq!(ports_text(&items), "tcp 443 icmp all ");
    }

    #[test]
    fn host_labels() {
        let label = |text: &str| host_label(Some(Text::truncated(text))).is_some();
        assert!(label("My-laptop7"));
        for bad in ["", "-a", "a-", "a.b", "a b", "$(id)", "a\n", "ä"] {
            assert!(!label(bad), "{bad:?}");
        }
    }
}
