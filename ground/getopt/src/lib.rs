//! GNU `getopt_long` semantics as an iterator: options and positional arguments in any order, `--`
//! ends the options, unambiguous abbreviations of long names, bundled short options, glued values.
//! The texts of [`Error`] are those of glibc, which scripts and users know.
//!
//! ```
//! use culvert_getopt::{Item, OptionSpec, Parser};
//!
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! enum Id { Verbose, Mtu }
//! const OPTIONS: &[OptionSpec<Id>] = &[
//!     OptionSpec::flag(Id::Verbose, Some('v'), "verbose"),
//!     OptionSpec::required(Id::Mtu, Some('m'), "mtu"),
//! ];
//! let items: Result<Vec<_>, _> = Parser::new(OPTIONS, ["-vm1400", "host"].map(Into::into)).collect();
//! assert_eq!(items, Ok(vec![
//!     Item::Option { id: Id::Verbose, value: None },
//!     Item::Option { id: Id::Mtu, value: Some("1400".into()) },
//!     Item::Positional("host".into()),
//! ]));
//! ```

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Takes none; `--name=value` is an error.
    None,
    /// Takes one, glued or as the next argument.
    Required,
    /// Takes one only when glued (`--name=value`, `-nvalue`).
    Optional,
}

/// One row of a program's option table. Rows with the same `id` are aliases: an abbreviation that
/// fits several of them is not ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec<Id> {
    /// What the program calls this option.
    pub id: Id,
    /// Short form, an ASCII character other than `-`.
    pub short: Option<char>,
    /// Long form without dashes.
    pub long: Option<&'static str>,
    /// Whether it takes a value.
    pub argument: Argument,
}

impl<Id> OptionSpec<Id> {
    /// An option without a value.
    pub const fn flag(id: Id, short: Option<char>, long: &'static str) -> Self {
        Self {
            id,
            short,
            long: Some(long),
            argument: Argument::None,
        }
    }

    /// An option that needs a value.
    pub const fn required(id: Id, short: Option<char>, long: &'static str) -> Self {
        Self {
            id,
            short,
            long: Some(long),
            argument: Argument::Required,
        }
    }

    /// An option with an optional, glued value.
    pub const fn optional(id: Id, short: Option<char>, long: &'static str) -> Self {
        Self {
            id,
            short,
            long: Some(long),
            argument: Argument::Optional,
        }
    }
}

/// What the command line holds, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<Id> {
    /// An option, with its value if it took one.
    Option {
        /// The `id` of its row in the table.
        id: Id,
        /// The value, byte for byte as given.
        value: Option<OsString>,
    },
    /// A positional argument.
    Positional(OsString),
}

/// A command line that does not fit the table. The text is glibc's without the leading `PROG: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such long option; the text is the argument without the dashes, with its value.
    #[error("unrecognized option '--{0}'")]
    UnrecognizedLong(String),
    /// No such short option.
    #[error("invalid option -- '{0}'")]
    InvalidShort(char),
    /// An abbreviation that fits several options.
    #[error("option '--{given}' is ambiguous; possibilities:{}", quoted(.possibilities))]
    Ambiguous {
        /// The argument without the dashes, with its value.
        given: String,
        /// Long names that it may mean, in the order of the table.
        possibilities: Vec<&'static str>,
    },
    /// A value for a long option that takes none.
    #[error("option '--{0}' doesn't allow an argument")]
    UnexpectedArgument(&'static str),
    /// A long option at the end of the line that needs a value.
    #[error("option '--{0}' requires an argument")]
    MissingLongArgument(&'static str),
    /// A short option at the end of the line that needs a value.
    #[error("option requires an argument -- '{0}'")]
    MissingShortArgument(char),
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!(" '--{name}'")).collect()
}

/// Iterator over a command line. After an error iteration may go on with the next option.
#[derive(Debug)]
pub struct Parser<'t, Id> {
    table: &'t [OptionSpec<Id>],
    arguments: VecDeque<OsString>,
    /// What is left of a group of short options (`-vvq`).
    bundle: VecDeque<u8>,
    options_ended: bool,
}

impl<'t, Id: Copy + PartialEq> Parser<'t, Id> {
    /// Parses `arguments` (without the program's own name) by `table`.
    pub fn new(table: &'t [OptionSpec<Id>], arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            table,
            arguments: arguments.into_iter().collect(),
            bundle: VecDeque::new(),
            options_ended: false,
        }
    }

    /// `text` is the argument without its two dashes.
    fn long_option(&mut self, text: &[u8]) -> Result<Item<Id>, Error> {
        let equals = text.iter().position(|&byte| byte == b'=');
        let (name, glued) = match equals {
            Some(at) => (&text[..at], Some(OsStr::from_bytes(&text[at + 1..]).to_owned())),
            None => (text, None),
        };
        let (spec, long) = self.find_long(name, text)?;
        let value = match (spec.argument, glued) {
            (Argument::None, Some(_)) => return Err(Error::UnexpectedArgument(long)),
            (Argument::Required, None) => Some(
                self.arguments
                    .pop_front()
                    .ok_or(Error::MissingLongArgument(long))?,
            ),
            (_, glued) => glued,
        };
        Ok(Item::Option { id: spec.id, value })
    }

    /// An exact name, else the one option that `name` abbreviates.
    fn find_long(&self, name: &[u8], text: &[u8]) -> Result<(OptionSpec<Id>, &'static str), Error> {
        let named = || {
            self.table
                .iter()
                .filter_map(|spec| spec.long.map(|long| (*spec, long)))
        };
        if let Some(exact) = named().find(|(_, long)| long.as_bytes() == name) {
            return Ok(exact);
        }
        let candidates: Vec<_> = named()
            .filter(|(_, long)| long.as_bytes().starts_with(name))
            .collect();
        let given = || String::from_utf8_lossy(text).into_owned();
        let Some(&first) = candidates.first() else {
            return Err(Error::UnrecognizedLong(given()));
        };
        let one_option = candidates
            .iter()
            .all(|(spec, _)| spec.id == first.0.id && spec.argument == first.0.argument);
        if one_option {
            return Ok(first);
        }
        let possibilities = candidates.into_iter().map(|(_, long)| long).collect();
        Err(Error::Ambiguous {
            given: given(),
            possibilities,
        })
    }

    fn short_option(&mut self, letter: char) -> Result<Item<Id>, Error> {
        let Some(spec) = self.table.iter().copied().find(|spec| spec.short == Some(letter)) else {
            return Err(Error::InvalidShort(letter));
        };
        let glued = || !self.bundle.is_empty();
        let value = match spec.argument {
            Argument::None => None,
            Argument::Required | Argument::Optional if glued() => {
                Some(OsString::from_vec(self.bundle.drain(..).collect()))
            }
            Argument::Optional => None,
            Argument::Required => Some(
                self.arguments
                    .pop_front()
                    .ok_or(Error::MissingShortArgument(letter))?,
            ),
        };
        Ok(Item::Option { id: spec.id, value })
    }
}

impl<Id: Copy + PartialEq> Iterator for Parser<'_, Id> {
    type Item = Result<Item<Id>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(letter) = self.bundle.pop_front() {
            return Some(self.short_option(char::from(letter)));
        }
        let argument = self.arguments.pop_front()?;
        if self.options_ended {
            return Some(Ok(Item::Positional(argument)));
        }
        match argument.as_bytes() {
            b"--" => {
                self.options_ended = true;
                self.next()
            }
            [b'-', b'-', long @ ..] => Some(self.long_option(long)),
            [b'-', first, rest @ ..] => {
                self.bundle = rest.iter().copied().collect();
                Some(self.short_option(char::from(*first)))
            }
            _ => Some(Ok(Item::Positional(argument))),
        }
    }
}

#[cfg(test)]
mod tests;
