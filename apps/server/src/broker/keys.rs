//! Private keys, and the threads that sign with them. No login ever runs on these threads, so a
//! slow one cannot stall a handshake (`specs/server-auth.md` §7.3 rule 2).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use culvert_certs::{CertError, CertificateChain, server_end_point, spki_of};
use culvert_credentials::{CredentialError, KeyFile, KeyFormat, Passphrase};
use culvert_pkcs11::{AskPin, PinRequest, Pkcs11Error, Tokens, Uri};
use culvert_server_config::Host;
use culvert_tls::{KeyError, PrivateKey};
use culvert_tpm::{AskAuth, Interface, Key, Protected, TpmError};
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
    #[error("server-key '{0}': keys of a TPM are files here (TSS2 PRIVATE KEY), not URLs of a TPM 1.2")]
    TpmUrl(String),
    #[error("server-key '{name}': {source}")]
    Tpm { name: String, source: TpmError },
    #[error(
        "server-key '{0}': the TPM wants a password: key-pin or pin-file for the key, srk-pin or srk-pin-file for what wraps it"
    )]
    TpmPassword(String),
    #[error("server-key '{name}': {source}")]
    Hardware { name: String, source: Pkcs11Error },
    #[error("server-key '{0}': the token does not accept the PIN of key-pin or pin-file")]
    WrongPin(String),
    #[error("the key in hardware does not belong to the certificate '{0}'")]
    OtherKey(PathBuf),
}

/// What opens the keys of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    /// `key-pin`, else the first line of `pin-file`.
    key: Option<SecretString>,
    /// `srk-pin`, else the first line of `srk-pin-file`: for the parent of a key of a TPM.
    parent: Option<SecretString>,
}

impl Pins {
    /// Those of a host.
    ///
    /// # Errors
    /// A file cannot be read or holds no PIN.
    pub(super) fn of(host: &Host) -> Result<Self, LoadError> {
        Ok(Self {
            key: pin(host.key_pin.as_ref(), host.pin_file.as_deref())?,
            parent: pin(host.srk_pin.as_ref(), host.srk_pin_file.as_deref())?,
        })
    }

    /// `others` where these have none.
    #[must_use]
    pub(super) fn or(self, others: &Self) -> Self {
        Self {
            key: self.key.or_else(|| others.key.clone()),
            parent: self.parent.or_else(|| others.parent.clone()),
        }
    }
}

fn pin(given: Option<&SecretString>, file: Option<&Path>) -> Result<Option<SecretString>, LoadError> {
    if given.is_some() {
        return Ok(given.cloned());
    }
    let Some(path) = file else {
        return Ok(None);
    };
    let content = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| LoadError::PinFile {
            path: path.to_owned(),
            source,
        })?;
    let line = content.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(LoadError::NoPin(path.to_owned()));
    }
    Ok(Some(SecretString::new(line.to_owned())))
}

/// The value of "tls-server-end-point" (RFC 5929 §4): what a certificate of the server names.
pub(super) type EndPoint = Arc<[u8]>;

/// A key of a host, and what its certificate names.
pub(super) struct ServerKey {
    pub(super) private: Arc<PrivateKey>,
    /// `None`: not defined for this kind of certificate.
    pub(super) end_point: Option<EndPoint>,
}

/// Loads a `server-key` and checks that it belongs to its `server-cert`.
pub(super) fn load(key: &str, certificate: &Path, pins: &Pins) -> Result<ServerKey, LoadError> {
    let own = Own::read(certificate)?;
    let private = load_private(key, &own, pins)?;
    let end_point = server_end_point(&own.leaf).map_err(|source| own.failed(source))?;
    Ok(ServerKey {
        private: Arc::new(private),
        end_point: end_point.map(EndPoint::from),
    })
}

/// The certificate of a key.
struct Own<'p> {
    path: &'p Path,
    leaf: Vec<u8>,
}

impl<'p> Own<'p> {
    fn read(path: &'p Path) -> Result<Self, LoadError> {
        let pem = std::fs::read(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut own = Self {
            path,
            leaf: Vec::new(),
        };
        // The chain that workers present was made without the key, too.
        let chain = CertificateChain::from_pem_without_key(&pem).map_err(|source| own.failed(source))?;
        own.leaf = chain.leaf().to_vec();
        Ok(own)
    }

    fn failed(&self, source: CertError) -> LoadError {
        LoadError::Certificate {
            path: self.path.to_owned(),
            source,
        }
    }

    fn spki(&self) -> Result<Vec<u8>, LoadError> {
        spki_of(&self.leaf).map_err(|source| self.failed(source))
    }

    /// The key, if it is that of the certificate.
    fn key(&self, private: PrivateKey) -> Result<PrivateKey, LoadError> {
        match private.belongs_to(&self.spki()?) {
            true => Ok(private),
            false => Err(self.failed(CertError::KeyMismatch)),
        }
    }
}

fn load_private(key: &str, own: &Own<'_>, pins: &Pins) -> Result<PrivateKey, LoadError> {
    if key.starts_with("tpmkey:") {
        return Err(LoadError::TpmUrl(key.to_owned()));
    }
    if key.starts_with("pkcs11:") {
        return in_hardware(key, own, pins.key.as_ref());
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
    let content = read(Path::new(key))?;
    if let Some(on_tpm) = in_tpm(key, &content, pins)? {
        return own.key(on_tpm);
    }
    let file = KeyFile::parse(&content).map_err(failed)?;
    let passphrase = match (file.format(), &pins.key) {
        (KeyFormat::Plain, _) => Passphrase::absent(),
        (_, Some(pin)) => Passphrase::new(pin.clone()),
        (_, None) => return Err(LoadError::Encrypted(key.to_owned())),
    };
    let opened = file.open(&passphrase).map_err(failed)?;
    let private = PrivateKey::from_der(&opened).map_err(|source| LoadError::Key {
        name: key.to_owned(),
        source,
    })?;
    own.key(private)
}

/// The key of a TPM, if that is what the file holds.
fn in_tpm(name: &str, pem: &[u8], pins: &Pins) -> Result<Option<PrivateKey>, LoadError> {
    let failed = |source| LoadError::Tpm {
        name: name.to_owned(),
        source,
    };
    let Some(file) = culvert_tpm::KeyFile::parse(pem).map_err(failed)? else {
        return Ok(None);
    };
    let interface = Interface::of_environment(|name| std::env::var(name).ok());
    let mut passwords = Passwords { pins, missing: false };
    let key = match Key::open(file, interface, &mut passwords) {
        Ok(key) => key,
        Err(_) if passwords.missing => return Err(LoadError::TpmPassword(name.to_owned())),
        Err(source) => return Err(failed(source)),
    };
    let spki = key.spki();
    let sign = move |scheme, message: &[u8]| match key.sign(scheme, message) {
        Ok(signature) => Some(signature),
        Err(error) => {
            log::write(Level::Error, &format!("sec-mod: {error}"));
            None
        }
    };
    let private = PrivateKey::elsewhere(&spki, Box::new(sign));
    private.map(Some).map_err(|source| LoadError::Key {
        name: name.to_owned(),
        source,
    })
}

/// The configured passwords, each of which is tried once: a TPM counts.
struct Passwords<'p> {
    pins: &'p Pins,
    missing: bool,
}

impl AskAuth for Passwords<'_> {
    fn auth(&mut self, what: Protected, wrong: bool) -> Option<SecretString> {
        let configured = match what {
            Protected::Key => &self.pins.key,
            Protected::Parent | Protected::Hierarchy(_) => &self.pins.parent,
        };
        let password = configured.clone().filter(|_| !wrong);
        self.missing |= password.is_none();
        password
    }

    fn truncated(&mut self, _: Protected) {
        log::write(
            Level::Warning,
            "sec-mod: a password is longer than the TPM takes and was cut",
        );
    }
}

/// A key that stays on its token.
fn in_hardware(uri: &str, own: &Own<'_>, pin: Option<&SecretString>) -> Result<PrivateKey, LoadError> {
    let spki = own.spki()?;
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
        return Err(LoadError::OtherKey(own.path.to_owned()));
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

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::Duration;

    use super::*;

    /// A key each of whose signatures ends only when `together` of them have begun.
    fn patient_key(together: usize) -> Arc<PrivateKey> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["vpn.test".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let spki = spki_of(certificate.der()).unwrap();
        let begun = (Mutex::new(0), Condvar::new());
        let sign = move |_: SignatureScheme, _: &[u8]| {
            let (count, changed) = &begun;
            let mut count = count.lock().unwrap();
            *count += 1;
            changed.notify_all();
            let waited =
                changed.wait_timeout_while(count, Duration::from_secs(20), |begun| *begun < together);
            (!waited.unwrap().1.timed_out()).then(|| b"signature".to_vec())
        };
        Arc::new(PrivateKey::elsewhere(&spki, Box::new(sign)).unwrap())
    }

    #[tokio::test]
    async fn handshakes_are_signed_at_the_same_time() {
        let keys = KeyService::start(2, &Load::new(2)).unwrap();
        let key = patient_key(2);
        let message = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
        let scheme = u16::from(SignatureScheme::ECDSA_NISTP256_SHA256);
        let sign = || keys.sign(Arc::clone(&key), scheme, message.clone());
        let signatures = tokio::join!(sign(), sign());
        assert_eq!(signatures, (Ok(b"signature".to_vec()), Ok(b"signature".to_vec())));
    }
}
