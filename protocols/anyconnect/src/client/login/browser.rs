//! Sign-in with a browser (`specs/anyconnect.md` §7).

use culvert_login::client::{Returned, SignIn, SignInResult, Step};
use culvert_vocab::{FieldKind, SecretString};
use culvert_wire::form;

use super::{Login, State};
use crate::client::document::Sso;
use crate::client::login_form::LoginForm;
use crate::client::login_steps::LoginError;

/// TCP port to which gateways send browsers.
const PORT: u16 = 29786;
/// What the browser's request begins with.
const PATH: &str = "/api/sso/";
/// Most octets of a token that was pasted.
const TOKEN_MAX: usize = 4096;

impl Login {
    /// Has the user sign in, if the form wants what that brings.
    pub(super) fn ask_browser(&mut self, form: LoginForm, sso: &Sso) -> Result<Step, LoginError> {
        if !self.config.external_auth {
            return Err(LoginError::Browser);
        }
        let result = match (sso.external, &self.config.strap) {
            (true, Some(_)) => SignInResult::Loopback { port: PORT },
            (true, None) => return Err(LoginError::Browser),
            (false, _) => SignInResult::Text {
                hint: format!(
                    "After the sign-in, paste the value of the cookie '{}' that {} has set:",
                    sso.token_cookie, sso.last_page
                ),
                otherwise: LoginError::Browser.to_string(),
            },
        };
        let sign_in = SignIn {
            url: sso.url.clone(),
            result,
            form: form.form.clone(),
        };
        self.state = State::SigningIn(Box::new(form), sso.clone());
        Ok(Step::Browser(sign_in))
    }

    /// See [`culvert_login::client::Login::handle_browser`].
    pub fn handle_browser(&mut self, result: &str) -> Returned {
        let State::SigningIn(_, sso) = &self.state else {
            return Returned::Stranger;
        };
        let (token, next_page) = match (sso.external, &self.config.strap) {
            (true, Some(keys)) => {
                let Some((blob, next_page)) = parse_target(result) else {
                    return Returned::Stranger;
                };
                (keys.unwrap_token(&blob), next_page)
            }
            _ => (pasted_token(result, &sso.token_cookie), None),
        };
        let Some(token) = token else {
            return Returned::Stranger;
        };
        Returned::Over {
            step: Box::new(self.signed_in(&token)),
            next_page,
        }
    }

    /// Goes on with what the form asks besides, else answers it.
    fn signed_in(&mut self, token: &SecretString) -> Step {
        let State::SigningIn(mut form, _) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.send(false);
        };
        for field in &mut form.form.fields {
            if field.kind == FieldKind::SsoToken {
                field.value = Some(token.clone());
            }
        }
        let answered = |kind: &FieldKind| matches!(kind, FieldKind::SsoToken | FieldKind::Hidden);
        if form.form.fields.iter().all(|field| answered(&field.kind)) {
            self.empty_forms = 0;
            return self.send_reply(&form.form);
        }
        // They were shown before the sign-in.
        (form.form.banner, form.form.message, form.form.error) = (None, None, None);
        let asked = form.form.clone();
        self.state = State::Asking(form);
        Step::Form(asked)
    }
}

/// The blob in the target of the browser's request, or in the URL that a user has copied, and the
/// `https` page where the browser is to go.
fn parse_target(target: &str) -> Option<(String, Option<String>)> {
    let target = match target.trim().strip_prefix("http://") {
        Some(rest) => rest.get(rest.find('/')?..)?,
        None => target.trim(),
    };
    let rest = target.strip_prefix(PATH)?;
    let (blob, query) = rest.split_once('?').unwrap_or((rest, ""));
    let decoded = form::decode(&format!("blob={blob}")).ok()?;
    // A plus sign is itself here, not a blank.
    let blob = decoded.into_iter().next()?.1.replace(' ', "+");
    let next_page = form::decode(query).ok()?.into_iter().find_map(|(name, value)| {
        let usable = value.starts_with("https://") && !value.chars().any(char::is_control);
        (name == "return" && usable).then_some(value)
    });
    Some((blob, next_page))
}

/// A token as it stands in the cookie, or the cookie.
fn pasted_token(text: &str, cookie: &str) -> Option<SecretString> {
    let text = text.trim();
    let token = text
        .strip_prefix(cookie)
        .and_then(|rest| rest.strip_prefix('='))
        .unwrap_or(text);
    let usable =
        (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|octet| octet.is_ascii_graphic());
    usable.then(|| token.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_of_browsers_and_copied_urls() {
        let parsed = |target: &str| parse_target(target);
        let found = |blob: &str, next: Option<&str>| Some((blob.to_owned(), next.map(str::to_owned)));
        assert_eq!(parsed("/api/sso/a+b%2Fc%3D%3d"), found("a+b/c==", None));
        let next = "/api/sso/ab?x=1&return=https%3A%2F%2Fvpn.test%2Fdone%3Fa%3Db";
        assert_eq!(parsed(next), found("ab", Some("https://vpn.test/done?a=b")));
        assert_eq!(parsed(" http://localhost:29786/api/sso/ab\n"), found("ab", None));
        for unusable in [
            "return=http%3A%2F%2Fx",
            "return=https%3A%2F%2Fx%0D%0AY",
            "other=https://x",
        ] {
            assert_eq!(parsed(&format!("/api/sso/ab?{unusable}")), found("ab", None));
        }
        for stranger in [
            "/",
            "/favicon.ico",
            "/api/ssoX",
            "http://nothing",
            "/api/sso/%zz",
            "ab",
        ] {
            assert_eq!(parsed(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn pasted_tokens() {
        assert_eq!(pasted_token(" acToken=AB=\n", "acToken"), Some("AB=".into()));
        assert_eq!(pasted_token("AB", "acToken"), Some("AB".into()));
        for bad in ["", "two words", "acToken=", "\u{e9}"] {
            assert_eq!(pasted_token(bad, "acToken"), None, "{bad}");
        }
        assert_eq!(pasted_token(&"a".repeat(TOKEN_MAX + 1), "c"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(http://|/api/sso/|\\?|return=|%2F|%|&|\u{e9}|x){0,12}") {
            let _ = parse_target(&text);
            let _ = pasted_token(&text, "x");
        }
    }
}
