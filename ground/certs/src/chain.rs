use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::X509Certificate;

use crate::describe::parse;
use crate::signature::{Checked, check_certificate};
use crate::{Anchors, CertError, Validity, spki_of, validity};

/// Most certificates in a chain (`specs/server-config.md` §10.1).
const CHAIN_MAX: usize = 8;

/// An own certificate with its issuers, leaf first, each signed by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain(Vec<CertificateDer<'static>>);

impl CertificateChain {
    /// Reads a PEM file with certificates in any order. The one whose DER SubjectPublicKeyInfo
    /// satisfies `is_own_key` is the leaf; certificates that do not lead on from it are left out
    /// (`specs/client.md` §8.3, `specs/server-config.md` §10.1).
    ///
    /// # Errors
    /// No or too many certificates, damaged ones, or none belongs to the key.
    pub fn from_pem(pem: &[u8], is_own_key: impl Fn(&[u8]) -> bool) -> Result<Self, CertError> {
        let certificates = read(pem)?;
        for (position, certificate) in certificates.iter().enumerate() {
            if is_own_key(&spki_of(certificate)?) {
                return Self::leading_from(position, certificates);
            }
        }
        Err(CertError::KeyMismatch)
    }

    /// The same without the key: the leaf is the first certificate that issued none of the
    /// others, if possible one that is no authority.
    ///
    /// # Errors
    /// No or too many certificates, or damaged ones.
    pub fn from_pem_without_key(pem: &[u8]) -> Result<Self, CertError> {
        let certificates = read(pem)?;
        let parsed = certificates
            .iter()
            .map(|certificate| parse(certificate))
            .collect::<Result<Vec<_>, _>>()?;
        let issued_another = |candidate: &X509Certificate<'_>| {
            parsed.iter().any(|other| {
                other.issuer() != other.subject() && other.issuer().as_raw() == candidate.subject().as_raw()
            })
        };
        let leaf = parsed
            .iter()
            .enumerate()
            .min_by_key(|(_, candidate)| (issued_another(candidate), candidate.is_ca()))
            .map(|(position, _)| position);
        Self::leading_from(leaf.ok_or(CertError::NotFound)?, certificates)
    }

    /// What a client sends: of `certificates`, which may stand in any order, the one that
    /// satisfies `is_own_key`, then its issuers from the others, else from the anchors. Self-signed
    /// issuers are left out: the server has them or does not trust them (`specs/client.md` §8.3).
    ///
    /// # Errors
    /// A certificate is damaged, or none belongs to the key.
    pub fn for_client(
        certificates: Vec<CertificateDer<'static>>,
        is_own_key: impl Fn(&[u8]) -> bool,
        anchors: &Anchors,
    ) -> Result<Self, CertError> {
        let mut rest = certificates;
        let mut own = None;
        for (position, certificate) in rest.iter().enumerate() {
            if is_own_key(&spki_of(certificate)?) {
                own = Some(position);
                break;
            }
        }
        let mut chain = vec![rest.remove(own.ok_or(CertError::KeyMismatch)?)];
        let mut system = None;
        while chain.len() < CHAIN_MAX {
            let last = chain.last().ok_or(CertError::NotFound)?;
            if is_self_signed(last)? {
                break;
            }
            let issuer = issuer_among(last, rest.iter())
                .or_else(|| anchors.issuer_of(last))
                .or_else(|| {
                    let all = system.get_or_insert_with(|| anchors.with_system());
                    all.as_ref()?.issuer_of(last)
                });
            match issuer {
                Some(issuer) if !is_self_signed(&issuer)? && !chain.contains(&issuer) => chain.push(issuer),
                _ => break,
            }
        }
        Ok(Self(chain))
    }

    /// `position` must be one of `certificates`.
    fn leading_from(position: usize, certificates: Vec<CertificateDer<'static>>) -> Result<Self, CertError> {
        let mut rest = certificates;
        let mut chain = vec![rest.remove(position)];
        while let Some(issuer) = issuer_position(chain.last().ok_or(CertError::NotFound)?, &rest)? {
            chain.push(rest.remove(issuer));
        }
        Ok(Self(chain))
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The certificates, leaf first, for a `CertifiedKey`.
    pub fn into_certificates(self) -> Vec<CertificateDer<'static>> {
        self.0
    }

    /// The own certificate.
    pub fn leaf(&self) -> &[u8] {
        self.0.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// SHA-1 of the own certificate's DER form, as the server tells it to clients.
    pub fn leaf_sha1(&self) -> [u8; 20] {
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.leaf()).as_ref());
        sha1
    }

    /// Period of validity of the own certificate.
    ///
    /// # Errors
    /// It cannot be parsed.
    pub fn validity(&self) -> Result<Validity, CertError> {
        validity(self.leaf())
    }
}

fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificates.push(certificate.map_err(|error| CertError::Pem(error.to_string()))?);
        if certificates.len() > CHAIN_MAX {
            return Err(CertError::TooMany(CHAIN_MAX));
        }
    }
    if certificates.is_empty() {
        return Err(CertError::NotFound);
    }
    Ok(certificates)
}

/// Which of `candidates` issued `certificate`, by name; `None` for a self-signed one.
fn issuer_position(
    certificate: &CertificateDer<'_>,
    candidates: &[CertificateDer<'_>],
) -> Result<Option<usize>, CertError> {
    let certificate = parse(certificate)?;
    if certificate.issuer() == certificate.subject() {
        return Ok(None);
    }
    for (position, candidate) in candidates.iter().enumerate() {
        if parse(candidate)?.subject().as_raw() == certificate.issuer().as_raw() {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> Result<bool, CertError> {
    let parsed = parse(certificate)?;
    Ok(parsed.issuer().as_raw() == parsed.subject().as_raw())
}

/// The one of `candidates` that has the issuer's name and key. An authority may have several
/// certificates with one name.
pub(crate) fn issuer_among<'a>(
    certificate: &CertificateDer<'_>,
    candidates: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Option<CertificateDer<'static>> {
    let certificate = parse(certificate).ok()?;
    let signed = |candidate: &&CertificateDer<'static>| {
        parse(candidate).is_ok_and(|candidate| {
            candidate.subject().as_raw() == certificate.issuer().as_raw()
                && check_certificate(&certificate, candidate.public_key(), true) == Checked::Valid
        })
    };
    candidates.into_iter().find(signed).cloned()
}
