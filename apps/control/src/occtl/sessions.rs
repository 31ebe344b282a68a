//! `show sessions`, `show session`, `show ip bans`, `show ip ban points`
//! (`specs/server-tools.md` §3.8-3.9).

use super::format::{Object, array, between, clean, name_or_none, time};
use super::users::{none, truth};
use crate::messages::{AuthState, Ban, Session};

/// Columns of the user agent.
const AGENT_WIDTH: usize = 24;

fn state(state: AuthState) -> &'static str {
    match state {
        AuthState::PreAuth => "pre-auth",
        AuthState::Authenticating => "authenticating",
        AuthState::Failed => "auth failed",
        AuthState::Authenticated => "authenticated",
    }
}

/// The table of `show sessions`.
pub(super) fn table(sessions: &[Session], now: u64) -> String {
    let row = |cells: [&str; 7]| {
        let [session, user, vhost, ip, agent, created, status] = cells;
        format!("{session:>6} {user:>8} {vhost:>8} {ip:>14} {agent:>24} {created:>8} {status:>8}\n")
    };
    let mut out = String::new();
    if !sessions.is_empty() {
        out += &row([
            "session",
            "user",
            "vhost",
            "ip",
            "user agent",
            "created",
            "status",
        ]);
    }
    for s in sessions {
        let agent: String = clean(s.user_agent.as_deref().unwrap_or_default())
            .chars()
            .take(AGENT_WIDTH)
            .collect();
        out += &row([
            &clean(s.id.short()),
            &name_or_none(s.username.as_deref()),
            &clean(&s.vhost),
            &s.remote_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            &agent,
            &between(s.created, now),
            state(s.state),
        ]);
    }
    out
}

/// One session as text.
pub(super) fn detail(s: &Session) -> String {
    let mut out = format!(
        "\tSession: {}\n\tFull session ID: {}\n",
        clean(s.id.short()),
        clean(s.id.as_str())
    );
    out += &format!("\tCreated: {}", time(s.created));
    if let Some(expires) = s.expires {
        out += &format!("   Expires: {}", time(expires));
    }
    let user = name_or_none(s.username.as_deref());
    let group = name_or_none(s.groupname.as_deref());
    out += &format!(
        "\n\tState: {}\n\tUsername: {user}   Groupname: {group}\n\tvhost: {}",
        state(s.state),
        clean(&s.vhost)
    );
    if let Some(agent) = s.user_agent.as_deref().filter(|agent| !agent.is_empty()) {
        out += &format!("   User-Agent: {}", clean(agent));
    }
    out.push('\n');
    if let Some(ip) = s.remote_ip {
        out += &format!(
            "\tRemote IP: {ip}   Location: {}\n",
            clean(s.location.as_deref().unwrap_or("unknown"))
        );
    }
    out + &format!(
        "\tIn use: {}   Activated: {}\n\tCertificate auth: {}\n",
        truth(s.in_use),
        truth(s.is_open),
        truth(s.tls_auth_ok)
    )
}

/// Sessions as JSON.
pub(super) fn json(sessions: &[Session]) -> String {
    let objects: Vec<Object> = sessions.iter().map(object).collect();
    array(&objects)
}

fn object(s: &Session) -> Object {
    let mut o = Object::default();
    o.text("Session", s.id.short())
        .text("Full session", s.id.as_str())
        .text("Created", time(s.created))
        .optional("Expires", s.expires.map(time))
        .text("State", state(s.state))
        .text("Username", none(s.username.as_deref()))
        .text("Groupname", none(s.groupname.as_deref()))
        .text("vhost", &s.vhost)
        .optional("User-Agent", s.user_agent.as_deref())
        .optional("Remote IP", s.remote_ip)
        .text("Location", s.location.as_deref().unwrap_or("unknown"))
        .number("session_is_open", s.is_open)
        .number("tls_auth_ok", s.tls_auth_ok)
        .number("in_use", s.in_use);
    o
}

/// The table of `show ip bans`: only addresses that are banned now.
pub(super) fn ban_table(bans: &[Ban], now: u64) -> String {
    let banned: Vec<_> = bans
        .iter()
        .filter_map(|ban| Some((ban, ban.banned_until?)))
        .collect();
    let mut out = String::new();
    if !banned.is_empty() {
        out += &format!("{:>14} {:>14} {:>30}\n", "IP", "score", "expires");
    }
    for (ban, until) in banned {
        let ip = ban.ip.to_string();
        out += &format!(
            "{ip:>14} {:>14} {:>30} ({})\n",
            ban.score,
            time(until),
            between(now, until)
        );
    }
    out
}

/// `show ip bans` as JSON; `Since` is the expiry, as in ocserv.
pub(super) fn ban_json(bans: &[Ban], now: u64) -> String {
    let objects: Vec<Object> = bans
        .iter()
        .filter_map(|ban| {
            let until = ban.banned_until?;
            let mut o = Object::default();
            o.text("IP", ban.ip.to_string())
                .text("Since", time(until))
                .text("_Since", between(now, until))
                .number("Score", ban.score);
            Some(o)
        })
        .collect();
    array(&objects)
}

/// The table of `show ip ban points`: all addresses that have points.
pub(super) fn point_table(bans: &[Ban]) -> String {
    let mut out = String::new();
    if !bans.is_empty() {
        out += &format!("{:>14} {:>14}\n", "IP", "score");
    }
    for ban in bans {
        out += &format!("{:>14} {:>14}\n", ban.ip.to_string(), ban.score);
    }
    out
}

/// `show ip ban points` as JSON.
pub(super) fn point_json(bans: &[Ban]) -> String {
    let objects: Vec<Object> = bans
        .iter()
        .map(|ban| {
            let mut o = Object::default();
            o.text("IP", ban.ip.to_string()).number("Score", ban.score);
            o
        })
        .collect();
    array(&objects)
}
