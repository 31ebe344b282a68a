//! The answer to prelogin: how to log in (`specs/globalprotect.md` §4).

use culvert_wire::xml::Element;
use data_encoding::{BASE64, BASE64_NOPAD};

use super::answer::child_text;

/// Texts of the login form, and what else the server demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prelogin {
    pub(super) message: Option<String>,
    pub(super) username_label: Option<String>,
    pub(super) password_label: Option<String>,
    /// Country of the client, for the priorities of gateways.
    pub(super) region: String,
    pub(super) saml: Option<Saml>,
}

/// A sign-in with a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saml {
    /// `REDIRECT` or `POST`.
    pub(super) method: String,
    /// Base64 of a URL or of a page.
    pub(super) request: String,
}

impl Prelogin {
    pub(super) fn parse(root: &Element) -> Self {
        let text = |name: &str| Some(child_text(root, name)).filter(|text| !text.is_empty());
        Self {
            message: text("authentication-message"),
            username_label: text("username-label"),
            password_label: text("password-label"),
            region: child_text(root, "region"),
            saml: text("saml-auth-method")
                .zip(text("saml-request"))
                .map(|(method, request)| Saml { method, request }),
        }
    }

    /// The secret is likely a one-time code: it has a name other than the usual one.
    pub(super) fn wants_token(&self) -> bool {
        self.password_label
            .as_deref()
            .is_some_and(|label| label != "Password")
    }
}

impl Saml {
    /// What the browser has to open.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub(super) fn url(&self) -> Result<String, String> {
        let bad = |what: &str| format!("The server's SAML {} request is no {what}", self.method);
        let base64: String = self.request.split_ascii_whitespace().collect();
        let decoded = BASE64
            .decode(base64.as_bytes())
            .or_else(|_| BASE64_NOPAD.decode(base64.as_bytes()));
        match (self.method.as_str(), decoded) {
            ("REDIRECT" | "POST", Err(_)) => Err(bad("base64 text")),
            ("REDIRECT", Ok(url)) => String::from_utf8(url)
                .ok()
                .filter(|url| !url.is_empty() && url.chars().all(|c| !c.is_control()))
                .ok_or_else(|| bad("address")),
            ("POST", Ok(_)) => Ok(format!("data:text/html;base64,{base64}")),
            (method, _) => Err(format!("Unknown SAML method {method}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_browser_sign_in() {
        let url = |method: &str, request: &str| {
            Saml {
                method: method.to_owned(),
                request: request.to_owned(),
            }
            .url()
        };
        let page = "https://idp.example/";
        for text in ["aHR0cHM6Ly9pZHAuZXhhbXBsZS8=", "aHR0cHM6Ly9p\n ZHAuZXhhbXBsZS8"] {
            assert_eq!(url("REDIRECT", text), Ok(page.to_owned()));
        }
        assert_eq!(
            url("POST", "PGh0\nbWw+"),
            Ok("data:text/html;base64,PGh0bWw+".to_owned())
        );
        for (method, request, why) in [
            ("REDIRECT", "***", "is no base64 text"),
            ("POST", "***", "is no base64 text"),
            ("REDIRECT", "G1sybQ==", "is no address"),
            ("REDIRECT", "/w==", "is no address"),
            ("GET", "eA==", "Unknown SAML method GET"),
        ] {
            let error = url(method, request).unwrap_err();
            assert!(error.contains(why), "{method} {request}: {error}");
        }
    }
}
