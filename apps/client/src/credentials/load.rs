//! Certificate and key from where the options say (`specs/client.md` §8.1 to §8.3).

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use culvert_certs::{CertError, CertificateChain, Usage, common_name, spki_of, subject};
use culvert_credentials::{Contents, CredentialError, KeyFile, KeyFormat, Passphrase, Pkcs12, certificates};
use culvert_pkcs11::{Key as TokenKey, Pkcs11Error};
use culvert_sys::files::file_system_id;
use culvert_tls::PrivateKey;
#[cfg(feature = "legacy-tls")]
use culvert_tls_legacy::{KeyElsewhere, LegacyKey, Operation};
use culvert_tpm::{Key as TpmKey, TpmError};
use culvert_vocab::SecretString;
#[cfg(feature = "legacy-tls")]
use rustls::SignatureAlgorithm;
use rustls::sign::CertifiedKey;
#[cfg(feature = "legacy-tls")]
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::passphrase::{Locked, OpenFailure, open};
use super::pkcs11::{self, OnToken, Pins};
use super::tpm::{self, Refused};
use super::{Identity, LoadFailure, file};
use crate::context::Context;
use crate::options::KeyPair;
use crate::prompt::reason;

const PKCS12: Locked = Locked {
    form: "openconnect_pkcs12",
    kind: "PKCS#12",
    wrong: "Failed to decrypt PKCS#12 certificate file",
};
const ENCRYPTED_PEM: Locked = Locked {
    form: "openconnect_pem",
    kind: "PEM",
    wrong: "Decrypting PEM key failed",
};
const PKCS8_PEM: Locked = Locked {
    wrong: "Failed to decrypt PKCS#8 certificate file",
    ..ENCRYPTED_PEM
};
const PKCS8_DER: Locked = Locked {
    kind: "PKCS#8",
    ..PKCS8_PEM
};

/// Which certificate of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// For TLS.
    Primary,
    /// For a signature that the login asks for.
    Secondary,
}

/// A loaded certificate with its key.
pub(super) struct Loaded {
    key: Key,
    chain: CertificateChain,
}

/// A private key.
enum Key {
    /// In memory.
    File(PrivateKey),
    /// On a token.
    Token(Arc<TokenKey>),
    /// In a TPM.
    Tpm(Arc<TpmKey>, PrivateKey),
}

impl Key {
    fn belongs_to(&self, spki: &[u8]) -> bool {
        match self {
            Self::File(key) | Self::Tpm(_, key) => key.belongs_to(spki),
            Self::Token(key) => pkcs11::belongs_to(key, spki),
        }
    }

    /// For OpenSSL, which old gateways need; they know keys of RSA and on curves of NIST only.
    #[cfg(feature = "legacy-tls")]
    fn legacy(&self, leaf: &[u8]) -> Option<LegacyKey> {
        let key = match self {
            Self::File(key) => return key.to_pkcs8().map(LegacyKey::Memory),
            Self::Token(key) => {
                let spki = spki_of(leaf).ok()?;
                let algorithm = pkcs11::signing_key(key, &spki)?.algorithm();
                if !matches!(algorithm, SignatureAlgorithm::RSA | SignatureAlgorithm::ECDSA) {
                    return None;
                }
                elsewhere(
                    key,
                    TokenKey::sign_info,
                    TokenKey::sign_block,
                    TokenKey::sign_digest,
                )
            }
            Self::Tpm(key, _) => elsewhere(key, TpmKey::sign_info, TpmKey::sign_block, TpmKey::sign_digest),
        };
        Some(LegacyKey::Elsewhere(Arc::new(key)))
    }
}

/// A key in hardware with the operations that OpenSSL needs: RSA over a DigestInfo and over a whole
/// block, ECDSA over a digest.
#[cfg(feature = "legacy-tls")]
fn elsewhere<K: Send + Sync + 'static, E: std::fmt::Display + 'static>(
    key: &Arc<K>,
    sign_info: fn(&K, &[u8]) -> Result<Vec<u8>, E>,
    sign_block: fn(&K, &[u8]) -> Result<Vec<u8>, E>,
    sign_digest: fn(&K, &[u8]) -> Result<Vec<u8>, E>,
) -> KeyElsewhere {
    let key = Arc::clone(key);
    KeyElsewhere::new(move |operation| {
        let signature = match operation {
            Operation::RsaPkcs1(info) => sign_info(&key, info),
            Operation::RsaBare(block) => sign_block(&key, block),
            Operation::Ecdsa(digest) => sign_digest(&key, digest),
        };
        signature.map_err(|error| error.to_string())
    })
}

/// What the source of the certificate holds besides.
enum Beside {
    /// The key.
    Key(Key),
    /// The content of the file.
    File(Zeroizing<Vec<u8>>),
    /// The token that holds the certificate.
    Token(Box<OnToken>),
}

impl Loaded {
    /// As the TLS libraries want it.
    pub(super) fn into_identity(self, context: &Context) -> Result<Identity, LoadFailure> {
        let failed = |text: &str| {
            let text = format!("Loading private key failed: {text}");
            context.output.error(&text);
            LoadFailure::Failed
        };
        #[cfg(feature = "legacy-tls")]
        let legacy = self.key.legacy(self.chain.leaf());
        let key = match self.key {
            Key::File(key) | Key::Tpm(_, key) => key
                .into_signing_key()
                .map_err(|error| failed(&error.to_string()))?,
            Key::Token(key) => spki_of(self.chain.leaf())
                .ok()
                .and_then(|spki| pkcs11::signing_key(&key, &spki))
                .ok_or_else(|| failed("unsupported kind of key"))?,
        };
        let certified = CertifiedKey::new(self.chain.into_certificates(), Arc::new(key));
        Ok(Identity {
            certified: Arc::new(certified),
            #[cfg(feature = "legacy-tls")]
            legacy,
        })
    }
}

/// Loads the certificate and the key of `source`, asking for passphrases, and tells the user what
/// it has found.
pub(super) fn load(context: &Context, source: &KeyPair, role: Role) -> Result<Loaded, LoadFailure> {
    let loading = Loading {
        context,
        source,
        role,
    };
    let loaded = loading.load()?;
    loading.announce(&loaded.chain);
    Ok(loaded)
}

struct Loading<'a> {
    context: &'a Context,
    source: &'a KeyPair,
    role: Role,
}

impl Loading<'_> {
    fn load(&self) -> Result<Loaded, LoadFailure> {
        let mut pins = Pins::new(self.context, self.role, self.source.password.clone());
        let (certificates, beside) = match pkcs11::uri_text(&self.source.certificate) {
            Some(uri) => self.token_certificate(uri, &mut pins)?,
            None => self.certificate_file()?,
        };
        let key = match (beside, pkcs11::uri_text(self.source.key())) {
            (Beside::Key(key), _) => key,
            (Beside::Token(found), Some(text)) if self.source.key.is_none() => {
                let key = found.tokens.key(&found.uri, Some(&found.certificate), &mut pins);
                self.token_key(text, key, &pins)?
            }
            (_, Some(text)) => {
                let key = pkcs11::find_key(text, &mut pins);
                self.token_key(text, key, &pins)?
            }
            (Beside::File(content), None) => self.key_file(&self.source.certificate, content)?,
            (Beside::Token(_), None) => self.key_file(&self.source.certificate, Zeroizing::default())?,
        };
        let chain = self.chain(certificates, &key)?;
        Ok(Loaded { key, chain })
    }

    fn certificate_file(&self) -> Result<(Vec<CertificateDer<'static>>, Beside), LoadFailure> {
        let path = &self.source.certificate;
        self.debug(&format!("Using certificate file {}", path.display()));
        let content = self.read(path)?;
        if pkcs11::uri_text(self.source.key()).is_none()
            && let Some(pkcs12) = Pkcs12::parse(&content).map_err(|error| self.pkcs12_failure(&error))?
        {
            let (key, certificates) = self.open_pkcs12(&pkcs12)?;
            return Ok((certificates, Beside::Key(key)));
        }
        let certificates = certificates(&content)
            .map_err(|error| self.failed(&format!("Loading certificate failed: {error}")))?;
        Ok((certificates, Beside::File(content)))
    }

    fn token_certificate(
        &self,
        uri: &str,
        pins: &mut Pins<'_>,
    ) -> Result<(Vec<CertificateDer<'static>>, Beside), LoadFailure> {
        let shown = pkcs11::with_type(uri, "cert");
        self.debug(&format!("Using PKCS#11 certificate {shown}"));
        let found = pkcs11::find_certificate(uri, pins).map_err(|error| {
            let text = format!("Error loading certificate from PKCS#11: {error}");
            self.pin_failure(pins, &text)
        })?;
        let all = std::iter::once(&found.certificate.der).chain(&found.certificate.others);
        let certificates = all.map(|der| CertificateDer::from(der.clone())).collect();
        Ok((certificates, Beside::Token(Box::new(found))))
    }

    fn token_key(
        &self,
        uri: &str,
        key: Result<TokenKey, Pkcs11Error>,
        pins: &Pins<'_>,
    ) -> Result<Key, LoadFailure> {
        let uri = pkcs11::with_type(uri, "private");
        match key {
            Ok(key) => {
                self.debug(&format!("Using PKCS#11 key {uri}"));
                Ok(Key::Token(Arc::new(key)))
            }
            Err(error) => {
                let text = format!("Error importing PKCS#11 URL {uri}: {error}");
                Err(self.pin_failure(pins, &text))
            }
        }
    }

    /// The end of standard input ends the program without a further word.
    fn pin_failure(&self, pins: &Pins<'_>, text: &str) -> LoadFailure {
        match pins.failure {
            Some(LoadFailure::NoInput) => LoadFailure::NoInput,
            _ => self.failed(text),
        }
    }

    fn open_pkcs12(&self, pkcs12: &Pkcs12) -> Result<(Key, Vec<CertificateDer<'static>>), LoadFailure> {
        let silent = [Passphrase::absent(), Passphrase::new("".into())];
        let given = self.given_passphrase()?;
        let contents = open(self.context, self.role, PKCS12, given, &silent, |passphrase| {
            pkcs12.open(passphrase)
        })
        .map_err(|failure| self.open_failure(failure, |error| self.pkcs12_failure(error)))?;
        let Contents { keys, certificates } = contents;
        if certificates.is_empty() {
            return Err(self.failed("Failed to load PKCS#12 certificate: it holds no certificate"));
        }
        let key = match (keys.into_iter().next(), &self.source.key) {
            (Some(key), _) => self.private_key(&PrivateKeyDer::Pkcs8(key.secret_pkcs8_der().into()))?,
            (None, Some(_)) => self.key_file(&self.source.certificate, Zeroizing::default())?,
            (None, None) => {
                return Err(self.failed("Failed to load PKCS#12 certificate: it holds no private key"));
            }
        };
        Ok((key, certificates))
    }

    /// The key's file; its content is at hand if it is the certificate's file, too.
    fn key_file(&self, certificate: &OsStr, content: Zeroizing<Vec<u8>>) -> Result<Key, LoadFailure> {
        let path = self.source.key();
        let content = match path == certificate {
            true => content,
            false => {
                self.debug(&format!("Using private key file {}", path.display()));
                self.read(path)?
            }
        };
        let load_failure = |error: &CredentialError| match error {
            CredentialError::NoKey => self.failed(&format!(
                "Failed to determine type of private key {}",
                path.display()
            )),
            error => self.failed(&format!("Failed to load private key {}: {error}", path.display())),
        };
        let on_tpm = culvert_tpm::KeyFile::parse(&content).map_err(|error| self.tpm_failure(&error))?;
        if let Some(file) = on_tpm {
            let key = tpm::open(self.context, self.role, file, self.given_passphrase()?);
            return key
                .map(|(key, signing)| Key::Tpm(key, signing))
                .map_err(|refused| match refused {
                    Refused::Ask(failure) => failure,
                    Refused::Tpm(error) => self.tpm_failure(&error),
                });
        }
        let file = KeyFile::parse(&content).map_err(|error| load_failure(&error))?;
        let empty = [Passphrase::new("".into())];
        let (locked, silent): (Locked, &[Passphrase]) = match file.format() {
            KeyFormat::Plain => {
                let key = file.open(&Passphrase::absent());
                let key = key.map_err(|error| load_failure(&error))?;
                return self.private_key(&key);
            }
            KeyFormat::EncryptedPem => (ENCRYPTED_PEM, &[]),
            KeyFormat::EncryptedPkcs8Pem => (PKCS8_PEM, &empty),
            KeyFormat::EncryptedPkcs8Der => (PKCS8_DER, &empty),
        };
        let given = self.given_passphrase()?;
        let key = open(self.context, self.role, locked, given, silent, |passphrase| {
            file.open(passphrase)
        })
        .map_err(|failure| self.open_failure(failure, load_failure))?;
        self.private_key(&key)
    }

    /// `--key-password`, or what `--key-password-from-fsid` puts in its place (§8.6).
    fn given_passphrase(&self) -> Result<Option<SecretString>, LoadFailure> {
        if !self.source.password_from_fsid {
            return Ok(self.source.password.clone());
        }
        let id = file_system_id(Path::new(self.source.key()))
            .map_err(|error| self.failed(&format!("statfs: {}", reason(&error))))?;
        Ok(Some(format!("{id:x}").into()))
    }

    fn private_key(&self, key: &PrivateKeyDer<'_>) -> Result<Key, LoadFailure> {
        PrivateKey::from_der(key)
            .map(Key::File)
            .map_err(|error| self.failed(&format!("Failed to load private key: {error}")))
    }

    fn chain(
        &self,
        certificates: Vec<CertificateDer<'static>>,
        key: &Key,
    ) -> Result<CertificateChain, LoadFailure> {
        let anchors = self.context.trust.anchors().map_err(|text| self.failed(&text))?;
        CertificateChain::for_client(certificates, |spki| key.belongs_to(spki), &anchors).map_err(|error| {
            match error {
                CertError::KeyMismatch => self.failed("No SSL certificate found to match private key"),
                error => self.failed(&format!("Loading certificate failed: {error}")),
            }
        })
    }

    /// Warns of its end (§7.3) and says what will be sent.
    fn announce(&self, chain: &CertificateChain) {
        let output = &self.context.output;
        let (subject, used) = match self.role {
            Role::Primary => ("Client certificate", "client certificate"),
            Role::Secondary => ("Secondary client certificate", "secondary certificate"),
        };
        let now = chrono::Utc::now();
        let days = chrono::Duration::days(i64::from(self.context.options.credentials.expire_warning_days));
        let end = chain
            .validity()
            .ok()
            .and_then(|validity| chrono::DateTime::from_timestamp(validity.not_after, 0));
        if let Some(end) = end {
            let date = end.format("%a, %d %b %Y %H:%M:%S GMT");
            if end < now {
                output.error(&format!("{subject} has expired at: {date}"));
            } else if now.checked_add_signed(days).is_none_or(|limit| end < limit) {
                output.error(&format!("{subject} expires soon at: {date}"));
            }
        }
        let mut names = chain.certificates().iter().map(name);
        if let Some(leaf) = names.next() {
            output.info(&format!("Using {used} '{leaf}'"));
        }
        for issuer in names {
            output.debug(&format!("Adding supporting CA '{issuer}'"));
        }
        match Usage::of(chain.leaf()) {
            Ok(Usage::Unsaid) if self.role == Role::Secondary => {
                output.info("Certificate doesn't specify key usage.");
            }
            Ok(Usage::Unsuitable) if self.role == Role::Secondary => {
                output.info("The certificate specifies key usages incompatible with authentication.");
            }
            _ => {}
        }
    }

    fn read(&self, path: &OsStr) -> Result<Zeroizing<Vec<u8>>, LoadFailure> {
        file::read(path).map_err(|error| {
            self.failed(&format!(
                "Failed to open key/certificate file {}: {}",
                path.display(),
                reason(&error)
            ))
        })
    }

    fn open_failure(
        &self,
        failure: OpenFailure,
        report: impl Fn(&CredentialError) -> LoadFailure,
    ) -> LoadFailure {
        match failure {
            OpenFailure::Ask(failure) => failure,
            OpenFailure::File(error) => report(&error),
        }
    }

    fn tpm_failure(&self, error: &TpmError) -> LoadFailure {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        let text = format!("Failed to load TPM2 key: {error}{}", cause.unwrap_or_default());
        self.failed(&text)
    }

    fn pkcs12_failure(&self, error: &CredentialError) -> LoadFailure {
        self.failed(&format!("Failed to load PKCS#12 certificate: {error}"))
    }

    fn failed(&self, text: &str) -> LoadFailure {
        self.context.output.error(text);
        LoadFailure::Failed
    }

    fn debug(&self, text: &str) {
        self.context.output.debug(text);
    }
}

/// CN, or the whole subject if there is none.
fn name(certificate: &CertificateDer<'static>) -> String {
    common_name(certificate)
        .or_else(|| subject(certificate).ok())
        .unwrap_or_default()
}
