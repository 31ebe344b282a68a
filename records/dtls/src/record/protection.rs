//! What protects the records of an epoch.

use std::ops::Range;

use culvert_record::{OpenError, SealError};
use culvert_vocab::SecretBytes;

use super::RecordHeader;
use super::aead::{Aead, TAG_LEN};
use super::cbc::Cbc;
use crate::suite::{Cipher, PrfHash};
use crate::{CipherSuite, Version};

/// What both sides agreed on for the records of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) version: Version,
    pub(crate) suite: CipherSuite,
    pub(crate) encrypt_then_mac: bool,
}

impl Parameters {
    /// Hash of the PRF and of the handshake.
    pub(crate) fn prf_hash(self) -> PrfHash {
        match self.version {
            Version::Dtls12 => self.suite.prf_hash(),
            Version::Dtls10 | Version::Dtls09 => PrfHash::Md5Sha1,
        }
    }
}

/// The part of the key block for one direction (`specs/cstp-dtls.md` §9.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectionKeys {
    pub(crate) mac_key: SecretBytes,
    pub(crate) key: SecretBytes,
    pub(crate) iv: SecretBytes,
}

/// Cipher and keys of one epoch in one direction.
pub(crate) enum Protection {
    /// Epoch 0.
    Plain,
    Aead(Aead),
    Cbc(Cbc),
}

impl Protection {
    /// `None` when the keys do not have the suite's lengths.
    pub(crate) fn new(parameters: Parameters, keys: &DirectionKeys) -> Option<Self> {
        let Parameters {
            suite,
            encrypt_then_mac,
            ..
        } = parameters;
        let (key, iv) = (keys.key.expose(), keys.iv.expose());
        if key.len() != suite.key_len() {
            return None;
        }
        Some(match suite.cipher() {
            Cipher::AesGcm => Self::Aead(Aead::aes_gcm(key, iv)?),
            Cipher::Chacha20Poly1305 => Self::Aead(Aead::chacha20_poly1305(key, iv)?),
            Cipher::Cbc(hash) => Self::Cbc(Cbc::new(hash, key, keys.mac_key.expose(), encrypt_then_mac)?),
        })
    }

    /// Octets of a fragment before its content.
    pub(crate) fn prefix_len(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Aead(aead) => aead.prefix_len(),
            Self::Cbc(cbc) => cbc.block(),
        }
    }

    /// Most octets of a fragment after its content.
    pub(crate) fn tailroom(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Aead(_) => TAG_LEN,
            Self::Cbc(cbc) => cbc.tailroom(),
        }
    }

    /// Octets of the fragment for `len` octets of content.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        match self {
            Self::Plain => len,
            Self::Aead(aead) => aead.prefix_len() + len + TAG_LEN,
            Self::Cbc(cbc) => cbc.sealed_len(len),
        }
    }

    /// Seals `fragment` = prefix, `len` octets of content, tailroom. Returns its final length.
    pub(crate) fn seal(
        &self,
        header: &RecordHeader,
        fragment: &mut [u8],
        len: u16,
    ) -> Result<usize, SealError> {
        match self {
            Self::Plain => Ok(usize::from(len)),
            Self::Aead(aead) => aead.seal(header, fragment, len),
            Self::Cbc(cbc) => cbc.seal(header, fragment, len),
        }
    }

    /// Opens a fragment in place; returns where its content lies.
    pub(crate) fn open(&self, header: &RecordHeader, fragment: &mut [u8]) -> Result<Range<usize>, OpenError> {
        match self {
            Self::Plain => Ok(0..fragment.len()),
            Self::Aead(aead) => aead.open(header, fragment),
            Self::Cbc(cbc) => cbc.open(header, fragment),
        }
    }
}
