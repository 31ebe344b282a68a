use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::process::{self, CommandExt as _, Pid};
use culvert_sys::signal;
use socket2::{Domain, Socket, Type};

use super::environment::Variable;
use crate::prompt::reason;
use crate::signals::{Signal, Signals, WaitError};

/// How long a running script may go on after a signal wants the client to end.
const GRACE: Duration = Duration::from_secs(10);
/// The descriptor under which a `--script-tun` program finds its packets.
const TUN_FD: i32 = 3;

/// A script that did not do its work. The session goes on all the same.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The shell could not be started.
    #[error("Failed to spawn script '{}': {}", .command.to_string_lossy(), reason(.source))]
    Spawn {
        /// The command line.
        command: OsString,
        /// Why.
        source: io::Error,
    },
    /// Exit status other than 0.
    #[error("Script '{}' returned error {code}", .command.to_string_lossy())]
    Failed {
        /// The command line.
        command: OsString,
        /// Its exit status.
        code: i32,
    },
    /// Ended by a signal.
    #[error("Script '{}' exited abnormally ({status:x})", .command.to_string_lossy())]
    Abnormal {
        /// The command line.
        command: OsString,
        /// Its wait status.
        status: i32,
    },
}

/// How a script run ended.
#[derive(Debug)]
pub struct Ran {
    /// What to tell the user if it failed.
    pub result: Result<(), RunError>,
    /// A signal that came meanwhile and is still to be obeyed.
    pub signal: Option<Signal>,
}

fn shell(command: &OsStr, variables: &[Variable]) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0).default_signals();
    for (name, value) in variables {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Runs `/bin/sh -c COMMAND` in a process group of its own and waits for its end. A signal that
/// wants the client to end leaves the script ten seconds; a second one, or their end, kills it.
pub fn run_script(command: &OsStr, variables: &[Variable], signals: &Signals) -> Ran {
    let spawn_error = |source| RunError::Spawn {
        command: command.to_owned(),
        source,
    };
    let mut child = match shell(command, variables).spawn() {
        Ok(child) => child,
        Err(source) => {
            return Ran {
                result: Err(spawn_error(source)),
                signal: None,
            };
        }
    };
    let mut signal = None;
    let status = wait(&mut child, signals, &mut signal);
    let result = match status {
        Err(source) => Err(spawn_error(source)),
        Ok(status) => judge(command, status),
    };
    Ran { result, signal }
}

fn judge(command: &OsStr, status: ExitStatus) -> Result<(), RunError> {
    let command = command.to_owned();
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(RunError::Failed { command, code }),
        None => Err(RunError::Abnormal {
            command,
            status: status.into_raw(),
        }),
    }
}

fn wait(child: &mut Child, signals: &Signals, pending: &mut Option<Signal>) -> io::Result<ExitStatus> {
    let pid = Pid::try_from(child.id()).unwrap_or_default();
    let ended = process::pidfd(pid)?;
    let mut deadline = None;
    loop {
        match signals.wait(&[(ended.as_fd(), Interest::READ)], deadline) {
            Ok(()) => return child.wait(),
            Err(WaitError::Interrupted(Signal::Statistics)) => {}
            Err(WaitError::Interrupted(Signal::Reconnect)) => {
                pending.get_or_insert(Signal::Reconnect);
            }
            Err(WaitError::Interrupted(signal)) if deadline.is_none() => {
                *pending = Some(signal);
                deadline = Some(Instant::now() + GRACE);
            }
            Err(_) => {
                // The group may be gone already.
                let _ = process::kill_group(pid, signal::SIGKILL);
                return child.wait();
            }
        }
    }
}

/// The program behind `--script-tun` (`specs/client.md` §12.5).
#[derive(Debug)]
pub struct ScriptTun {
    child: Child,
    /// Becomes readable when the program ends.
    ended: OwnedFd,
}

impl ScriptTun {
    /// Starts the program and returns it with our end of the socket: one IP packet per datagram.
    ///
    /// # Errors
    /// The socket pair or the process could not be made.
    pub fn start(command: &OsStr, variables: &[Variable]) -> Result<(Self, OwnedFd), RunError> {
        let error = |source| RunError::Spawn {
            command: command.to_owned(),
            source,
        };
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::DGRAM, None).map_err(error)?;
        ours.set_nonblocking(true).map_err(error)?;
        let mut shell = shell(command, variables);
        shell.env("VPNFD", TUN_FD.to_string());
        shell.pass_descriptors(vec![(theirs.into(), TUN_FD)]);
        let child = shell.spawn().map_err(error)?;
        let ended = process::pidfd(Pid::try_from(child.id()).unwrap_or_default()).map_err(error)?;
        Ok((Self { child, ended }, ours.into()))
    }

    /// Becomes readable when the program ends.
    pub fn ended(&self) -> impl AsFd + '_ {
        &self.ended
    }
}

impl Drop for ScriptTun {
    /// The whole process group gets SIGHUP.
    fn drop(&mut self) {
        if let Ok(pid) = Pid::try_from(self.child.id()) {
            // It may have ended already.
            let _ = process::kill_group(pid, signal::SIGHUP);
        }
        let _ = self.child.try_wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &str, variables: &[Variable]) -> Ran {
        let signals = Signals::new().expect("signalfd");
        run_script(OsStr::new(command), variables, &signals)
    }

    #[test]
    fn exit_status_becomes_a_message() {
        assert!(run("exit 0", &[]).result.is_ok());
        let text = |command: &str| run(command, &[]).result.err().map(|error| error.to_string());
        assert_eq!(text("exit 3"), Some("Script 'exit 3' returned error 3".into()));
        assert_eq!(
            text("kill -9 $$"),
            Some("Script 'kill -9 $$' exited abnormally (9)".into())
        );
        assert_eq!(
            text("/nonexistent/script"),
            Some("Script '/nonexistent/script' returned error 127".into())
        );
    }

    #[test]
    fn variables_are_set_and_removed() {
        let variables = [
            ("reason".to_owned(), Some("connect".to_owned())),
            ("PATH_TO_NOTHING".to_owned(), None),
        ];
        assert!(
            run(
                "test \"$reason\" = connect && test -z \"${PATH_TO_NOTHING+x}\"",
                &variables
            )
            .result
            .is_ok()
        );
    }

    #[test]
    fn the_script_has_a_process_group_and_no_blocked_signals() {
        assert!(
            run("test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$", &[])
                .result
                .is_ok()
        );
        // The shell itself blocks signals while it waits for a command.
        let mask = "exec grep -q 'SigBlk:.0000000000000000' /proc/self/status";
        assert!(run(mask, &[]).result.is_ok());
    }

    #[test]
    fn packets_go_to_the_program_and_back() {
        let command = "dd bs=2000 count=1 <&$VPNFD >&$VPNFD 2>/dev/null";
        let (program, fd) = ScriptTun::start(OsStr::new(command), &[]).expect("started");
        let socket = Socket::from(fd);
        socket.set_nonblocking(false).expect("a socket");
        socket.send(b"one packet").expect("sent");
        let mut answer = [0; 64];
        let count = std::io::Read::read(&mut (&socket), &mut answer).expect("answer");
        assert_eq!(&answer[..count], b"one packet");
        let signals = Signals::new().expect("signalfd");
        signals
            .wait(&[(program.ended.as_fd(), Interest::READ)], None)
            .expect("its end is seen");
    }
}
