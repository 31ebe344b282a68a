//! The interactive mode (`specs/server-tools.md` §3.11).

use std::collections::BTreeSet;

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

/// Reads and runs commands until the end of the input; gives the exit code.
pub(super) fn run(settings: &Settings) -> u8 {
    eprint!("{}", banner());
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor = match Editor::with_history(config, MemHistory::new()) {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("cannot read from the terminal: {error}");
            return 1;
        }
    };
    editor.set_helper(Some(Words::default()));
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return 0,
            Err(error) => {
                eprintln!("cannot read from the terminal: {error}");
                return 1;
            }
        };
        let line = super::words_of(&line).join(" ");
        if line.is_empty() {
            continue;
        }
        // a line that cannot be remembered is no reason not to run it
        let _ = editor.add_history_entry(line.as_str());
        let outcome = execute::run(&line, settings, true);
        pager::show(&outcome, settings);
        if outcome.leave {
            return 0;
        }
        if let (Some(words), false) = (editor.helper_mut(), outcome.seen.is_empty()) {
            words.seen.extend(outcome.seen);
        }
    }
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
