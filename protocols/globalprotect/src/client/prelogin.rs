//! The answer to prelogin: how to log in (`specs/globalprotect.md` §4).

use culvert_wire::xml::Element;

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
    pub(super) fn url(&self) -> Option<String> {
        match self.method.as_str() {
            "REDIRECT" => {
                let url = data_encoding::BASE64.decode(self.request.as_bytes()).ok()?;
                String::from_utf8(url).ok()
            }
            "POST" => Some(format!("data:text/html;base64,{}", self.request)),
            _ => None,
        }
    }
}
