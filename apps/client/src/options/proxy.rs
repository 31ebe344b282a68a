//! Proxies as users name them (`specs/client.md` §11.1).

use culvert_http_auth::Credentials;
use culvert_wire::percent;

/// How to talk to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// The CONNECT method of HTTP/1.1.
    Http,
    /// SOCKS version 5 (RFC 1928).
    Socks,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How to talk to it.
    pub kind: ProxyKind,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password of the URL.
    pub credentials: Option<Credentials>,
}

/// Why a proxy's URL is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// A kind that this program does not speak.
    #[error("Only http or socks(5) proxies supported")]
    Unsupported,
    /// No URL of a proxy.
    #[error("Failed to parse proxy '{0}'")]
    Malformed(String),
}

impl Proxy {
    /// Parses `[http|socks|socks5]://[user[:password]@]host[:port]`; without a scheme it is `http`.
    ///
    /// # Errors
    /// See [`ProxyUrlError`]; the text holds no password.
    pub fn parse(url: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user_info, address) = match authority.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, authority),
        };
        let malformed = || {
            ProxyUrlError::Malformed(match user_info {
                Some(_) => format!("{scheme}://<elided>@{address}"),
                None => url.to_owned(),
            })
        };
        let (kind, default_port) = match scheme {
            "http" => (ProxyKind::Http, 80),
            "socks" | "socks5" => (ProxyKind::Socks, 1080),
            "https" | "socks4" => return Err(ProxyUrlError::Unsupported),
            _ => return Err(malformed()),
        };
        let (host, port) = host_and_port(address).ok_or_else(malformed)?;
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(malformed)?,
            None => default_port,
        };
        if host.is_empty() || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(malformed());
        }
        let credentials = match user_info {
            Some(user_info) => Some(credentials(user_info).ok_or_else(malformed)?),
            None => None,
        };
        Ok(Self {
            kind,
            host: host.to_owned(),
            port,
            credentials,
        })
    }
}

fn host_and_port(address: &str) -> Option<(&str, Option<&str>)> {
    if let Some(literal) = address.strip_prefix('[') {
        let (host, rest) = literal.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match address.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((address, None)),
    }
}

/// `None` when an escape is broken or what it stands for is no UTF-8.
fn credentials(user_info: &str) -> Option<Credentials> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decoded = |text: &str| String::from_utf8(percent::decode(text)?).ok();
    Some(Credentials {
        user: decoded(user)?,
        password: decoded(password)?.into(),
    })
}

/// True when the variable `no_proxy` names `host`: as it is, as a domain that `host` is in, or by
/// `*`.
pub fn is_excepted(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    no_proxy.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let domain = entry.trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && host
                    .strip_suffix(domain)
                    .is_some_and(|before| before.is_empty() || before.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls() {
        let parsed = |url: &str| {
            let proxy = Proxy::parse(url).expect("a proxy");
            let credentials = proxy
                .credentials
                .map(|given| (given.user, given.password.expose().to_owned()));
            (proxy.kind, proxy.host, proxy.port, credentials)
        };
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(parsed("proxy"), (ProxyKind::Http, "proxy".into(), 80, None));
        assert_eq!(
            parsed("http://us%40er:p%3aw@127.0.0.1:3128/"),
            (ProxyKind::Http, "127.0.0.1".into(), 3128, pair("us@er", "p:w"))
        );
        assert_eq!(
            parsed("socks://u%20x@[2001:db8::1]"),
            (ProxyKind::Socks, "2001:db8::1".into(), 1080, pair("u x", ""))
        );
        assert_eq!(
            parsed("socks5://a@b:c@h:1"),
            (ProxyKind::Socks, "h".into(), 1, pair("a@b", "c"))
        );
    }

    #[test]
    fn refused_urls() {
        let error = |url: &str| Proxy::parse(url).expect_err("refused").to_string();
        assert_eq!(error("ftp://foo"), "Failed to parse proxy 'ftp://foo'");
        assert_eq!(
            error("socks5h://u:secret@foo"),
            "Failed to parse proxy 'socks5h://<elided>@foo'"
        );
        for url in [
            "http://",
            "http://h:0",
            "http://h:x",
            "http://u:%zz@h",
            "http://u:%+f@h",
            "http://[::1",
            "http://a b",
        ] {
            assert!(error(url).starts_with("Failed to parse proxy"), "{url}");
        }
        for url in ["socks4://foo", "https://foo"] {
            assert_eq!(error(url), "Only http or socks(5) proxies supported");
        }
    }

    #[test]
    fn exceptions() {
        assert!(is_excepted("localhost, .corp.test", "vpn.corp.test"));
        assert!(is_excepted("corp.test", "CORP.test"));
        assert!(is_excepted("*", "anything"));
        assert!(!is_excepted("corp.test", "notcorp.test"));
        assert!(!is_excepted(",", "corp.test"));
    }

    proptest! {
        #[test]
        fn never_panics(url in ".{0,100}") {
            let _ = Proxy::parse(&url);
        }
    }
}
