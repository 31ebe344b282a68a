use std::collections::HashMap;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::CertError;
use crate::chain::issuer_among;
use crate::describe::parse;

/// Where distributions keep all trusted certificates in one file.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];
/// Variables by which the user names another store.
const OVERRIDES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Certificates that are trusted as they are: roots, but also intermediates and self-signed
/// leaves (`specs/client.md` §7.1).
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    /// Raw subject name to positions in `certificates`.
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// The system's store counts, too.
    system: bool,
}

impl Anchors {
    /// No anchors: nothing is trusted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the system's store, too. It is read only when the other anchors do not suffice, and
    /// not kept: it is far larger than everything else that a client has in memory. One that
    /// cannot be read counts as empty.
    pub fn allow_system(&mut self) {
        self.system = true;
    }

    /// These anchors and those of the system; `None` unless the system's are allowed.
    pub(crate) fn with_system(&self) -> Option<Self> {
        let mut all = self.system.then(|| self.clone())?;
        for certificate in system_certificates() {
            // One that nobody can parse cannot be anybody's issuer.
            let _unusable = all.add(certificate);
        }
        Some(all)
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

    /// How many certificates were added.
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// True when none was added.
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

    /// The anchor that signed `certificate`.
    pub(crate) fn issuer_of(&self, certificate: &CertificateDer<'_>) -> Option<CertificateDer<'static>> {
        let parsed = parse(certificate).ok()?;
        issuer_among(certificate, self.with_subject(parsed.issuer().as_raw()))
    }

    /// True when exactly this certificate is an anchor.
    pub(crate) fn contains(&self, subject: &[u8], der: &[u8]) -> bool {
        self.with_subject(subject).any(|anchor| anchor.as_ref() == der)
    }
}

/// The system's store: one bundle where there is one, because the directories beside it repeat
/// every certificate.
fn system_certificates() -> Vec<CertificateDer<'static>> {
    let overridden = OVERRIDES.iter().any(|name| std::env::var_os(name).is_some());
    let bundle = BUNDLES.map(Path::new).into_iter().find(|path| path.exists());
    match bundle.filter(|_| !overridden) {
        Some(bundle) => rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs,
        None => rustls_native_certs::load_native_certs().certs,
    }
}
