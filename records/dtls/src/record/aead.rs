//! AES-GCM (RFC 5288) and ChaCha20-Poly1305 (RFC 7905) records.

use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use culvert_record::{OpenError, SealError};

use super::RecordHeader;

pub(crate) const TAG_LEN: usize = 16;
const EXPLICIT_NONCE_LEN: usize = 8;

/// An AEAD key with the rule how its nonces are made.
pub(crate) struct Aead {
    key: LessSafeKey,
    nonce: NonceRule,
}

enum NonceRule {
    /// IV, then 8 octets that are part of the record.
    Explicit([u8; 4]),
    /// IV xor the record's number.
    Implicit([u8; 12]),
}

impl Aead {
    /// `None` when key or IV have the wrong length.
    pub(crate) fn aes_gcm(key: &[u8], iv: &[u8]) -> Option<Self> {
        let algorithm = if key.len() == 16 {
            &AES_128_GCM
        } else {
            &AES_256_GCM
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self {
            key,
            nonce: NonceRule::Explicit(iv.try_into().ok()?),
        })
    }

    /// `None` when key or IV have the wrong length.
    pub(crate) fn chacha20_poly1305(key: &[u8], iv: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
        Some(Self {
            key,
            nonce: NonceRule::Implicit(iv.try_into().ok()?),
        })
    }

    /// Octets of the fragment before the ciphertext.
    pub(crate) fn prefix_len(&self) -> usize {
        match self.nonce {
            NonceRule::Explicit(_) => EXPLICIT_NONCE_LEN,
            NonceRule::Implicit(_) => 0,
        }
    }

    /// Seals `fragment` = prefix, `len` octets of content, room for the tag.
    /// The explicit nonce is epoch and sequence number, which never repeat under one key.
    pub(crate) fn seal(
        &self,
        header: &RecordHeader,
        fragment: &mut [u8],
        len: u16,
    ) -> Result<usize, SealError> {
        let number = header.number();
        let (prefix, rest) = fragment
            .split_at_mut_checked(self.prefix_len())
            .ok_or(SealError::Buffer)?;
        prefix.copy_from_slice(number.get(..prefix.len()).ok_or(SealError::Buffer)?);
        let (content, tail) = rest
            .split_at_mut_checked(usize::from(len))
            .ok_or(SealError::Buffer)?;
        let tail = tail.first_chunk_mut::<TAG_LEN>().ok_or(SealError::Buffer)?;
        let aad = Aad::from(header.additional_data(len));
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(number), aad, content)
            .map_err(|_| SealError::Oversize)?;
        tail.copy_from_slice(tag.as_ref());
        Ok(self.prefix_len() + usize::from(len) + TAG_LEN)
    }

    /// Opens a fragment in place; returns where its content lies.
    pub(crate) fn open(&self, header: &RecordHeader, fragment: &mut [u8]) -> Result<Range<usize>, OpenError> {
        let prefix_len = self.prefix_len();
        let (prefix, sealed) = fragment
            .split_at_mut_checked(prefix_len)
            .ok_or(OpenError::Malformed)?;
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(OpenError::Malformed)?;
        let length = u16::try_from(len).map_err(|_| OpenError::Malformed)?;
        // Peers choose their explicit nonces freely (OpenSSL starts at a random value).
        let number = <[u8; 8]>::try_from(&*prefix).unwrap_or_else(|_| header.number());
        let aad = Aad::from(header.additional_data(length));
        self.key
            .open_in_place(self.nonce(number), aad, sealed)
            .map_err(|_| OpenError::Authentication)?;
        Ok(prefix_len..prefix_len + len)
    }

    /// `number`: the explicit nonce, or epoch and sequence number.
    fn nonce(&self, number: [u8; 8]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number);
        match &self.nonce {
            NonceRule::Explicit(iv) => nonce[..4].copy_from_slice(iv),
            NonceRule::Implicit(iv) => nonce.iter_mut().zip(iv).for_each(|(octet, iv)| *octet ^= iv),
        }
        Nonce::assume_unique_for_key(nonce)
    }
}
