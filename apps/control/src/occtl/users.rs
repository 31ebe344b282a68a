//! `show users`, `show user`, `show id`, `show iroutes` (`specs/server-tools.md` §3.6-3.9).

use std::net::IpAddr;

use super::format::{Object, array, between, bytes, clean, name_or_none, rate, short_cipher, time};
use crate::messages::{AuthState, Connection, Event, EventKind, Traffic};

fn state(state: AuthState) -> &'static str {
    match state {
        AuthState::PreAuth => "pre-auth",
        AuthState::Authenticating => "authenticating",
        AuthState::Failed => "auth failed",
        AuthState::Authenticated => "connected",
    }
}

fn vpn_ip(connection: &Connection) -> Option<IpAddr> {
    let v4 = connection.ipv4.map(|pair| IpAddr::V4(pair.client));
    v4.or(connection.ipv6.map(|pair| IpAddr::V6(pair.client)))
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map(|value| clean(&value.to_string())).unwrap_or_default()
}

/// The table of `show users`.
pub(super) fn table(connections: &[Connection], now: u64) -> String {
    let row = |cells: [&str; 9]| {
        let [id, user, vhost, ip, vpn_ip, device, since, cipher, status] = cells;
        format!(
            "{id:>8} {user:>8} {vhost:>8} {ip:>14} {vpn_ip:>14} {device:>6} {since} {cipher:>14} {status:>9}\n"
        )
    };
    let mut out = String::new();
    if !connections.is_empty() {
        // intervals have their own width
        out += &row([
            "id",
            "user",
            "vhost",
            "ip",
            "vpn-ip",
            "device",
            "  since",
            "dtls-cipher",
            "status",
        ]);
    }
    for c in connections {
        out += &row([
            &c.id.to_string(),
            &name_or_none(c.username.as_deref()),
            &clean(&c.vhost),
            &shown(c.remote_ip),
            &shown(vpn_ip(c)),
            &shown(c.device.as_deref()),
            &between(c.connected_at, now),
            &c.dtls_cipher
                .as_deref()
                .map_or_else(|| "(no-dtls)".to_owned(), short_cipher),
            state(c.state),
        ]);
    }
    out
}

/// Bytes per second in each direction since the connection was made.
fn averages(c: &Connection, traffic: Traffic, now: u64) -> (String, String) {
    let seconds = now.saturating_sub(c.connected_at).max(1);
    (rate(traffic.rx / seconds), rate(traffic.tx / seconds))
}

/// Adds `Name: value` pairs as one line; empty values are left out.
fn line(out: &mut String, pairs: &[(&str, String)]) {
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    if !pairs.is_empty() {
        *out += &format!("\t{}\n", pairs.join("   "));
    }
}

fn list(out: &mut String, name: &str, values: &[String]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(|value| clean(value)).collect();
        *out += &format!("\t{name}: {}\n", values.join("\n\t\t"));
    }
}

/// The details of connections as text.
pub(super) fn details(connections: &[Connection], now: u64) -> String {
    connections
        .iter()
        .map(|connection| detail(connection, now))
        .collect()
}

fn detail(c: &Connection, now: u64) -> String {
    let mut out = String::new();
    whose(&mut out, c);
    addresses(&mut out, c);
    line(&mut out, &[("User-Agent", shown(c.user_agent.as_deref()))]);
    carried(&mut out, c, now);
    let timers = [("DPD", c.dpd.to_string()), ("KeepAlive", c.keepalive.to_string())];
    line(&mut out, &timers);
    line(&mut out, &[("Hostname", shown(c.hostname.as_deref()))]);
    session(&mut out, c, now);
    channels(&mut out, c);
    out.push('\n');
    network(&mut out, c);
    out.push('\n');
    out
}

fn whose(out: &mut String, c: &Connection) {
    line(out, &[("ID", c.id.to_string())]);
    line(
        out,
        &[
            ("Username", name_or_none(c.username.as_deref())),
            ("Groupname", name_or_none(c.groupname.as_deref())),
        ],
    );
    line(out, &[("State", state(c.state).to_owned())]);
    line(out, &[("vhost", clean(&c.vhost))]);
    line(
        out,
        &[("Device", shown(c.device.as_deref())), ("MTU", shown(c.mtu))],
    );
}

fn addresses(out: &mut String, c: &Connection) {
    line(
        out,
        &[
            ("Remote IP", shown(c.remote_ip)),
            ("Location", location(c.location.as_deref())),
        ],
    );
    line(out, &[("Local Device IP", shown(c.local_ip))]);
    line(
        out,
        &[
            ("IPv4", shown(c.ipv4.map(|p| p.client))),
            ("P-t-P IPv4", shown(c.ipv4.map(|p| p.server))),
        ],
    );
    line(
        out,
        &[
            ("IPv6", shown(c.ipv6.map(|p| p.client))),
            ("P-t-P IPv6", shown(c.ipv6.map(|p| p.server))),
        ],
    );
}

/// What it may carry, and what it has carried.
fn carried(out: &mut String, c: &Connection, now: u64) {
    let limit = |limit: Option<u64>| limit.map(rate).unwrap_or_default();
    line(
        out,
        &[("Limit RX", limit(c.rx_limit)), ("Limit TX", limit(c.tx_limit))],
    );
    if let Some(traffic) = c.traffic {
        let both = |count: u64| format!("{count} ({})", bytes(count));
        line(out, &[("RX", both(traffic.rx)), ("TX", both(traffic.tx))]);
        let (rx, tx) = averages(c, traffic, now);
        *out += &format!("\tAverage bandwidth RX: {rx}  TX: {tx}\n");
    }
}

fn session(out: &mut String, c: &Connection, now: u64) {
    let since = |at: u64| format!("{} ({})", time(at), between(at, now));
    line(out, &[("Last connected at", since(c.connected_at))]);
    line(out, &[("Session started at", since(c.session_started_at))]);
    let id = c.session.as_ref().map(|id| clean(id.short()));
    line(out, &[("Session", id.unwrap_or_default())]);
}

fn channels(out: &mut String, c: &Connection) {
    line(out, &[("TLS ciphersuite", shown(c.tls_ciphersuite.as_deref()))]);
    line(out, &[("DTLS cipher", shown(c.dtls_cipher.as_deref()))]);
    line(
        out,
        &[
            ("CSTP compression", shown(c.cstp_compression.as_deref())),
            ("DTLS compression", shown(c.dtls_compression.as_deref())),
        ],
    );
}

/// What the client was told of the network, and where it may go.
fn network(out: &mut String, c: &Connection) {
    list(out, "DNS", &c.dns);
    list(out, "NBNS", &c.nbns);
    list(out, "Split-DNS-Domains", &c.split_dns);
    if c.default_route {
        line(out, &[("Routes", "defaultroute".to_owned())]);
    } else {
        list(out, "Routes", &c.routes);
    }
    list(out, "No-routes", &c.no_routes);
    list(out, "iRoutes", &c.iroutes);
    line(
        out,
        &[("Restricted to routes", truth(c.restricted_to_routes).to_owned())],
    );
    line(
        out,
        &[("Restricted to ports", clean(&c.restricted_to_ports.join(", ")))],
    );
}

fn location(location: Option<&str>) -> String {
    location.map_or_else(|| "unknown".to_owned(), clean)
}

pub(super) fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// Connections as JSON.
pub(super) fn json(connections: &[Connection], now: u64) -> String {
    let objects: Vec<Object> = connections
        .iter()
        .map(|connection| object(connection, now))
        .collect();
    array(&objects)
}

fn object(c: &Connection, now: u64) -> Object {
    let mut o = Object::default();
    o.number("ID", c.id)
        .text("Username", none(c.username.as_deref()))
        .text("Groupname", none(c.groupname.as_deref()))
        .text("State", state(c.state))
        .text("vhost", &c.vhost)
        .optional("Device", c.device.as_deref())
        .optional("MTU", c.mtu)
        .optional("Remote IP", c.remote_ip)
        .text("Location", c.location.as_deref().unwrap_or("unknown"))
        .optional("Local Device IP", c.local_ip)
        .optional("IPv4", c.ipv4.map(|p| p.client))
        .optional("P-t-P IPv4", c.ipv4.map(|p| p.server))
        .optional("IPv6", c.ipv6.map(|p| p.client))
        .optional("P-t-P IPv6", c.ipv6.map(|p| p.server))
        .optional("User-Agent", c.user_agent.as_deref())
        .optional("Limit RX", c.rx_limit.map(rate))
        .optional("Limit TX", c.tx_limit.map(rate));
    if let Some(traffic) = c.traffic {
        let (rx, tx) = averages(c, traffic, now);
        o.text("RX", traffic.rx.to_string())
            .text("TX", traffic.tx.to_string())
            .text("_RX", bytes(traffic.rx))
            .text("_TX", bytes(traffic.tx))
            .text("Average RX", rx)
            .text("Average TX", tx);
    }
    o.text("DPD", c.dpd.to_string())
        .text("KeepAlive", c.keepalive.to_string())
        .optional("Hostname", c.hostname.as_deref())
        .text("Last connected at", time(c.connected_at))
        .text("_Last connected at", between(c.connected_at, now))
        .text("Session started at", time(c.session_started_at))
        .text("_Session started at", between(c.session_started_at, now))
        .number("raw_connected_at", c.connected_at)
        .number("raw_session_started_at", c.session_started_at)
        .optional("Full session", c.session.as_ref())
        .optional("Session", c.session.as_ref().map(|id| id.short()))
        .optional("TLS ciphersuite", c.tls_ciphersuite.as_deref())
        .optional("DTLS cipher", c.dtls_cipher.as_deref())
        .optional("CSTP compression", c.cstp_compression.as_deref())
        .optional("DTLS compression", c.dtls_compression.as_deref())
        .list("DNS", &c.dns)
        .list("NBNS", &c.nbns)
        .list("Split-DNS-Domains", &c.split_dns);
    if c.default_route {
        o.text("Routes", "defaultroute");
    } else {
        o.list("Routes", &c.routes);
    }
    o.list("No-routes", &c.no_routes)
        .list("iRoutes", &c.iroutes)
        .text("Restricted to routes", truth(c.restricted_to_routes))
        .list("Restricted to ports", &c.restricted_to_ports);
    o
}

/// A name, or `(none)`; escaping is left to JSON.
pub(super) fn none(name: Option<&str>) -> &str {
    name.filter(|name| !name.is_empty()).unwrap_or("(none)")
}

/// The table of `show iroutes`: a line per route.
pub(super) fn iroute_table(connections: &[Connection]) -> String {
    let row = |cells: [&str; 6]| {
        let [id, user, vhost, device, ip, route] = cells;
        format!("{id:>6} {user:>8} {vhost:>8} {device:>6} {ip:>16} {route:>28}\n")
    };
    let mut out = String::new();
    if !connections.is_empty() {
        out += &row(["id", "user", "vhost", "device", "vpn-ip", "iroute"]);
    }
    for c in connections {
        for iroute in &c.iroutes {
            out += &row([
                &c.id.to_string(),
                &name_or_none(c.username.as_deref()),
                &clean(&c.vhost),
                &shown(c.device.as_deref()),
                &shown(vpn_ip(c)),
                &clean(iroute),
            ]);
        }
    }
    out
}

/// `show iroutes` as JSON: all users.
pub(super) fn iroute_json(connections: &[Connection]) -> String {
    let objects: Vec<Object> = connections
        .iter()
        .map(|c| {
            let mut o = Object::default();
            o.number("ID", c.id)
                .text("Username", none(c.username.as_deref()))
                .text("vhost", &c.vhost)
                .optional("Device", c.device.as_deref())
                .optional("IP", vpn_ip(c))
                .list("iRoutes", &c.iroutes);
            o
        })
        .collect();
    array(&objects)
}

/// One line of `show events`.
pub(super) fn event_line(event: &Event) -> String {
    let c = &event.connection;
    let (verb, end) = match event.kind {
        EventKind::Connect => ("connected", String::new()),
        EventKind::Disconnect { reason, duration } => (
            "disconnect",
            format!(" (reason: {reason}, time: {})", super::format::interval(duration)),
        ),
    };
    format!(
        "{}: {verb} user '{}' ({}) from {} with IP {}{end}\n",
        clean(&c.vhost),
        name_or_none(c.username.as_deref()),
        c.id,
        shown(c.remote_ip),
        shown(vpn_ip(c)),
    )
}

/// One event as JSON: an array with the connection and what happened.
pub(super) fn event_json(event: &Event, now: u64) -> String {
    let mut o = object(&event.connection, now);
    match event.kind {
        EventKind::Connect => o.text("Event", "connect"),
        EventKind::Disconnect { reason, .. } => {
            o.text("Event", "disconnect").text("Reason", reason.to_string())
        }
    };
    array(&[o])
}
