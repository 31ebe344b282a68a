use std::net::IpAddr;

use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use crate::net::Peer;

/// A value from the server that must not be printed for a shell to evaluate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The server sent a {0} with quotes or control characters; not printing it")]
pub(crate) struct ResultError(&'static str);

/// What a second run needs to connect (`specs/client.md` §6).
#[derive(Debug)]
pub(crate) struct TwoPhase<'a> {
    /// The cookie.
    pub(crate) cookie: &'a SecretString,
    /// The server after all redirects.
    pub(crate) server: &'a ServerUrl,
    /// Its address and the pin of its key, if it was connected to.
    pub(crate) peer: Option<&'a Peer>,
}

impl TwoPhase<'_> {
    /// The five assignments of `--authenticate`, for `eval` in a shell.
    ///
    /// # Errors
    /// A value would break out of its quotes.
    pub(crate) fn assignments(&self) -> Result<String, ResultError> {
        let cookie = quoted("cookie", self.cookie.expose())?;
        let url = ServerUrl {
            path: String::new(),
            ..self.server.clone()
        };
        let url = quoted("URL", &url.to_string())?;
        let name = self.server.host.as_str();
        let (host, resolve) = match self
            .peer
            .filter(|peer| !peer.proxied)
            .map(|peer| peer.address.ip())
        {
            Some(IpAddr::V4(ip)) => (ip.to_string(), Some(format!("{name}:{ip}"))),
            Some(IpAddr::V6(ip)) => (format!("[{ip}]"), Some(format!("{name}:{ip}"))),
            None => (self.server.host_name().to_owned(), None),
        };
        let host = quoted("host name", &host)?;
        let resolve = match resolve {
            Some(resolve) => format!("{}\n", quoted("host name", &resolve)?),
            None => String::new(),
        };
        let pin = self.peer.and_then(|peer| peer.pin.as_deref()).unwrap_or_default();
        Ok(format!(
            "COOKIE={cookie}\nHOST={host}\nCONNECT_URL={url}\nFINGERPRINT='{pin}'\nRESOLVE={resolve}"
        ))
    }
}

/// The line of `--cookieonly`.
///
/// # Errors
/// The cookie has control characters.
pub(crate) fn cookie_line(cookie: &SecretString) -> Result<String, ResultError> {
    if cookie.expose().chars().any(char::is_control) {
        return Err(ResultError("cookie"));
    }
    Ok(format!("{}\n", cookie.expose()))
}

fn quoted(what: &'static str, value: &str) -> Result<String, ResultError> {
    if value.contains('\'') || value.chars().any(char::is_control) {
        return Err(ResultError(what));
    }
    Ok(format!("'{value}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignments(cookie: &str, url: &str, address: &str) -> Result<String, ResultError> {
        assignments_of(cookie, url, address, false)
    }

    fn assignments_of(cookie: &str, url: &str, address: &str, proxied: bool) -> Result<String, ResultError> {
        TwoPhase {
            cookie: &cookie.into(),
            server: &ServerUrl::parse(url).expect("URL"),
            peer: Some(&Peer {
                address: address.parse().expect("address"),
                proxied,
                pin: Some("pin-sha256:xp3scfzy3rOQsv9NcOve/8YVVv+pHr4qNCXEXrNl5s8=".into()),
                certificate: None,
            }),
        }
        .assignments()
    }

    #[test]
    fn five_lines_as_the_reference_prints_them() {
        assert_eq!(
            assignments("abc=", "https://localhost:4443/auth", "10.77.0.1:4443"),
            Ok("COOKIE='abc='\nHOST='10.77.0.1'\nCONNECT_URL='https://localhost:4443/'\n\
                FINGERPRINT='pin-sha256:xp3scfzy3rOQsv9NcOve/8YVVv+pHr4qNCXEXrNl5s8='\nRESOLVE='localhost:10.77.0.1'\n"
                .to_owned())
        );
        let v6 = assignments("c", "[2001:db8::1]", "[2001:db8::1]:443").unwrap_or_default();
        assert!(
            v6.contains("HOST='[2001:db8::1]'\nCONNECT_URL='https://[2001:db8::1]/'\n"),
            "{v6}"
        );
    }

    /// The server's address is not known then.
    #[test]
    fn behind_a_proxy() {
        let text = assignments_of("c", "h:4443", "192.0.2.9:3128", true).unwrap_or_default();
        assert!(
            text.contains("\nHOST='h'\nCONNECT_URL='https://h:4443/'\n"),
            "{text}"
        );
        assert!(text.ends_with("\nRESOLVE="), "{text}");
    }

    #[test]
    fn hostile_cookies_are_refused() {
        for cookie in ["a'; reboot; '", "a\nb", "a\x1b[2J"] {
            assert_eq!(
                assignments(cookie, "h", "192.0.2.1:443"),
                Err(ResultError("cookie"))
            );
        }
        assert!(cookie_line(&"a\nb".into()).is_err());
        assert_eq!(cookie_line(&"a'b".into()), Ok("a'b\n".into()));
    }
}
