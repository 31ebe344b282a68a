//! Questions to the user: prompts on stderr, answers from stdin (`specs/client.md` §5.1).

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use culvert_sys::epoll::Interest;
use culvert_sys::term::EchoOff;
use culvert_vocab::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::charset;
use crate::signals::{Signals, WaitError};

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
            if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
                return Ok(self.take(end, end + 1));
            }
            if self.ahead.len() >= LINE_MAX {
                return Ok(self.take(LINE_MAX, LINE_MAX));
            }
            if let Some(signals) = signals {
                signals
                    .wait(&[(input.as_fd(), Interest::READ)], None)
                    .map_err(|error| match error {
                        WaitError::Io(error) => reason(&error),
                        other => other.to_string(),
                    })?;
            }
            let mut chunk = Zeroizing::new([0; LINE_MAX]);
            match input.read(chunk.as_mut_slice()) {
                Ok(0) if self.ahead.is_empty() => return Err("End of file".into()),
                Ok(0) => return Ok(self.take(LINE_MAX, LINE_MAX)),
                Ok(count) => self
                    .ahead
                    .extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
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
        if self.non_interactive && !self.answers_on_stdin {
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
        if hidden && !stdin.is_terminal() {
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
