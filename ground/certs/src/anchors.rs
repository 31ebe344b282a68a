use std::collections::HashMap;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::CertError;

/// Certificates that are trusted as they are: roots, but also intermediates and self-signed
/// leaves (`specs/client.md` §7.1).
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    /// Raw subject name to positions in `certificates`.
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
}

impl Anchors {
    /// No anchors: nothing is trusted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the trust store of the system; returns how many certificates it had. Certificates
    /// that cannot be parsed are left out.
    ///
    /// # Errors
    /// Nothing could be loaded.
    pub fn add_system(&mut self) -> Result<usize, CertError> {
        let loaded = rustls_native_certs::load_native_certs();
        if loaded.certs.is_empty()
            && let Some(error) = loaded.errors.first()
        {
            return Err(CertError::SystemTrust(error.to_string()));
        }
        Ok(loaded
            .certs
            .into_iter()
            .filter_map(|certificate| self.add(certificate).ok())
            .count())
    }

    /// Adds every certificate of a PEM bundle; returns how many there were.
    ///
    /// # Errors
    /// The PEM text or a certificate is damaged, or there is none.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<usize, CertError> {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.add(certificate.map_err(|error| CertError::Pem(error.to_string()))?)?;
            count += 1;
        }
        if count == 0 {
            Err(CertError::NotFound)
        } else {
            Ok(count)
        }
    }

    /// Adds one certificate.
    ///
    /// # Errors
    /// It cannot be parsed.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), CertError> {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| CertError::Malformed)?;
        let subject = parsed.subject().as_raw().to_vec();
        self.by_subject
            .entry(subject)
            .or_default()
            .push(self.certificates.len());
        self.certificates.push(certificate);
        Ok(())
    }

    /// How many certificates are trusted.
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// True when nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Anchors with this raw subject name.
    pub(crate) fn with_subject<'a>(
        &'a self,
        subject: &[u8],
    ) -> impl Iterator<Item = &'a CertificateDer<'static>> + use<'a> {
        let positions = self
            .by_subject
            .get(subject)
            .map(Vec::as_slice)
            .unwrap_or_default();
        positions
            .iter()
            .filter_map(|position| self.certificates.get(*position))
    }

    /// True when exactly this certificate is an anchor.
    pub(crate) fn contains(&self, subject: &[u8], der: &[u8]) -> bool {
        self.with_subject(subject).any(|anchor| anchor.as_ref() == der)
    }
}
