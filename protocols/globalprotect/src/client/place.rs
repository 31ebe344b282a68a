//! What the path of the URL, or `--usergroup`, says about where to log in (`specs/globalprotect.md` §3).

/// Which of the two the client talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    Portal,
    Gateway,
}

/// Where to log in, and with what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// `None`: either.
    pub(super) interface: Option<Interface>,
    /// Name of the secret.
    pub(super) field: Option<String>,
    /// Target of the first request, without leading slash.
    pub(super) prelogin: Option<String>,
}

impl Place {
    pub(super) fn parse(path: &str) -> Self {
        let (path, field) = match path.rsplit_once(':') {
            Some((path, field)) if !field.is_empty() => (path, Some(field.to_owned())),
            _ => (path, None),
        };
        let interface = if path == "portal" || path.starts_with("global-protect") {
            Some(Interface::Portal)
        } else if path == "gateway" || path.starts_with("ssl-vpn") {
            Some(Interface::Gateway)
        } else {
            None
        };
        let verbatim = path.ends_with(".esp") || path.contains(".esp?");
        Self {
            interface,
            field,
            prelogin: verbatim.then(|| path.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_reference() {
        use Interface::{Gateway, Portal};
        for (path, interface, field, prelogin) in [
            ("", None, None, None),
            ("other", None, None, None),
            ("portal", Some(Portal), None, None),
            ("global-protect", Some(Portal), None, None),
            ("gateway", Some(Gateway), None, None),
            (
                "gateway:prelogin-cookie",
                Some(Gateway),
                Some("prelogin-cookie"),
                None,
            ),
            (":token", None, Some("token"), None),
            ("gateways", None, None, None),
            (
                "ssl-vpn/prelogin.esp?foo=bar",
                Some(Gateway),
                None,
                Some("ssl-vpn/prelogin.esp?foo=bar"),
            ),
            (
                "global-protect/prelogin.esp:passwd",
                Some(Portal),
                Some("passwd"),
                Some("global-protect/prelogin.esp"),
            ),
        ] {
            let expected = Place {
                interface,
                field: field.map(str::to_owned),
                prelogin: prelogin.map(str::to_owned),
            };
            assert_eq!(Place::parse(path), expected, "{path}");
        }
    }
}
