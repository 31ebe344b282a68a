use culvert_vocab::SecretString;

const STRAP_KEY: &str = "openconnect_strapkey";
const WEBVPN: &str = "webvpn";

/// Text that is no session cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cookie has no webvpn value")]
pub struct CookieError;

/// Result of a login: what `--cookie` takes and `--authenticate` prints
/// (`specs/client.md` §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    webvpn: SecretString,
    strap_key: Option<SecretString>,
}

impl Cookie {
    /// From its parts; `strap_key` is the base64 form of a private key.
    pub(super) fn new(webvpn: SecretString, strap_key: Option<SecretString>) -> Self {
        Self { webvpn, strap_key }
    }

    /// Parses `[openconnect_strapkey=KEY; ]webvpn=VALUE` or a bare value, also one that ends in
    /// `=` as base64 does. Other names are ignored.
    ///
    /// # Errors
    /// There is no value, or it contains control characters or blanks.
    pub fn parse(text: &str) -> Result<Self, CookieError> {
        let mut webvpn = None;
        let mut strap_key = None;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((WEBVPN, value)) => webvpn = Some(value),
                Some((STRAP_KEY, value)) => strap_key = Some(value),
                Some((_, value)) if !value.bytes().all(|octet| octet == b'=') => {}
                _ => webvpn = Some(part),
            }
        }
        let usable = |value: &&str| !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
        let webvpn = webvpn.filter(usable).ok_or(CookieError)?;
        Ok(Self::new(
            webvpn.into(),
            strap_key.filter(usable).map(SecretString::from),
        ))
    }

    /// The text that [`Self::parse`] reads.
    pub fn to_secret(&self) -> SecretString {
        match &self.strap_key {
            Some(key) => format!("{STRAP_KEY}={}; {WEBVPN}={}", key.expose(), self.webvpn.expose()).into(),
            None => self.webvpn.clone(),
        }
    }

    /// Value of the `webvpn` cookie.
    pub fn webvpn(&self) -> &SecretString {
        &self.webvpn
    }

    /// The private key that proves possession of the cookie, in base64; see
    /// [`super::StrapKey::from_secret`].
    pub fn strap_key(&self) -> Option<&SecretString> {
        self.strap_key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_a_cookie() {
        let parsed = |text| Cookie::parse(text).map(|cookie| cookie.webvpn().expose().to_owned());
        for text in ["APo9==", "webvpn=APo9==", " x=1; webvpn=APo9== ;", "APo9==\n"] {
            assert_eq!(parsed(text), Ok("APo9==".into()), "{text}");
        }
        assert_eq!(parsed("WV@1@2"), Ok("WV@1@2".into()));
        for text in [
            "",
            "webvpn=",
            "webvpn=;",
            "x=1",
            "a b",
            "webvpn=a\tb",
            "openconnect_strapkey=k",
        ] {
            assert_eq!(parsed(text), Err(CookieError), "{text}");
        }
    }

    #[test]
    fn round_trip() {
        for cookie in [
            Cookie::new("v==".into(), None),
            Cookie::new("v==".into(), Some("k=".into())),
        ] {
            assert_eq!(Cookie::parse(cookie.to_secret().expose()), Ok(cookie));
        }
        let both = Cookie::new("v".into(), Some("k".into()));
        assert_eq!(both.to_secret().expose(), "openconnect_strapkey=k; webvpn=v");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            if let Ok(cookie) = Cookie::parse(&text) {
                prop_assert!(!cookie.to_secret().expose().contains(char::is_control));
            }
        }
    }
}
