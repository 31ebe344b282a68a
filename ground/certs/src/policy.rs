use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::path::{PathCheck, problems_of_chain};
use crate::signature::{check_handshake, handshake_schemes};
use crate::verdict::Problem;
use crate::{Anchors, Host, Verdict};

/// What a server presented, and what the standard check says.
#[derive(Debug)]
pub struct Presented<'a> {
    /// DER certificate of the server.
    pub leaf: &'a CertificateDer<'a>,
    /// The other certificates it sent.
    pub intermediates: &'a [CertificateDer<'a>],
    /// Result of the standard check.
    pub verdict: Verdict,
}

/// Decides whether the handshake goes on. Called for every server, also when the standard check
/// passed, because pins must match in any case. It may block: the handshake waits.
pub type Decide = Arc<dyn Fn(&Presented<'_>) -> bool + Send + Sync>;

/// Settings of a [`Policy`].
pub struct PolicySettings {
    /// Whom the certificate must belong to: the SNI given by the user, else the host of the URL.
    pub host: Host,
    /// `host` is the user's SNI; only changes the reason's text.
    pub host_is_sni: bool,
    /// Whom to trust.
    pub anchors: Arc<Anchors>,
    /// SHA-1 signatures are good enough (`--allow-insecure-crypto`).
    pub allow_insecure_crypto: bool,
    /// Has the last word.
    pub decide: Decide,
}

/// The client's check of a server's certificate (`specs/client.md` §7). Extended key usage is
/// deliberately not looked at.
pub struct Policy {
    settings: PolicySettings,
}

impl Policy {
    /// A policy for one host.
    pub fn new(settings: PolicySettings) -> Self {
        Self { settings }
    }

    /// The standard check (`specs/client.md` §7.1), without the decision.
    ///
    /// # Errors
    /// The server's own certificate cannot be parsed.
    pub fn verdict(
        &self,
        leaf_der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Verdict, crate::CertError> {
        let settings = &self.settings;
        let (_, leaf) = X509Certificate::from_der(leaf_der).map_err(|_| crate::CertError::Malformed)?;
        let problems_with = |anchors: &Anchors| {
            let check = PathCheck {
                anchors,
                now,
                allow_sha1: settings.allow_insecure_crypto,
            };
            problems_of_chain(&check, &leaf, leaf_der, intermediates)
        };
        let mut problems = problems_with(&settings.anchors);
        if !problems.is_empty()
            && let Some(all) = settings.anchors.with_system()
        {
            problems = problems_with(&all);
        }
        if !settings.host.matches(&leaf) {
            problems.push(if settings.host_is_sni {
                Problem::SniMismatch
            } else {
                Problem::HostMismatch
            });
        }
        Ok(Verdict::of(&problems))
    }

    fn check_signature(
        &self,
        tls13: bool,
        message: &[u8],
        leaf_der: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.supported_verify_schemes().contains(&dss.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let (_, leaf) = X509Certificate::from_der(leaf_der).map_err(|_| CertificateError::BadEncoding)?;
        if check_handshake(dss.scheme, leaf.public_key(), tls13, message, dss.signature()) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

impl ServerCertVerifier for Policy {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self
            .verdict(end_entity, intermediates, now)
            .map_err(|_| CertificateError::BadEncoding)?;
        if (self.settings.decide)(&Presented {
            leaf: end_entity,
            intermediates,
            verdict,
        }) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(false, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(true, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake_schemes(self.settings.allow_insecure_crypto)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("host", &self.settings.host)
            .finish_non_exhaustive()
    }
}
