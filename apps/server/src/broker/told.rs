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

/// A name that anybody may have typed. Filters of the log look for addresses between blanks: a name must
/// not bring its own.
pub(super) fn name(user: &UserName) -> String {
    let shown = |character: char| match character.is_whitespace() {
        true => character.escape_unicode().to_string(),
        false => character.to_string(),
    };
    user.as_str().chars().map(shown).collect()
}

/// A client has opened a tunnel.
pub(super) fn opened(session: &Session) {
    let (user, id) = (&session.user, session.id.short());
    let text = format!("initiating session for user '{user}' (session: {id})");
    login(Level::Info, &session.host, &text);
}

/// A cookie opens nothing: there is no such session, or none any more.
pub(super) fn no_session() {
    log::write(Level::Notice, "sec-mod: session open but with non-existing SID!");
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
    let user = user.map(name).unwrap_or_default();
    let label = match user.as_str() {
        "" => String::new(),
        user => format!("[{user}]"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_address_of_another() {
        for (typed, shown) in [
            ("DOM\\o'neill", "DOM\\o'neill"),
            ("user name", "user\\u{20}name"),
            (
                "x]: 192.0.2.9 failed authentication for 'y",
                "x]:\\u{20}192.0.2.9\\u{20}failed\\u{20}authentication\\u{20}for\\u{20}'y",
            ),
            ("a\u{2003}b", "a\\u{2003}b"),
        ] {
            assert_eq!(name(&UserName::new(typed).unwrap()), shown);
        }
    }
}
