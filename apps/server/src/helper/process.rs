//! Starting helpers and what becomes of them, on the broker's side.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

use culvert_sys::channel::Channel;
use culvert_sys::process::{CommandExt as _, kill_group};
use culvert_sys::sandbox;
use culvert_sys::signal::SIGKILL;
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::HELPER_TITLE;
use super::messages::{Assignment, BrokerToHelper};
use crate::ipc::Message;
use crate::ipc::link::{self, LinkError, Receiver, Sender};
use crate::ipc::messages::LogLevel;
use crate::log;
use crate::startup::CHANNEL_NUMBER;

/// Time for a helper that is no longer wanted to clean up by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Lines that a helper may have written into the log in [`LOG_TIME`]: foreign code must not fill it.
const LOG_LINES: u32 = 1000;
const LOG_TIME: Duration = Duration::from_secs(30);

/// A helper could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The system refused.
    #[error("cannot start a helper process: {0}")]
    Start(#[from] io::Error),
    /// It could not be told what to do.
    #[error("cannot speak to a helper process: {0}")]
    Link(#[from] LinkError),
}

/// A running helper. Dropping this ends it.
pub(crate) struct Process {
    /// To it.
    pub(crate) sender: Sender,
    /// From it.
    pub(crate) receiver: Receiver,
    logged: LogAllowance,
    end: Ending,
}

/// How much a helper has had written into the log.
#[derive(Debug)]
struct LogAllowance {
    since: Instant,
    lines: u32,
}

impl LogAllowance {
    fn new(now: Instant) -> Self {
        Self { since: now, lines: 0 }
    }

    /// What becomes of the next line: it is written (`Some(true)`), or left out, which is said once.
    fn spend(&mut self, now: Instant) -> Option<bool> {
        if now.duration_since(self.since) >= LOG_TIME {
            *self = Self::new(now);
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..=LOG_LINES => Some(true),
            lines if lines == LOG_LINES + 1 => Some(false),
            _ => None,
        }
    }
}

/// The end of a helper: dropping this asks for it.
struct Ending {
    /// Nothing is sent on it.
    _wanted: oneshot::Sender<()>,
    happened: oneshot::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts a helper with this task. `place` is dropped when its process has ended. Call this on the
    /// thread that lives as long as the program, inside a `LocalSet`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start<T: 'static>(assignment: Assignment, place: T) -> Result<Self, StartError> {
        let (near, far) = Channel::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(HELPER_TITLE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .pass_descriptors(vec![(far.into_fd(), CHANNEL_NUMBER)])
            .parent_death_signal(SIGKILL)
            .default_signals();
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn()?;
        // The copy of the far end in `command` would keep the channel open.
        drop(command);
        let (sender, receiver) = link::split(near)?;
        let (wanted, want) = oneshot::channel();
        let (tell, happened) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let status = reap(child, want).await;
            drop(place);
            let _nobody_asks = tell.send(status);
        });
        sender.send(&BrokerToHelper::Begin(Box::new(assignment)), Vec::new())?;
        let end = Ending {
            _wanted: wanted,
            happened,
        };
        Ok(Self {
            sender,
            receiver,
            logged: LogAllowance::new(Instant::now()),
            end,
        })
    }

    /// The next message; `None` when there will be none. A helper that breaks the protocol is one
    /// that says nothing more.
    pub(crate) async fn receive<M: Message>(&mut self) -> Option<M> {
        match self.receiver.receive().await {
            Ok(message) => message.map(|(message, _none)| message),
            Err(error) => {
                log::write(LogLevel::Error, &format!("sec-mod: helper process: {error}"));
                None
            }
        }
    }

    /// Writes into the log what the helper (`whose`) says or has done.
    pub(crate) fn log(&mut self, level: LogLevel, whose: &str, text: impl fmt::Display) {
        if !log::enabled(level) {
            return;
        }
        match self.logged.spend(Instant::now()) {
            Some(true) => log::write(level, &format!("sec-mod: {whose}{text}")),
            Some(false) => {
                let text = format!("sec-mod: {whose} has too much to say: lines are left out");
                log::write(LogLevel::Warning, &text);
            }
            None => {}
        }
    }

    /// How a helper ended that says nothing more, for the log; ends it if it has not.
    pub(crate) async fn ended(self) -> String {
        let Self {
            sender,
            receiver,
            end,
            ..
        } = self;
        drop((sender, receiver));
        let Ending { _wanted, happened } = end;
        drop(_wanted);
        match happened.await {
            Ok(Some(status)) => describe(status),
            Ok(None) | Err(_) => "ended".to_owned(),
        }
    }
}

/// Waits for the end of a helper, or for the wish that it ends.
async fn reap(mut child: Child, want: oneshot::Receiver<()>) -> Option<ExitStatus> {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    tokio::select! {
        status = child.wait() => return status.ok(),
        _ = want => {}
    }
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status.ok();
    }
    // With whatever foreign code has started.
    if let Some(group) = group {
        let _gone_already = kill_group(group, SIGKILL);
    }
    child.wait().await.ok()
}

/// What a helper has tried that no helper may: it is in a stranger's hands, or this system's libraries
/// need more than is allowed. It ends by SIGSYS.
pub(crate) fn describe_forbidden(call: [u8; 4]) -> String {
    let call = u32::from_le_bytes(call);
    let name = sandbox::system_call_name(call).unwrap_or("unnamed");
    format!("tried system call {call} ({name}), which no helper may: it is killed")
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_too_much_is_heard_less() {
        let now = Instant::now();
        let mut allowance = LogAllowance::new(now);
        for _ in 0..LOG_LINES {
            assert_eq!(allowance.spend(now), Some(true));
        }
        assert_eq!(allowance.spend(now), Some(false));
        assert_eq!(allowance.spend(now + LOG_TIME / 2), None);
        assert_eq!(allowance.spend(now + LOG_TIME), Some(true));
    }
}
