//! The process that restores the network when the client has gone, however it went.
//!
//! The client starts its own program again with [`VARIABLE`] in the environment and a pipe as
//! standard input; [`run_if_asked`] then does nothing but wait for the pipe's end.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use culvert_sys::signal;

use crate::undo::undo;

/// Environment variable that turns a process into a guard: the path of the journal.
pub const VARIABLE: &str = "CULVERT_NETCFG_GUARD";

/// The running guard of a [`crate::Configured`].
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    pub(crate) fn spawn(journal: &Path) -> io::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg0("openconnect-netcfg")
            .env(VARIABLE, journal)
            .current_dir("/")
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Lets the guard restore the network now and waits until it has.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the process that restores the network: {error}");
        }
    }
}

/// To be called first in `main`: acts as guard if this process was started as one.
pub fn run_if_asked() -> Option<ExitCode> {
    let journal: OsString = std::env::var_os(VARIABLE)?;
    Some(run(&PathBuf::from(journal)))
}

fn run(journal: &Path) -> ExitCode {
    // A service manager signals the whole group when it stops the client; the guard has to
    // outlive that.
    let stopping = [signal::SIGHUP, signal::SIGINT, signal::SIGQUIT, signal::SIGTERM];
    if let Err(error) = signal::block(&stopping) {
        eprintln!("cannot block signals: {error}");
    }
    let mut rest = Vec::new();
    if let Err(error) = io::stdin().lock().read_to_end(&mut rest) {
        eprintln!("cannot wait for the client: {error}");
    }
    let failures = undo(journal);
    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
