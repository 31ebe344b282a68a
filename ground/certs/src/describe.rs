use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::CertError;

/// Period in which a certificate is valid, in seconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

/// DER SubjectPublicKeyInfo of a DER certificate.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn spki_of(certificate: &[u8]) -> Result<Vec<u8>, CertError> {
    Ok(parse(certificate)?.public_key().raw.to_vec())
}

/// The pin of a DER certificate: `pin-sha256:` and the base64 SHA-256 of its public key.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn spki_pin(certificate: &[u8]) -> Result<String, CertError> {
    let hash = digest(&SHA256, parse(certificate)?.public_key().raw);
    Ok(format!("pin-sha256:{}", BASE64.encode(hash.as_ref())))
}

/// The first CN of the subject, control characters removed.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let parsed = parse(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(printable(name))
}

/// The whole subject name, e.g. `C=DE, CN=vpn.test`, control characters removed.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn subject(certificate: &[u8]) -> Result<String, CertError> {
    Ok(printable(&parse(certificate)?.subject().to_string()))
}

/// DER subject names of the certificates of a PEM bundle.
///
/// # Errors
/// The text or a certificate is damaged.
pub fn subjects_of_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, CertError> {
    CertificateDer::pem_slice_iter(pem)
        .map(|certificate| {
            let certificate = certificate.map_err(|error| CertError::Pem(error.to_string()))?;
            Ok(parse(&certificate)?.subject().as_raw().to_vec())
        })
        .collect()
}

/// Period of validity.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn validity(certificate: &[u8]) -> Result<Validity, CertError> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Ok(Validity {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// Text for "anything else to view": the fields of a certificate, one per line, safe to print.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn certificate_text(certificate: &[u8]) -> Result<String, CertError> {
    let parsed = parse(certificate)?;
    let mut text = String::from("X.509 Certificate Information:\n");
    let mut line = |depth: usize, label: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}{label}: {}", "\t".repeat(depth), printable(value));
    };
    line(1, "Version", &(parsed.version().0 + 1).to_string());
    line(1, "Serial Number (hex)", &HEXLOWER.encode(parsed.raw_serial()));
    line(1, "Issuer", &parsed.issuer().to_string());
    line(1, "Not Before", &parsed.validity().not_before.to_string());
    line(1, "Not After", &parsed.validity().not_after.to_string());
    line(1, "Subject", &parsed.subject().to_string());
    line(1, "Subject Public Key", &key_text(&parsed));
    line(
        1,
        "Signature Algorithm",
        &algorithm_text(&parsed.signature_algorithm.algorithm),
    );
    if let Ok(Some(san)) = parsed.subject_alternative_name() {
        for name in &san.value.general_names {
            let (label, value) = name_text(name);
            line(1, label, &value);
        }
    }
    if let Ok(Some(constraints)) = parsed.basic_constraints() {
        line(
            1,
            "Certificate Authority (CA)",
            if constraints.value.ca { "TRUE" } else { "FALSE" },
        );
    }
    let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
    line(1, "Fingerprint sha1", &HEXLOWER.encode(sha1.as_ref()));
    line(
        1,
        "Fingerprint sha256",
        &HEXLOWER.encode(digest(&SHA256, certificate).as_ref()),
    );
    Ok(text)
}

fn key_text(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA ({} bits)", key.key_size()),
        Ok(PublicKey::EC(key)) => format!("EC ({} bits)", key.key_size()),
        _ => algorithm_text(&certificate.public_key().algorithm.algorithm),
    }
}

/// The usual name, else the number.
fn algorithm_text(algorithm: &Oid<'_>) -> String {
    oid2sn(algorithm, oid_registry()).map_or_else(|_| algorithm.to_id_string(), str::to_owned)
}

fn name_text(name: &GeneralName<'_>) -> (&'static str, String) {
    match name {
        GeneralName::DNSName(name) => ("DNSname", (*name).to_owned()),
        GeneralName::IPAddress(octets) => ("IPAddress", address_text(octets)),
        GeneralName::URI(uri) => ("URI", (*uri).to_owned()),
        GeneralName::RFC822Name(mail) => ("RFC822Name", (*mail).to_owned()),
        other => ("Name", other.to_string()),
    }
}

fn address_text(octets: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        Ipv4Addr::from(octets).to_string()
    } else if let Ok(octets) = <[u8; 16]>::try_from(octets) {
        Ipv6Addr::from(octets).to_string()
    } else {
        HEXLOWER.encode(octets)
    }
}

/// Names come from the peer and may carry terminal escapes.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

pub(crate) fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|_| CertError::Malformed)
}
