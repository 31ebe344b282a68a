use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, StoresServerSessions,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ClientConfig, ServerConfig, SignatureAlgorithm};

use crate::client_proof::recording;
use crate::{Algorithms, TlsError};

/// Settings of a TLS server, one per virtual host (`specs/server-config.md` §10).
pub struct ServerSettings {
    /// Certificate chains with their keys. The first one that suits the client's signature
    /// algorithms is used.
    pub keys: Vec<Arc<CertifiedKey>>,
    /// Session store for resumption by session id. Tickets are never used; `None` turns
    /// resumption off.
    pub sessions: Option<Arc<dyn StoresServerSessions>>,
    /// Asks clients for a certificate and checks it; `None` does not ask. A
    /// [`crate::RemoteClientVerifier`] sees the whole handshake.
    pub client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What may be negotiated.
    pub algorithms: Algorithms,
    /// The order in `algorithms` decides, not the client's (`%SERVER_PRECEDENCE`).
    pub server_precedence: bool,
}

/// Makes the configuration of a TLS server. Its secrets can be taken over
/// ([`crate::Handshake::into_records`]).
///
/// # Errors
/// [`TlsError::NothingEnabled`] when there is no key or nothing to negotiate.
pub fn server_config(settings: ServerSettings) -> Result<Arc<ServerConfig>, TlsError> {
    if settings.keys.is_empty() {
        return Err(TlsError::NothingEnabled("server key"));
    }
    let mut provider = settings.algorithms.provider()?;
    if settings.client_verifier.is_some() {
        let suites = provider.cipher_suites;
        provider.cipher_suites = suites.into_iter().map(recording).collect();
    }
    let verifier = settings.client_verifier.unwrap_or_else(|| Arc::new(NoClientAuth));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&settings.algorithms.protocol_versions()?)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(FirstSuitable(settings.keys)));
    config.ignore_client_order = settings.server_precedence;
    // One TLS 1.3 session per connection is plenty: clients reconnect one at a time.
    config.send_tls13_tickets = usize::from(settings.sessions.is_some());
    config.session_storage = settings
        .sessions
        .unwrap_or_else(|| Arc::new(NoServerSessionStorage {}));
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Settings of a TLS client.
#[derive(Clone)]
pub struct ClientSettings {
    /// Judges the server's certificate.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// Certificate and key to present when the server asks. It is sent even if its issuer is not
    /// among those that the server names (`specs/client.md` §8.3).
    pub identity: Option<Arc<CertifiedKey>>,
    /// What may be negotiated.
    pub algorithms: Algorithms,
}

impl ClientSettings {
    /// The rustls configuration; never resumes (`specs/cstp-dtls.md` §1).
    pub(crate) fn config(&self, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.algorithms.provider()?))
            .with_protocol_versions(&self.algorithms.protocol_versions()?)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        Ok(config)
    }
}

/// Chooses the first key that can sign in a way the client understands.
#[derive(Debug)]
struct FirstSuitable(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstSuitable {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        let suites = client_hello.cipher_suites();
        self.0
            .iter()
            .find(|key| key.key.choose_scheme(schemes).is_some() && has_suite(suites, key.key.algorithm()))
            .cloned()
    }
}

/// True when a suite is offered that can carry a signature of this kind: any of TLS 1.3, or one
/// of TLS 1.2 for this algorithm.
fn has_suite(suites: &[CipherSuite], algorithm: SignatureAlgorithm) -> bool {
    let tls12: &[CipherSuite] = match algorithm {
        SignatureAlgorithm::RSA => &[
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        _ => &[
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
    };
    suites.iter().any(|suite| {
        tls12.contains(suite)
            || matches!(
                suite,
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS13_AES_256_GCM_SHA384
                    | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            )
    })
}
