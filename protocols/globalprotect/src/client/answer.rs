//! What a response is: every POST is answered in one of a few forms (`specs/globalprotect.md`
//! §2.2, §2.3).

use culvert_wire::http::Response;
use culvert_wire::xml::{self, Element};

use super::challenge::{Challenge, Script, parse_script};

/// A server's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong credentials (status 512).
    #[error("Invalid username or password")]
    Credentials,
    /// This server has no such portal or gateway.
    #[error("{0}")]
    NotHere(String),
    /// No attempt with the same cookie or certificate can succeed.
    #[error("{0}")]
    Permanent(String),
    /// Anything else; it may pass.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// True when another attempt is pointless.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent(_))
    }
}

/// An acceptable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A document for the request's own reader.
    Document(Element),
    /// A second factor is wanted.
    Challenge(Challenge),
}

/// Sorts a response.
pub(super) fn classify(response: &Response) -> Result<Answer, Refusal> {
    match response.status {
        200 if response.body.is_empty() => Err(Refusal::Other(
            "Unexpected empty response body from server".into(),
        )),
        200 => classify_body(&response.body),
        512 => Err(Refusal::Credentials),
        status @ (401 | 403) => Err(Refusal::Permanent(format!(
            "Unexpected {status} result from server"
        ))),
        513 => Err(Refusal::Other("Valid client certificate is required".into())),
        status => Err(Refusal::Other(format!("Unexpected {status} result from server"))),
    }
}

fn classify_body(body: &[u8]) -> Result<Answer, Refusal> {
    let text = String::from_utf8_lossy(body);
    if !text.trim_start().starts_with('<') {
        return from_script(&text);
    }
    let root = xml::parse(body)
        .map_err(|error| Refusal::Other(format!("Failed to parse server response: {error}")))?;
    match root.name.as_str() {
        "response" if root.attribute("status") == Some("error") => Err(refusal(&child_text(&root, "error"))),
        "prelogin-response" if !status_is_success(&root) => Err(refusal(&child_text(&root, "msg"))),
        "challenge" => Challenge::from_document(&root)
            .map(Answer::Challenge)
            .ok_or_else(|| Refusal::Other("The server's challenge has no inputstr".into())),
        "html" => match root.child("body") {
            Some(body) => from_script(&body.text()),
            None => Ok(Answer::Document(root)),
        },
        _ => Ok(Answer::Document(root)),
    }
}

fn status_is_success(prelogin: &Element) -> bool {
    prelogin
        .child("status")
        .is_none_or(|status| status.text() == "Success")
}

fn from_script(text: &str) -> Result<Answer, Refusal> {
    match parse_script(text) {
        Some(Script::Challenge(challenge)) => Ok(Answer::Challenge(challenge)),
        Some(Script::Error(text)) => Err(refusal(&text)),
        None if text == "errors getting SSL/VPN config" => Err(Refusal::Permanent(text.to_owned())),
        None => Err(Refusal::Other("Failed to parse server response".into())),
    }
}

/// The refusal with this text of the server.
fn refusal(text: &str) -> Refusal {
    let owned = text.to_owned();
    match text {
        "GlobalProtect portal does not exist" | "GlobalProtect gateway does not exist" => {
            Refusal::NotHere(owned)
        }
        "Invalid authentication cookie"
        | "Portal name not found"
        | "Valid client certificate is required"
        | "Allow Automatic Restoration of SSL VPN is disabled" => Refusal::Permanent(owned),
        "" => Refusal::Other("the server refuses without a reason".into()),
        _ => Refusal::Other(owned),
    }
}

/// Text of a child without outer blanks; empty when there is none.
pub(super) fn child_text(element: &Element, name: &str) -> String {
    element
        .child(name)
        .map(|child| child.text().trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, Refusal> {
        classify(&Response::new(status, "x").with_body(body))
    }

    #[test]
    fn refusals_by_text_and_status() {
        let error = |text: &str| {
            answer(
                200,
                &format!("<response status='error'><error>{text}</error></response>"),
            )
        };
        assert_eq!(
            error("Invalid authentication cookie"),
            Err(Refusal::Permanent("Invalid authentication cookie".into()))
        );
        assert!(matches!(
            error("Assign private IP address failed"),
            Err(Refusal::Other(_))
        ));
        let nowhere = "<prelogin-response><status>Error</status><msg>GlobalProtect portal does not exist</msg></prelogin-response>";
        assert!(matches!(answer(200, nowhere), Err(Refusal::NotHere(_))));
        assert!(matches!(
            answer(200, "<prelogin-response/>"),
            Ok(Answer::Document(_))
        ));
        assert_eq!(answer(512, "x"), Err(Refusal::Credentials));
        assert!(answer(403, "<response/>").is_err_and(|refusal| refusal.is_permanent()));
        assert!(answer(500, "<response/>").is_err_and(|refusal| !refusal.is_permanent()));
        assert!(answer(200, "errors getting SSL/VPN config").is_err_and(|refusal| refusal.is_permanent()));
        assert!(answer(200, "").is_err() && answer(200, "hello <response/>").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = classify(&Response::new(200, "OK").with_body(body));
        }

        #[test]
        fn never_panics_on_markup(body in "<(challenge|html|response)>[<>a-z/\" ]{0,60}") {
            let _ = answer(200, &body);
        }
    }
}
