//! The whole of `ocpasswd` (`specs/server-tools.md` §1.1-1.2).

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use culvert_getopt::{Item, OptionSpec, Parser};
use culvert_sys::term::EchoOff;
use culvert_vocab::{SecretBytes, UserName};
use zeroize::Zeroizing;

use crate::edit::Edit;
use crate::hash::hash_password;

const DEFAULT_FILE: &str = "/etc/ocserv/ocpasswd";
/// Longest password, in bytes.
const PASSWORD_MAX: u64 = 4096;

const USAGE: &str = "\
Usage: ocpasswd [options] USERNAME
Adds USERNAME to the password file of ocserv, or changes the password.

  -c, --passwd=FILE        password file (default: /etc/ocserv/ocpasswd)
  -g, --groupname=GROUPS   groups of the user, separated by commas
  -d, --delete             delete the user
  -l, --lock               lock the user
  -u, --unlock             unlock the user
  -h, --help               show this text
  -v, --version            show the version

The password is asked for on a terminal; otherwise it is the first line of standard input.
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    File,
    Groups,
    Delete,
    Lock,
    Unlock,
    Help,
    Version,
}

const OPTIONS: &[OptionSpec<Id>] = &[
    OptionSpec::required(Id::File, Some('c'), "passwd"),
    OptionSpec::required(Id::Groups, Some('g'), "groupname"),
    OptionSpec::flag(Id::Delete, Some('d'), "delete"),
    OptionSpec::flag(Id::Lock, Some('l'), "lock"),
    OptionSpec::flag(Id::Unlock, Some('u'), "unlock"),
    OptionSpec::flag(Id::Help, Some('h'), "help"),
    OptionSpec::flag(Id::Version, Some('v'), "version"),
];

/// What to do.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    file: PathBuf,
    user: String,
    /// `None`: ask for a password and set it, with these groups.
    edit: Option<Edit>,
    groups: String,
}

/// How a run of the tool ends other than by doing something.
#[derive(Debug, PartialEq, Eq)]
struct Exit {
    code: u8,
    /// For standard error.
    text: String,
}

impl Exit {
    fn failure(text: impl Into<String>) -> Self {
        Self {
            code: 1,
            text: text.into(),
        }
    }
}

/// Runs `ocpasswd` with these arguments (without the program's name) and gives its exit code.
/// Messages go to standard error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match parse(arguments).and_then(execute) {
        Ok(()) => 0,
        Err(exit) => {
            eprintln!("{}", exit.text.trim_end_matches('\n'));
            exit.code
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    let usage = || Exit::failure(USAGE);
    let (mut file, mut groups, mut edit, mut user) = (None, None, None, None);
    for item in Parser::new(OPTIONS, arguments) {
        let (id, value) = match item {
            Err(error) => return Err(Exit::failure(format!("ocpasswd: {error}\n{USAGE}"))),
            Ok(Item::Positional(name)) => match user.replace(name) {
                Some(_) => return Err(usage()),
                None => continue,
            },
            Ok(Item::Option { id, value }) => (id, value.unwrap_or_default()),
        };
        let once = |name: &str| Exit::failure(format!("-{name} option cannot be specified multiple time"));
        match id {
            Id::File => {
                if file.replace(PathBuf::from(value)).is_some() {
                    return Err(once("c"));
                }
            }
            Id::Groups => {
                if groups.replace(value).is_some() {
                    return Err(once("g"));
                }
            }
            Id::Delete | Id::Lock | Id::Unlock => {
                let wanted = match id {
                    Id::Delete => Edit::Delete,
                    Id::Lock => Edit::Lock,
                    _ => Edit::Unlock,
                };
                if edit.replace(wanted).is_some() {
                    return Err(usage());
                }
            }
            Id::Help => {
                return Err(Exit {
                    code: 0,
                    text: USAGE.to_owned(),
                });
            }
            Id::Version => {
                let text = format!("ocpasswd {} (Culvert)", env!("CARGO_PKG_VERSION"));
                return Err(Exit { code: 0, text });
            }
        }
    }
    Ok(Command {
        file: file.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)),
        user: user_name(user.ok_or_else(usage)?)?,
        edit,
        groups: group_list(groups)?,
    })
}

fn user_name(name: OsString) -> Result<String, Exit> {
    let shown = name.to_string_lossy().escape_debug().to_string();
    let invalid = |why: &str| Exit::failure(format!("Invalid username '{shown}': {why}"));
    let name = name.into_string().map_err(|_| invalid("it is not UTF-8"))?;
    if name.contains(':') {
        return Err(invalid("it contains a colon"));
    }
    UserName::new(&name).map_err(|error| invalid(&error.to_string()))?;
    Ok(name)
}

fn group_list(groups: Option<OsString>) -> Result<String, Exit> {
    let Some(groups) = groups.filter(|groups| !groups.is_empty()) else {
        return Ok("*".to_owned());
    };
    match groups.into_string() {
        Ok(groups) if !groups.chars().any(|c| c == ':' || c.is_control()) => Ok(groups),
        Ok(_) => Err(Exit::failure(
            "Invalid groups: they contain a colon or a control character",
        )),
        Err(_) => Err(Exit::failure("Invalid groups: they are not UTF-8")),
    }
}

fn execute(command: Command) -> Result<(), Exit> {
    let edit = match command.edit {
        Some(edit) => edit,
        None => {
            let password = read_password()?;
            let hash = hash_password(password.expose()).map_err(|error| Exit::failure(error.to_string()))?;
            Edit::Set {
                groups: command.groups,
                hash,
            }
        }
    };
    edit.apply_to(&command.file, &command.user)
        .map_err(|error| Exit::failure(error.to_string()))
}

fn read_password() -> Result<SecretBytes, Exit> {
    let input = io::stdin();
    if !input.is_terminal() {
        return read_line(input.lock());
    }
    let unreadable = |error: io::Error| Exit::failure(format!("Cannot read the password: {error}"));
    let ask = |prompt: &str| {
        let _quiet = EchoOff::new(input.as_fd()).map_err(unreadable)?;
        eprint!("{prompt}");
        io::stderr().flush().map_err(unreadable)?;
        read_line(input.lock())
    };
    let password = ask("Enter password: ")?;
    if ask("Re-enter password: ")? != password {
        return Err(Exit::failure("Passwords do not match"));
    }
    Ok(password)
}

/// The first line; a carriage return belongs to the password.
fn read_line(input: impl BufRead) -> Result<SecretBytes, Exit> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    io::Read::take(input, PASSWORD_MAX + 2)
        .read_until(b'\n', &mut line)
        .map_err(|error| Exit::failure(format!("Cannot read the password: {error}")))?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    if password.is_empty() {
        return Err(Exit::failure("Please specify a password"));
    }
    if password.len() as u64 > PASSWORD_MAX {
        return Err(Exit::failure(format!(
            "The password is longer than {PASSWORD_MAX} bytes"
        )));
    }
    if password.contains(&0) {
        return Err(Exit::failure("The password contains a NUL character"));
    }
    Ok(SecretBytes::new(password.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, Exit> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn command_lines() {
        let command = parsed(&["-c", "f", "-g", "a,b", "bob"]).expect("valid");
        assert_eq!(
            (command.file, command.user, command.groups),
            ("f".into(), "bob".into(), "a,b".into())
        );
        let command = parsed(&["bob", "--lock"]).expect("valid");
        assert_eq!(
            (command.edit, command.file),
            (Some(Edit::Lock), DEFAULT_FILE.into())
        );
        assert_eq!(parsed(&["-g", "", "bob"]).expect("valid").groups, "*");
        assert_eq!(parsed(&["-h"]).expect_err("help").code, 0);
        assert_eq!(parsed(&["-v"]).expect_err("version").code, 0);
    }

    #[test]
    fn wrong_command_lines() {
        for (arguments, text) in [
            (
                &["-c", "a", "-c", "b", "x"][..],
                "-c option cannot be specified multiple time",
            ),
            (
                &["-g", "a", "-g", "b", "x"],
                "-g option cannot be specified multiple time",
            ),
            (&[], "Usage:"),
            (&["a", "b"], "Usage:"),
            (&["-d", "-l", "a"], "Usage:"),
            (&["-z", "a"], "ocpasswd: invalid option -- 'z'\nUsage:"),
            (&["-c"], "ocpasswd: option requires an argument -- 'c'\nUsage:"),
            (&["a:b"], "Invalid username 'a:b': it contains a colon"),
            (&[""], "Invalid username '': the name is empty"),
            (
                &["a\nb"],
                "Invalid username 'a\\nb': the name contains a control character",
            ),
            (&["-g", "a:b", "x"], "Invalid groups"),
        ] {
            let exit = parsed(arguments).expect_err("refused");
            assert!(
                exit.code == 1 && exit.text.starts_with(text),
                "{arguments:?}: {}",
                exit.text
            );
        }
    }

    #[test]
    fn passwords_are_the_first_line() {
        let read = |text: &[u8]| read_line(text).map(|password| password.expose().to_vec());
        assert_eq!(read(b"one\ntwo\n"), Ok(b"one".to_vec()));
        assert_eq!(read(b"one"), Ok(b"one".to_vec()));
        assert_eq!(read(b"one\r\n"), Ok(b"one\r".to_vec()));
        assert_eq!(read(b"\xff\n"), Ok(b"\xff".to_vec()));
        assert_eq!(read(&[b'x'; 4096]), Ok(vec![b'x'; 4096]));
        for empty in [&b""[..], b"\n", b"\nsecond\n"] {
            assert_eq!(read(empty), Err(Exit::failure("Please specify a password")));
        }
        assert!(read(b"a\0b\n").is_err() && read(&[b'x'; 4097]).is_err());
    }
}
