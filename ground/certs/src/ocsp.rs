//! OCSP responses that a server staples (RFC 6960 §4.2): enough to tell whether one is worth
//! sending. Its signature is for the client to judge.

use std::time::{Duration, SystemTime};

use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::X509Certificate;

/// Content of the OID id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Why a response is of no use for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Not a successful basic response.
    #[error("not a successful OCSP response")]
    Malformed,
    /// It speaks of other certificates.
    #[error("the response is for another certificate")]
    OtherCertificate,
    /// The certificate is revoked or unknown there.
    #[error("the response does not say that the certificate is good")]
    NotGood,
    /// It is not valid at this time.
    #[error("the response has expired or is not valid yet")]
    Expired,
}

/// Judges a DER response for the DER certificate `leaf`. Gives the time of its next update, after
/// which it must not be sent any more; `None` when it does not say.
///
/// # Errors
/// See [`OcspError`].
pub fn staple_until(response: &[u8], leaf: &[u8], now: SystemTime) -> Result<Option<SystemTime>, OcspError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| OcspError::Malformed)?;
    let list = single_responses(response).ok_or(OcspError::Malformed)?;
    let mut rest = list;
    while !rest.is_empty() {
        let (after, single) = item(rest, Tag::Sequence).ok_or(OcspError::Malformed)?;
        rest = after;
        let single = Single::parse(single).ok_or(OcspError::Malformed)?;
        if single.serial != certificate.raw_serial() {
            continue;
        }
        if !single.good {
            return Err(OcspError::NotGood);
        }
        if single.since > now || single.until.is_some_and(|until| until <= now) {
            return Err(OcspError::Expired);
        }
        return Ok(single.until);
    }
    Err(OcspError::OtherCertificate)
}

/// What is said about one certificate.
struct Single<'d> {
    serial: &'d [u8],
    good: bool,
    since: SystemTime,
    until: Option<SystemTime>,
}

impl<'d> Single<'d> {
    fn parse(content: &'d [u8]) -> Option<Self> {
        let (rest, id) = item(content, Tag::Sequence)?;
        let (id, _hash_algorithm) = item(id, Tag::Sequence)?;
        let (id, _issuer_name) = item(id, Tag::OctetString)?;
        let (id, _issuer_key) = item(id, Tag::OctetString)?;
        let (_, serial) = item(id, Tag::Integer)?;
        let (rest, status) = element_of(rest)?;
        let good = status.header.class() == Class::ContextSpecific && status.header.tag() == Tag(0);
        let (rest, since) = element_of(rest)?;
        let next = element_of(rest).filter(|(_, next)| is_context(next, 0));
        let until = match next {
            Some((_, next)) => Some(time(&element_of(next.data)?.1)?),
            None => None,
        };
        Some(Self {
            serial,
            good,
            since: time(&since)?,
            until,
        })
    }
}

/// The content of the list of single responses.
fn single_responses(response: &[u8]) -> Option<&[u8]> {
    const SUCCESSFUL: &[u8] = &[0];
    let (_, response) = item(response, Tag::Sequence)?;
    let (response, status) = item(response, Tag::Enumerated)?;
    let (_, bytes) = element_of(response).filter(|(_, bytes)| is_context(bytes, 0))?;
    let (_, bytes) = item(bytes.data, Tag::Sequence)?;
    let (bytes, kind) = item(bytes, Tag::Oid)?;
    if status != SUCCESSFUL || kind != BASIC {
        return None;
    }
    let (_, basic) = item(bytes, Tag::OctetString)?;
    let (_, basic) = item(basic, Tag::Sequence)?;
    let (_, mut data) = item(basic, Tag::Sequence)?;
    // The version, if it is not the default; then who responds.
    if let Some((after, _)) = element_of(data).filter(|(_, version)| is_context(version, 0)) {
        data = after;
    }
    let (data, _responder) = element_of(data)?;
    let (data, _produced_at) = item(data, Tag::GeneralizedTime)?;
    let (_, list) = item(data, Tag::Sequence)?;
    Some(list)
}

fn element_of(input: &[u8]) -> Option<(&[u8], Any<'_>)> {
    Any::from_der(input).ok()
}

/// The content of an element with this universal tag, and what follows.
fn item(input: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, element) = element_of(input)?;
    let fits = element.header.class() == Class::Universal && element.header.tag() == tag;
    fits.then_some((rest, element.data))
}

fn is_context(element: &Any<'_>, number: u32) -> bool {
    element.header.class() == Class::ContextSpecific && element.header.tag() == Tag(number)
}

fn time(element: &Any<'_>) -> Option<SystemTime> {
    let seconds = element
        .clone()
        .generalizedtime()
        .ok()?
        .utc_datetime()
        .ok()?
        .unix_timestamp();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    /// Made by `openssl ocsp` for two certificates of a throw-away authority.
    const GOOD: &[u8] = include_bytes!("../tests/vectors/ocsp/good.der");
    const REVOKED: &[u8] = include_bytes!("../tests/vectors/ocsp/revoked.der");
    const FOREVER: &[u8] = include_bytes!("../tests/vectors/ocsp/forever.der");

    fn leaf(number: u8) -> CertificateDer<'static> {
        let pem: &[u8] = match number {
            1 => include_bytes!("../tests/vectors/ocsp/leaf1.pem"),
            _ => include_bytes!("../tests/vectors/ocsp/leaf2.pem"),
        };
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    #[test]
    fn responses_of_openssl() {
        // In 2027: the vectors were made in November 2026, and hold for 36,000 days.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let until = staple_until(GOOD, &leaf(1), now).unwrap().unwrap();
        assert!(until > now + Duration::from_secs(35_000 * 86_400));
        assert_eq!(staple_until(FOREVER, &leaf(1), now), Ok(None));
        assert_eq!(staple_until(REVOKED, &leaf(2), now), Err(OcspError::NotGood));
        assert_eq!(
            staple_until(GOOD, &leaf(2), now),
            Err(OcspError::OtherCertificate)
        );
        assert_eq!(staple_until(GOOD, &leaf(1), until), Err(OcspError::Expired));
        assert_eq!(
            staple_until(GOOD, &leaf(1), SystemTime::UNIX_EPOCH),
            Err(OcspError::Expired)
        );
        assert_eq!(staple_until(&leaf(1), &leaf(1), now), Err(OcspError::Malformed));
    }

    proptest! {
        #[test]
        fn damaged_responses_never_panic(
            position in 0..GOOD.len(), value in any::<u8>(), length in 0..=GOOD.len(),
        ) {
            let mut response = GOOD.to_vec();
            response[position] = value;
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let _any_verdict = staple_until(&response[..length], &leaf(1), now);
        }
    }
}
