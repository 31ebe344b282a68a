//! The interactive mode (`specs/server-tools.md` §3.11).

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use super::commands::COMMANDS;
use super::execute::{self, Settings};
use super::{banner, pager};

/// Completes commands, and arguments from what the listings showed.
#[derive(Default, Helper, Highlighter, Hinter, Validator)]
struct Words {
    /// Placeholder (`[NAME]`, `[ID]`, `[IP]`, `[SID]`) and value.
    seen: BTreeSet<(&'static str, String)>,
}

impl Words {
    /// All ways to go on from `line`, as whole lines.
    fn lines(&self, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for command in COMMANDS {
            let Some(argument) = command.argument else {
                lines.push(command.name.to_owned());
                continue;
            };
            if line
                .strip_prefix(command.name)
                .is_some_and(|rest| rest.starts_with(' '))
            {
                let values = self
                    .seen
                    .iter()
                    .filter(|(placeholder, _)| *placeholder == argument);
                lines.extend(values.map(|(_, value)| format!("{} {value}", command.name)));
            } else {
                lines.push(format!("{} ", command.name));
            }
        }
        lines.retain(|candidate| candidate.starts_with(line));
        lines
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, self.lines(line.get(..position).unwrap_or(line))))
    }
}

/// Where the lines come from.
enum Input {
    /// A person, with history and completion.
    Terminal(Box<Editor<Words, MemHistory>>),
    /// A script. What it writes is shown behind the prompt, as a terminal does.
    Pipe,
}

impl Input {
    fn new() -> rustyline::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder().completion_type(CompletionType::List).build();
        let mut editor = Editor::with_history(config, MemHistory::new())?;
        editor.set_helper(Some(Words::default()));
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// The next line; `None` at the end of the input.
    fn line(&mut self) -> rustyline::Result<Option<String>> {
        match self {
            Self::Terminal(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => return Ok(Some(line)),
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(error),
                }
            },
            Self::Pipe => {
                let mut output = io::stdout();
                output.write_all(b"> ")?;
                output.flush()?;
                let mut line = Vec::new();
                if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
                    return Ok(None);
                }
                let line = String::from_utf8_lossy(&line);
                let line = line.strip_suffix('\n').unwrap_or(&line);
                println!("{line}");
                Ok(Some(line.to_owned()))
            }
        }
    }

    /// Remembers a line, and what its listing showed.
    fn remember(&mut self, line: &str, seen: Vec<(&'static str, String)>) {
        let Self::Terminal(editor) = self else {
            return;
        };
        // a line that cannot be remembered is no reason not to go on
        let _ = editor.add_history_entry(line);
        if let Some(words) = editor.helper_mut() {
            words.seen.extend(seen);
        }
    }
}

/// Reads and runs commands until the end of the input; gives the exit code.
pub(super) fn run(settings: &Settings) -> u8 {
    eprint!("{}", banner());
    match run_lines(settings) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cannot read from the terminal: {error}");
            1
        }
    }
}

fn run_lines(settings: &Settings) -> rustyline::Result<()> {
    let mut input = Input::new()?;
    while let Some(line) = input.line()? {
        let line = super::words_of(&line).join(" ");
        if line.is_empty() {
            continue;
        }
        let outcome = execute::run(&line, settings, true);
        pager::show(&outcome, settings);
        if outcome.leave {
            break;
        }
        input.remember(&line, outcome.seen);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_seen_values_complete() {
        let mut words = Words::default();
        assert_eq!(
            words.lines("show se"),
            ["show sessions all", "show sessions valid", "show session "]
        );
        assert_eq!(words.lines("show user "), Vec::<String>::new());
        words.seen.insert(("[NAME]", "alice".into()));
        words.seen.insert(("[ID]", "7".into()));
        assert_eq!(words.lines("show user "), ["show user alice"]);
        assert_eq!(words.lines("disconnect id "), ["disconnect id 7"]);
        assert_eq!(words.lines("disconnect user b"), Vec::<String>::new());
    }
}
