//! The TLS configuration of a virtual host, with keys that are in the broker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use culvert_certs::{client_schemes, spki_of};
use culvert_tls::{
    Algorithms, JudgeClient, KeyIndex, RemoteClientVerifier, RemoteKey, RemoteSign, ServerSettings,
    server_config,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::broker::Broker;
use super::stream::End;
use crate::ipc::snapshot::HostSnapshot;

/// The configuration for one connection, and whether its client has proven a certificate.
pub(super) struct Configured {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: Arc<AtomicBool>,
}

/// Makes the configuration for one connection to `host`.
pub(super) fn config(host: &HostSnapshot, broker: &Arc<Broker>) -> Result<Configured, End> {
    let signer = Arc::clone(broker);
    let sign: RemoteSign = Arc::new(move |key, scheme, message| signer.sign(key, scheme, message));
    let mut keys = Vec::new();
    for (index, chain) in host.chains.iter().enumerate() {
        let leaf = chain
            .first()
            .ok_or(End::Protocol("a certificate chain without certificates"))?;
        let index = u16::try_from(index).map_err(|_| End::Protocol("too many keys"))?;
        let spki = spki_of(leaf).map_err(|_| End::Protocol("a server certificate that cannot be read"))?;
        let key = RemoteKey::new(KeyIndex(index), &spki, Arc::clone(&sign))
            .map_err(|_| End::Protocol("a server key of a kind that cannot be used"))?;
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        let mut certified = CertifiedKey::new(chain, Arc::new(key));
        certified.ocsp = host
            .ocsp
            .as_ref()
            .filter(|(_, until)| keys.is_empty() && until.is_none_or(|until| SystemTime::now() < until))
            .map(|(response, _)| response.clone());
        keys.push(Arc::new(certified));
    }
    let verifier = host.client_certificates.as_ref().map(|asked| {
        let judge = Arc::clone(broker);
        let judge: JudgeClient = Arc::new(move |proof| judge.judge_certificate(proof));
        RemoteClientVerifier::new(asked.mandatory, &asked.issuers, client_schemes(), judge)
    });
    let certificate = verifier
        .as_ref()
        .map(RemoteClientVerifier::proven)
        .unwrap_or_default();
    let config = server_config(ServerSettings {
        keys,
        sessions: Some(Arc::clone(broker) as _),
        client_verifier: verifier.map(|verifier| Arc::new(verifier) as _),
        algorithms: Algorithms::of_priorities(&host.tls_priorities),
        server_precedence: host.tls_priorities.server_precedence(),
    })?;
    Ok(Configured { config, certificate })
}
