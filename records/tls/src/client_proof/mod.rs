//! Proof that a client has the key of its certificate, in a form that a third party can check.
//!
//! The process that talks to the client sends a [`ClientProof`] to the one that holds the server's
//! key ([`RemoteClientVerifier`]). The client has signed the whole handshake, the server's own
//! signature included, so the holder of the server's key sees that this handshake is one for
//! which it has just signed itself: a proof cannot be made up, and one that was seen on another
//! connection is of no use.

mod messages;
mod transcript;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

pub use messages::{MalformedProof, ProvenHandshake};
pub(crate) use transcript::recording;

/// What a client signed, and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientProof {
    /// TLS 1.3; otherwise 1.2.
    pub tls13: bool,
    /// The handshake messages that the signature covers, as their hash is computed.
    pub transcript: Vec<u8>,
    /// TLS `SignatureScheme`.
    pub scheme: u16,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Asks the judge of certificates; false refuses the handshake.
pub type JudgeClient = Arc<dyn Fn(ClientProof) -> bool + Send + Sync>;

/// Asks clients for certificates and leaves the judgement of everything to somebody else.
pub struct RemoteClientVerifier {
    mandatory: bool,
    authorities: Vec<DistinguishedName>,
    schemes: Vec<SignatureScheme>,
    judge: JudgeClient,
    proven: Arc<AtomicBool>,
}

impl RemoteClientVerifier {
    /// A verifier for one connection. `authorities` are DER names of issuers, as a hint to the
    /// client; `mandatory` ends handshakes without a certificate.
    pub fn new(
        mandatory: bool,
        authorities: &[Vec<u8>],
        schemes: Vec<SignatureScheme>,
        judge: JudgeClient,
    ) -> Self {
        Self {
            mandatory,
            authorities: authorities.iter().cloned().map(DistinguishedName::from).collect(),
            schemes,
            judge,
            proven: Arc::default(),
        }
    }

    /// True once a client has proven a certificate.
    pub fn proven(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.proven)
    }

    fn ask(
        &self,
        tls13: bool,
        transcript: Vec<u8>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let proof = ClientProof {
            tls13,
            transcript,
            scheme: dss.scheme.into(),
            signature: dss.signature().to_vec(),
        };
        if (self.judge)(proof) {
            self.proven.store(true, Ordering::Relaxed);
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

impl ClientCertVerifier for RemoteClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    /// Accepted until the signature comes, which is judged together with the certificate.
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.ask(false, message.to_vec(), dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let transcript = transcript::preimage_of_end(message)
            .ok_or_else(|| Error::General("the transcript was not recorded".to_owned()))?;
        self.ask(true, transcript, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl fmt::Debug for RemoteClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteClientVerifier")
            .field("mandatory", &self.mandatory)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
