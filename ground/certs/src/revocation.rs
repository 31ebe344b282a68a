//! Certificate revocation lists (RFC 5280 §5).

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::describe::parse;
use crate::signature::{Checked, check_signed};
use crate::{Anchors, CertError, ClientRefusal};

/// The lists of any number of issuers.
#[derive(Debug, Clone, Default)]
pub struct RevocationLists(Vec<CertificateRevocationListDer<'static>>);

impl RevocationLists {
    /// Reads the lists of a PEM file, or one in DER. A list of an issuer among `anchors` must
    /// bear its signature; lists of others count as they are.
    ///
    /// # Errors
    /// Nothing that can be read, or a wrong signature.
    pub fn read(text: &[u8], anchors: &Anchors) -> Result<Self, CertError> {
        let mut lists = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(text) {
            lists.push(list.map_err(|error| CertError::Pem(error.to_string()))?);
        }
        if lists.is_empty() {
            lists.push(CertificateRevocationListDer::from(text.to_vec()));
        }
        for list in &lists {
            let (_, parsed) =
                CertificateRevocationList::from_der(list).map_err(|_| CertError::MalformedList)?;
            let mut issuers = anchors.with_subject(parsed.issuer().as_raw()).peekable();
            let unknown = issuers.peek().is_none();
            let signed = |issuer: &[u8]| {
                parse(issuer).is_ok_and(|issuer| {
                    let checked = check_signed(
                        &parsed.signature_algorithm,
                        issuer.public_key(),
                        parsed.tbs_cert_list.as_ref(),
                        &parsed.signature_value.data,
                    );
                    checked == Checked::Valid
                })
            };
            if !unknown && !issuers.any(|issuer| signed(issuer)) {
                return Err(CertError::ListSignature);
            }
        }
        Ok(Self(lists))
    }

    /// Looks a certificate up in the lists of its issuer.
    ///
    /// # Errors
    /// It was revoked, or the list has expired.
    pub(crate) fn check(
        &self,
        certificate: &X509Certificate<'_>,
        now: UnixTime,
    ) -> Result<(), ClientRefusal> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for list in &self.0 {
            let (_, list) =
                CertificateRevocationList::from_der(list).map_err(|_| CertError::MalformedList)?;
            if list.issuer().as_raw() != certificate.issuer().as_raw() {
                continue;
            }
            if list
                .iter_revoked_certificates()
                .any(|revoked| revoked.raw_serial() == certificate.raw_serial())
            {
                return Err(ClientRefusal::Revoked);
            }
            if list.next_update().is_some_and(|next| next.timestamp() < now) {
                return Err(ClientRefusal::StaleList);
            }
        }
        Ok(())
    }
}
