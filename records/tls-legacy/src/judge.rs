use std::sync::{Arc, Mutex, PoisonError};

use openssl::x509::X509StoreContextRef;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Judges the server's certificate in the first handshake; in every later one the server must show
/// the same (`specs/client.md` §7.1).
pub(crate) struct Judge {
    verifier: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
    judgement: Mutex<Judgement>,
}

#[derive(Default)]
enum Judgement {
    #[default]
    Pending,
    /// This leaf is the server's.
    Accepted(Vec<CertificateDer<'static>>),
    Refused(rustls::Error),
}

impl Judge {
    pub(crate) fn new(verifier: Arc<dyn ServerCertVerifier>, name: ServerName<'static>) -> Self {
        Self {
            verifier,
            name,
            judgement: Mutex::default(),
        }
    }

    /// OpenSSL's question. It knows no anchor, so it asks at least once, with all certificates of
    /// the server that belong together; its own opinion has no weight.
    pub(crate) fn accepts(&self, verification: &X509StoreContextRef) -> bool {
        let Some(chain) = verification.chain() else {
            return false;
        };
        let chain: Option<Vec<CertificateDer<'static>>> = chain
            .iter()
            .map(|certificate| Some(certificate.to_der().ok()?.into()))
            .collect();
        let Some(chain) = chain else {
            return false;
        };
        let Some((leaf, intermediates)) = chain.split_first() else {
            return false;
        };
        let mut judgement = self.judgement.lock().unwrap_or_else(PoisonError::into_inner);
        if let Judgement::Pending = *judgement {
            let verified =
                self.verifier
                    .verify_server_cert(leaf, intermediates, &self.name, &[], UnixTime::now());
            *judgement = match verified {
                Ok(_) => Judgement::Accepted(chain),
                Err(error) => Judgement::Refused(error),
            };
            return matches!(*judgement, Judgement::Accepted(_));
        }
        matches!(&*judgement, Judgement::Accepted(accepted) if accepted.first() == Some(leaf))
    }

    /// The accepted chain; empty if there is none.
    pub(crate) fn accepted(&self) -> Vec<CertificateDer<'static>> {
        let judgement = self.judgement.lock().unwrap_or_else(PoisonError::into_inner);
        match &*judgement {
            Judgement::Accepted(chain) => chain.clone(),
            Judgement::Pending | Judgement::Refused(_) => Vec::new(),
        }
    }

    /// Why the certificate was refused.
    pub(crate) fn refusal(&self) -> Option<rustls::Error> {
        let judgement = self.judgement.lock().unwrap_or_else(PoisonError::into_inner);
        match &*judgement {
            Judgement::Refused(error) => Some(error.clone()),
            Judgement::Pending | Judgement::Accepted(_) => None,
        }
    }
}
