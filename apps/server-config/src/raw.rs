//! From lines to named values per host: known names, old names, scopes, inheritance
//! (`specs/server-config.md` §6).

use std::collections::HashMap;

use crate::grammar::{Item, Line, unquote};
use crate::report::Report;
use crate::table::{self, Class, Kind, Meaning, OptionInfo, Scope};

/// A value as written, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Values by option, under the present names, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Values(HashMap<&'static str, Vec<Value>>);

impl Values {
    /// All values of an option.
    pub(crate) fn all(&self, name: &str) -> &[Value] {
        debug_assert!(
            table::find(name).is_some_and(|option| option.meaning == Meaning::Own),
            "{name}"
        );
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value that counts: the last one.
    pub(crate) fn last(&self, name: &str) -> Option<&Value> {
        self.all(name).last()
    }

    fn add(&mut self, name: &'static str, value: Value) {
        self.0.entry(name).or_default().push(value);
    }

    /// Puts `earlier`'s values before the own ones: lists add up, of scalars the own one counts.
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        for (name, values) in &earlier.0 {
            self.0
                .entry(name)
                .or_default()
                .splice(0..0, values.iter().cloned());
        }
        self
    }

    /// Takes over what a virtual host inherits from the default host.
    fn inherit(&mut self, default: &Self) {
        let no_auth = self.all("auth").is_empty() && self.all("enable-auth").is_empty();
        for option in table::OPTIONS
            .iter()
            .filter(|option| option.scope != Scope::Global)
        {
            let Some(inherited) = default.0.get(option.name) else {
                continue;
            };
            let takes = match (option.name, option.class) {
                ("auth" | "enable-auth", _) => no_auth,
                (_, Class::Static) => !self.0.contains_key(option.name),
                (_, Class::Reloadable) => true,
            };
            if takes {
                self.0
                    .entry(option.name)
                    .or_default()
                    .splice(0..0, inherited.iter().cloned());
            }
        }
    }
}

/// The values of a whole file, sorted by host.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) default_host: Values,
    /// Name (A-label form) and values, in the order of the file.
    pub(crate) vhosts: Vec<(String, Values)>,
}

/// Where the options of a section go.
enum Section {
    Default,
    /// Index of the virtual host.
    Vhost(usize),
    Unknown(String),
}

/// Sorts the lines of a configuration file into hosts. Virtual hosts have inherited.
pub(crate) fn hosts(lines: Vec<Line>, report: &mut Report) -> RawConfig {
    let mut config = RawConfig::default();
    let mut section = Section::Default;
    for Line { number, item } in lines {
        match item {
            Item::Section(text) => section = config.open_section(&text, number, report),
            Item::Option {
                name,
                value,
                repeated,
            } => {
                doubt_repetition(repeated, &name, &value, number, report);
                config.add(&section, &name, &value, number, report);
            }
        }
    }
    for (_, values) in &mut config.vhosts {
        values.inherit(&config.default_host);
    }
    config
}

impl RawConfig {
    fn open_section(&mut self, text: &str, line: usize, report: &mut Report) -> Section {
        if text.is_empty() {
            return Section::Default;
        }
        let Some(given) = text.strip_prefix("vhost:").map(str::trim) else {
            return Section::Unknown(text.to_owned());
        };
        let name = match idna::domain_to_ascii(given) {
            Ok(name) if !name.is_empty() => name,
            _ => {
                report.fail_at(line, format!("virtual host name is illegal '{given}'"));
                return Section::Unknown(text.to_owned());
            }
        };
        if name != given {
            report.note_at(
                line,
                format!("virtual host name '{given}' was canonicalized to '{name}'"),
            );
        }
        if let Some(index) = self.vhosts.iter().position(|(known, _)| *known == name) {
            return Section::Vhost(index);
        }
        report.note_at(line, format!("adding virtual host: {name}"));
        self.vhosts.push((name, Values::default()));
        Section::Vhost(self.vhosts.len() - 1)
    }

    fn add(&mut self, section: &Section, name: &str, value: &str, line: usize, report: &mut Report) {
        if let Section::Unknown(text) = section {
            report.warn_at(line, format!("skipping unknown section '{text}'"));
            return;
        }
        let Some(option) = table::find(name).filter(|option| option.scope != Scope::UserOnly) else {
            report.warn_at(line, format!("skipping unknown option '{name}'"));
            return;
        };
        let values = match section {
            Section::Vhost(_) if option.scope == Scope::Global => {
                report.fail_at(
                    line,
                    format!("'{name}' cannot be set inside a virtual host section"),
                );
                return;
            }
            Section::Vhost(index) if option.scope != Scope::GlobalAnywhere => {
                self.vhosts.get_mut(*index).map(|(_, values)| values)
            }
            _ => Some(&mut self.default_host),
        };
        if let (Some(values), Some((name, value))) = (values, read_value(option, value, line, report)) {
            values.add(name, value);
        }
    }
}

/// Warns of an indented line that was hardly meant as one more value of the option above it.
fn doubt_repetition(repeated: bool, name: &str, value: &str, line: usize, report: &mut Report) {
    let meant = value.split(['=', ':']).next().unwrap_or_default().trim();
    if repeated && table::find(meant).is_some() {
        report.warn_at(
            line,
            format!("line {line} is indented, so it is another value of '{name}', not the option '{meant}'"),
        );
    }
}

/// The values of a per-user or per-group file.
pub(crate) fn user_values(lines: Vec<Line>, report: &mut Report) -> Values {
    let mut values = Values::default();
    for Line { number, item } in lines {
        let Item::Option {
            name,
            value,
            repeated,
        } = item
        else {
            report.warn_at(number, "sections have no meaning here");
            continue;
        };
        doubt_repetition(repeated, &name, &value, number, report);
        let known = table::find(&name).filter(|option| matches!(option.scope, Scope::User | Scope::UserOnly));
        match known {
            None => report.warn_at(number, format!("skipping unknown option '{name}'")),
            Some(option) => {
                if let Some((name, value)) = read_value(option, &value, number, report) {
                    values.add(name, value);
                }
            }
        }
    }
    values
}

/// The present name and the value of an option, unless it has none.
fn read_value(
    option: &'static OptionInfo,
    value: &str,
    line: usize,
    report: &mut Report,
) -> Option<(&'static str, Value)> {
    let mut text = if option.kind == Kind::RawList {
        value
    } else {
        unquote(value)
    };
    if text.is_empty() {
        report.warn_at(
            line,
            format!("option '{}' in line {line} has no value; ignored", option.name),
        );
        return None;
    }
    let doubt = match option.kind {
        Kind::Bool
            if !["true", "yes", "false", "no"]
                .iter()
                .any(|word| text.eq_ignore_ascii_case(word)) =>
        {
            Some("taken as false".to_owned())
        }
        Kind::Number => match leading_number(text) {
            (number, false) => Some(format!("taken as {}", number as u32)),
            (_, true) => None,
        },
        _ => None,
    };
    if let Some(doubt) = doubt {
        report.warn_at(
            line,
            format!("option '{}' in line {line}: '{text}' is {doubt}", option.name),
        );
    }
    let name = match option.meaning {
        Meaning::Own => option.name,
        Meaning::AliasOf(name) => name,
        Meaning::ReplacedBy {
            option: present,
            when,
            value,
        } => {
            if when.is_some_and(|when| when != truth(text)) {
                return None;
            }
            report.note_at(line, format!("'{}' was replaced by '{present}'", option.name));
            text = value.unwrap_or(text);
            present
        }
        Meaning::Deprecated => {
            report.warn_at(line, format!("the option '{}' is deprecated", option.name));
            return None;
        }
        Meaning::Removed(message) => {
            report.fail_at(line, message);
            return None;
        }
    };
    Some((
        name,
        Value {
            line,
            text: text.to_owned(),
        },
    ))
}

/// How ocserv reads a boolean.
pub(crate) fn truth(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("yes")
}

/// How C's `strtol` reads a number, and whether nothing but a plain number was there.
pub(crate) fn leading_number(text: &str) -> (i64, bool) {
    let text = text.trim();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unsigned.len());
    let digits = unsigned.get(..end).unwrap_or_default();
    if digits.is_empty() {
        return (0, false);
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX);
    let number = if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    };
    let clean = end == unsigned.len() && (0..=i64::from(u32::MAX)).contains(&number);
    (number, clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_strtol() {
        for (text, number, clean) in [
            ("10", 10, true),
            ("+10", 10, true),
            ("10s", 10, false),
            ("abc", 0, false),
            ("", 0, false),
            ("-1", -1, false),
            ("4294967296", 4_294_967_296, false),
            ("99999999999999999999", i64::MAX, false),
        ] {
            assert_eq!(leading_number(text), (number, clean), "{text}");
        }
    }
}
