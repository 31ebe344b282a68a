//! One line of `WWW-Authenticate` or `Proxy-Authenticate`.

/// A scheme and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Challenge<'a> {
    /// Name of the scheme, in the case it came in.
    pub(crate) scheme: &'a str,
    /// Parameters or token, without surrounding blanks.
    pub(crate) rest: &'a str,
}

impl<'a> Challenge<'a> {
    pub(crate) fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (scheme, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Self {
            scheme,
            rest: rest.trim(),
        }
    }
}

/// `name=value` and `name="value"` pairs, separated by commas. What does not parse ends the list.
pub(crate) fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        let Some((name, rest)) = text.split_once('=') else {
            return found;
        };
        let (value, rest) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Some(value) => value,
                None => return found,
            },
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (value, rest) = rest.split_at(end);
                (value.trim().to_owned(), rest)
            }
        };
        found.push((name.trim().to_ascii_lowercase(), value));
        text = rest;
    }
}

/// The content of a quoted string whose first quote has been taken, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(index + 1..).unwrap_or_default())),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_and_parameters() {
        let challenge =
            Challenge::parse("Digest realm=\"a \\\"b\\\", c\", qop=\"auth,auth-int\" , stale=TRUE");
        assert_eq!(challenge.scheme, "Digest");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parameters(challenge.rest),
            [
                pair("realm", "a \"b\", c"),
                pair("qop", "auth,auth-int"),
                pair("stale", "TRUE")
            ]
        );
        assert_eq!(Challenge::parse("NTLM").rest, "");
        assert!(parameters("realm=\"open").is_empty());
        assert!(parameters("nonsense").is_empty());
    }
}
