//! Doing one command (`specs/server-tools.md` §3.3).

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::commands::{self, Action, Parsed};
use super::format::{clean, name_or_none};
use super::{events, sessions, status, users};
use crate::client::{ClientError, Conversation};
use crate::messages::{Ban, Connection, Reply, Request, Session};

/// Length of a whole session id.
const SESSION_ID_LEN: usize = 28;
/// Characters of a session id in messages.
const SHORT_ID_LEN: usize = 6;

/// How commands are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) socket: PathBuf,
    pub(super) json: bool,
    pub(super) pager: bool,
    pub(super) debug: bool,
}

/// What a command printed and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: u8,
    pub(super) out: String,
    pub(super) err: String,
    /// Worth a pager.
    pub(super) long: bool,
    /// Leave the interactive mode.
    pub(super) leave: bool,
    /// Values that this listing showed, for completion: placeholder and value.
    pub(super) seen: Vec<(&'static str, String)>,
}

impl Outcome {
    pub(super) fn printed(code: u8, out: impl Into<String>) -> Self {
        Self {
            code,
            out: out.into(),
            ..Self::default()
        }
    }

    fn listing(out: String) -> Self {
        Self {
            out,
            long: true,
            ..Self::default()
        }
    }

    fn failed(err: impl Into<String>) -> Self {
        Self {
            code: 1,
            err: err.into(),
            ..Self::default()
        }
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|time| time.as_secs())
        .unwrap_or_default()
}

/// Runs one line.
pub(super) fn run(line: &str, settings: &Settings, interactive: bool) -> Outcome {
    match commands::parse(line, interactive) {
        Parsed::Nothing => Outcome {
            code: 1,
            ..Outcome::default()
        },
        Parsed::Incomplete(help) => Outcome::printed(1, help),
        Parsed::Unknown => Outcome::failed(format!(
            "unknown command: {}\nuse help or '?' to get a list of the available commands\n",
            clean(line)
        )),
        Parsed::Run(action, argument) => act(action, argument, settings, interactive)
            .unwrap_or_else(|error| Outcome::failed(format!("{error}\n"))),
    }
}

fn act(
    action: Action,
    argument: &str,
    settings: &Settings,
    interactive: bool,
) -> Result<Outcome, ClientError> {
    let shown = clean(argument);
    let text = |out: String| Ok(Outcome::printed(0, out));
    match action {
        Action::Help => text(commands::help(true)),
        Action::Exit => Ok(Outcome {
            leave: true,
            ..Outcome::default()
        }),
        // full reset of the terminal
        Action::Reset => text(if interactive && io::stdout().is_terminal() {
            "\u{1b}c".to_owned()
        } else {
            String::new()
        }),
        Action::Events => events::follow(settings),
        Action::Status => show_status(settings),
        Action::Users => show_users(settings),
        Action::User => show_user(settings, &Request::User(argument.to_owned())),
        Action::Id => with_id(argument, interactive, |id| show_user(settings, &Request::Id(id))),
        Action::Iroutes => show_iroutes(settings),
        Action::Bans => show_bans(settings),
        Action::BanPoints => show_ban_points(settings),
        Action::Sessions { valid_only } => show_sessions(settings, valid_only),
        Action::Session => show_session(settings, argument),
        Action::DisconnectUser => order(
            settings,
            &Request::DisconnectUser(argument.to_owned()),
            format!("user '{shown}' was disconnected"),
            format!("could not disconnect user '{shown}'"),
        ),
        Action::DisconnectId => with_id(argument, interactive, |id| {
            order(
                settings,
                &Request::DisconnectId(id),
                format!("connection ID '{shown}' was disconnected"),
                format!("could not disconnect ID '{shown}'"),
            )
        }),
        Action::TerminateUser => order(
            settings,
            &Request::TerminateUser(argument.to_owned()),
            format!("user '{shown}' was terminated (session invalidated)"),
            format!("could not terminate user '{shown}'"),
        ),
        Action::TerminateId => with_id(argument, interactive, |id| {
            order(
                settings,
                &Request::TerminateId(id),
                format!("connection ID '{shown}' was terminated (session invalidated)"),
                format!("could not terminate ID '{shown}'"),
            )
        }),
        Action::TerminateSession => terminate_session(settings, argument),
        Action::Unban => match argument.parse::<IpAddr>() {
            Err(_) => Ok(Outcome::failed(format!("Cannot parse IP: {shown}"))),
            Ok(ip) => order(
                settings,
                &Request::Unban(ip),
                format!("IP '{shown}' was unbanned"),
                format!("could not unban IP '{shown}'"),
            ),
        },
        Action::Reload => order(
            settings,
            &Request::Reload,
            "Server scheduled to reload",
            "Error scheduling reload",
        ),
        Action::Stop => order(
            settings,
            &Request::Stop,
            "Server scheduled to stop",
            "Error scheduling server stop",
        ),
    }
}

/// Has the server do something, and says whether it did.
fn order(
    settings: &Settings,
    request: &Request,
    yes: impl Into<String>,
    no: impl Into<String>,
) -> Result<Outcome, ClientError> {
    let reply = Conversation::begin(&settings.socket, request)?.reply()?;
    Ok(match reply {
        Reply::Done(true) => Outcome::printed(0, yes.into() + "\n"),
        _ => Outcome::printed(1, no.into() + "\n"),
    })
}

/// Reads an id as C's `atoi` does; 0 and no number at all show the help.
fn with_id(
    argument: &str,
    interactive: bool,
    act: impl FnOnce(u32) -> Result<Outcome, ClientError>,
) -> Result<Outcome, ClientError> {
    match leading_number(argument) {
        0 => Ok(Outcome::printed(1, commands::all_help(interactive))),
        // No connection has the largest id either.
        id => act(u32::try_from(id).unwrap_or(u32::MAX)),
    }
}

/// The number that a text begins with; 0 without one, the largest for what is too large.
fn leading_number(text: &str) -> i64 {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = digits.find(|character: char| !character.is_ascii_digit());
    let digits = end.and_then(|end| digits.get(..end)).unwrap_or(digits);
    if digits.is_empty() {
        return 0;
    }
    let number = digits.parse().unwrap_or(i64::MAX);
    if text.starts_with('-') { -number } else { number }
}

fn connections(settings: &Settings, request: &Request) -> Result<Vec<Connection>, ClientError> {
    Conversation::begin(&settings.socket, request)?.list(|reply| match reply {
        Reply::User(connection) => Some(*connection),
        _ => None,
    })
}

fn session_list(settings: &Settings, valid_only: bool) -> Result<Vec<Session>, ClientError> {
    Conversation::begin(&settings.socket, &Request::Sessions { valid_only })?.list(|reply| match reply {
        Reply::Session(session) => Some(*session),
        _ => None,
    })
}

fn bans(settings: &Settings) -> Result<Vec<Ban>, ClientError> {
    Conversation::begin(&settings.socket, &Request::Bans)?.list(|reply| match reply {
        Reply::Ban(ban) => Some(ban),
        _ => None,
    })
}

fn seen_users(connections: &[Connection]) -> Vec<(&'static str, String)> {
    let names = connections
        .iter()
        .filter_map(|c| c.username.clone())
        .map(|name| ("[NAME]", name));
    names
        .chain(connections.iter().map(|c| ("[ID]", c.id.to_string())))
        .collect()
}

fn show_status(settings: &Settings) -> Result<Outcome, ClientError> {
    let reply = match Conversation::begin(&settings.socket, &Request::Status) {
        Ok(mut conversation) => conversation.reply(),
        Err(error @ ClientError::Connect { .. }) => return Err(error),
        Err(error) => Err(error),
    };
    Ok(match reply {
        Ok(Reply::Status(status)) if settings.json => {
            Outcome::printed(0, status::json(&status, settings.debug, now()))
        }
        Ok(Reply::Status(status)) => Outcome::printed(0, status::text(&status, settings.debug, now())),
        _ => Outcome::printed(1, status::offline(settings.json)),
    })
}

fn show_users(settings: &Settings) -> Result<Outcome, ClientError> {
    let connections = connections(settings, &Request::Users)?;
    let out = if settings.json {
        users::json(&connections, now())
    } else {
        users::table(&connections, now())
    };
    Ok(Outcome {
        seen: seen_users(&connections),
        ..Outcome::listing(out)
    })
}

fn show_iroutes(settings: &Settings) -> Result<Outcome, ClientError> {
    let connections = connections(settings, &Request::Users)?;
    Ok(Outcome::listing(if settings.json {
        users::iroute_json(&connections)
    } else {
        users::iroute_table(&connections)
    }))
}

fn show_bans(settings: &Settings) -> Result<Outcome, ClientError> {
    let bans = bans(settings)?;
    let out = if settings.json {
        sessions::ban_json(&bans, now())
    } else {
        sessions::ban_table(&bans, now())
    };
    let seen = bans.iter().filter(|ban| ban.banned_until.is_some());
    let seen = seen.map(|ban| ("[IP]", ban.ip.to_string())).collect();
    Ok(Outcome {
        seen,
        ..Outcome::listing(out)
    })
}

fn show_ban_points(settings: &Settings) -> Result<Outcome, ClientError> {
    let bans = bans(settings)?;
    Ok(Outcome::listing(if settings.json {
        sessions::point_json(&bans)
    } else {
        sessions::point_table(&bans)
    }))
}

fn show_sessions(settings: &Settings, valid_only: bool) -> Result<Outcome, ClientError> {
    let list = session_list(settings, valid_only)?;
    let out = if settings.json {
        sessions::json(&list)
    } else {
        sessions::table(&list, now())
    };
    let seen = list
        .iter()
        .map(|session| ("[SID]", session.id.short().to_owned()))
        .collect();
    Ok(Outcome {
        seen,
        ..Outcome::listing(out)
    })
}

fn show_user(settings: &Settings, request: &Request) -> Result<Outcome, ClientError> {
    let found = connections(settings, request)?;
    if found.is_empty() {
        let out = if settings.json {
            users::json(&[], now())
        } else {
            "user or ID not found\n".to_owned()
        };
        return Ok(Outcome::printed(2, out));
    }
    let out = if settings.json {
        users::json(&found, now())
    } else {
        users::details(&found, now())
    };
    // the device's counters are the server's to read; a device that is gone has none
    let gone = found
        .iter()
        .filter(|c| c.traffic.is_none())
        .filter_map(|c| c.device.as_deref());
    let err = gone
        .map(|device| format!("nl: cannot find {}\n", clean(device)))
        .collect();
    Ok(Outcome {
        err,
        ..Outcome::listing(out)
    })
}

fn show_session(settings: &Settings, prefix: &str) -> Result<Outcome, ClientError> {
    let all = session_list(settings, false)?;
    let found = all
        .into_iter()
        .find(|session| session.id.as_str().starts_with(prefix));
    Ok(match (found, settings.json) {
        (Some(session), true) => Outcome::listing(sessions::json(&[session])),
        (Some(session), false) => Outcome::listing(sessions::detail(&session)),
        (None, true) => Outcome::printed(0, sessions::json(&[])),
        (None, false) => Outcome::printed(0, "Session ID not found or expired\n"),
    })
}

fn terminate_session(settings: &Settings, prefix: &str) -> Result<Outcome, ClientError> {
    let shown = clean(prefix);
    if prefix.len() > SESSION_ID_LEN {
        return Ok(Outcome::printed(1, format!("invalid session ID '{shown}'\n")));
    }
    let all = session_list(settings, false)?;
    let matching: Vec<_> = all
        .into_iter()
        .filter(|session| session.id.as_str().starts_with(prefix))
        .collect();
    let session = match matching.as_slice() {
        [] => {
            return Ok(Outcome::printed(
                1,
                format!("no session matching '{shown}' was found\n"),
            ));
        }
        [session] => session,
        several => {
            let mut out = format!(
                "ambiguous session ID '{shown}' matches {} sessions:\n",
                several.len()
            );
            for session in several {
                let user = name_or_none(session.username.as_deref());
                out += &format!("  {}  user: {user}\n", clean(session.id.as_str()));
            }
            out += "use the full session ID to terminate a specific session\n";
            return Ok(Outcome::printed(1, out));
        }
    };
    let short: String = clean(session.id.as_str()).chars().take(SHORT_ID_LEN).collect();
    let mut err = String::new();
    if session.in_use {
        let user = name_or_none(session.username.as_deref());
        err = format!(
            "warning: session '{short}' (user: {user}) has an active connection; the connection will not be dropped\n"
        );
    }
    let outcome = order(
        settings,
        &Request::TerminateSession(session.id.clone()),
        format!("session '{short}' was terminated"),
        format!("could not terminate session '{short}'"),
    )?;
    Ok(Outcome { err, ..outcome })
}
