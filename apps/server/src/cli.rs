//! The command line of `ocserv` (`specs/server-config.md` §2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use culvert_getopt::{Item, OptionSpec, Parser};
use culvert_server_config::{Global, SyslogFacility};

use crate::log;

/// Default configuration file.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/ocserv/ocserv.conf";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print the version.
    Version,
    /// Print the usage.
    Help,
    /// Check the configuration and exit.
    Test(Options),
    /// Serve.
    Serve(Options),
}

/// Options of a server start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Stay in the foreground.
    pub(crate) foreground: bool,
    /// Log level, 0 to 9; `None` = the file's `log-level`.
    pub(crate) debug: Option<u8>,
    /// Configuration file; `None` = the default one.
    pub(crate) config: Option<PathBuf>,
    /// Overrides `pid-file`.
    pub(crate) pid_file: Option<PathBuf>,
    /// Log to standard error.
    pub(crate) stderr: bool,
    /// Log to the system log.
    pub(crate) syslog: bool,
    /// Facility of the system log; `None` = the file's.
    pub(crate) facility: Option<SyslogFacility>,
    /// Keep the working directory when daemonizing.
    pub(crate) no_chdir: bool,
    /// Leave the processes dumpable.
    pub(crate) traceable: bool,
}

impl Options {
    /// Log settings, with the file's values where the command line has none.
    pub(crate) fn log_settings(&self, file_level: u8, file_facility: i32) -> log::Settings {
        let neither = !self.stderr && !self.syslog;
        let stderr = match (self.stderr, self.debug) {
            (true, _) => Some(log::StderrStyle::Plain),
            (false, Some(_)) if neither => Some(log::StderrStyle::WithPid),
            _ => None,
        };
        log::Settings {
            level: self.debug.unwrap_or(file_level),
            stderr,
            syslog: (self.syslog || neither)
                .then_some(self.facility.map_or(file_facility, log::facility_number)),
        }
    }

    /// The command line of broker and zygote: the same log, and the file by its absolute path.
    pub(crate) fn for_children(&self, config: &Path, global: &Global) -> Vec<OsString> {
        let level = self.debug.unwrap_or(global.log_level).to_string();
        let facility = log::facility_name(self.facility.unwrap_or(global.syslog_facility));
        let mut arguments: Vec<OsString> =
            vec!["--config".into(), config.into(), "--debug".into(), level.into()];
        arguments.extend(["--syslog-facility".into(), facility.into()]);
        if self.stderr {
            arguments.push("--log-stderr".into());
        }
        if self.syslog || (!self.stderr && self.debug.is_none()) {
            arguments.push("--syslog".into());
        }
        if self.traceable {
            arguments.push("--traceable".into());
        }
        arguments
    }
}

/// A command line that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CliError {
    /// Unknown option, or one without its value.
    #[error("ocserv: {0}\nUse ocserv --help for more information.")]
    Option(#[from] culvert_getopt::Error),
    /// A positional argument.
    #[error("error: no additional command line options are allowed\n")]
    Positional,
    /// `--syslog-facility` with an unknown name.
    #[error("error: unknown syslog facility: {0}")]
    Facility(String),
    /// `-d` with something else than a number.
    #[error("error: the log level must be a number, not '{0}'")]
    Level(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Foreground,
    Debug,
    Config,
    Test,
    PidFile,
    Stderr,
    Syslog,
    Facility,
    NoChdir,
    Traceable,
    Version,
    Help,
}

const TABLE: &[OptionSpec<Id>] = &[
    OptionSpec::flag(Id::Foreground, Some('f'), "foreground"),
    OptionSpec::required(Id::Debug, Some('d'), "debug"),
    OptionSpec::required(Id::Config, Some('c'), "config"),
    OptionSpec::flag(Id::Test, Some('t'), "test-config"),
    OptionSpec::required(Id::PidFile, Some('p'), "pid-file"),
    OptionSpec::flag(Id::Stderr, Some('e'), "log-stderr"),
    OptionSpec::flag(Id::Syslog, Some('s'), "syslog"),
    OptionSpec::required(Id::Facility, None, "syslog-facility"),
    OptionSpec::flag(Id::NoChdir, None, "no-chdir"),
    OptionSpec::flag(Id::Traceable, Some('x'), "traceable"),
    OptionSpec::flag(Id::Version, Some('v'), "version"),
    OptionSpec::flag(Id::Help, Some('h'), "help"),
    OptionSpec::flag(Id::Help, Some('!'), "more-help"),
];

/// Usage text, for standard error.
pub(crate) const USAGE: &str = "\
ocserv - OpenConnect VPN server
Usage: ocserv [options]
       ocserv test-auth [options] USER

  -f, --foreground           do not run in the background
  -d, --debug=NUM            log level, 0 to 9
  -c, --config=FILE          configuration file (default /etc/ocserv/ocserv.conf)
  -t, --test-config          check the configuration file and exit
  -p, --pid-file=FILE        pid file; overrides the configuration file
  -e, --log-stderr           log to standard error
  -s, --syslog               log to the system log (default)
      --syslog-facility=NAME facility of the system log
      --no-chdir             keep the working directory in the background
  -x, --traceable            allow the processes to be traced and dumped
  -v, --version              print the version and exit
  -h, --help                 print this text and exit
";

/// Version text, for standard error. Scripts look for words in its second line.
pub(crate) fn version() -> String {
    format!(
        "ocserv {}\n\nCompiled with: seccomp, oath, radius, gssapi, PAM, PKCS#11, AnyConnect, oidc_auth\n\
         TLS library: rustls (aws-lc-rs)\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// See [`CliError`].
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let mut options = Options::default();
    let mut test = false;
    for item in Parser::new(TABLE, arguments) {
        let Item::Option { id, value } = item? else {
            return Err(CliError::Positional);
        };
        let value = value.unwrap_or_default();
        match id {
            Id::Foreground => options.foreground = true,
            Id::Debug => options.debug = Some(level(&value)?),
            Id::Config => options.config = Some(value.into()),
            Id::Test => test = true,
            Id::PidFile => options.pid_file = Some(value.into()),
            Id::Stderr => options.stderr = true,
            Id::Syslog => options.syslog = true,
            Id::Facility => {
                let name = value.to_string_lossy();
                options.facility = Some(
                    SyslogFacility::from_name(&name).ok_or_else(|| CliError::Facility(name.into_owned()))?,
                );
            }
            Id::NoChdir => options.no_chdir = true,
            Id::Traceable => options.traceable = true,
            Id::Version => return Ok(Command::Version),
            Id::Help => return Ok(Command::Help),
        }
    }
    Ok(if test {
        Command::Test(options)
    } else {
        Command::Serve(options)
    })
}

fn level(value: &std::ffi::OsStr) -> Result<u8, CliError> {
    let text = value.to_string_lossy();
    let number: u32 = text
        .parse()
        .map_err(|_| CliError::Level(text.clone().into_owned()))?;
    Ok(u8::try_from(number).unwrap_or(u8::MAX).min(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "auth = plain[passwd=/x]\ntcp-port = 443\nsocket-file = /x\nserver-cert = /x\nserver-key = /x\ndevice = vpns\nipv4-network = 10.0.0.0/24\n";

    #[test]
    fn words_that_scripts_look_for() {
        let text = version();
        let line = text.lines().nth(2).unwrap();
        let words: Vec<&str> = line
            .strip_prefix("Compiled with: ")
            .unwrap()
            .split(", ")
            .collect();
        for word in [
            "seccomp",
            "oath",
            "radius",
            "gssapi",
            "PAM",
            "AnyConnect",
            "oidc_auth",
        ] {
            assert!(words.contains(&word), "{text}");
        }
    }

    fn parsed(line: &str) -> Result<Command, CliError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn serve(line: &str) -> Options {
        match parsed(line) {
            Ok(Command::Serve(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_option_in_both_forms() {
        for (short, long) in [
            ("-f", "--foreground"),
            ("-d 3", "--debug=3"),
            ("-c /x", "--config /x"),
            ("-p /p", "--pid-file=/p"),
            ("-e", "--log-stderr"),
            ("-s", "--syslog"),
            ("-x", "--traceable"),
        ] {
            assert_eq!(serve(short), serve(long));
            assert_ne!(serve(short), Options::default());
        }
        assert!(serve("--no-chdir").no_chdir);
        assert_eq!(
            serve("--syslog-facility LOCAL1").facility,
            Some(SyslogFacility::Local(1))
        );
        assert!(matches!(parsed("-t -c x"), Ok(Command::Test(_))));
        assert_eq!(parsed("-v"), Ok(Command::Version));
        assert_eq!(parsed("--help"), Ok(Command::Help));
    }

    #[test]
    fn levels_above_nine_mean_nine() {
        assert_eq!(serve("-d 9999").debug, Some(9));
        assert_eq!(parsed("-d x"), Err(CliError::Level("x".into())));
    }

    #[test]
    fn errors() {
        assert_eq!(parsed("extra"), Err(CliError::Positional));
        assert_eq!(
            parsed("--syslog-facility mail"),
            Err(CliError::Facility("mail".into()))
        );
        assert!(matches!(parsed("--nonsense"), Err(CliError::Option(_))));
        assert!(matches!(parsed("-c"), Err(CliError::Option(_))));
    }

    #[test]
    fn children_log_where_main_does() {
        let (config, _) = culvert_server_config::Config::parse(MINIMAL.as_bytes(), Path::new("x")).unwrap();
        for line in ["", "-d 3", "-e", "-e -s", "-s -d 5", "--syslog-facility user"] {
            let options = serve(line);
            let ours = options.log_settings(
                config.global.log_level,
                log::facility_number(SyslogFacility::Daemon),
            );
            let child = options.for_children(Path::new("/x"), &config.global);
            let Ok(Command::Serve(child)) = parse(child) else {
                panic!("{line}")
            };
            assert_eq!(child.log_settings(0, -1), ours, "{line}");
        }
    }

    #[test]
    fn destinations_of_the_log() {
        let daemon = culvert_sys::syslog::LOG_DAEMON;
        let of = |line: &str| serve(line).log_settings(2, daemon);
        assert_eq!(
            of(""),
            log::Settings {
                level: 2,
                stderr: None,
                syslog: Some(daemon)
            }
        );
        assert_eq!(
            of("-d 3"),
            log::Settings {
                level: 3,
                stderr: Some(log::StderrStyle::WithPid),
                syslog: Some(daemon)
            }
        );
        assert_eq!(
            of("-e"),
            log::Settings {
                level: 2,
                stderr: Some(log::StderrStyle::Plain),
                syslog: None
            }
        );
        assert_eq!(of("-e -s").syslog, Some(daemon));
    }
}
