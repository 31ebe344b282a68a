use culvert_wire::http::Request;

use crate::ipc::fields::Text;
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, MainToWorker, WorkerToMain};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines that may be sent per [`WINDOW`]: with fewer than half of what main takes, main's intervals
/// may lie as they will.
const LINES: u32 = 400;
/// The interval for [`LINES`].
const WINDOW: Duration = Duration::from_secs(30);

/// Headers whose values let others in.
const SECRET_HEADERS: [&str; 5] = [
    "Cookie",
    "Authorization",
    "Proxy-Authorization",
    "X-DTLS-Master-Secret",
    "X-AnyConnect-STRAP-Verify",
];

/// A worker's channel to main: log lines, reports, orders.
pub(super) struct Reporter {
    main: Blocking,
    level: u8,
    /// Messages wait for room in the channel.
    patient: bool,
    sent: Mutex<Sent>,
}

/// Lines sent in the present window.
struct Sent {
    since: Instant,
    lines: u32,
}

impl Reporter {
    /// `level` is the configured log level: lines that main would drop are not sent.
    pub(super) fn new(main: Blocking, level: u8) -> Self {
        let sent = Mutex::new(Sent {
            since: Instant::now(),
            lines: 0,
        });
        let patient = true;
        Self {
            main,
            level,
            patient,
            sent,
        }
    }

    /// For a process that others wait for, too: what main does not take at once is dropped.
    pub(super) fn impatient(main: Blocking, level: u8) -> Self {
        Self {
            patient: false,
            ..Self::new(main, level)
        }
    }

    /// Writes a log line. Too many, as junk from the network may cause, are dropped.
    pub(super) fn log(&self, level: LogLevel, text: &str) {
        if crate::log::passes(self.level, level)
            && let Some(text) = self.limited(text)
        {
            self.tell(&WorkerToMain::Log {
                level,
                text: Text::truncated(text),
            });
        }
    }

    /// Writes the head of a request, `log-level` 4: a line each. Secrets are shown from 8 on only.
    pub(super) fn log_request(&self, request: &Request, secret_query: bool) {
        let path = request.target.split('?').next().unwrap_or_default();
        let target = if secret_query { path } else { &request.target };
        let line = format!("HTTP {} {target}", request.method);
        self.log(LogLevel::Debug, &line);
        if !crate::log::passes(self.level, LogLevel::Http) {
            return;
        }
        let secrets = crate::log::passes(self.level, LogLevel::Sensitive);
        for (name, value) in request.headers.iter() {
            let hidden = !secrets
                && SECRET_HEADERS
                    .iter()
                    .any(|secret| name.eq_ignore_ascii_case(secret));
            let value = if hidden { "(hidden)" } else { value };
            self.log(LogLevel::Http, &format!("HTTP header: {name}: {value}"));
        }
    }

    /// The line, in its place the last one of this window, or nothing.
    fn limited<'t>(&self, text: &'t str) -> Option<&'t str> {
        // Only a panic inside of these lines can fail here.
        let mut sent = self.sent.try_lock().ok()?;
        if sent.since.elapsed() >= WINDOW {
            sent.since = Instant::now();
            sent.lines = 0;
        }
        sent.lines = sent.lines.saturating_add(1);
        match sent.lines {
            ..LINES => Some(text),
            LINES => Some("too many log lines; the rest is dropped"),
            _ => None,
        }
    }

    /// Sends a message. When main is gone this worker ends anyway: its channel says so.
    pub(super) fn tell(&self, message: &WorkerToMain) {
        let _main_gone = if self.patient {
            self.main.send(message, &[])
        } else {
            self.main.send_now(message, &[])
        };
    }

    /// The next order of main; see [`Blocking::receive`].
    pub(super) fn order(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<(MainToWorker, Vec<OwnedFd>)>, LinkError> {
        self.main.receive(deadline)
    }
}

impl Reporter {
    /// What main has said; [`LinkError::Timeout`] when it has not.
    pub(super) fn order_now(&self) -> Result<Option<(MainToWorker, Vec<OwnedFd>)>, LinkError> {
        self.main.receive_now()
    }
}

impl AsFd for Reporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use culvert_sys::channel::Channel;

    use super::*;

    #[test]
    fn lines_are_limited() {
        let (near, _far) = Channel::pair().unwrap();
        let reporter = Reporter::new(Blocking::new(near), 0);
        let sent = (0..3 * LINES).filter_map(|_| reporter.limited("line")).count();
        assert_eq!(sent, LINES as usize);
        reporter.sent.lock().unwrap().since -= WINDOW;
        assert_eq!(reporter.limited("line"), Some("line"));
    }
}
