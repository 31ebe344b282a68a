//! The whole of `occtl`.

mod commands;
mod events;
mod execute;
mod format;
mod interactive;
mod pager;
mod sessions;
mod status;
mod users;

use std::ffi::OsString;
use std::path::PathBuf;

use execute::Settings;

const DEFAULT_SOCKET: &str = "/var/run/occtl.socket";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Invocation {
    Usage,
    Version,
    Interactive(Settings),
    Command(Settings, String),
}

/// Runs `occtl` with these arguments (without the program's name) and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match parse(
        arguments
            .into_iter()
            .map(|argument| argument.to_string_lossy().into_owned()),
    ) {
        Invocation::Usage => {
            print!("{}", usage());
            0
        }
        Invocation::Version => {
            eprint!("{}", banner());
            0
        }
        Invocation::Interactive(settings) => interactive::run(&settings),
        Invocation::Command(settings, line) => {
            let outcome = execute::run(&line, &settings, false);
            pager::show(&outcome, &settings);
            outcome.code
        }
    }
}

/// Options come before the command; of their names only the first letter counts
/// (`specs/server-tools.md` §3.1).
fn parse(arguments: impl Iterator<Item = String>) -> Invocation {
    let mut settings = Settings {
        socket: PathBuf::from(DEFAULT_SOCKET),
        json: false,
        pager: true,
        debug: false,
    };
    let mut arguments = arguments.peekable();
    let mut only_j_or_n = false;
    while let Some(option) = arguments.next_if(|argument| argument.starts_with('-')) {
        let name = option.trim_start_matches('-');
        only_j_or_n = false;
        match name.bytes().next() {
            Some(b's') => {
                let value = name
                    .split_once('=')
                    .map(|(_, value)| value.to_owned())
                    .or_else(|| arguments.next());
                let Some(value) = value else {
                    return Invocation::Usage;
                };
                settings.socket = PathBuf::from(value);
            }
            Some(b'j') => {
                settings.json = true;
                only_j_or_n = true;
            }
            Some(b'n') => {
                settings.pager = false;
                only_j_or_n = true;
            }
            Some(b'd') => settings.debug = true,
            Some(b'v') => return Invocation::Version,
            _ => return Invocation::Usage,
        }
    }
    if arguments.peek().is_none() && !only_j_or_n {
        settings.json = false;
        return Invocation::Interactive(settings);
    }
    let words: Vec<String> = arguments.flat_map(|word| words_of(&word)).collect();
    Invocation::Command(settings, words.join(" "))
}

fn words_of(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn usage() -> String {
    format!(
        "occtl: [OPTIONS...] [COMMAND]\n\n\
         \x20 -s --socket-file       Specify the server's occtl socket file\n\
         \x20 -h --help              Show this help\n\
         \x20    --debug             Enable more verbose information in some commands\n\
         \x20 -v --version           Show the program's version\n\
         \x20 -j --json              Use JSON formatting for output\n\
         \x20 -n --no-pager          Do not use a pager\n\n{}",
        commands::help(false)
    )
}

fn banner() -> String {
    format!(
        "Culvert server control (occtl) version {}\n\
         This is free software under the MIT or the Apache 2.0 licence, without any warranty.\n\n\
         For help type ? or 'help'\n\
         ==================================================================\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Invocation {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned))
    }

    fn command(line: &str) -> (Settings, String) {
        match parsed(line) {
            Invocation::Command(settings, line) => (settings, line),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_come_before_the_command() {
        let (settings, line) = command("-s /run/x -j -n --debug show  user -j");
        assert_eq!(
            settings,
            Settings {
                socket: "/run/x".into(),
                json: true,
                pager: false,
                debug: true
            }
        );
        assert_eq!(line, "show user -j");
        assert_eq!(
            command("--socket-file=/y show status").0.socket,
            PathBuf::from("/y")
        );
        assert!(
            command("--jumbo show status").0.json,
            "only the first letter counts"
        );
        assert_eq!(command("-j").1, "");
        assert_eq!(
            parse(["show   users ".to_owned()].into_iter()),
            parsed("show users")
        );
    }

    #[test]
    fn without_a_command_it_is_interactive() {
        assert!(matches!(parsed(""), Invocation::Interactive(_)));
        assert!(matches!(parsed("-j -s /x"), Invocation::Interactive(settings) if !settings.json));
        assert!(matches!(parsed("--debug"), Invocation::Interactive(_)));
        let empty = parse(["".to_owned()].into_iter());
        assert!(
            matches!(empty, Invocation::Command(_, line) if line.is_empty()),
            "an empty command is one"
        );
    }

    #[test]
    fn help_and_version() {
        for line in ["-h", "--help", "-x", "-", "-s"] {
            assert_eq!(parsed(line), Invocation::Usage, "{line}");
        }
        assert_eq!(parsed("--version"), Invocation::Version);
        assert!(usage().starts_with("occtl: [OPTIONS...] [COMMAND]\n\n  -s --socket-file       Specify"));
        assert!(banner().contains("\nFor help type ? or 'help'\n"));
    }
}
