//! Output, through a pager where that helps (`specs/server-tools.md` §3.1).

use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};

use super::execute::{Outcome, Settings};

/// Prints what a command said.
pub(super) fn show(outcome: &Outcome, settings: &Settings) {
    let mut stdout = io::stdout();
    let paged = outcome.long && settings.pager && stdout.is_terminal() && page(&outcome.out).is_ok();
    if !paged {
        // a reader that has gone needs no output
        let _ = stdout
            .write_all(outcome.out.as_bytes())
            .and_then(|()| stdout.flush());
    }
    let _ = io::stderr().write_all(outcome.err.as_bytes());
}

fn page(text: &str) -> io::Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let pager = variable("OCCTL_PAGER")
        .or_else(|| variable("PAGER"))
        .unwrap_or_else(|| "less".to_owned());
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(pager).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRSX");
    }
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // the user may leave the pager before the end
        let _ = input.write_all(text.as_bytes());
    }
    match child.wait()?.code() {
        // the shell found no such program: print without it
        Some(127) => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(()),
    }
}
