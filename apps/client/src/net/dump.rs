//! `--dump-http-traffic`, with secrets elided.

use culvert_wire::http::{Request, Response};

use crate::output::Output;

const ELIDED: &str = "<elided>";
/// Headers whose value is a credential.
const SECRET_HEADERS: [&str; 4] = ["Cookie", "Set-Cookie", "Authorization", "X-DTLS-Master-Secret"];

/// Shows a request, line by line.
pub(super) fn request(output: &Output, request: &Request) {
    output.debug(&format!(
        "> {} {} {}",
        request.method,
        request.target,
        request.version.as_str()
    ));
    for (name, value) in request.headers.iter() {
        output.debug(&format!("> {}", header(name, value)));
    }
    output.debug("> ");
    for line in text(&request.body).lines() {
        output.debug(&format!("> {line}"));
    }
}

/// How the length of a response's body is told, in the words of the reference.
pub(super) fn body_length(response: &Response) -> String {
    let headers = &response.headers;
    match (headers.get("Transfer-Encoding"), headers.get("Content-Length")) {
        (Some(_), _) => "HTTP body chunked (-2)".to_owned(),
        (None, Some(length)) => format!("HTTP body length:  ({length})"),
        (None, None) => "HTTP body http 1.0 (-1)".to_owned(),
    }
}

/// Shows the body of a response, line by line.
pub(super) fn body(output: &Output, body: &[u8]) {
    for line in text(body).lines() {
        output.debug(&format!("< {line}"));
    }
}

/// `Name: value` of a header; cookies keep their names and attributes.
pub(super) fn header(name: &str, value: &str) -> String {
    if !SECRET_HEADERS
        .iter()
        .any(|secret| secret.eq_ignore_ascii_case(name))
    {
        return format!("{name}: {value}");
    }
    let elide = |pair: &str| match pair.split_once('=') {
        Some((cookie, content)) if !content.is_empty() => format!("{cookie}={ELIDED}"),
        Some(_) => pair.to_owned(),
        None => ELIDED.to_owned(),
    };
    let shown = if name.eq_ignore_ascii_case("Set-Cookie") {
        match value.split_once(';') {
            Some((pair, attributes)) => format!("{};{attributes}", elide(pair)),
            None => elide(value),
        }
    } else {
        value.split("; ").map(elide).collect::<Vec<_>>().join("; ")
    };
    format!("{name}: {shown}")
}

/// A body without passwords and session tokens.
fn text(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    if body.trim_start().starts_with('<') {
        elide_elements(&body)
    } else {
        body.split('&').map(elide_pair).collect::<Vec<_>>().join("&")
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("password") || name.contains("answer") || name == "session-token" || name == "whichpin"
}

fn elide_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={ELIDED}"),
        _ => pair.to_owned(),
    }
}

/// Replaces the text of secret elements. It need not understand XML: whatever follows a secret
/// start tag up to the next tag is hidden.
fn elide_elements(xml: &str) -> String {
    let mut shown = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once('<') {
        shown.push_str(before);
        shown.push('<');
        let (tag, content) = after.split_once('>').unwrap_or((after, ""));
        shown.push_str(tag);
        if after.len() > tag.len() {
            shown.push('>');
        }
        rest = content;
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if is_secret(name) && !tag.ends_with('/') {
            let end = rest.find('<').unwrap_or(rest.len());
            let (secret, following) = rest.split_at(end);
            if !secret.is_empty() {
                shown.push_str(ELIDED);
            }
            rest = following;
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_elided() {
        assert_eq!(
            header("Cookie", "a=1; webvpn=secret"),
            "Cookie: a=<elided>; webvpn=<elided>"
        );
        assert_eq!(
            header("set-cookie", "webvpn=secret; Secure"),
            "set-cookie: webvpn=<elided>; Secure"
        );
        assert_eq!(
            header("Set-Cookie", "webvpn=; Max-Age=0"),
            "Set-Cookie: webvpn=; Max-Age=0"
        );
        assert_eq!(header("Host", "a=b"), "Host: a=b");
    }

    #[test]
    fn passwords_are_elided() {
        let xml = b"<auth><username>u</username><password>p&amp;q</password><secondary_password>z</secondary_password></auth>";
        assert_eq!(
            text(xml),
            "<auth><username>u</username><password><elided></password><secondary_password><elided></secondary_password></auth>"
        );
        assert_eq!(
            text(b"<session-token id=\"1\">abc</session-token><a/>"),
            "<session-token id=\"1\"><elided></session-token><a/>"
        );
        assert_eq!(text(b"username=u&password=p"), "username=u&password=<elided>");
    }

    proptest::proptest! {
        #[test]
        fn any_body_can_be_shown(body: Vec<u8>) {
            text(&body);
        }
    }
}
