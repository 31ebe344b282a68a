use std::fmt;

/// Header lines in order, with repetitions; names keep the case they came with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No header lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a line. Line breaks and NUL in `name` or `value` become blanks, so that no text
    /// can smuggle in another line.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((one_line(name.into()), one_line(value.into())));
    }

    /// [`Self::push`] before all other lines.
    pub fn push_first(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(0, (one_line(name.into()), one_line(value.into())));
    }

    /// Removes every line with this name, in any case.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Value of the first line with this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Values of all lines with this name, in any case and in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are no lines.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn append_to_last(&mut self, text: &str) -> bool {
        let Some((_, value)) = self.0.last_mut() else {
            return false;
        };
        value.push(' ');
        value.push_str(&one_line(text.to_owned()));
        true
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn one_line(text: String) -> String {
    let breaks = |c: char| matches!(c, '\r' | '\n' | '\0');
    if text.contains(breaks) {
        text.replace(breaks, " ")
    } else {
        text
    }
}

/// Shows names only: values carry cookies and tokens.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in lines {
            headers.push(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_keep_theirs() {
        let headers: Headers = [("X-CSTP-DNS", "1"), ("x-cstp-dns", "2")].into_iter().collect();
        assert_eq!(headers.get_all("X-Cstp-Dns").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers.iter().next(), Some(("X-CSTP-DNS", "1")));
    }

    #[test]
    fn a_value_cannot_become_two_lines() {
        let headers: Headers = [("A", "x\r\nB: y")].into_iter().collect();
        let mut out = Vec::new();
        headers.write_to(&mut out);
        assert_eq!(out, b"A: x  B: y\r\n");
    }

    #[test]
    fn values_are_not_printed() {
        let headers: Headers = [("Cookie", "webvpn=secret")].into_iter().collect();
        assert!(!format!("{headers:?}").contains("secret"));
    }
}
