use std::fmt;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};
use serde::{Deserialize, Serialize};

use crate::spki::KeyKind;
use crate::{KeyError, RemoteSignError};

/// Which of the key holder's keys is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyIndex(pub u16);

/// Asks the holder of the key for a signature over the message (not its hash) and waits for it.
pub type RemoteSign =
    Arc<dyn Fn(KeyIndex, SignatureScheme, &[u8]) -> Result<Vec<u8>, RemoteSignError> + Send + Sync>;

/// A private key in another process: knows the public key and whom to ask.
#[derive(Clone)]
pub struct RemoteKey {
    index: KeyIndex,
    kind: KeyKind,
    spki: SubjectPublicKeyInfoDer<'static>,
    sign: RemoteSign,
}

impl RemoteKey {
    /// A key with this DER SubjectPublicKeyInfo, as the certificate has it.
    ///
    /// # Errors
    /// The public key is damaged or of an unsupported kind.
    pub fn new(index: KeyIndex, spki: &[u8], sign: RemoteSign) -> Result<Self, KeyError> {
        Ok(Self {
            index,
            kind: KeyKind::of_spki(spki)?,
            spki: spki.to_vec().into(),
            sign,
        })
    }
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self
            .kind
            .schemes()
            .iter()
            .find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner {
            key: self.clone(),
            scheme,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.spki.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.kind.algorithm()
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKey")
            .field("index", &self.index)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct RemoteSigner {
    key: RemoteKey,
    scheme: SignatureScheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        (self.key.sign)(self.key.index, self.scheme, message)
            .map_err(|error| Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
