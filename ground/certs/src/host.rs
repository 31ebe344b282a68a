use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

/// The server that a certificate must belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address literal.
    Address(IpAddr),
    /// Whoever it is, as long as his issuer is trusted.
    Any,
}

impl Host {
    /// Reads the host part of a URL; brackets around an IPv6 address are stripped.
    pub fn new(host: &str) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        bare.parse()
            .map_or_else(|_| Self::Name(host.to_owned()), Self::Address)
    }

    /// The matrix of `specs/client.md` §7.1: SAN first, CN only if there is neither a DNS nor an
    /// IP SAN.
    pub(crate) fn matches(&self, certificate: &X509Certificate<'_>) -> bool {
        if *self == Self::Any {
            return true;
        }
        let mut named = false;
        if let Ok(Some(san)) = certificate.subject_alternative_name() {
            for name in &san.value.general_names {
                match (name, self) {
                    (GeneralName::DNSName(pattern), Self::Name(host)) if name_matches(pattern, host) => {
                        return true;
                    }
                    (GeneralName::IPAddress(octets), Self::Address(address))
                        if same_address(octets, *address) =>
                    {
                        return true;
                    }
                    (GeneralName::DNSName(_) | GeneralName::IPAddress(_), _) => named = true,
                    _ => {}
                }
            }
        }
        let Self::Name(host) = self else {
            return false;
        };
        !named && only_common_name(certificate).is_some_and(|name| name_matches(name, host))
    }
}

/// The CN if there is exactly one.
fn only_common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then_some(name)
}

fn same_address(octets: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => octets == address.octets(),
        IpAddr::V6(address) => octets == address.octets(),
    }
}

/// Case-insensitive; `*` only as the whole first label, for exactly one label, with at least two
/// labels after it.
fn name_matches(pattern: &str, host: &str) -> bool {
    if host.is_empty() || host.ends_with('.') {
        return false;
    }
    match pattern.strip_prefix("*.") {
        None => !pattern.contains('*') && pattern.eq_ignore_ascii_case(host),
        Some(suffix) => {
            let Some((label, rest)) = host.split_once('.') else {
                return false;
            };
            let labels = suffix.split('.').count();
            labels >= 2 && !suffix.contains('*') && !label.is_empty() && suffix.eq_ignore_ascii_case(rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        assert!(name_matches("vpn.test", "VPN.test"));
        assert!(name_matches("*.wild.test", "a.wild.test"));
        assert!(name_matches("*.WILD.test", "A.wild.TEST"));
        for (pattern, host) in [
            ("*.wild.test", "a.b.wild.test"),
            ("*.wild.test", "wild.test"),
            ("*.wild.test", ".wild.test"),
            ("*.test", "foo.test"),
            ("*", "foo"),
            ("v*n.part.test", "vpn.part.test"),
            ("vpn.test", "vpn.test."),
            ("vpn.test.", "vpn.test."),
            ("", ""),
            ("*.*.test", "a.b.test"),
        ] {
            assert!(!name_matches(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn address_literals() {
        assert_eq!(
            Host::new("[2001:db8::7]"),
            Host::Address("2001:db8::7".parse().unwrap())
        );
        assert_eq!(
            Host::new("192.0.2.7"),
            Host::Address("192.0.2.7".parse().unwrap())
        );
        assert_eq!(Host::new("vpn.test"), Host::Name("vpn.test".into()));
    }
}
