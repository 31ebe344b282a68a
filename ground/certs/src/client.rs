//! A server's check of its clients' certificates (`specs/server-auth.md` §1.5): chain, dates,
//! purposes, revocation, and the names in them.

use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::describe::parse;
use crate::path::{PathCheck, problems_of_chain};
use crate::signature::{check_handshake, handshake_schemes};
use crate::{Anchors, CertError, RevocationLists, Verdict};

/// The extended key usage of logons by smart card.
const SMART_CARD_LOGON: &str = "1.3.6.1.4.1.311.20.2.2";

/// Why a client's certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientRefusal {
    /// It, or the chain that came with it, cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CertError),
    /// The chain does not hold.
    #[error("{0}")]
    Chain(&'static str),
    /// Its purposes do not include TLS clients.
    #[error("the certificate is not for TLS clients")]
    Purpose,
    /// It, or an issuer, was revoked.
    #[error("the certificate has been revoked")]
    Revoked,
    /// The list that would tell is out of date.
    #[error("the revocation list of its issuer has expired")]
    StaleList,
}

/// Checks the certificates of a client, its own first.
///
/// # Errors
/// It is not acceptable.
pub fn check_client_chain(
    anchors: &Anchors,
    revoked: &RevocationLists,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), ClientRefusal> {
    let (leaf_der, intermediates) = chain.split_first().ok_or(CertError::NotFound)?;
    let leaf = parse(leaf_der)?;
    let check = PathCheck {
        anchors,
        now,
        allow_sha1: false,
    };
    let problems = problems_of_chain(&check, &leaf, leaf_der, intermediates);
    if let Some(reason) = Verdict::of(&problems).reason {
        return Err(ClientRefusal::Chain(reason));
    }
    if !is_for_clients(&leaf) {
        return Err(ClientRefusal::Purpose);
    }
    for der in chain {
        revoked.check(&parse(der)?, now)?;
    }
    Ok(())
}

/// RFC 5280 §4.2.1.3, §4.2.1.12: without these extensions there is no restriction.
fn is_for_clients(leaf: &X509Certificate<'_>) -> bool {
    let extended = match leaf.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.client_auth || usage.value.any),
        Err(_) => false,
    };
    let signs = match leaf.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.digital_signature()),
        Err(_) => false,
    };
    extended && signs
}

/// What a certificate says about its use for authentication (`specs/client.md` §8.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It is for that.
    Suitable,
    /// It does not say what it is for.
    Unsaid,
    /// It is for other things only.
    Unsuitable,
}

impl Usage {
    /// Of a DER certificate: its extended key usage (any, client authentication, smart card logon)
    /// counts, and without one its key usage (digital signature, non-repudiation).
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn of(certificate: &[u8]) -> Result<Self, CertError> {
        let certificate = parse(certificate)?;
        let malformed = |_| CertError::Malformed;
        let extended = certificate.extended_key_usage().map_err(malformed)?;
        let usage = certificate.key_usage().map_err(malformed)?;
        let is_suitable = match (extended, usage) {
            (Some(extended), _) => {
                let extended = extended.value;
                let is_logon = |oid: &Oid<'_>| oid.to_id_string() == SMART_CARD_LOGON;
                extended.any || extended.client_auth || extended.other.iter().any(is_logon)
            }
            (None, Some(usage)) => usage.value.digital_signature() || usage.value.non_repudiation(),
            (None, None) => return Ok(Self::Unsaid),
        };
        Ok(if is_suitable {
            Self::Suitable
        } else {
            Self::Unsuitable
        })
    }
}

/// Signature schemes that [`check_client_signature`] knows, best first.
pub fn client_schemes() -> Vec<SignatureScheme> {
    handshake_schemes(false)
}

/// True when the key of this certificate made `signature` over `message` with the TLS
/// `SignatureScheme` `scheme`.
pub fn check_client_signature(
    certificate: &[u8],
    scheme: u16,
    tls13: bool,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let scheme = SignatureScheme::from(scheme);
    client_schemes().contains(&scheme)
        && X509Certificate::from_der(certificate)
            .is_ok_and(|(_, leaf)| check_handshake(scheme, leaf.public_key(), tls13, message, signature))
}

/// The values of an attribute of the subject, by its numeric object identifier, in their order
/// in the certificate. A value that is no text is an error.
///
/// # Errors
/// The certificate or a value cannot be read.
pub fn subject_values(certificate: &[u8], oid: &str) -> Result<Vec<String>, CertError> {
    parse(certificate)?
        .subject()
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == oid)
        .map(|attribute| {
            attribute
                .as_str()
                .map(str::to_owned)
                .map_err(|_| CertError::Malformed)
        })
        .collect()
}

/// The first rfc822Name among the alternative names of the subject.
///
/// # Errors
/// The certificate or its alternative names cannot be read.
pub fn first_email(certificate: &[u8]) -> Result<Option<String>, CertError> {
    let parsed = parse(certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CertError::Malformed)?;
    let emails = names.iter().flat_map(|names| &names.value.general_names);
    Ok(emails
        .filter_map(|name| match name {
            GeneralName::RFC822Name(email) => Some((*email).to_owned()),
            _ => None,
        })
        .next())
}

#[cfg(test)]
mod tests;
