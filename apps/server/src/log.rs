//! The log of the privileged processes: syslog and standard error (`specs/server-config.md` §3).
//!
//! Workers and the zygote have neither; they send their lines to main.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use culvert_server_config::SyslogFacility;
use culvert_sys::syslog as system;

pub(crate) use crate::ipc::messages::LogLevel as Level;

/// Longest message, in octets; the rest is cut off.
const MESSAGE_MAX: usize = 512;

/// Where lines go and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `log-level` or `-d`, 0 to 9.
    pub(crate) level: u8,
    /// Lines on standard error.
    pub(crate) stderr: Option<StderrStyle>,
    /// Lines in the system log, with this facility.
    pub(crate) syslog: Option<i32>,
}

/// How a line looks on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StderrStyle {
    /// The message alone (`--log-stderr`).
    Plain,
    /// `ocserv[PID]: ` first (`-d` alone).
    WithPid,
    /// The message alone, with its priority as `<N>` first: standard error is the journal
    /// (sd-daemon(3)).
    Journal,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets where lines go. The first call in a process counts.
pub(crate) fn init(mut settings: Settings) {
    if settings.stderr == Some(StderrStyle::Plain) && is_journal() {
        settings.stderr = Some(StderrStyle::Journal);
    }
    if let Some(facility) = settings.syslog {
        system::open("ocserv", facility);
    }
    let _first_call_counts = SETTINGS.set(settings);
}

/// True when standard error is the stream that systemd says goes to its journal.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = std::io::stderr();
    let file = stderr.as_fd().try_clone_to_owned().map(std::fs::File::from);
    let found = file.and_then(|file| file.metadata());
    found.is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

/// True when a line of this level would be written anywhere.
pub(crate) fn enabled(level: Level) -> bool {
    SETTINGS
        .get()
        .is_some_and(|settings| passes(settings.level, level))
}

/// Writes a line of this process. `message` begins with the part of the server that speaks
/// (`main: `, `sec-mod: `).
pub(crate) fn write(level: Level, message: &str) {
    write_for(std::process::id(), level, message);
}

/// Writes a line in the name of process `pid` (a worker's).
pub(crate) fn write_for(pid: u32, level: Level, message: &str) {
    let Some(settings) = SETTINGS.get().filter(|settings| passes(settings.level, level)) else {
        return;
    };
    let message = printable(message);
    if settings.syslog.is_some() {
        system::log(priority(level), &message);
    }
    // A closed standard error must not end a server that also has the system log.
    // One call per line: main and broker write to the same file.
    let line = match settings.stderr {
        Some(StderrStyle::Plain) => format!("{message}\n"),
        Some(StderrStyle::WithPid) => format!("ocserv[{pid}]: {message}\n"),
        Some(StderrStyle::Journal) => format!("<{}>{message}\n", priority(level)),
        None => return,
    };
    let _written = std::io::stderr().write_all(line.as_bytes());
}

/// `message` with control characters escaped and cut to [`MESSAGE_MAX`] octets: much of it comes
/// from clients.
pub(crate) fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(MESSAGE_MAX));
    for character in message.chars() {
        let before = text.len();
        if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            let _infallible = write!(text, "{}", character.escape_default());
        } else {
            text.push(character);
        }
        if text.len() > MESSAGE_MAX {
            text.truncate(before);
            break;
        }
    }
    text
}

/// Number of a configured facility.
pub(crate) fn facility_number(facility: SyslogFacility) -> i32 {
    match facility {
        SyslogFacility::Daemon => system::LOG_DAEMON,
        SyslogFacility::User => system::LOG_USER,
        SyslogFacility::Auth => system::LOG_AUTH,
        SyslogFacility::AuthPriv => system::LOG_AUTHPRIV,
        SyslogFacility::Local(0) => system::LOG_LOCAL0,
        SyslogFacility::Local(1) => system::LOG_LOCAL1,
        SyslogFacility::Local(2) => system::LOG_LOCAL2,
        SyslogFacility::Local(3) => system::LOG_LOCAL3,
        SyslogFacility::Local(4) => system::LOG_LOCAL4,
        SyslogFacility::Local(5) => system::LOG_LOCAL5,
        SyslogFacility::Local(6) => system::LOG_LOCAL6,
        SyslogFacility::Local(_) => system::LOG_LOCAL7,
    }
}

/// Name of a configured facility.
pub(crate) fn facility_name(facility: SyslogFacility) -> String {
    match facility {
        SyslogFacility::Daemon => "daemon".to_owned(),
        SyslogFacility::User => "user".to_owned(),
        SyslogFacility::Auth => "auth".to_owned(),
        SyslogFacility::AuthPriv => "authpriv".to_owned(),
        SyslogFacility::Local(number) => format!("local{number}"),
    }
}

/// Whether a line of this level is written. Level 0 behaves like 2 for everything that an administrator needs.
pub(crate) fn passes(configured: u8, level: Level) -> bool {
    let needed = match level {
        Level::Error | Level::Warning | Level::Notice => 0,
        Level::Info => 2,
        Level::Debug => 3,
        Level::Http => 4,
        Level::Sensitive => 8,
    };
    let configured = if configured == 0 { 2 } else { configured };
    configured >= needed
}

fn priority(level: Level) -> i32 {
    match level {
        Level::Error => system::LOG_ERR,
        Level::Warning => system::LOG_WARNING,
        Level::Notice => system::LOG_NOTICE,
        Level::Info => system::LOG_INFO,
        Level::Debug | Level::Http | Level::Sensitive => system::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_text_cannot_forge_lines() {
        assert_eq!(
            printable("a\nmain: b\u{1b}[2J\u{202e}"),
            "a\\nmain: b\\u{1b}[2J\\u{202e}"
        );
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let long = "ä".repeat(400);
        let cut = printable(&long);
        assert_eq!(cut.len(), MESSAGE_MAX);
        assert!(long.starts_with(&cut));
    }

    #[test]
    fn levels() {
        assert!(passes(1, Level::Notice) && !passes(1, Level::Info));
        assert!(passes(0, Level::Info) && !passes(0, Level::Debug));
        assert!(passes(3, Level::Debug) && !passes(3, Level::Http));
        assert!(passes(8, Level::Sensitive) && !passes(7, Level::Sensitive));
    }

    #[test]
    fn names_of_facilities_are_read_back() {
        for name in ["daemon", "user", "auth", "authpriv", "local0", "local7"] {
            assert_eq!(
                SyslogFacility::from_name(name).map(facility_name).as_deref(),
                Some(name)
            );
        }
    }
}
