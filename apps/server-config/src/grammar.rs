//! Lines, comments, sections, separators and quotes (`specs/server-config.md` §6).

use std::path::Path;

use crate::note::ConfigError;

/// Longest line in bytes, with its newline.
const LINE_MAX: usize = 2048;
/// How much of a section's text counts, in bytes.
const SECTION_MAX: usize = 49;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What one line of a configuration file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// `[text]`
    Section(String),
    /// `name = value`, or an indented line that repeats the name of the option above it.
    Option {
        /// As written, without outer white space.
        name: String,
        /// Everything after the separator without leading white space and without a comment.
        value: String,
        /// The line is such a repetition.
        repeated: bool,
    },
}

/// An [`Item`] with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) item: Item,
}

/// The number of the first line that is neither option, section nor comment, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLine(pub(crate) usize);

impl BadLine {
    pub(crate) fn into_error(self, file: &Path) -> ConfigError {
        ConfigError {
            message: "neither option, section nor comment, or too long".to_owned(),
            file: file.to_owned(),
            line: Some(self.0),
            notes: Vec::new(),
        }
    }
}

/// Splits a file into its meaningful lines.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Line>, BadLine> {
    let file = file.strip_prefix(BOM).unwrap_or(file);
    let mut lines = Vec::new();
    let mut previous_option: Option<String> = None;
    for (index, raw) in file.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        if raw.len() > LINE_MAX || raw.contains(&0) {
            return Err(BadLine(number));
        }
        let text = String::from_utf8_lossy(raw);
        let text = text.trim_end_matches(['\n', '\r']);
        let Some(item) = read_line(text, previous_option.as_deref()).map_err(|()| BadLine(number))? else {
            continue;
        };
        previous_option = match &item {
            Item::Section(_) => None,
            Item::Option { name, .. } => Some(name.clone()),
        };
        lines.push(Line { number, item });
    }
    Ok(lines)
}

fn read_line(text: &str, previous_option: Option<&str>) -> Result<Option<Item>, ()> {
    let trimmed = trim_start(text);
    if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
        return Ok(None);
    }
    if let (Some(name), true) = (previous_option, trimmed.len() < text.len()) {
        return Ok(Some(Item::Option {
            name: name.to_owned(),
            value: before_comment(trimmed).to_owned(),
            repeated: true,
        }));
    }
    if let Some(section) = trimmed.strip_prefix('[') {
        let (section, _) = section.split_once(']').ok_or(())?;
        return Ok(Some(Item::Section(cut(section, SECTION_MAX).to_owned())));
    }
    let at = trimmed.find(['=', ':']).ok_or(())?;
    let (name, value) = (&trimmed[..at], &trimmed[at + 1..]);
    if before_comment(name).len() < name.len() {
        return Err(());
    }
    let value = trim_start(before_comment(value)).to_owned();
    Ok(Some(Item::Option {
        name: trim_blanks(name).to_owned(),
        value,
        repeated: false,
    }))
}

/// The text up to a `#` that follows white space.
fn before_comment(text: &str) -> &str {
    let comment = text
        .char_indices()
        .zip(text.chars().skip(1))
        .find(|((_, before), here)| is_blank(*before) && *here == '#')
        .map(|((at, _), _)| at);
    comment.map_or(text, |at| &text[..at])
}

/// A value without the white space and quotes around it.
pub(crate) fn unquote(value: &str) -> &str {
    value.trim_matches(|c| is_blank(c) || c == '"')
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches(is_blank)
}

fn trim_blanks(text: &str) -> &str {
    text.trim_matches(is_blank)
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// At most `limit` bytes of `text`, in whole characters.
fn cut(text: &str, limit: usize) -> &str {
    let end = text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|&end| end <= limit)
        .last();
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option(number: usize, name: &str, value: &str) -> Line {
        Line {
            number,
            item: Item::Option {
                name: name.into(),
                value: value.into(),
                repeated: false,
            },
        }
    }

    fn repeated(number: usize, name: &str, value: &str) -> Line {
        Line {
            number,
            item: Item::Option {
                name: name.into(),
                value: value.into(),
                repeated: true,
            },
        }
    }

    fn section(number: usize, text: &str) -> Line {
        Line {
            number,
            item: Item::Section(text.into()),
        }
    }

    #[test]
    fn options_comments_and_separators() {
        let file = b"# comment\n  ; comment\n\na = 1\nb:2\n c = 3\nurl = http://x:1/?a=b\nd = x;y ; z\n";
        assert_eq!(
            read(file),
            Ok(vec![
                option(4, "a", "1"),
                option(5, "b", "2"),
                repeated(6, "b", "c = 3"),
                option(7, "url", "http://x:1/?a=b"),
                option(8, "d", "x;y ; z"),
            ])
        );
    }

    #[test]
    fn a_hash_after_white_space_ends_the_value_even_inside_quotes() {
        let file = b"a = x #y\nb = x#y\nc = \"x #y\"\nd = # nothing\ne =#value\nroute = 1\n 2 # two\n";
        assert_eq!(
            read(file),
            Ok(vec![
                option(1, "a", "x"),
                option(2, "b", "x#y"),
                option(3, "c", "\"x"),
                option(4, "d", ""),
                option(5, "e", "#value"),
                option(6, "route", "1"),
                repeated(7, "route", "2"),
            ])
        );
        assert_eq!(read(b"foo #a=b\n"), Err(BadLine(1)));
    }

    #[test]
    fn indentation_repeats_the_option_above_but_not_across_sections() {
        let file = b"  a = 1\n[vhost:x]\n  b = 2\n\tmore\n# comment\n\n  and more\n";
        assert_eq!(
            read(file),
            Ok(vec![
                option(1, "a", "1"),
                section(2, "vhost:x"),
                option(3, "b", "2"),
                repeated(4, "b", "more"),
                repeated(7, "b", "and more"),
            ])
        );
    }

    #[test]
    fn sections() {
        assert_eq!(
            read(b"[]\n[vhost: a ] x\n"),
            Ok(vec![section(1, ""), section(2, "vhost: a ")])
        );
        assert_eq!(read(b"[open\n"), Err(BadLine(1)));
        let long = format!("[{}]\n", "s".repeat(80));
        assert_eq!(read(long.as_bytes()), Ok(vec![section(1, &"s".repeat(49))]));
    }

    #[test]
    fn byte_order_mark_crlf_and_a_missing_last_newline() {
        assert_eq!(
            read(b"\xef\xbb\xbfa = 1\r\nb = 2"),
            Ok(vec![option(1, "a", "1"), option(2, "b", "2")])
        );
    }

    #[test]
    fn a_line_has_at_most_2048_bytes_with_its_newline() {
        let fits = format!("a = {}\n", "x".repeat(2043));
        assert_eq!(fits.len(), 2048);
        assert!(read(fits.as_bytes()).is_ok());
        let long = format!("b = 1\na = {}\n", "x".repeat(2044));
        assert_eq!(read(long.as_bytes()), Err(BadLine(2)));
    }

    #[test]
    fn lines_without_separator_and_with_nul_are_errors() {
        assert_eq!(read(b"a = 1\n\nnonsense\n"), Err(BadLine(3)));
        assert_eq!(read(b"a = \0\n"), Err(BadLine(1)));
    }

    #[test]
    fn quotes_and_blanks_are_stripped_repeatedly() {
        assert_eq!(unquote("\"\" a b \""), "a b");
        assert_eq!(unquote("a \"b\" c"), "a \"b\" c");
        assert_eq!(unquote("\"\""), "");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn never_panics_on_text(text in "[ \\[\\]=:#;\"\\n\\ra-cé]{0,80}") {
            let _ = read(text.as_bytes());
        }
    }
}
