//! Programs that look at this host for a gateway (`specs/client.md` §15): in a session of their
//! own, as `--csd-user` if there is one.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::process::{self, CommandExt as _, Pid};
use culvert_sys::{signal, user};

use crate::options::UserIds;
use crate::prompt::reason;
use crate::signals::{Signal, Signals, WaitError, is_readable};

/// Most octets that a program may write.
const OUTPUT_MAX: usize = 1 << 20;

/// Variables of the user that a program of the server gets.
const HARMLESS: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TERM", "TMPDIR"];

/// A program to run.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    /// Its file. It is not searched for, and there is no shell.
    pub(crate) program: &'a Path,
    /// Its arguments, which may be secrets.
    pub(crate) arguments: Vec<OsString>,
    /// Variables beside those of this process; `None` takes one away.
    pub(crate) environment: Vec<(&'a str, Option<String>)>,
    /// Who it runs as, if not as this process.
    pub(crate) user: Option<UserIds>,
    /// What becomes of its standard output.
    pub(crate) output: HelperOutput,
    /// It is killed when it takes longer.
    pub(crate) limit: Duration,
    /// It comes from the server: the user's input, which may be his password, and his
    /// environment are none of its business.
    pub(crate) foreign: bool,
}

/// What becomes of a program's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelperOutput {
    /// Part of our standard error.
    Shown,
    /// Returned.
    Taken,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What it wrote, if that was taken.
    pub(crate) output: Vec<u8>,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// A signal wants the client to end or to connect anew; the program was killed.
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// It could not be started.
    #[error("Failed to run '{}': {}", .program.display(), reason(.source))]
    Start {
        /// Its file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such user any more.
    #[error("Failed to run '{}': user {user} has no home directory", .program.display())]
    Homeless {
        /// Its file.
        program: PathBuf,
        /// Id of the user.
        user: u32,
    },
    /// It took too long and was killed.
    #[error("'{}' did not end within {} seconds", .program.display(), .limit.as_secs())]
    TimedOut {
        /// Its file.
        program: PathBuf,
        /// Time it had.
        limit: Duration,
    },
    /// It wrote too much and was killed.
    #[error("'{}' wrote more than {OUTPUT_MAX} octets", .0.display())]
    TooMuch(PathBuf),
}

impl Helper<'_> {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// See [`HelperError`].
    pub(crate) fn run(self, signals: &Signals) -> Result<Finished, HelperError> {
        let program = self.program.to_owned();
        let start = |source| HelperError::Start {
            program: program.clone(),
            source,
        };
        let deadline = Instant::now() + self.limit;
        let mut command = self.command()?;
        let child = command.spawn().map_err(start)?;
        let mut running = Running::new(child).map_err(start)?;
        let ended = running.wait(signals, deadline);
        match ended {
            Ok(status) => Ok(Finished {
                status,
                output: running.output,
            }),
            Err(end) => {
                running.kill();
                Err(match end {
                    End::Interrupted(signal) => HelperError::Interrupted(signal),
                    End::TimedOut => HelperError::TimedOut {
                        program,
                        limit: self.limit,
                    },
                    End::TooMuch => HelperError::TooMuch(program),
                    End::Io(source) => HelperError::Start { program, source },
                })
            }
        }
    }

    fn command(&self) -> Result<Command, HelperError> {
        // Before the working directory changes, and so that nothing is searched for.
        let program = std::path::absolute(self.program).map_err(|source| HelperError::Start {
            program: self.program.to_owned(),
            source,
        })?;
        let mut command = Command::new(program);
        command.args(&self.arguments).new_session().default_signals();
        if self.foreign {
            let harmless = HARMLESS
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?)));
            command.env_clear().envs(harmless).stdin(Stdio::null());
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(UserIds { uid, gid }) = self.user {
            let found = user::by_uid(uid).ok().flatten();
            let home = found.ok_or_else(|| HelperError::Homeless {
                program: self.program.to_owned(),
                user: uid,
            })?;
            command
                .uid(uid)
                .gid(gid)
                .env("HOME", &home.home)
                .current_dir(&home.home);
        }
        match self.output {
            HelperOutput::Taken => {
                command.stdout(Stdio::piped());
            }
            HelperOutput::Shown => {
                if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
                    command.stdout(stderr);
                }
            }
        }
        Ok(command)
    }
}

enum End {
    Interrupted(Signal),
    TimedOut,
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Running {
    child: Child,
    /// Readable when the child has ended.
    ended: OwnedFd,
    stdout: Option<ChildStdout>,
    output: Vec<u8>,
}

impl Running {
    fn new(mut child: Child) -> io::Result<Self> {
        let pid = Pid::try_from(child.id()).unwrap_or_default();
        Ok(Self {
            ended: process::pidfd(pid)?,
            stdout: child.stdout.take(),
            child,
            output: Vec::new(),
        })
    }

    fn wait(&mut self, signals: &Signals, deadline: Instant) -> Result<ExitStatus, End> {
        loop {
            let mut descriptors = vec![(self.ended.as_fd(), Interest::READ)];
            if let Some(stdout) = &self.stdout {
                descriptors.push((stdout.as_fd(), Interest::READ));
            }
            match signals.wait(&descriptors, Some(deadline)) {
                Ok(()) => {}
                Err(WaitError::Interrupted(signal)) => return Err(End::Interrupted(signal)),
                Err(WaitError::TimedOut) => return Err(End::TimedOut),
                Err(WaitError::Io(error)) => return Err(End::Io(error)),
            }
            let ended = is_readable(&self.ended)?;
            // What it wrote last is there by now; what its children write is not waited for.
            while let Some(stdout) = &mut self.stdout
                && is_readable(stdout)?
            {
                let mut chunk = [0; 4096];
                let count = stdout.read(&mut chunk)?;
                if count == 0 {
                    self.stdout = None;
                }
                self.output.extend(chunk.get(..count).unwrap_or_default());
                if self.output.len() > OUTPUT_MAX {
                    return Err(End::TooMuch);
                }
            }
            if ended {
                return Ok(self.child.wait()?);
            }
        }
    }

    fn kill(&mut self) {
        if let Ok(pid) = Pid::try_from(self.child.id()) {
            // It may have ended by now.
            let _ = process::kill_group(pid, signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn run(script: &str, limit: Duration) -> Result<Finished, HelperError> {
        run_one(script, limit, false)
    }

    fn run_one(script: &str, limit: Duration, foreign: bool) -> Result<Finished, HelperError> {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("helper");
        // Another program writes it: this one's descriptor, copied by a test beside that starts a program at the
        // same moment, could still be open when it is to be executed ("Text file busy").
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$2\" && chmod 755 \"$2\"";
        let mut writer = Command::new("/bin/sh");
        let written = writer.args(["-c", write, "sh", script]).arg(&program).status();
        assert!(written.expect("a shell").success());
        let signals = Signals::new().expect("signals");
        Helper {
            program: &program,
            arguments: vec!["a b".into(), String::new().into()],
            environment: vec![("GIVEN", Some("x".into())), ("PATH", None)],
            user: None,
            output: HelperOutput::Taken,
            limit,
            foreign,
        }
        .run(&signals)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn arguments_environment_and_output() {
        let script = "echo \"$#,$1,$2,$GIVEN\"; [ $$ = \"$(/bin/ps -o sid= -p $$ | /usr/bin/tr -d ' ')\" ] && echo leads; exit 3";
        let finished = run(script, LONG).expect("ran");
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(String::from_utf8_lossy(&finished.output), "2,a b,,x\nleads\n");
        let killed = run("kill -9 $$", LONG).expect("ran");
        assert_eq!(killed.status.signal(), Some(9));
    }

    #[test]
    fn programs_of_the_server_get_nothing_of_the_users() {
        let script = "echo \"$GIVEN,$CARGO_MANIFEST_DIR\"; /bin/readlink /proc/self/fd/0";
        let foreign = run_one(script, LONG, true).expect("ran");
        assert_eq!(String::from_utf8_lossy(&foreign.output), "x,\n/dev/null\n");
        let own = run("echo \"$CARGO_MANIFEST_DIR\"", LONG).expect("ran");
        assert!(own.output.starts_with(b"/"), "{own:?}");
    }

    #[test]
    fn a_program_that_hangs_or_never_stops_writing_is_killed() {
        let hanging = run("/bin/sleep 1000 & wait", Duration::from_millis(300));
        assert!(
            matches!(hanging, Err(HelperError::TimedOut { .. })),
            "{hanging:?}"
        );
        let endless = run(
            "while :; do echo 0123456789012345678901234567890123456789; done",
            LONG,
        );
        assert!(matches!(endless, Err(HelperError::TooMuch(_))), "{endless:?}");
    }

    #[test]
    fn children_that_stay_are_not_waited_for() {
        let finished = run("/bin/sleep 5 & echo done", LONG).expect("ran");
        assert_eq!(finished.output, b"done\n");
    }

    #[test]
    fn programs_that_cannot_be_run() {
        let signals = Signals::new().expect("signals");
        let helper = |program: &'static str| Helper {
            program: Path::new(program),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            output: HelperOutput::Shown,
            limit: LONG,
            foreign: false,
        };
        for program in ["/nonexistent/helper", "sh", "/etc/passwd"] {
            let error = helper(program).run(&signals).expect_err("not run").to_string();
            assert!(
                error.starts_with(&format!("Failed to run '{program}': ")),
                "{error}"
            );
        }
    }
}
