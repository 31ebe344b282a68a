//! Learns which signature scheme a handshake used; rustls does not tell afterwards.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{DigitallySignedStruct, Error, SignatureAlgorithm, SignatureScheme};

/// Where the scheme of the server's signature is kept.
pub(crate) type SeenScheme = Arc<OnceLock<SignatureScheme>>;

/// A server's resolver that notes the scheme which the chosen key signs with.
#[derive(Debug)]
pub(crate) struct NotingResolver {
    pub(crate) inner: Arc<dyn ResolvesServerCert>,
    pub(crate) seen: SeenScheme,
}

impl ResolvesServerCert for NotingResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let resolved = self.inner.resolve(client_hello)?;
        Some(Arc::new(CertifiedKey {
            cert: resolved.cert.clone(),
            key: Arc::new(NotingKey {
                inner: resolved.key.clone(),
                seen: self.seen.clone(),
            }),
            ocsp: resolved.ocsp.clone(),
        }))
    }
}

#[derive(Debug)]
struct NotingKey {
    inner: Arc<dyn SigningKey>,
    seen: SeenScheme,
}

impl SigningKey for NotingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.inner.choose_scheme(offered)?;
        self.seen.get_or_init(|| signer.scheme());
        Some(signer)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}

/// A client's verifier that notes the scheme of the server's signature.
#[derive(Debug)]
pub(crate) struct NotingVerifier {
    pub(crate) inner: Arc<dyn ServerCertVerifier>,
    pub(crate) seen: SeenScheme,
}

impl ServerCertVerifier for NotingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.seen.get_or_init(|| dss.scheme);
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.seen.get_or_init(|| dss.scheme);
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
