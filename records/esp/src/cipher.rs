//! AES-CBC over whole blocks, in place.

use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, InnerIvInit, KeyInit};
use aes::{Aes128, Aes256};

use crate::association::{Association, Encryption, KeyError};
use crate::packet::BLOCK;

/// An expanded key. Boxed: the schedules are large and live as long as the association.
pub(crate) enum Cipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    pub(crate) fn new(association: &Association) -> Result<Self, KeyError> {
        let (encryption, key) = (association.encryption(), association.encryption_key());
        let wrong_length = |_| KeyError::Length {
            what: "encryption",
            len: key.len(),
            expected: encryption.key_len(),
        };
        match encryption {
            Encryption::Aes128Cbc => Aes128::new_from_slice(key.expose())
                .map(|aes| Self::Aes128(Box::new(aes)))
                .map_err(wrong_length),
            Encryption::Aes256Cbc => Aes256::new_from_slice(key.expose())
                .map(|aes| Self::Aes256(Box::new(aes)))
                .map_err(wrong_length),
        }
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn encrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match self {
            Self::Aes128(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
            Self::Aes256(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
        }
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match self {
            Self::Aes128(aes) => {
                cbc::Decryptor::inner_iv_init(&**aes, &iv.into()).decrypt_blocks_inout_mut(blocks);
            }
            Self::Aes256(aes) => {
                cbc::Decryptor::inner_iv_init(&**aes, &iv.into()).decrypt_blocks_inout_mut(blocks);
            }
        }
    }
}
