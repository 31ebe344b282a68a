//! PEM blocks that OpenSSL encrypted the old way, with `Proc-Type` and `DEK-Info` headers
//! (`specs/client.md` §8.2).

use data_encoding::HEXUPPER_PERMISSIVE;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::ber::is_one_sequence;
use crate::cipher::Cipher;
use crate::{CredentialError, Passphrase};

/// Octets of salt: the beginning of the initialisation vector.
const SALT_LEN: usize = 8;

/// What `DEK-Info` says.
#[derive(Debug, Clone)]
pub(crate) struct DekInfo {
    cipher: Cipher,
    iv: Vec<u8>,
}

impl DekInfo {
    /// Reads `NAME,HEX`.
    pub(crate) fn parse(text: &str) -> Result<Self, CredentialError> {
        let malformed = CredentialError::Malformed("DEK-Info");
        let (name, iv) = text.split_once(',').ok_or(malformed.clone())?;
        let cipher = match name.trim() {
            "DES-CBC" => Cipher::Des,
            "DES-EDE3-CBC" => Cipher::TripleDes,
            "AES-128-CBC" => Cipher::Aes128,
            "AES-192-CBC" => Cipher::Aes192,
            "AES-256-CBC" => Cipher::Aes256,
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(CredentialError::Unsupported(format!("PEM encryption {other}")));
            }
        };
        let iv = HEXUPPER_PERMISSIVE
            .decode(iv.trim().as_bytes())
            .map_err(|_| malformed.clone())?;
        match iv.len() == cipher.block_len() {
            true => Ok(Self { cipher, iv }),
            false => Err(malformed),
        }
    }

    /// Decrypts the block's content; what comes out must be one SEQUENCE.
    pub(crate) fn decrypt(
        &self,
        content: &[u8],
        passphrase: &Passphrase,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        for octets in passphrase.octet_forms() {
            let key = self.key(&octets);
            match self.cipher.decrypt(&key, &self.iv, content) {
                Ok(plain) if is_one_sequence(&plain) => return Ok(plain),
                Ok(_) | Err(CredentialError::WrongPassphrase) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CredentialError::WrongPassphrase)
    }

    /// D1 || D2 ..., D(i) = MD5(D(i-1) || passphrase || salt).
    fn key(&self, passphrase: &[u8]) -> Zeroizing<Vec<u8>> {
        let salt = self.iv.get(..SALT_LEN).unwrap_or_default();
        let len = self.cipher.key_len();
        let mut key = Zeroizing::new(Vec::with_capacity(2 * len));
        let mut last = Zeroizing::new(Vec::new());
        while key.len() < len {
            let hash = Md5::new()
                .chain_update(&*last)
                .chain_update(passphrase)
                .chain_update(salt);
            last = Zeroizing::new(hash.finalize().to_vec());
            key.extend_from_slice(&last);
        }
        key.truncate(len);
        key
    }
}
