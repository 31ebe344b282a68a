//! Private keys, and the threads that sign with them. No login ever runs on these threads, so a
//! slow one cannot stall a handshake (`specs/server-auth.md` §7.3 rule 2).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use culvert_certs::{CertError, CertificateChain, spki_of};
use culvert_credentials::{CredentialError, KeyFile, KeyFormat, Passphrase};
use culvert_pkcs11::{AskPin, PinRequest, Pkcs11Error, Tokens, Uri};
use culvert_server_config::Host;
use culvert_tls::{KeyError, PrivateKey};
use culvert_vocab::SecretString;
use rustls::SignatureScheme;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::load::Load;
use crate::log::{self, Level};

/// Why a key of a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read '{path}': {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot load the private key '{name}': {source}")]
    Key { name: String, source: KeyError },
    #[error("cannot load the private key '{name}': {source}")]
    File { name: String, source: CredentialError },
    #[error("the private key '{0}' is encrypted: key-pin or pin-file is needed")]
    Encrypted(String),
    #[error("cannot read the pin-file '{path}': {source}")]
    PinFile { path: PathBuf, source: std::io::Error },
    #[error("the pin-file '{0}' holds no PIN")]
    NoPin(PathBuf),
    #[error("cannot load the certificate '{path}': {source}")]
    Certificate {
        path: PathBuf,
        source: culvert_certs::CertError,
    },
    #[error("server-key '{0}': keys in a TPM are not supported")]
    Tpm(String),
    #[error("server-key '{name}': {source}")]
    Hardware { name: String, source: Pkcs11Error },
    #[error("server-key '{0}': the token does not accept the PIN of key-pin or pin-file")]
    WrongPin(String),
    #[error("the key in hardware does not belong to the certificate '{0}'")]
    OtherKey(PathBuf),
}

/// The PIN of a host's keys: `key-pin`, else the first line of `pin-file`.
///
/// # Errors
/// The file cannot be read or holds no PIN.
pub(super) fn pin(host: &Host) -> Result<Option<SecretString>, LoadError> {
    if host.key_pin.is_some() {
        return Ok(host.key_pin.clone());
    }
    let Some(path) = &host.pin_file else {
        return Ok(None);
    };
    let content = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| LoadError::PinFile {
            path: path.clone(),
            source,
        })?;
    let line = content.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(LoadError::NoPin(path.clone()));
    }
    Ok(Some(SecretString::new(line.to_owned())))
}

/// Loads a `server-key` and checks that it belongs to its `server-cert`. `pin` opens an encrypted one.
pub(super) fn load(
    key: &str,
    certificate: &Path,
    pin: Option<&SecretString>,
) -> Result<PrivateKey, LoadError> {
    if key.starts_with("tpmkey:") {
        return Err(LoadError::Tpm(key.to_owned()));
    }
    if key.starts_with("pkcs11:") {
        return in_hardware(key, certificate, pin);
    }
    let read = |path: &Path| {
        std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|source| LoadError::Read {
                path: path.to_owned(),
                source,
            })
    };
    let failed = |source| LoadError::File {
        name: key.to_owned(),
        source,
    };
    let file = KeyFile::parse(&read(Path::new(key))?).map_err(failed)?;
    let passphrase = match (file.format(), pin) {
        (KeyFormat::Plain, _) => Passphrase::absent(),
        (_, Some(pin)) => Passphrase::new(pin.clone()),
        (_, None) => return Err(LoadError::Encrypted(key.to_owned())),
    };
    let opened = file.open(&passphrase).map_err(failed)?;
    let private = PrivateKey::from_der(&opened).map_err(|source| LoadError::Key {
        name: key.to_owned(),
        source,
    })?;
    // The chain that workers present was made without the key, too.
    let fits = CertificateChain::from_pem_without_key(&read(certificate)?).and_then(|chain| {
        let own = private.belongs_to(&spki_of(chain.leaf())?);
        own.then_some(()).ok_or(CertError::KeyMismatch)
    });
    fits.map_err(|source| LoadError::Certificate {
        path: certificate.to_owned(),
        source,
    })?;
    Ok(private)
}

/// A key that stays on its token.
fn in_hardware(uri: &str, certificate: &Path, pin: Option<&SecretString>) -> Result<PrivateKey, LoadError> {
    let failed = |source| LoadError::Certificate {
        path: certificate.to_owned(),
        source,
    };
    let pem = std::fs::read(certificate).map_err(|source| LoadError::Read {
        path: certificate.to_owned(),
        source,
    })?;
    let chain = CertificateChain::from_pem_without_key(&pem).map_err(failed)?;
    let spki = spki_of(chain.leaf()).map_err(failed)?;
    // The query may hold a PIN.
    let name = uri.split('?').next().unwrap_or_default().to_owned();
    let mut pins = OnePin { pin, refused: false };
    let found = Uri::parse(uri).and_then(|uri| Tokens::open(&uri).key(&uri, None, &mut pins));
    let key = match found {
        Ok(key) => key,
        Err(_) if pins.refused => return Err(LoadError::WrongPin(name)),
        Err(source) => return Err(LoadError::Hardware { name, source }),
    };
    let sign = move |scheme, message: &[u8]| match key.sign(scheme, message) {
        Ok(signature) => Some(signature),
        Err(error) => {
            log::write(Level::Error, &format!("sec-mod: {error}"));
            None
        }
    };
    let private =
        PrivateKey::elsewhere(&spki, Box::new(sign)).map_err(|source| LoadError::Key { name, source })?;
    if !private.works() {
        return Err(LoadError::OtherKey(certificate.to_owned()));
    }
    Ok(private)
}

/// The configured PIN, which is tried once: tokens lock themselves.
struct OnePin<'p> {
    pin: Option<&'p SecretString>,
    refused: bool,
}

impl AskPin for OnePin<'_> {
    fn pin(&mut self, request: &PinRequest) -> Option<SecretString> {
        self.refused = request.wrong;
        self.pin.filter(|_| !request.wrong).cloned()
    }
}

struct Job {
    key: Arc<PrivateKey>,
    scheme: SignatureScheme,
    message: Vec<u8>,
    signature: oneshot::Sender<Result<Vec<u8>, KeyError>>,
}

/// Threads that sign.
#[derive(Clone)]
pub(super) struct KeyService {
    jobs: mpsc::Sender<Job>,
    load: Arc<Load>,
}

impl KeyService {
    /// Starts `threads` threads; they end with the last clone of the service.
    pub(super) fn start(threads: usize, load: &Arc<Load>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name("ocserv-keys".into())
                .spawn(move || sign_all(&queue))?;
        }
        Ok(Self {
            jobs,
            load: Arc::clone(load),
        })
    }

    /// Signs a handshake message of a TLS server. Every caller waits for one signature at a time,
    /// which bounds the queue.
    ///
    /// # Errors
    /// The message is none that a TLS server signs, or the key cannot sign so.
    pub(super) async fn sign(
        &self,
        key: Arc<PrivateKey>,
        scheme: u16,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, KeyError> {
        let _waiting = self.load.wait();
        let (signature, answer) = oneshot::channel();
        let job = Job {
            key,
            scheme: SignatureScheme::from(scheme),
            message,
            signature,
        };
        self.jobs.send(job).map_err(|_| KeyError::Signing)?;
        answer.await.map_err(|_| KeyError::Signing)?
    }
}

fn sign_all(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        // Whoever connects and leaves at once does not get the work that waits for him.
        if job.signature.is_closed() {
            continue;
        }
        let _caller_may_be_gone = job.signature.send(job.key.sign(job.scheme, &job.message));
    }
}
