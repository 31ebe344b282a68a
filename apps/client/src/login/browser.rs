//! Sign-in with a browser: starting it or naming the page, and waiting for the result
//! (`specs/client.md` §16).

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use culvert_login::client::{Login, Returned, SignIn, SignInResult, Step};
use culvert_sys::process::CommandExt as _;

use super::driver::LoginFailure;
use super::loopback::{Loopback, Page};
use crate::context::Context;
use crate::prompt::{Pasted, reason};
use crate::signals::{Signal, WaitError, is_readable};

/// How long the user may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Most octets that a program may write before its result.
const OUTPUT_MAX: usize = 64 * 1024;

/// Waits for the result of a sign-in, wherever it comes from.
struct Waiting<'a> {
    context: &'a Context,
    login: &'a mut dyn Login,
    loopback: Option<Loopback>,
    program: Option<Program>,
    /// The user may paste the result.
    pasting: bool,
    over: Option<Step>,
}

/// The program that stands in for a browser, and what it writes.
struct Program {
    child: Child,
    stdout: Option<ChildStdout>,
    line: Vec<u8>,
}

/// Has the user sign in.
///
/// # Errors
/// See [`LoginFailure`]; the user has been told.
pub(super) fn sign_in(
    context: &Context,
    login: &mut dyn Login,
    sign_in: &SignIn,
) -> Result<Step, LoginFailure> {
    let failed = |text: &str| {
        context.output.error(text);
        LoginFailure::Other
    };
    let loopback = match &sign_in.result {
        SignInResult::Loopback { port } => Some(Loopback::listen(*port).map_err(|text| failed(&text))?),
        SignInResult::Text { .. } => None,
    };
    let url = &sign_in.url;
    let is_page = url.starts_with("https://") || url.starts_with("data:text/html;");
    if !is_page || url.chars().any(char::is_control) {
        return Err(failed(
            "The server wants a sign-in at something that is no https page",
        ));
    }
    context
        .console
        .write(&format!("Sign in with a browser at:\n{url}\n"));
    let browser = context.options.login.browser.as_deref();
    let program = browser.map(|browser| Program::start(browser, url, loopback.is_none()));
    let mut waiting = Waiting {
        context,
        login,
        loopback,
        program: program.transpose().map_err(|text| failed(&text))?,
        pasting: context.console.may_answer(),
        over: None,
    };
    let (hint, otherwise) = match &sign_in.result {
        SignInResult::Loopback { .. } => (
            "If the browser is on another machine, copy the address that it then fails to open, and paste it here:",
            "",
        ),
        SignInResult::Text { hint, otherwise } => (hint.as_str(), otherwise.as_str()),
    };
    if waiting.pasting && waiting.program.is_none() {
        context
            .console
            .write(&format!("{}\n", crate::output::printable(hint)));
    }
    let result = waiting.wait(otherwise);
    if let Some(program) = &mut waiting.program {
        // One that is still there ends when the user wants it to.
        let _ = program.child.try_wait();
    }
    result
}

impl Waiting<'_> {
    fn wait(&mut self, otherwise: &str) -> Result<Step, LoginFailure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(step) = self.over.take() {
                return Ok(step);
            }
            if self.loopback.is_none() && !self.pasting && !self.program_writes() {
                self.context.output.error(otherwise);
                return Err(LoginFailure::Other);
            }
            self.wait_once(deadline)?;
        }
    }

    fn program_writes(&self) -> bool {
        self.program
            .as_ref()
            .is_some_and(|program| program.stdout.is_some())
    }

    fn wait_once(&mut self, deadline: Instant) -> Result<(), LoginFailure> {
        let mut descriptors = Vec::new();
        descriptors.extend(self.loopback.iter().flat_map(Loopback::descriptors));
        let stdout = self.program.as_ref().and_then(|program| program.stdout.as_ref());
        descriptors.extend(stdout.map(AsFd::as_fd));
        let pasted = self
            .context
            .console
            .wait_for_line(&descriptors, self.pasting, deadline);
        match pasted {
            Ok(Pasted::Line(line)) => self.offer(line.expose()),
            Ok(Pasted::Ended) => self.pasting = false,
            Ok(Pasted::Other) => {}
            Err(WaitError::Interrupted(Signal::Reconnect)) => {}
            Err(WaitError::Interrupted(signal)) => return Err(LoginFailure::Interrupted(signal)),
            Err(WaitError::TimedOut) => {
                self.context.output.error("Nobody has signed in");
                return Err(LoginFailure::Other);
            }
            Err(WaitError::Io(error)) => {
                let text = format!("Failed to wait for the browser: {}", reason(&error));
                self.context.output.error(&text);
                return Err(LoginFailure::Other);
            }
        }
        self.serve_browsers();
        self.read_program()
    }

    /// A line of the user or the program.
    fn offer(&mut self, line: &str) {
        if line.trim().is_empty() || self.over.is_some() {
            return;
        }
        match self.login.handle_browser(line) {
            Returned::Over { step, .. } => self.over = Some(*step),
            Returned::Stranger => self.context.output.info("That is not the result of the sign-in"),
        }
    }

    fn serve_browsers(&mut self) {
        let Some(loopback) = &mut self.loopback else {
            return;
        };
        let (login, over) = (&mut self.login, &mut self.over);
        loopback.serve(&mut |target| {
            if over.is_some() {
                return Page::NotFound;
            }
            match login.handle_browser(target) {
                Returned::Stranger => Page::NotFound,
                Returned::Over { step, next_page } => {
                    *over = Some(*step);
                    next_page.map_or(Page::Success, Page::Elsewhere)
                }
            }
        });
    }

    fn read_program(&mut self) -> Result<(), LoginFailure> {
        let lines = match self.program.as_mut().map(Program::lines) {
            None => return Ok(()),
            Some(Ok(lines)) => lines,
            Some(Err(error)) => {
                let text = format!("Failed to read from the browser program: {}", reason(&error));
                self.context.output.error(&text);
                return Err(LoginFailure::Other);
            }
        };
        for line in lines {
            self.offer(&line);
        }
        Ok(())
    }
}

impl Program {
    /// Starts it with the page as its only argument. `result` says that it writes the result to
    /// its standard output, which otherwise is ours for messages.
    fn start(program: &Path, url: &str, result: bool) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let reason = reason(&error);
            format!("Failed to run browser '{}': {reason}", program.display())
        };
        let mut command = Command::new(std::path::absolute(program).map_err(failed)?);
        command
            .arg(url)
            .stdin(Stdio::null())
            .process_group(0)
            .default_signals();
        if result {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
        }
        let mut child = command.spawn().map_err(failed)?;
        Ok(Self {
            stdout: child.stdout.take(),
            child,
            line: Vec::new(),
        })
    }

    /// The lines that are complete, without waiting.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        while let Some(stdout) = &mut self.stdout
            && is_readable(stdout)?
        {
            let mut chunk = [0; 4096];
            let count = stdout.read(&mut chunk)?;
            self.line.extend(chunk.get(..count).unwrap_or_default());
            if count == 0 {
                self.line.push(b'\n');
                self.stdout = None;
            }
            if self.line.len() > OUTPUT_MAX {
                return Err(io::Error::other("too much output"));
            }
        }
        let complete = self
            .line
            .iter()
            .rposition(|octet| *octet == b'\n')
            .map_or(0, |end| end + 1);
        let rest = self.line.split_off(complete);
        let lines = std::mem::replace(&mut self.line, rest);
        Ok(String::from_utf8_lossy(&lines)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}
