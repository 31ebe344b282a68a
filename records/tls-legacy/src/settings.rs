use std::sync::{Arc, OnceLock};

use culvert_tls::TlsError;
use culvert_vocab::SecretBytes;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::provider::Provider;
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::elsewhere::{self, KeyElsewhere};
use crate::judge::Judge;
use crate::lacking::LEGACY_SERVER_CONNECT;

/// Signature schemes besides SHA-1's.
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:\
                          RSA-PSS+SHA512:rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:\
                          RSA+SHA256:RSA+SHA384:RSA+SHA512";
/// Suites that are never offered: without authentication or encryption, or worse than what the user
/// can allow.
const NEVER: &str = "!aNULL:!eNULL:!EXPORT:!LOW:!RC2:!IDEA:!SEED:!PSK:!SRP:!kECDH:!kDH";

/// What may be negotiated with an old gateway, and with which credentials.
pub struct LegacySettings {
    /// Judges the server's certificate.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// Certificate and key to present when the server asks.
    pub identity: Option<LegacyIdentity>,
    /// Also 3DES, RC4, signatures with SHA-1 and MD5, insecure renegotiation.
    pub insecure: bool,
    /// No static RSA.
    pub forward_secrecy: bool,
    /// What is older is not spoken.
    pub oldest: OldestVersion,
}

/// The oldest version that may be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldestVersion {
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
}

/// A certificate chain with its private key.
#[derive(Clone)]
pub struct LegacyIdentity {
    /// DER certificates, the client's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the client's certificate.
    pub key: LegacyKey,
}

/// A private key.
#[derive(Debug, Clone)]
pub enum LegacyKey {
    /// PKCS#8.
    Memory(SecretBytes),
    /// In hardware.
    Elsewhere(Arc<KeyElsewhere>),
}

impl LegacySettings {
    /// A client connection that has not started.
    pub(crate) fn client(&self, name: &ServerName<'static>, judge: Arc<Judge>) -> Result<Ssl, TlsError> {
        let mut ssl = self
            .context(judge)
            .and_then(|context| Ssl::new(&context))
            .map_err(foreign)?;
        if let ServerName::DnsName(name) = name {
            ssl.set_hostname(name.as_ref()).map_err(foreign)?;
        }
        ssl.set_connect_state();
        Ok(ssl)
    }

    fn context(&self, judge: Arc<Judge>) -> Result<openssl::ssl::SslContext, ErrorStack> {
        // A context knows the ciphers that there are when it is made.
        if self.insecure {
            load_weak_ciphers()?;
        }
        let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
        // Version 1.3 stays, so that a server that speaks it notices a forced downgrade.
        context.set_min_proto_version(Some(match self.oldest {
            OldestVersion::Tls10 => SslVersion::TLS1,
            OldestVersion::Tls11 => SslVersion::TLS1_1,
            OldestVersion::Tls12 => SslVersion::TLS1_2,
        }))?;
        context.set_security_level(0);
        // ALL pads the ClientHello, which F5 wants, and sends one record per write.
        let mut options =
            SslOptions::ALL | SslOptions::NO_COMPRESSION | SslOptions::NO_TICKET | LEGACY_SERVER_CONNECT;
        let mut suites = format!("ALL:{NEVER}");
        match self.insecure {
            true => {
                options |= SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION;
                context.set_sigalgs_list(&format!("{SIGNATURES}:ECDSA+SHA1:RSA+SHA1"))?;
            }
            false => {
                suites.push_str(":!3DES:!RC4:!MD5");
                context.set_sigalgs_list(SIGNATURES)?;
            }
        }
        if self.forward_secrecy {
            suites.push_str(":!kRSA");
        }
        suites.push_str(":@STRENGTH");
        context.set_cipher_list(&suites)?;
        context.set_options(options);
        if let Some(identity) = &self.identity {
            identity.apply(&mut context)?;
        }
        context.set_verify_callback(SslVerifyMode::PEER, move |_, verification| {
            judge.accepts(verification)
        });
        Ok(context.build())
    }
}

impl LegacyIdentity {
    fn apply(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let Some((leaf, issuers)) = self.chain.split_first() else {
            return Ok(());
        };
        let leaf = X509::from_der(leaf)?;
        context.set_certificate(&leaf)?;
        for issuer in issuers {
            context.add_extra_chain_cert(X509::from_der(issuer)?)?;
        }
        let key = match &self.key {
            LegacyKey::Memory(pkcs8) => PKey::private_key_from_pkcs8(pkcs8.expose())?,
            LegacyKey::Elsewhere(key) => elsewhere::private_key(&*leaf.public_key()?, key)?,
        };
        context.set_private_key(&key)
    }

    /// The key, if it is in hardware.
    pub(crate) fn elsewhere(&self) -> Option<Arc<KeyElsewhere>> {
        match &self.key {
            LegacyKey::Memory(_) => None,
            LegacyKey::Elsewhere(key) => Some(Arc::clone(key)),
        }
    }
}

/// RC4 is in a part of OpenSSL that has to be asked for.
fn load_weak_ciphers() -> Result<(), ErrorStack> {
    static LOADED: OnceLock<Provider> = OnceLock::new();
    if LOADED.get().is_none() {
        // Another thread may have been faster: twice does no harm.
        let _ = LOADED.set(Provider::try_load(None, "legacy", true)?);
    }
    Ok(())
}

/// OpenSSL's words.
pub(crate) fn foreign(error: ErrorStack) -> TlsError {
    let reasons: Vec<&str> = error
        .errors()
        .iter()
        .filter_map(openssl::error::Error::reason)
        .collect();
    TlsError::Foreign(match reasons.is_empty() {
        true => "the cryptographic library failed".into(),
        false => reasons.join("; "),
    })
}
