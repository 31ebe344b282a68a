//! `--dump-http-traffic`, with secrets elided.

use culvert_wire::http::{Request, Response};

use crate::output::Output;

const ELIDED: &str = "<elided>";
/// Headers whose value is a credential or as good as one.
const SECRET_HEADERS: [&str; 4] = [
    "Authorization",
    "Proxy-Authorization",
    "X-DTLS-Master-Secret",
    "X-CSTP-Post-Auth-XML",
];
/// What a name has in it when it names a secret.
const SECRET_NAMES: [&str; 8] = [
    "passw", "passcode", "answer", "cookie", "whichpin", "secret", "inputstr", "otp",
];
/// Elements whose names say nothing: GlobalProtect's login answer, and the keys in its configuration.
const SECRET_ELEMENTS: [&str; 2] = ["argument", "val"];

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

/// `Name: value` of a header; cookies keep their names and attributes, credentials their scheme.
pub(super) fn header(name: &str, value: &str) -> String {
    let is = |other: &&str| other.eq_ignore_ascii_case(name);
    if SECRET_HEADERS.iter().any(is) {
        let scheme = value.split_once(' ').map(|(scheme, _)| format!("{scheme} "));
        return format!("{name}: {}{ELIDED}", scheme.unwrap_or_default());
    }
    let elide = |pair: &str| match pair.split_once('=') {
        Some((_, "")) => pair.to_owned(),
        Some((cookie, _)) => format!("{cookie}={ELIDED}"),
        None => ELIDED.to_owned(),
    };
    let shown = if is(&"Set-Cookie") {
        match value.split_once(';') {
            Some((pair, attributes)) => format!("{};{attributes}", elide(pair)),
            None => elide(value),
        }
    } else if is(&"Cookie") {
        value.split("; ").map(elide).collect::<Vec<_>>().join("; ")
    } else {
        value.to_owned()
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
    SECRET_NAMES.iter().any(|part| name.contains(part)) || name.ends_with("token")
}

fn elide_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={ELIDED}"),
        _ => pair.to_owned(),
    }
}

/// Replaces the content of secret elements. It need not understand XML: whatever follows a secret
/// start tag up to its end tag is hidden. What a form is answered with is secret under any name but
/// the user's: servers name the fields.
fn elide_elements(xml: &str) -> String {
    let is_reply = xml.contains("auth-reply");
    let mut in_answers = false;
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
        let name = tag.split([' ', '/', '\t', '\r', '\n']).next().unwrap_or_default();
        match tag {
            "/auth" => in_answers = false,
            _ if name == "auth" => in_answers = is_reply,
            _ => {}
        }
        let is_answer = in_answers && !matches!(name, "" | "auth" | "username");
        let is_secret = is_secret(name) || SECRET_ELEMENTS.contains(&name) || is_answer;
        if is_secret && !name.is_empty() && !tag.ends_with('/') {
            let end = rest.find(&format!("</{name}")).unwrap_or(rest.len());
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

    /// Padding of base64 is no value of a cookie.
    #[test]
    fn credentials_are_elided() {
        for (value, shown) in [
            ("Basic dXNlcjpwYXNz", "Basic <elided>"),
            ("Basic dXNlcjpwYXNzdw==", "Basic <elided>"),
            ("Negotiate YII=", "Negotiate <elided>"),
            ("Digest username=\"u\", response=\"ab\"", "Digest <elided>"),
            ("secret", "<elided>"),
        ] {
            assert_eq!(header("Authorization", value), format!("Authorization: {shown}"));
            assert_eq!(
                header("proxy-authorization", value),
                format!("proxy-authorization: {shown}")
            );
        }
        assert_eq!(
            header("X-CSTP-Post-Auth-XML", "<a/>"),
            "X-CSTP-Post-Auth-XML: <elided>"
        );
        assert_eq!(
            header("X-DTLS-Master-Secret", "AB"),
            "X-DTLS-Master-Secret: <elided>"
        );
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
        assert_eq!(
            text(b"<session-token><![CDATA[abc]]></session-token>"),
            "<session-token><elided></session-token>"
        );
        assert_eq!(
            text(b"<config-auth type=\"auth-reply\"><opaque><x>1</x></opaque><auth><username>u</username><code2>1<b/>2</code2></auth><group-select>g</group-select>"),
            "<config-auth type=\"auth-reply\"><opaque><x>1</x></opaque><auth><username>u</username><code2><elided></code2></auth><group-select>g</group-select>"
        );
    }

    #[test]
    fn secrets_of_global_protect_are_elided() {
        assert_eq!(
            text(b"user=u&passwd=p&portal-userauthcookie=c&prelogin-cookie=d&inputStr=e&computer=f"),
            "user=u&passwd=<elided>&portal-userauthcookie=<elided>&prelogin-cookie=<elided>&inputStr=<elided>&computer=f"
        );
        assert_eq!(
            text(b"<jnlp><argument>cookie</argument></jnlp>"),
            "<jnlp><argument><elided></argument></jnlp>"
        );
        assert_eq!(
            text(b"<ekey-c2s><bits>128</bits><val>00ff</val></ekey-c2s>"),
            "<ekey-c2s><bits>128</bits><val><elided></val></ekey-c2s>"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_body_can_be_shown(body: Vec<u8>) {
            text(&body);
        }
    }
}
