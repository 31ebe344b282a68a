//! TLS to RADIUS servers: whom we trust, and our own certificate (RFC 6614 §2.3).

use std::sync::Arc;

use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use culvert_radius::TlsSettings;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::connection::Tls;

/// TLS to the server of this name.
///
/// # Errors
/// One line for the administrator.
pub(crate) fn to(settings: &TlsSettings, host: &str) -> Result<Tls, String> {
    let mut anchors = Anchors::new();
    let count = anchors
        .add_pem(&settings.authorities)
        .map_err(|error| format!("tls-ca-file: {error}"))?;
    if count == 0 {
        return Err("tls-ca-file: there is no certificate in it".to_owned());
    }
    let any_name = settings.any_name;
    let policy = Policy::new(PolicySettings {
        host: match any_name {
            true => Host::Any,
            false => Host::new(host),
        },
        host_is_sni: false,
        anchors: Arc::new(anchors),
        allow_insecure_crypto: false,
        decide: Arc::new(|presented| presented.verdict.reason.is_none()),
    });
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(policy));
    let config = if settings.certificate.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&settings.certificate).collect();
        let chain = chain.map_err(|error| format!("tls-cert-file: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(settings.key.expose())
            .map_err(|error| format!("tls-key-file: {error}"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("tls-cert-file: {error}"))?
    };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| format!("'{host}' is no name of a server"))?;
    Ok((Arc::new(config), name))
}
