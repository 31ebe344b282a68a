use rustls_pki_types::CertificateDer;

use crate::ber::is_one_sequence;
use crate::{CredentialError, pem};

/// Most certificates of one file.
const CERTIFICATES_MAX: usize = 64;

/// The certificates of a file: PEM blocks `CERTIFICATE` or `X509 CERTIFICATE`
/// in their order, or one DER certificate (`specs/client.md` §8.1).
///
/// # Errors
/// There is none, one is no base64, or there are more than 64.
pub fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let mut found = Vec::new();
    for block in pem::blocks(file) {
        if !matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE") {
            continue;
        }
        let content = block
            .content
            .ok_or(CredentialError::Malformed("PEM certificate"))?;
        found.push(CertificateDer::from(content.expose().to_vec()));
        if found.len() > CERTIFICATES_MAX {
            return Err(CredentialError::Malformed(
                "certificate file: too many certificates",
            ));
        }
    }
    if found.is_empty() && is_one_sequence(file) {
        found.push(CertificateDer::from(file.to_vec()));
    }
    match found.is_empty() {
        true => Err(CredentialError::NoCertificate),
        false => Ok(found),
    }
}
