//! Challenges: a second factor is wanted (`specs/globalprotect.md` §6).

use culvert_wire::xml::Element;

use super::answer::child_text;

/// What the user is asked, and the name of the challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) prompt: String,
    pub(super) input: String,
}

/// What a script form says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    Challenge(Challenge),
    Error(String),
}

impl Challenge {
    /// The XML form. `None` without `inputstr`: it could not be answered.
    pub(super) fn from_document(root: &Element) -> Option<Self> {
        Some(Self {
            prompt: child_text(root, "respmsg"),
            input: root.child("inputstr")?.text(),
        })
    }
}

/// The JavaScript form: three assignments in this order, and nothing else.
pub(super) fn parse_script(text: &str) -> Option<Script> {
    let mut rest = text.trim_start();
    let status = assignment(&mut rest, "var respStatus = ")?;
    let message = assignment(&mut rest, "var respMsg = ")?;
    let input = assignment(&mut rest, "thisForm.inputStr.value = ")?;
    if !rest.is_empty() {
        return None;
    }
    let message = unescape(message);
    if status.starts_with("Challenge") {
        Some(Script::Challenge(Challenge {
            prompt: message,
            input: input.to_owned(),
        }))
    } else {
        status.starts_with("Error").then_some(Script::Error(message))
    }
}

/// The text between the quotes of `name"text"`, with what separates it from the next statement
/// taken away.
fn assignment<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    let value = rest.strip_prefix(name)?.strip_prefix('"')?;
    let end = closing_quote(value)?;
    let (text, after) = (value.get(..end)?, value.get(end + 1..)?);
    *rest = after.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';');
    Some(text)
}

/// Position of the first quote that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            b'"' if !escaped => return Some(at),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// Resolves escapes; text whose escapes are wrong stays as it is.
fn unescape(text: &str) -> String {
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use culvert_wire::http::Response;
    use proptest::prelude::*;

    use super::*;
    use crate::client::answer::{Answer, Refusal, classify};

    #[test]
    fn vectors() {
        let text = include_str!("../../tests/vectors/challenge.txt");
        let mut seen = 0;
        for block in text.split("\n\n").filter(|block| block.contains("body = ")) {
            seen += 1;
            let value = |key: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
            };
            let name = value("name").unwrap();
            let body: String = serde_json::from_str(value("body").unwrap()).unwrap();
            let prompt = value("prompt")
                .map(|prompt| serde_json::from_str::<String>(prompt).unwrap())
                .unwrap_or_default();
            let answer = classify(&Response::new(200, "OK").with_body(body));
            match (value("result").unwrap(), name) {
                // Differences from the reference: an empty question is one, and nothing crashes.
                ("ok", _) | ("fail", "js empty msg") | ("crash", "xml no respmsg") => {
                    let Ok(Answer::Challenge(challenge)) = answer else {
                        panic!("{name}: {answer:?}")
                    };
                    assert_eq!(challenge.prompt, prompt, "{name}");
                    if let Some(input) = value("inputStr") {
                        assert_eq!(challenge.input, input, "{name}");
                    }
                }
                ("error", _) => assert_eq!(answer, Err(Refusal::Other(prompt)), "{name}"),
                ("fail", _) => assert!(answer.is_err(), "{name}: {answer:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(seen >= 17, "{seen}");
    }

    #[test]
    fn a_challenge_without_a_name_fails_cleanly() {
        let body = "<challenge><respmsg>x</respmsg></challenge>";
        assert!(matches!(
            classify(&Response::new(200, "OK").with_body(body)),
            Err(Refusal::Other(_))
        ));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(var respStatus = \")?[ -~\n\\\\\"é;]{0,80}") {
            let _ = parse_script(&text);
        }
    }
}
