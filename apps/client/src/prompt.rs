//! Questions to the user: prompts on stderr, answers from stdin (`specs/client.md` §5.1).

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use culvert_sys::epoll::Interest;
use culvert_sys::term::EchoOff;
use culvert_vocab::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::charset;
use crate::signals::{Signals, WaitError, is_readable};

/// Longest line that is read, in octets.
const LINE_MAX: usize = 4096;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody may be asked.
    #[error("User input required in non-interactive mode")]
    NonInteractive,
    /// Standard input ended, failed or a signal came: the program ends at once.
    #[error("fgets (stdin): {0}")]
    NoInput(String),
}

/// Who answers questions; tests script it.
pub trait Asker {
    /// Shows a line of text about the coming questions.
    fn show(&mut self, text: &str);
    /// Shows the prompt and what is chosen without asking.
    fn show_choice(&mut self, prompt: &str, answer: &str);
    /// Asks for one line.
    ///
    /// # Errors
    /// See [`AskError`].
    fn ask(&mut self, prompt: &str, hidden: bool) -> Result<SecretString, AskError>;
}

/// Lines of standard input. One object serves the whole program, because it reads ahead.
#[derive(Debug, Default)]
pub struct Lines {
    ahead: Zeroizing<Vec<u8>>,
}

impl Lines {
    /// The next line without its end; at most 4096 octets of it. A signal ends the wait if
    /// `signals` are given.
    ///
    /// # Errors
    /// The text of the error.
    pub fn next(&mut self, signals: Option<&Signals>) -> Result<SecretString, String> {
        // Not through `Stdin`, whose buffer would hide from the wait what it has read ahead.
        let input = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| reason(&error))?;
        let mut input = File::from(input);
        loop {
            if let Some(line) = self.complete() {
                return Ok(line);
            }
            if let Some(signals) = signals {
                signals
                    .wait(&[(input.as_fd(), Interest::READ)], None)
                    .map_err(|error| match error {
                        WaitError::Io(error) => reason(&error),
                        other => other.to_string(),
                    })?;
            }
            if let Some(line) = self.read_on(&mut input)? {
                return Ok(line);
            }
        }
    }

    /// A line that has been read ahead.
    fn complete(&mut self) -> Option<SecretString> {
        if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
            return Some(self.take(end, end + 1));
        }
        (self.ahead.len() >= LINE_MAX).then(|| self.take(LINE_MAX, LINE_MAX))
    }

    /// Reads once; the last line of the input may have no end.
    fn read_on(&mut self, input: &mut File) -> Result<Option<SecretString>, String> {
        let mut chunk = Zeroizing::new([0; LINE_MAX]);
        match input.read(chunk.as_mut_slice()) {
            Ok(0) if self.ahead.is_empty() => return Err("End of file".into()),
            Ok(0) => return Ok(Some(self.take(LINE_MAX, LINE_MAX))),
            Ok(count) => self
                .ahead
                .extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reason(&error)),
        }
        Ok(None)
    }

    /// The next line, if it comes before one of `others` becomes readable.
    ///
    /// # Errors
    /// See [`WaitError`].
    fn next_or(
        &mut self,
        others: &[BorrowedFd<'_>],
        signals: &Signals,
        deadline: Instant,
    ) -> Result<Pasted, WaitError> {
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        loop {
            if let Some(line) = self.complete() {
                return Ok(Pasted::Line(line));
            }
            let all = others.iter().copied().chain([input.as_fd()]);
            let all: Vec<_> = all.map(|descriptor| (descriptor, Interest::READ)).collect();
            signals.wait(&all, Some(deadline))?;
            if !is_readable(&input)? {
                return Ok(Pasted::Other);
            }
            match self.read_on(&mut input) {
                Ok(Some(line)) => return Ok(Pasted::Line(line)),
                Ok(None) => {}
                Err(_) => return Ok(Pasted::Ended),
            }
        }
    }

    fn take(&mut self, line: usize, consumed: usize) -> SecretString {
        let line = self.ahead.get(..line).unwrap_or(&self.ahead);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = charset::decode(line).unwrap_or_else(|| String::from_utf8_lossy(line).into_owned());
        let consumed = consumed.min(self.ahead.len());
        let rest = self.ahead.split_off(consumed);
        self.ahead.zeroize();
        self.ahead = Zeroizing::new(rest);
        text.into()
    }
}

/// What [`Console::wait_for_line`] has waited for.
#[derive(Debug)]
pub(crate) enum Pasted {
    /// A line.
    Line(SecretString),
    /// There will be no more lines.
    Ended,
    /// One of the other descriptors is readable.
    Other,
}

/// The text of an operating system error without Rust's suffix.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// The user at the terminal, or whatever standard input is.
#[derive(Debug, Clone)]
pub struct Console {
    lines: Arc<Mutex<Lines>>,
    signals: Arc<Signals>,
    /// Show banner and message of forms.
    verbose: bool,
    non_interactive: bool,
    /// The password came from standard input, so other answers may, too.
    answers_on_stdin: bool,
}

impl Console {
    /// `verbose` is false with `-q`; `answers_on_stdin` is true with `--passwd-on-stdin`.
    pub fn new(
        lines: Lines,
        signals: Arc<Signals>,
        verbose: bool,
        non_interactive: bool,
        answers_on_stdin: bool,
    ) -> Self {
        Self {
            lines: Arc::new(Mutex::new(lines)),
            signals,
            verbose,
            non_interactive,
            answers_on_stdin,
        }
    }

    /// True when questions fail instead of being asked.
    pub fn non_interactive(&self) -> bool {
        self.non_interactive
    }

    /// True when questions are answered, by somebody or by standard input.
    pub(crate) fn may_answer(&self) -> bool {
        !self.non_interactive || self.answers_on_stdin
    }

    /// Waits until one of `others` is readable, or for a line if `lines` are wanted.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub(crate) fn wait_for_line(
        &self,
        others: &[BorrowedFd<'_>],
        lines: bool,
        deadline: Instant,
    ) -> Result<Pasted, WaitError> {
        if lines {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            return lines.next_or(others, &self.signals, deadline);
        }
        let others: Vec<_> = others.iter().map(|other| (*other, Interest::READ)).collect();
        self.signals.wait(&others, Some(deadline))?;
        Ok(Pasted::Other)
    }

    /// Writes to stderr as it is.
    pub fn write(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Asker for Console {
    fn show(&mut self, text: &str) {
        if self.verbose {
            self.write(&format!("{text}\n"));
        }
    }

    fn show_choice(&mut self, prompt: &str, answer: &str) {
        self.write(&format!("{prompt}{answer}\n"));
    }

    fn ask(&mut self, prompt: &str, hidden: bool) -> Result<SecretString, AskError> {
        self.write(prompt);
        let refuse = || {
            self.write("***\nUser input required in non-interactive mode\n");
            Err(AskError::NonInteractive)
        };
        if !self.may_answer() {
            return refuse();
        }
        let stdin = io::stdin();
        // Fails for anything but a terminal, which then shows nothing anyway.
        let echo_off = hidden.then(|| EchoOff::new(stdin.as_fd()).ok()).flatten();
        let line = self
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(Some(&self.signals));
        drop(echo_off);
        // The end of the line, which nobody has typed or seen.
        if hidden && (line.is_err() || !stdin.is_terminal()) {
            self.write("\n");
        }
        match line {
            Ok(line) => Ok(line),
            Err(_) if self.non_interactive => refuse(),
            Err(error) => {
                self.write(&format!("fgets (stdin): {error}\n"));
                Err(AskError::NoInput(error))
            }
        }
    }
}
