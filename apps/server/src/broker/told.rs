//! What the log says of logins and sessions, in the words of ocserv 1.1.6: fail2ban and monitoring look
//! for them. Some of it ocserv's workers say; here only the broker knows.

use std::net::IpAddr;

use culvert_vocab::{SafeId, UserName};

use crate::log::{self, Level};
use crate::sessions::Session;

/// A line about a login on the virtual host of this name.
pub(super) fn login(level: Level, host: &str, text: &str) {
    let host = match host {
        "default" => String::new(),
        name => format!("vhost:{name}: "),
    };
    log::write(level, &format!("sec-mod: {host}{text}"));
}

/// A client has opened a tunnel.
pub(super) fn opened(session: &Session) {
    let (user, id) = (&session.user, session.id.short());
    let text = format!("initiating session for user '{user}' (session: {id})");
    login(Level::Info, &session.host, &text);
}

/// The connection of a session has gone; its cookie stays good.
pub(super) fn closed(user: &UserName, id: &SafeId) {
    let text = format!("temporarily closing session for {user} (session: {})", id.short());
    log::write(Level::Info, &format!("sec-mod: {text}"));
}

/// A session has ended.
pub(super) fn ended(user: &UserName, id: &SafeId) {
    let text = format!("session of user '{user}' (session: {})", id.short());
    log::write(Level::Info, &format!("sec-mod: invalidating {text}"));
    log::write(Level::Debug, &format!("sec-mod: permanently closing {text}"));
}

/// A login has failed for good.
pub(super) fn failed(user: Option<&UserName>, peer: IpAddr) {
    let (label, user) = match user {
        Some(user) => (format!("[{user}]"), user.as_str()),
        None => (String::new(), ""),
    };
    let text = format!("worker{label}: {peer} failed authentication for '{user}'");
    log::write(Level::Error, &text);
}

/// What a client certificate is worth.
pub(super) fn certificate(peer: IpAddr, judged: Result<(), &str>) {
    let verdict = match judged {
        Ok(()) => "succeeded".to_owned(),
        Err(problem) => format!("failed: {problem}"),
    };
    let text = format!("worker: {peer} client certificate verification {verdict}");
    log::write(Level::Info, &text);
}
