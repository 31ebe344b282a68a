//! Extensions that restrict what a CA certificate may sign (RFC 5280 §4.2).

use x509_parser::extensions::{GeneralName, GeneralSubtree, ParsedExtension};
use x509_parser::prelude::X509Certificate;

/// Name constraints of `issuer` (RFC 5280 §4.2.1.10) on the DNS and IP names of `leaf`.
/// Constraints on other kinds of names do not concern a server's certificate.
pub(crate) fn allows_names_of(issuer: &X509Certificate<'_>, leaf: &X509Certificate<'_>) -> bool {
    let constraints = match issuer.name_constraints() {
        Ok(Some(constraints)) => constraints.value,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let names = match leaf.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.clone(),
        // A CN that stands in for a missing name is bound by the constraints as well.
        Ok(None) => leaf
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(GeneralName::DNSName)
            .collect(),
        Err(_) => return false,
    };
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    names.iter().all(|name| {
        is_permitted(name, permitted) && !excluded.iter().any(|tree| contains(tree, name) == Some(true))
    })
}

/// True when no subtree of the name's kind exists or one of them contains it.
fn is_permitted(name: &GeneralName<'_>, permitted: &[GeneralSubtree<'_>]) -> bool {
    let mut restricted = false;
    for tree in permitted {
        match contains(tree, name) {
            Some(true) => return true,
            Some(false) => restricted = true,
            None => {}
        }
    }
    !restricted
}

/// Whether the subtree contains the name; `None` when they are of different kinds.
fn contains(tree: &GeneralSubtree<'_>, name: &GeneralName<'_>) -> Option<bool> {
    match (&tree.base, name) {
        (GeneralName::DNSName(base), GeneralName::DNSName(name)) => Some(dns_contains(base, name)),
        (GeneralName::IPAddress(base), GeneralName::IPAddress(address)) => {
            Some(address_contains(base, address))
        }
        _ => None,
    }
}

fn dns_contains(base: &str, name: &str) -> bool {
    let base = base.strip_prefix('.').unwrap_or(base).to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    base.is_empty()
        || name == base
        || name
            .strip_suffix(base.as_str())
            .is_some_and(|rest| rest.ends_with('.'))
}

/// `base` is an address followed by its mask.
fn address_contains(base: &[u8], address: &[u8]) -> bool {
    if base.len() != 2 * address.len() {
        return false;
    }
    let (network, mask) = base.split_at(address.len());
    address
        .iter()
        .zip(network)
        .zip(mask)
        .all(|((octet, network), mask)| octet & mask == network & mask)
}

/// True when the certificate has a critical extension that nobody here understands.
pub(crate) fn has_unknown_critical(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| {
        extension.critical
            && matches!(
                extension.parsed_extension(),
                ParsedExtension::UnsupportedExtension { .. }
                    | ParsedExtension::ParseError { .. }
                    | ParsedExtension::Unparsed
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_subtrees() {
        assert!(dns_contains("example.com", "vpn.Example.com"));
        assert!(dns_contains(".example.com", "vpn.example.com"));
        assert!(dns_contains("", "anything"));
        assert!(!dns_contains("example.com", "badexample.com"));
    }

    #[test]
    fn address_subtrees() {
        assert!(address_contains(&[10, 0, 0, 0, 255, 0, 0, 0], &[10, 9, 8, 7]));
        assert!(!address_contains(&[10, 0, 0, 0, 255, 0, 0, 0], &[11, 9, 8, 7]));
        assert!(!address_contains(&[10, 0, 0, 0], &[10, 0, 0, 0]));
    }
}
