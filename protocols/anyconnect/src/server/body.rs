//! Bodies of login requests: XML documents or urlencoded forms (`specs/anyconnect.md` §5.3).

use culvert_vocab::SecretString;
use culvert_wire::form;
use culvert_wire::xml::{self, Element};

/// Longest user name or group that is passed on, in octets.
const NAME_MAX: usize = 1024;
/// Longest password that is passed on, in octets.
const PASSWORD_MAX: usize = 4096;

/// The body is neither a document nor a form, or a field is absurdly long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unreadable login request")]
pub(super) struct BadBody;

/// What a login request carries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LoginBody {
    /// User name; an empty one counts as absent.
    pub(super) user: Option<String>,
    /// Answer to the password prompt, whatever its field is called.
    pub(super) password: Option<SecretString>,
    /// Group, as the client names it.
    pub(super) group: Option<String>,
    /// A request to begin, not an answer.
    pub(super) init: bool,
}

impl LoginBody {
    /// Reads a body.
    ///
    /// # Errors
    /// See [`BadBody`].
    pub(super) fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let trimmed = body.trim_ascii();
        let login = if trimmed.is_empty() {
            Self {
                init: true,
                ..Self::default()
            }
        } else if trimmed.starts_with(b"<") {
            Self::from_document(&xml::parse(trimmed).map_err(|_| BadBody)?)
        } else {
            Self::from_form(std::str::from_utf8(body).map_err(|_| BadBody)?)?
        };
        let fits = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= NAME_MAX);
        let password_fits = login
            .password
            .as_ref()
            .is_none_or(|p| p.expose().len() <= PASSWORD_MAX);
        if fits(&login.user) && fits(&login.group) && password_fits {
            Ok(login)
        } else {
            Err(BadBody)
        }
    }

    fn from_document(root: &Element) -> Self {
        let auth = root.child("auth").unwrap_or(root);
        Self {
            user: auth
                .child("username")
                .map(Element::text)
                .filter(|user| !user.is_empty()),
            password: auth
                .elements()
                .find(|element| is_password(&element.name))
                .map(|element| SecretString::new(element.text())),
            group: root
                .child("group-select")
                .map(|group| group.text().trim().to_owned()),
            init: root.attribute("type") == Some("init"),
        }
    }

    fn from_form(body: &str) -> Result<Self, BadBody> {
        let mut login = Self::default();
        for (name, value) in form::decode(body).map_err(|_| BadBody)? {
            match name.as_str() {
                "username" if login.user.is_none() => {
                    login.user = Some(value).filter(|user| !user.is_empty())
                }
                "group_list" if login.group.is_none() => login.group = Some(value),
                name if is_password(name) && login.password.is_none() => {
                    login.password = Some(SecretString::new(value));
                }
                _ => {}
            }
        }
        Ok(login)
    }
}

impl LoginBody {
    /// True when it answers a form.
    pub(super) fn answers_form(&self) -> bool {
        self.user.is_some() || self.password.is_some()
    }
}

fn is_password(name: &str) -> bool {
    name.to_ascii_lowercase().contains("password")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(inner: &str) -> LoginBody {
        LoginBody::parse(
            format!("<?xml version=\"1.0\"?>\r\n<config-auth type=\"auth-reply\">{inner}</config-auth>")
                .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn documents() {
        let login = document(
            "<version who=\"vpn\">x</version><mac-address-list><mac-address>00:00</mac-address></mac-address-list>\
             <auth>\r\n <username>j&#111;e</username>\r\n <password>&lt;&amp;p &quot;</password></auth><group-select>a</group-select>",
        );
        assert_eq!(login.user.as_deref(), Some("joe"));
        assert_eq!(login.password, Some("<&p \"".into()));
        assert_eq!(login.group.as_deref(), Some("a"));
        assert!(!login.init);
        assert_eq!(
            document("<auth><secondary_password>2</secondary_password></auth>").password,
            Some("2".into())
        );
    }

    #[test]
    fn a_field_inside_another_field_is_none() {
        let login = document("<auth><username>x<password>evil</password></username></auth>");
        assert_eq!(login.password, None);
    }

    #[test]
    fn forms() {
        let login =
            LoginBody::parse(b"username=joe&group%5flist=g+1&secondary_password=a%26b&password=no").unwrap();
        assert_eq!(
            (login.user.as_deref(), login.group.as_deref()),
            (Some("joe"), Some("g 1"))
        );
        assert_eq!(login.password, Some("a&b".into()));
        assert_eq!(LoginBody::parse(b"username=a%zz"), Err(BadBody));
    }

    #[test]
    fn beginnings() {
        assert!(LoginBody::parse(b"").unwrap().init);
        let init = b"<config-auth type=\"init\"><group-select> staff\n</group-select></config-auth>";
        let login = LoginBody::parse(init).unwrap();
        assert!(login.init && login.group.as_deref() == Some("staff"));
        assert_eq!(document("<auth><username/><password/></auth>").user, None);
    }

    #[test]
    fn hostile_documents() {
        for bad in [&b"<"[..], b"\xff\xfe", b"a=%ff", &b"<a>".repeat(1000)] {
            assert_eq!(LoginBody::parse(bad), Err(BadBody));
        }
        let long = format!("username={}", "x".repeat(NAME_MAX + 1));
        assert_eq!(LoginBody::parse(long.as_bytes()), Err(BadBody));
        let bomb = b"<!DOCTYPE a [<!ENTITY b \"bbbb\">]><config-auth><auth><username>&b;</username></auth></config-auth>";
        assert_eq!(LoginBody::parse(bomb).unwrap().user.as_deref(), Some("&b;"));
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = LoginBody::parse(&body);
        }
    }
}
