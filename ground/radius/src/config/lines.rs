//! Lines of configuration files: a keyword and the rest, `#` begins a comment.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ConfigError;

/// Largest file, in octets; FreeRADIUS' largest dictionary has 100 KiB.
const FILE_MAX: u64 = 4 << 20;

/// The text of a file, which may hold secrets.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let failed = |cause| ConfigError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(failed)?;
    let mut octets = Zeroizing::new(Vec::new());
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    // Comments are in all kinds of character sets.
    Ok(Zeroizing::new(String::from_utf8_lossy(&octets).into_owned()))
}

/// A line with something on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    path: &'a Path,
    /// From 1.
    pub(super) number: usize,
    /// The first word.
    pub(super) keyword: &'a str,
    /// What follows it, without spaces around.
    pub(super) rest: &'a str,
}

/// All lines with something on them.
pub(super) struct Lines<'a> {
    path: &'a Path,
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            lines: text.lines().enumerate(),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, ConfigError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, text) = self.lines.by_ref().find(|(_, text)| {
            let text = text.trim();
            !text.is_empty() && !text.starts_with('#')
        })?;
        let text = text.trim();
        let line = |keyword, rest| Line {
            path: self.path,
            number: at + 1,
            keyword,
            rest,
        };
        if text.contains('\0') {
            return Some(Err(line("", "").wrong("this is no text".to_owned())));
        }
        let (keyword, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        Some(Ok(line(keyword, rest.trim())))
    }
}

impl Line<'_> {
    /// An error in this line.
    pub(super) fn wrong(&self, problem: String) -> ConfigError {
        ConfigError::Line {
            path: self.path.to_owned(),
            line: self.number,
            problem,
        }
    }

    /// The rest without a comment; there must be something.
    pub(super) fn value(&self) -> Result<&str, ConfigError> {
        let value = match self.rest.split_once([' ', '\t']) {
            Some((value, comment)) if comment.trim_start().starts_with('#') => value,
            _ => self.rest,
        };
        if value.is_empty() {
            return Err(self.wrong(format!("'{}' has no value", self.keyword)));
        }
        Ok(value)
    }

    /// A path; a relative one is next to the file.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.value().map(|value| folder.join(value))
    }

    /// A number within the range.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let value = self.value()?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        let (least, most) = range.into_inner();
        number.ok_or_else(|| {
            let keyword = self.keyword;
            self.wrong(format!(
                "'{keyword}' must be a number from {least} to {most}, not '{value}'"
            ))
        })
    }

    /// An address, or `*`.
    pub(super) fn address_unless_any(&self) -> Result<Option<IpAddr>, ConfigError> {
        match self.value()? {
            "*" => Ok(None),
            value => match value.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(address) => Ok(Some(address)),
                Err(_) => Err(self.wrong(format!("'{value}' is no IP address"))),
            },
        }
    }
}
