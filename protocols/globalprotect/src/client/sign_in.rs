//! The result of a sign-in with a browser (`specs/globalprotect.md` §8).

use culvert_vocab::SecretString;
use culvert_wire::form;
use culvert_wire::xml::unescape;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};

/// Scheme of the link in which a sign-in ends.
const SCHEME: &str = "globalprotectcallback:";
/// Names of the secrets that a sign-in may bring, the best first.
const SECRETS: [&str; 3] = ["prelogin-cookie", "portal-userauthcookie", "token"];

/// What a sign-in brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedIn {
    pub(super) user: String,
    /// Name of the parameter that carries the secret.
    pub(super) field: &'static str,
    pub(super) secret: SecretString,
}

impl SignedIn {
    /// Reads the link, or the page behind it as one line. `None`: it is something else, or tells
    /// of a failure.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let Some(data) = text.strip_prefix(SCHEME) else {
            return Self::of_page(text);
        };
        let data = data.trim_start_matches('/').trim_start_matches('?');
        Self::of_query(data).or_else(|| Self::of_page(&decode(data)?))
    }

    /// `un=USER&token=JWT` of the cloud service.
    fn of_query(query: &str) -> Option<Self> {
        let fields = form::decode(query).ok()?;
        let value = |name: &str| {
            let mut values = fields.iter().filter(|(key, _)| key == name);
            values.next().map(|(_, value)| value.clone())
        };
        let (user, token) = (value("un")?, value("token")?);
        (!user.is_empty() && !token.is_empty()).then(|| Self {
            user,
            field: "token",
            secret: token.into(),
        })
    }

    /// The elements in a comment of the page. They are read as text: the page is HTML, not XML.
    fn of_page(page: &str) -> Option<Self> {
        if element(page, "saml-auth-status").is_some_and(|status| status.trim() != "1") {
            return None;
        }
        let user = element(page, "saml-username").filter(|user| !user.is_empty())?;
        let secrets = SECRETS
            .into_iter()
            .filter_map(|field| Some((field, element(page, field)?)));
        let (field, secret) = secrets.into_iter().find(|(_, secret)| !secret.is_empty())?;
        Some(Self {
            user,
            field,
            secret: secret.into(),
        })
    }
}

fn decode(data: &str) -> Option<String> {
    let data = data.as_bytes();
    let octets = [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD]
        .iter()
        .find_map(|encoding| encoding.decode(data).ok())?;
    String::from_utf8(octets).ok()
}

fn element(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(unescape(text.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "<html><body>Login Successful!</body><!-- <saml-auth-status>1</saml-auth-status>\
        <prelogin-cookie>AbC+/=</prelogin-cookie><saml-username>a&amp;b@x</saml-username><saml-slo>no</saml-slo> --></html>";

    fn parsed(text: &str) -> Option<(String, &'static str, String)> {
        let found = SignedIn::parse(text)?;
        Some((found.user, found.field, found.secret.expose().to_owned()))
    }

    #[test]
    fn pages_and_links() {
        let expected = Some(("a&b@x".to_owned(), "prelogin-cookie", "AbC+/=".to_owned()));
        assert_eq!(parsed(PAGE), expected);
        let data = BASE64.encode(PAGE.as_bytes());
        assert_eq!(parsed(&format!("globalprotectcallback:{data}\n")), expected);
        assert_eq!(parsed(&format!("globalprotectcallback:?{data}")), expected);
        let data = BASE64URL_NOPAD.encode(PAGE.as_bytes());
        assert_eq!(parsed(&format!("globalprotectcallback://{data}")), expected);
    }

    #[test]
    fn the_cloud_service() {
        let link = "globalprotectcallback:cas-as=1&un=joe%40x&token=a.b.c";
        assert_eq!(parsed(link), Some(("joe@x".into(), "token", "a.b.c".into())));
    }

    #[test]
    fn failures_and_strangers() {
        let failed = PAGE.replace("status>1<", "status>-1<");
        let empty = PAGE.replace("AbC+/=", "");
        for text in [
            failed.as_str(),
            empty.as_str(),
            "",
            "globalprotectcallback:",
            "globalprotectcallback:!!",
            "globalprotectcallback:un=joe&token=",
            "<saml-username>joe</saml-username>",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(globalprotectcallback:|<saml-username>|</saml-username>|<token>|</token>|un=|&|x|%|\u{e9}){0,12}") {
            let _ = SignedIn::parse(&text);
        }
    }
}
