//! HMAC, cut to the length of the integrity check value.

use aws_lc_rs::hmac;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::association::{Association, Integrity};

/// Longest integrity check value.
pub(crate) const ICV_MAX: usize = 16;
/// Octets of a block of MD5.
const MD5_BLOCK: usize = 64;

/// An HMAC key, ready for use.
pub(crate) struct Mac {
    key: Key,
    icv_len: usize,
}

enum Key {
    /// aws-lc-rs has no MD5: the states after the inner and the outer key block.
    Md5 {
        inner: Md5,
        outer: Md5,
    },
    Sha(Box<hmac::Key>),
}

impl Mac {
    pub(crate) fn new(association: &Association) -> Self {
        let key = association.integrity_key().expose();
        let integrity = association.integrity();
        let key = match integrity {
            Integrity::HmacMd5 => Key::Md5 {
                inner: keyed_md5(key, 0x36),
                outer: keyed_md5(key, 0x5c),
            },
            Integrity::HmacSha1 => {
                Key::Sha(Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)))
            }
            Integrity::HmacSha256 => Key::Sha(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))),
        };
        Self {
            key,
            icv_len: integrity.icv_len(),
        }
    }

    /// Octets of the integrity check value.
    pub(crate) fn icv_len(&self) -> usize {
        self.icv_len
    }

    /// Writes the integrity check value of `message` to `icv`, which has its length.
    pub(crate) fn sign(&self, message: &[u8], icv: &mut [u8]) {
        icv.iter_mut()
            .zip(self.compute(message))
            .for_each(|(to, octet)| *to = octet);
    }

    /// True when `icv` is that of `message`. Takes the same time for every wrong one.
    pub(crate) fn verify(&self, message: &[u8], icv: &[u8]) -> bool {
        let expected = self.compute(message);
        expected
            .get(..self.icv_len)
            .is_some_and(|expected| expected.ct_eq(icv).into())
    }

    fn compute(&self, message: &[u8]) -> [u8; ICV_MAX] {
        let mut icv = [0; ICV_MAX];
        let mut fill = |tag: &[u8]| {
            icv.iter_mut().zip(tag).for_each(|(to, octet)| *to = *octet);
        };
        match &self.key {
            Key::Md5 { inner, outer } => {
                let digest = inner.clone().chain_update(message).finalize();
                fill(&outer.clone().chain_update(digest).finalize());
            }
            Key::Sha(key) => fill(hmac::sign(key, message).as_ref()),
        }
        icv
    }
}

/// The state after the block of a key that is not longer than a block (RFC 2104 §2).
fn keyed_md5(key: &[u8], pad: u8) -> Md5 {
    let mut block = [pad; MD5_BLOCK];
    block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
    let state = Md5::new_with_prefix(block);
    block.zeroize();
    state
}
