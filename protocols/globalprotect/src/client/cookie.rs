//! The cookie: what a login ends in, and all that later requests need (`specs/globalprotect.md`
//! §7, §10).

use culvert_vocab::SecretString;
use culvert_wire::form;
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use crate::wire::{Parameters, path};

/// Text that is no cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cookie has no authcookie and user")]
pub struct CookieError;

/// `authcookie=..&portal=..&user=..`, percent-encoded. A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie(Parameters);

impl Cookie {
    /// From its fields.
    pub(super) fn new(fields: Parameters) -> Self {
        Self(fields)
    }

    /// Parses what [`Self::to_secret`] wrote.
    ///
    /// # Errors
    /// `authcookie` or `user` are missing, or there are characters that no cookie has.
    pub fn parse(text: &str) -> Result<Self, CookieError> {
        let text = text.trim();
        let fields = Parameters::parse(text);
        let usable = text.bytes().all(|octet| octet.is_ascii_graphic());
        match (fields.raw("authcookie"), fields.raw("user")) {
            (Some(cookie), Some(_)) if usable && !cookie.is_empty() => Ok(Self(fields)),
            _ => Err(CookieError),
        }
    }

    /// The text.
    pub fn to_secret(&self) -> SecretString {
        self.0.to_text()
    }

    /// Name of the user, as the gateway knows it.
    pub fn user(&self) -> String {
        let user = self.0.raw("user").map(SecretString::expose).unwrap_or_default();
        form::decode(&format!("user={user}"))
            .ok()
            .and_then(|fields| fields.into_iter().next())
            .map(|(_, user)| user)
            .unwrap_or_default()
    }

    pub(super) fn fields(&self) -> &Parameters {
        &self.0
    }

    /// The fields without addresses, which a reconnect sends by itself.
    pub(super) fn without_addresses(&self) -> Parameters {
        self.0.without(&["preferred-ip", "preferred-ipv6"])
    }

    /// The name under which the server keeps a report about this host: it stays the same when
    /// the session is another one.
    pub fn hip_token(&self) -> String {
        let text = self
            .0
            .without(&["authcookie", "preferred-ip", "preferred-ipv6"])
            .to_text();
        HEXLOWER.encode(&Md5::digest(text.expose()))
    }

    /// Request target of the TLS tunnel; `url` is what the configuration gave.
    pub(super) fn tunnel_target(&self, url: Option<&str>) -> SecretString {
        let url = url.unwrap_or(path::TUNNEL).trim_start_matches('/');
        let query = self.0.only(&["authcookie", "user"]).to_text();
        SecretString::new(format!("/{url}?{}", query.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_reference() {
        let mut seen = 0;
        for block in include_str!("../../tests/vectors/hip-md5.txt").split("\n\n") {
            let value = |key: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
            };
            let (Some(cookie), Some(md5)) = (value("cookie"), value("md5")) else {
                continue;
            };
            seen += 1;
            assert_eq!(Cookie::parse(cookie).unwrap().hip_token(), md5, "{cookie}");
        }
        assert_eq!(seen, 4);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "abc",
            "webvpn=abc",
            "authcookie=&user=x",
            "authcookie=a",
            "authcookie=a&user=b\r\nX: y",
            "authcookie=a&user=b c",
        ] {
            assert_eq!(Cookie::parse(text), Err(CookieError), "{text}");
        }
    }

    #[test]
    fn the_tunnel_has_two_fields_in_the_cookies_order() {
        let cookie = Cookie::parse("user=a%40b&portal=x&authcookie=00").unwrap();
        assert_eq!(
            cookie.tunnel_target(None).expose(),
            "/ssl-tunnel-connect.sslvpn?user=a%40b&authcookie=00"
        );
        assert_eq!(
            cookie.tunnel_target(Some("/x")).expose(),
            "/x?user=a%40b&authcookie=00"
        );
    }
}
