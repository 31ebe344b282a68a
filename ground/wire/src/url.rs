//! The server's URL as the client keeps it, and redirects (`specs/client.md` §1.2,
//! `specs/anyconnect.md` §2).

use std::net::Ipv6Addr;

/// Port of `https` when the URL has none.
const HTTPS_PORT: u16 = 443;
/// Schemes that are known and cannot lead to a gateway.
const OTHER_SCHEMES: [&str; 4] = ["http", "socks", "socks4", "socks5"];
/// Longest URL or redirect target, in octets.
const URL_MAX: usize = 8192;

/// Why a URL was refused. The texts are those users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A scheme that is known, but is not `https`.
    #[error("Only https:// permitted for server URL")]
    NotHttps,
    /// An unknown scheme, no host, a port outside 1 to 65535, or control characters.
    #[error("Failed to parse server URL '{0}'")]
    Malformed(String),
    /// A redirect that would leave HTTPS.
    #[error("Cannot follow redirection to non-https URL '{0}'")]
    RedirectNotHttps(String),
}

/// `https://host[:port]/path` of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Host name or address literal; IPv6 in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What follows the first `/`, query included; may be empty.
    pub path: String,
}

/// What a redirect target means for the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// Same host and port; at most the path differs.
    Local(ServerUrl),
    /// Another host or port: cookies and the connection must be dropped.
    NewHost(ServerUrl),
}

impl ServerUrl {
    /// Parses `[https://]host[:port][/path]`. A bare IPv6 address is accepted as a host too.
    ///
    /// # Errors
    /// Another scheme, no host, a bad port, control characters or blanks in the host.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(printable(url));
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some((scheme, _)) if OTHER_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) => {
                return Err(UrlError::NotHttps);
            }
            Some((scheme, _)) if !scheme.contains('/') => return Err(malformed()),
            _ => url,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority).ok_or_else(malformed)?;
        let bad_host = host.is_empty() || host.chars().any(|c| c.is_control() || c.is_whitespace());
        if bad_host || url.len() > URL_MAX || path.chars().any(char::is_control) {
            return Err(malformed());
        }
        Ok(Self {
            host,
            port,
            path: clean_path(path),
        })
    }

    /// The same server; `path` is used when the URL has none (`--usergroup`).
    #[must_use]
    pub fn with_default_path(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            self.path = clean_path(path);
        }
        self
    }

    /// Value of the `Host` header: the port only if it is not 443.
    pub fn host_header(&self) -> String {
        if self.port == HTTPS_PORT {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The host for name resolution and SNI: IPv6 literals without brackets.
    pub fn host_name(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// Request target: `/` and the path.
    pub fn request_target(&self) -> String {
        format!("/{}", self.path)
    }

    /// Applies a redirect target or a form's `action`: `https://...`, `/path`, a relative path,
    /// or nothing (`""`, `#...`).
    ///
    /// # Errors
    /// A scheme other than https, or an unusable URL.
    pub fn redirect(&self, target: &str) -> Result<Redirect, UrlError> {
        let target = target.trim();
        if target.len() > URL_MAX || target.chars().any(char::is_control) {
            return Err(UrlError::Malformed(printable(target)));
        }
        if target.is_empty() || target.starts_with('#') {
            return Ok(Redirect::Local(self.clone()));
        }
        if let Some((scheme, _)) = target.split_once("://")
            && !scheme.contains(['/', '?'])
        {
            return match scheme.eq_ignore_ascii_case("https") {
                true => self.redirect_absolute(target),
                false => Err(UrlError::RedirectNotHttps(printable(target))),
            };
        }
        let path = match target.strip_prefix('/') {
            Some(path) => path.to_owned(),
            None => match self.path.rfind('/') {
                Some(slash) => format!("{}{target}", self.path.get(..=slash).unwrap_or_default()),
                None => target.to_owned(),
            },
        };
        Ok(Redirect::Local(Self {
            path: clean_path(&path),
            ..self.clone()
        }))
    }

    fn redirect_absolute(&self, target: &str) -> Result<Redirect, UrlError> {
        let url = Self::parse(target)?;
        let same = url.host.eq_ignore_ascii_case(&self.host) && url.port == self.port;
        Ok(if same {
            Redirect::Local(Self {
                path: url.path,
                ..self.clone()
            })
        } else {
            Redirect::NewHost(url)
        })
    }
}

/// Shows `https://host[:port]/path`, the port only if it is not 443.
impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}/{}", self.host_header(), self.path)
    }
}

/// Host and port. Text after the last `:` is a port if it is nothing but a number (or nothing at
/// all, which is none); otherwise it belongs to the host, as in `[2001:db8::1]`.
fn split_port(authority: &str) -> Option<(String, u16)> {
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Some((format!("[{authority}]"), HTTPS_PORT));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if unsigned(port).bytes().all(|b| b.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|&port| port != 0)?;
            Some((host.to_owned(), port))
        }
        _ => Some((authority.to_owned(), HTTPS_PORT)),
    }
}

fn unsigned(number: &str) -> &str {
    number.strip_prefix(['+', '-']).unwrap_or(number)
}

/// A path fit for a request line: no fragment, blanks and non-ASCII characters percent-encoded.
fn clean_path(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut clean = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_ascii_graphic() {
            clean.push(c);
        } else {
            let mut octets = [0; 4];
            for octet in c.encode_utf8(&mut octets).bytes() {
                clean.push_str(&format!("%{octet:02X}"));
            }
        }
    }
    clean
}

fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> ServerUrl {
        ServerUrl::parse(text).unwrap()
    }

    #[test]
    fn server_arguments() {
        for (text, host, port, path) in [
            ("vpn.example", "vpn.example", 443, ""),
            ("https://vpn.example:4443/grp/x?y", "vpn.example", 4443, "grp/x?y"),
            ("HTTPS://vpn.example/", "vpn.example", 443, ""),
            ("[2001:db8::1]:8443/", "[2001:db8::1]", 8443, ""),
            ("[2001:db8::1]", "[2001:db8::1]", 443, ""),
            ("2001:db8::1", "[2001:db8::1]", 443, ""),
            ("1.2.3.4:12x", "1.2.3.4:12x", 443, ""),
            ("1.2.3.4:+9", "1.2.3.4", 9, ""),
            ("host/a://b", "host", 443, "a://b"),
            ("host/a b", "host", 443, "a%20b"),
        ] {
            assert_eq!(
                url(text),
                ServerUrl {
                    host: host.into(),
                    port,
                    path: path.into()
                },
                "{text}"
            );
        }
    }

    #[test]
    fn refused_arguments() {
        for other in ["http://x", "socks5://x"] {
            assert_eq!(
                ServerUrl::parse(other).unwrap_err().to_string(),
                "Only https:// permitted for server URL"
            );
        }
        for bad in [
            "",
            "https://",
            "/path",
            "ftp://x/",
            "https:/x:1",
            "x:",
            "x:-1",
            "x:0",
            "x:65536",
            "a b",
            "x\r\ny",
            "x/\r\nA: b",
        ] {
            assert!(
                matches!(ServerUrl::parse(bad), Err(UrlError::Malformed(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn texts_of_a_url() {
        let url = url("vpn.example:4443/grp");
        assert_eq!(url.host_header(), "vpn.example:4443");
        assert_eq!(url.to_string(), "https://vpn.example:4443/grp");
        assert_eq!(url.request_target(), "/grp");
        assert_eq!(super::ServerUrl::parse("[::1]").unwrap().host_name(), "::1");
    }

    #[test]
    fn usergroup_is_only_a_default() {
        assert_eq!(url("h").with_default_path("g").path, "g");
        assert_eq!(url("h/p").with_default_path("g").path, "p");
    }

    #[test]
    fn redirects() {
        let base = url("vpn.example/a/b?q");
        let local = |path: &str| {
            Redirect::Local(ServerUrl {
                path: path.into(),
                ..base.clone()
            })
        };
        for (target, expected) in [
            ("", local("a/b?q")),
            ("#x", local("a/b?q")),
            ("/x/y", local("x/y")),
            ("c.html", local("a/c.html")),
            ("https://VPN.example/z", local("z")),
            ("https://vpn.example:443", local("")),
            ("https://other/z", Redirect::NewHost(url("other/z"))),
            (
                "https://vpn.example:444/",
                Redirect::NewHost(url("vpn.example:444")),
            ),
            ("/x?u=http://y", local("x?u=http://y")),
        ] {
            assert_eq!(base.redirect(target), Ok(expected), "{target}");
        }
        assert_eq!(
            base.redirect("http://vpn.example/").unwrap_err().to_string(),
            "Cannot follow redirection to non-https URL 'http://vpn.example/'"
        );
        assert!(matches!(
            base.redirect("ftp://vpn.example/"),
            Err(UrlError::RedirectNotHttps(_))
        ));
        assert!(matches!(base.redirect("/a\r\nX: y"), Err(UrlError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_on_one_line(text in ".{0,60}", target in ".{0,60}") {
            let base = ServerUrl::parse(&text).unwrap_or_else(|_| url("h"));
            for next in [Some(base.clone()), base.redirect(&target).ok().map(|r| match r {
                Redirect::Local(url) | Redirect::NewHost(url) => url,
            })].into_iter().flatten() {
                prop_assert!(next.request_target().chars().all(|c| c.is_ascii_graphic()));
                prop_assert!(!next.host_header().contains(char::is_control));
            }
        }
    }
}
