//! Private keys, and the threads that sign with them. No login ever runs on these threads, so a
//! slow one cannot stall a handshake (`specs/server-auth.md` §7.3 rule 2).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use culvert_certs::{CertError, CertificateChain, spki_of};
use culvert_tls::{KeyError, PrivateKey};
use rustls::SignatureScheme;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Why a key of a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read '{path}': {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot load the private key '{name}': {source}")]
    Key { name: String, source: KeyError },
    #[error("cannot load the certificate '{path}': {source}")]
    Certificate {
        path: PathBuf,
        source: culvert_certs::CertError,
    },
    #[error("server-key '{0}': keys in hardware are not available in this version")]
    Url(String),
}

/// Loads a `server-key` and checks that it belongs to its `server-cert`.
pub(super) fn load(key: &str, certificate: &Path) -> Result<PrivateKey, LoadError> {
    if key.starts_with("pkcs11:") || key.starts_with("tpmkey:") {
        return Err(LoadError::Url(key.to_owned()));
    }
    let read = |path: &Path| {
        std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|source| LoadError::Read {
                path: path.to_owned(),
                source,
            })
    };
    let private = PrivateKey::from_pem(&read(Path::new(key))?).map_err(|source| LoadError::Key {
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
}

impl KeyService {
    /// Starts `threads` threads; they end with the last clone of the service.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name("ocserv-keys".into())
                .spawn(move || sign_all(&queue))?;
        }
        Ok(Self { jobs })
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
