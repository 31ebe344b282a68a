//! `--config=FILE` (`specs/client.md` §1.1).

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use culvert_getopt::Argument;

use super::Stop;
use super::apply::Applier;
use super::table::{self, Opt, Spec};
use crate::prompt::reason;

/// Applies every line of the file, in order.
pub(super) fn apply(applier: &mut Applier<'_>, file: OsString) -> Result<(), Stop> {
    let content = applier.host().read_file(Path::new(&file)).map_err(|error| {
        let reason = reason(&error);
        Stop::Error(match error.kind() {
            // It can be opened.
            ErrorKind::IsADirectory => format!("Failed to get line from config file: {reason}"),
            _ => format!("Cannot open config file '{}': {reason}", file.to_string_lossy()),
        })
    })?;
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        if let Some((spec, value)) = parse_line(line, index + 1)? {
            if spec.opt == Opt::Config {
                return Err(Stop::Error(
                    "Cannot use 'config' option inside config file".into(),
                ));
            }
            applier.apply(spec.opt, value.map(OsString::from_vec))?;
        }
    }
    Ok(())
}

type Entry = (&'static Spec, Option<Vec<u8>>);

/// One line: `NAME`, `NAME VALUE`, `NAME=VALUE` or `NAME = VALUE`; `None` for blanks and comments.
fn parse_line(line: &[u8], number: usize) -> Result<Option<Entry>, Stop> {
    let end = line
        .iter()
        .rposition(|&byte| byte != b'\r')
        .map_or(0, |last| last + 1);
    let line = skip_blanks(line.get(..end).unwrap_or_default());
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let name_len = line
        .iter()
        .skip(1)
        .position(|&byte| matches!(byte, b' ' | b'\t' | b'='))
        .map_or(line.len(), |rest| rest + 1);
    let (name, rest) = line.split_at(name_len);
    let rest = skip_blanks(rest);
    let (separated, value) = match rest.strip_prefix(b"=") {
        Some(value) => (true, skip_blanks(value)),
        None => (!rest.is_empty(), rest),
    };
    let name = String::from_utf8_lossy(name);
    let Some(spec) = table::by_long(&name) else {
        return Err(Stop::Usage(format!(
            "Unrecognised option at line {number}: '{name}'"
        )));
    };
    match spec.argument {
        Argument::None if separated => Err(Stop::Usage(format!(
            "Option '{name}' does not take an argument at line {number}"
        ))),
        Argument::Required if value.is_empty() => Err(Stop::Usage(format!(
            "Option '{name}' requires an argument at line {number}"
        ))),
        Argument::None => Ok(Some((spec, None))),
        Argument::Optional if value.is_empty() => Ok(Some((spec, None))),
        Argument::Required | Argument::Optional => Ok(Some((spec, Some(value.to_vec())))),
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text
        .iter()
        .position(|&byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}
