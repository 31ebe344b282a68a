//! Where messages go (`specs/client.md` §4).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use culvert_sys::syslog;

use crate::options::OutputOptions;

/// Importance of a message: it is shown when the level is not above `-v`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Always shown.
    Error,
    /// Shown unless `-q`.
    Info,
    /// Shown with `-v`.
    Debug,
    /// Shown with `-vv`.
    Trace,
}

/// The stream of progress messages.
#[derive(Debug)]
pub struct Output {
    level: u32,
    timestamp: bool,
    /// Stdout carries a result: progress goes to stderr.
    to_stderr: bool,
    syslog: AtomicBool,
}

impl Output {
    /// Messages as the options ask. `result_on_stdout` keeps progress off stdout.
    pub fn new(options: &OutputOptions, result_on_stdout: bool) -> Self {
        Self {
            level: options.level,
            timestamp: options.timestamp,
            to_stderr: result_on_stdout,
            syslog: AtomicBool::new(false),
        }
    }

    /// The level for scripts (`LOG_LEVEL`).
    pub fn level(&self) -> u32 {
        self.level
    }

    /// True when a message of this level is shown.
    pub fn shows(&self, level: Level) -> bool {
        level as u32 <= self.level
    }

    /// From now on messages go to syslog only.
    pub fn switch_to_syslog(&self) {
        syslog::open("openconnect", syslog::LOG_DAEMON);
        self.syslog.store(true, Ordering::Relaxed);
    }

    /// A progress message. Control characters in it are made harmless.
    pub fn progress(&self, level: Level, text: &str) {
        if self.shows(level) {
            self.write(level, text);
        }
    }

    /// An error.
    pub fn error(&self, text: &str) {
        self.progress(Level::Error, text);
    }

    /// Normal information.
    pub fn info(&self, text: &str) {
        self.progress(Level::Info, text);
    }

    /// Detail for `-v`.
    pub fn debug(&self, text: &str) {
        self.progress(Level::Debug, text);
    }

    /// Detail for `-vv`.
    pub fn trace(&self, text: &str) {
        self.progress(Level::Trace, text);
    }

    /// A message of level 1 that appears even with `-q`: the statistics that a signal asks for.
    pub fn always(&self, text: &str) {
        self.write(Level::Info, text);
    }

    fn write(&self, level: Level, text: &str) {
        let text = printable(text);
        if self.syslog.load(Ordering::Relaxed) {
            let priority = match level {
                Level::Error => syslog::LOG_NOTICE,
                _ => syslog::LOG_INFO,
            };
            syslog::log(priority, &text);
            return;
        }
        let line = if self.timestamp {
            format!("[{}] {text}\n", chrono::Local::now().format("%Y-%m-%d %H:%M:%S"))
        } else {
            format!("{text}\n")
        };
        // A closed stdout must not end the tunnel.
        let _ = if level == Level::Error || self.to_stderr {
            io::stderr().write_all(line.as_bytes())
        } else {
            let mut stdout = io::stdout();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
        };
    }
}

/// `text` with everything that could steer a terminal or fake another line replaced by `?`: control
/// characters except tab and line feed, and the bidirectional overrides.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '?',
            _ if c.is_control() => '?',
            _ => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_peers_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\rc\u{9b}d\u{202e}e"), "a?[2Jb?c?d?e");
        assert_eq!(printable("line\n\tind\u{e9}nted"), "line\n\tind\u{e9}nted");
    }

    #[test]
    fn levels() {
        let output = Output::new(
            &OutputOptions {
                level: 1,
                ..OutputOptions::default()
            },
            false,
        );
        assert!(output.shows(Level::Error) && output.shows(Level::Info));
        assert!(!output.shows(Level::Debug));
    }
}
