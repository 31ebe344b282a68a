//! Child processes with captured output, ended by their exact pid.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; 128 + N after a death by signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running program. Dropping it ends it (SIGTERM, then SIGKILL) and waits for it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error captured in files of `dir`, and `input`
    /// (if any) on standard input.
    ///
    /// # Panics
    /// The program cannot be started.
    pub fn start(mut command: Command, dir: &Path, name: &str, input: Option<&str>) -> Self {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(text.as_bytes()).unwrap();
        }
        Self {
            child,
            name: name.to_owned(),
            out,
            err,
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        lossy(&self.out)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        lossy(&self.err)
    }

    /// Both outputs, for messages of failed tests.
    pub fn output(&self) -> String {
        format!(
            "--- {} stdout\n{}--- {} stderr\n{}",
            self.name,
            self.stdout(),
            self.name,
            self.stderr()
        )
    }

    /// Waits until either output contains `text`.
    ///
    /// # Panics
    /// It ends first or takes too long; the message shows the outputs.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_within(wait::PATIENCE, text);
    }

    /// [`Self::wait_for`] with another limit.
    ///
    /// # Panics
    /// See there.
    pub fn wait_for_within(&mut self, limit: Duration, text: &str) {
        let said = wait::poll_within(limit, || {
            let ended = self.child.try_wait().unwrap();
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return Some(Ok(()));
            }
            ended.map(Err)
        });
        match said {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!(
                "{} ended ({status}) before it said '{text}':\n{}",
                self.name,
                self.output()
            ),
            None => panic!("{} did not say '{text}':\n{}", self.name, self.output()),
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone already.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It takes too long.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = wait::poll_within(wait::PATIENCE, || self.child.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.output()))
    }

    /// Waits for its end and gives everything that it left behind.
    ///
    /// # Panics
    /// It takes too long.
    pub fn finish(mut self) -> Finished {
        Finished {
            code: self.exit_code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// [`Self::exit_code`] with hardly a delay and without a limit, for measurements and programs that have a
    /// limit of their own.
    ///
    /// # Panics
    /// The process cannot be waited for, or this one was interrupted meanwhile.
    pub fn exit_code_soon(&mut self) -> i32 {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(!wait::is_interrupted(), "interrupted");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end and gives the exit code; a death by signal N gives 128 + N, as a shell.
    ///
    /// # Panics
    /// It takes too long.
    pub fn exit_code(&mut self) -> i32 {
        let status = self.wait();
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        self.signal("TERM");
        for _ in 0..400 {
            if !self.is_running() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} did not end on SIGTERM:\n{}", self.name, self.output());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Sends a signal (`TERM`, `9`...) to one process.
///
/// # Panics
/// There is no such process.
pub fn kill(pid: u32, signal: &str) {
    run("kill", &[&format!("-{signal}"), &pid.to_string()]);
}

/// Kills a process that may end by itself at this moment.
///
/// # Panics
/// `kill` is not installed.
pub fn kill_if_there(pid: u32) {
    let _it_has_ended = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Runs a program to its end and gives its standard output.
///
/// # Panics
/// It cannot be started or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("cannot start {program}: {error} (see scripts/setup)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}(root is needed)",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Writes an executable script for `/bin/sh`.
///
/// Another program writes it: a descriptor of this one, copied by a thread that starts a program at the same
/// moment, could still be open when the script is to be executed ("Text file busy").
///
/// # Panics
/// It cannot be written.
pub fn write_script(path: &Path, body: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$2\" && chmod 755 \"$2\"";
    run("sh", &["-c", write, "sh", body, &path.display().to_string()]);
}

/// The children of a process, oldest first.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The title (`argv[0]`) of a process.
pub fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}
