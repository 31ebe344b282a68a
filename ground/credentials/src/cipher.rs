//! Decryption in CBC mode with the block ciphers of key files.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, InnerIvInit, KeyInit};
use zeroize::Zeroizing;

use crate::CredentialError;

/// A block cipher in CBC mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Des,
    /// Three keys, EDE.
    TripleDes,
    /// Two keys, EDE.
    TripleDesTwoKeys,
    /// With this many effective key bits, and key octets.
    Rc2 {
        bits: usize,
        key_len: usize,
    },
    Aes128,
    Aes192,
    Aes256,
}

impl Cipher {
    /// Key length in octets.
    pub(crate) fn key_len(self) -> usize {
        match self {
            Self::Des => 8,
            Self::TripleDes => 24,
            Self::TripleDesTwoKeys | Self::Aes128 => 16,
            Self::Rc2 { key_len, .. } => key_len,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Block length in octets, also that of the initialisation vector.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            _ => 8,
        }
    }

    /// Decrypts and removes the padding (RFC 8018 §6.1.1). Wrong padding means a wrong passphrase.
    pub(crate) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        match self {
            Self::Des => cbc(keyed::<des::Des>(key)?, iv, ciphertext),
            Self::TripleDes => cbc(keyed::<des::TdesEde3>(key)?, iv, ciphertext),
            Self::TripleDesTwoKeys => cbc(keyed::<des::TdesEde2>(key)?, iv, ciphertext),
            Self::Rc2 { bits, .. } => cbc(rc2::Rc2::new_with_eff_key_len(key, bits), iv, ciphertext),
            Self::Aes128 => cbc(keyed::<aes::Aes128>(key)?, iv, ciphertext),
            Self::Aes192 => cbc(keyed::<aes::Aes192>(key)?, iv, ciphertext),
            Self::Aes256 => cbc(keyed::<aes::Aes256>(key)?, iv, ciphertext),
        }
    }
}

fn keyed<C: KeyInit>(key: &[u8]) -> Result<C, CredentialError> {
    C::new_from_slice(key).map_err(|_| CredentialError::Malformed("encryption parameters"))
}

fn cbc<C: BlockCipher + BlockDecryptMut>(
    cipher: C,
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let decryptor = cbc::Decryptor::inner_iv_slice_init(cipher, iv)
        .map_err(|_| CredentialError::Malformed("encryption parameters"))?;
    decryptor
        .decrypt_padded_vec_mut::<Pkcs7>(ciphertext)
        .map(Zeroizing::new)
        .map_err(|_| CredentialError::WrongPassphrase)
}
