//! Documents of the server, as a client reads them (`specs/anyconnect.md` §3.2).

use culvert_wire::xml::{self, Element};

use super::host_scan::HostScanRequest;
use super::profile::ProfileOffer;
use super::second_certificate::{SignatureHash, hashes};

/// What is said of a document that asks for nothing.
pub(super) const NO_AUTH: &str = "XML response has no \"auth\" node";

/// A body that is no login document: what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadDocument(pub(super) String);

/// A login document.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// `auth`, without which only a certificate request makes sense.
    pub(super) auth: Option<Auth>,
    /// To be sent back unchanged.
    pub(super) opaque: Option<Element>,
    /// Becomes the session cookie; empty removes it.
    pub(super) session_token: Option<String>,
    /// The server wants a client certificate that the TLS handshake did not bring.
    pub(super) wants_certificate: bool,
    /// The server wants a second certificate and a signature with one of these hash functions.
    pub(super) wants_second_certificate: Option<Vec<SignatureHash>>,
    /// The server wants a host scan.
    pub(super) host_scan: Option<HostScanRequest>,
    /// The server has an XML profile.
    pub(super) profile: Option<ProfileOffer>,
}

/// Contents of `auth`.
#[derive(Debug, Default)]
pub(super) struct Auth {
    pub(super) id: String,
    pub(super) banner: Option<String>,
    pub(super) message: Option<String>,
    pub(super) error: Option<String>,
    pub(super) form: Option<Element>,
    /// An answer without fields is wanted.
    pub(super) complete: bool,
    /// A browser sign-in is wanted.
    pub(super) sso: Option<Sso>,
}

/// A sign-in with a browser (`specs/anyconnect.md` §7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sso {
    /// Page to open.
    pub(super) url: String,
    /// Page at which the browser's part ends.
    pub(super) last_page: String,
    /// Cookie that then holds the token.
    pub(super) token_cookie: String,
    /// An ordinary browser, which sends the token to this host; otherwise one inside the client.
    pub(super) external: bool,
}

impl Document {
    /// Reads a response body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, BadDocument> {
        let root = xml::parse(body)
            .map_err(|error| BadDocument(format!("Failed to parse server response: {error}")))?;
        let mut document = match root.name.as_str() {
            "config-auth" => Self::from_config_auth(&root),
            "auth" => Self {
                auth: Some(Auth::parse(&root)),
                ..Self::default()
            },
            _ => return Err(BadDocument(NO_AUTH.into())),
        };
        document.host_scan = HostScanRequest::parse(&root);
        if document.auth.is_none()
            && !document.wants_certificate
            && document.wants_second_certificate.is_none()
        {
            return Err(BadDocument(NO_AUTH.into()));
        }
        Ok(document)
    }

    fn from_config_auth(root: &Element) -> Self {
        let authenticated = root.child("cert-authenticated").is_some();
        let second = root.child("multiple-client-cert-request");
        let mut auth = root.child("auth").map(Auth::parse);
        if let (Some(auth), Some(error)) = (&mut auth, root.child("error")) {
            auth.error = auth.error.take().or(message(error));
        }
        Self {
            auth,
            opaque: root.child("opaque").cloned(),
            session_token: root
                .child("session-token")
                .map(|token| token.text().trim().to_owned()),
            wants_certificate: !authenticated
                && (second.is_some() || root.child("client-cert-request").is_some()),
            wants_second_certificate: second.filter(|_| authenticated).map(hashes),
            host_scan: None,
            profile: ProfileOffer::in_document(root),
        }
    }
}

impl Auth {
    fn parse(auth: &Element) -> Self {
        let text = |name: &str| auth.child(name).and_then(message);
        Self {
            id: auth.attribute("id").unwrap_or_default().to_owned(),
            banner: text("banner"),
            message: text("message"),
            error: text("error"),
            form: auth.child("form").cloned(),
            complete: auth.child("authentication-complete").is_some(),
            sso: Sso::parse(auth),
        }
    }
}

impl Sso {
    fn parse(auth: &Element) -> Option<Self> {
        let text = |name: &str| auth.child(name).map(|element| element.text().trim().to_owned());
        Some(Self {
            url: text("sso-v2-login")?,
            last_page: text("sso-v2-login-final").unwrap_or_default(),
            token_cookie: text("sso-v2-token-cookie-name").unwrap_or_default(),
            external: text("sso-v2-browser-mode").as_deref() == Some("external"),
        })
    }
}

/// Text of a message with its parameters put in; `None` when empty.
fn message(element: &Element) -> Option<String> {
    let text = element.text();
    let text = substitute(
        text.trim(),
        [element.attribute("param1"), element.attribute("param2")],
    );
    (!text.is_empty()).then_some(text)
}

/// Replaces the first and second `%s`. Another `%` sequence ends the substitution; a missing
/// parameter leaves its `%s`.
fn substitute(text: &str, parameters: [Option<&str>; 2]) -> String {
    let mut out = String::new();
    let mut rest = text;
    for parameter in parameters {
        let Some((before, after)) = rest.split_once('%') else {
            break;
        };
        let Some(after) = after.strip_prefix('s') else {
            break;
        };
        out.push_str(before);
        out.push_str(parameter.unwrap_or("%s"));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn substitution() {
        for (text, one, two, expected) in [
            ("Login error. %s", Some("x"), Some(""), "Login error. x"),
            ("%s and %s and %s", Some("P1"), Some("P2"), "P1 and P2 and %s"),
            ("%s %s", None, Some("b"), "%s b"),
            ("100%d %s", Some("a"), None, "100%d %s"),
            ("%s 5% %s", Some("a%s"), Some("b"), "a%s 5% %s"),
            ("%", Some("a"), None, "%"),
        ] {
            assert_eq!(substitute(text, [one, two]), expected, "{text}");
        }
    }

    #[test]
    fn certificate_requests() {
        let parse = |inner: &str| Document::parse(format!("<config-auth>{inner}</config-auth>").as_bytes());
        let asked = parse("<client-cert-request></client-cert-request>").unwrap();
        assert!(asked.wants_certificate && asked.auth.is_none());
        assert!(
            !parse("<client-cert-request/><cert-authenticated/><auth/>")
                .unwrap()
                .wants_certificate
        );
        assert!(
            parse("<multiple-client-cert-request/><cert-authenticated/>")
                .unwrap()
                .wants_second_certificate
                .is_some()
        );
        assert!(parse("<opaque/>").is_err());
        assert!(Document::parse(b"<html/>").is_err());
    }

    #[test]
    fn an_error_may_stand_outside_of_auth() {
        let document =
            Document::parse(b"<config-auth><error id=\"9\">outer</error><auth id=\"main\"/></config-auth>")
                .unwrap();
        assert_eq!(document.auth.unwrap().error.as_deref(), Some("outer"));
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,30}") {
            let _ = Document::parse(&body);
            substitute(&text, [Some("a"), None]);
        }
    }
}
