//! The command `ocserv test-auth`: its arguments, and the terminal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use culvert_getopt::{Item, OptionSpec, Parser};
use culvert_sys::term::EchoOff;
use culvert_vocab::{HttpScheme, SecretString};

use crate::broker::{Console, Trial, try_login};
use crate::cli::DEFAULT_CONFIG;
use crate::log::{self, Level, StderrStyle};

/// First argument of the program that asks for this.
pub(crate) const COMMAND: &str = "test-auth";
/// Log level of what methods say.
const LOG_LEVEL: u8 = 3;

const USAGE: &str = "\
Usage: ocserv test-auth [options] USER

Tries one login of USER as the configuration says, without a server, and prints each step. Answers are read
from the terminal, or else from standard input, one a line. The exit code is 0 when the login succeeds.

  -c, --config=FILE     configuration file (default /etc/ocserv/ocserv.conf)
      --vhost=NAME      virtual host (default: the default one)
  -g, --group=NAME      group that the client asks for
      --certificate     the client has shown a good certificate of USER
      --http=SCHEME     negotiate or bearer: HTTP authentication in place of the form
  -h, --help            print this text and exit
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Config,
    Host,
    Group,
    Certificate,
    Http,
    Help,
}

const TABLE: &[OptionSpec<Id>] = &[
    OptionSpec::required(Id::Config, Some('c'), "config"),
    OptionSpec::required(Id::Host, None, "vhost"),
    OptionSpec::required(Id::Group, Some('g'), "group"),
    OptionSpec::flag(Id::Certificate, None, "certificate"),
    OptionSpec::required(Id::Http, None, "http"),
    OptionSpec::flag(Id::Help, Some('h'), "help"),
];

/// Runs the command with the arguments after its name.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let trial = match parse(arguments) {
        Ok(Some(trial)) => trial,
        Ok(None) => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("ocserv {COMMAND}: {problem}\nUse ocserv {COMMAND} --help for more information.");
            return ExitCode::FAILURE;
        }
    };
    log::init(log::Settings {
        level: LOG_LEVEL,
        stderr: Some(StderrStyle::Plain),
        syslog: None,
    });
    match try_login(&trial, &mut Terminal) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            log::write(Level::Error, &format!("ocserv {COMMAND}: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// `None`: help is wanted.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Trial>, String> {
    let mut trial = Trial {
        config: DEFAULT_CONFIG.into(),
        host: None,
        certificate: false,
        scheme: None,
        group: None,
        user: String::new(),
    };
    let mut users = Vec::new();
    for item in Parser::new(TABLE, arguments) {
        let (id, value) = match item.map_err(|error| error.to_string())? {
            Item::Option { id, value } => (id, value.unwrap_or_default()),
            Item::Positional(user) => {
                users.push(user.to_string_lossy().into_owned());
                continue;
            }
        };
        let text = || value.to_string_lossy().into_owned();
        match id {
            Id::Config => trial.config = Path::new(&value).to_owned(),
            Id::Host => trial.host = Some(text()),
            Id::Group => trial.group = Some(text()),
            Id::Certificate => trial.certificate = true,
            Id::Http => {
                trial.scheme = Some(match text().to_ascii_lowercase().as_str() {
                    "negotiate" => HttpScheme::Negotiate,
                    "bearer" => HttpScheme::Bearer,
                    other => return Err(format!("unknown scheme '{other}'")),
                });
            }
            Id::Help => return Ok(None),
        }
    }
    match (users.pop(), users.is_empty()) {
        (Some(user), true) => trial.user = user,
        // The token says who it is.
        (None, _) if trial.scheme.is_some() => {}
        _ => return Err("exactly one user name is needed".to_owned()),
    }
    Ok(Some(trial))
}

/// The administrator.
struct Terminal;

impl Console for Terminal {
    fn ask(&mut self, question: &str) -> Option<SecretString> {
        let input = io::stdin();
        let echo_off = input.is_terminal().then(|| {
            eprint!("{} ", question.lines().last().unwrap_or_default());
            let _shown = io::stderr().flush();
            EchoOff::new(input.as_fd())
        });
        let mut line = String::new();
        let count = input.lock().read_line(&mut line);
        drop(echo_off);
        match count {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                line.truncate(line.trim_end_matches(['\r', '\n']).len());
                Some(SecretString::new(line))
            }
        }
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        println!("{}", log::printable(&line.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Trial>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments() {
        let trial = parsed("alice").unwrap().unwrap();
        assert_eq!(
            (trial.user.as_str(), trial.config.as_path()),
            ("alice", Path::new(DEFAULT_CONFIG))
        );
        let trial = parsed("-c /x --vhost vpn.test alice -g staff --certificate")
            .unwrap()
            .unwrap();
        assert_eq!(
            (trial.host.as_deref(), trial.group.as_deref(), trial.certificate),
            (Some("vpn.test"), Some("staff"), true)
        );
        assert_eq!(trial.config, Path::new("/x"));
        assert_eq!(
            parsed("--http Bearer").unwrap().unwrap().scheme,
            Some(HttpScheme::Bearer)
        );
        assert_eq!(parsed("--help"), Ok(None));
        for wrong in ["", "a b", "--http basic a", "--nonsense a"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
