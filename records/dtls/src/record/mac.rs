//! HMAC of CBC records, in time that does not depend on the length of the content.
//!
//! MAC-then-encrypt makes the content's length a secret until the MAC is checked: a receiver whose
//! time depends on the padding is an oracle for the plaintext (Lucky Thirteen). So the blocks that
//! may hold the end of the message are all hashed, each as if it could be the last one, and the
//! state after the real last one is selected by masks.

use sha1::digest::generic_array::GenericArray;
use subtle::{ConditionallySelectable, ConstantTimeEq, ConstantTimeLess};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::suite::MacHash;

/// Longest MAC (SHA-384).
pub(crate) const MAX_MAC: usize = 48;
/// Longest block (SHA-384).
const MAX_BLOCK: usize = 128;
/// Octets that precede the content in the MAC's input.
const PREFIX: usize = 13;

/// An HMAC key, ready for use.
pub(crate) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Box<Hmac<Sha384>>),
}

impl Mac {
    pub(crate) fn new(hash: MacHash, key: &[u8]) -> Self {
        match hash {
            MacHash::Sha1 => Self::Sha1(Hmac::new(key)),
            MacHash::Sha256 => Self::Sha256(Hmac::new(key)),
            MacHash::Sha384 => Self::Sha384(Box::new(Hmac::new(key))),
        }
    }

    /// Octets of the MAC.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Sha1(_) => Sha1::OUTPUT,
            Self::Sha256(_) => Sha256::OUTPUT,
            Self::Sha384(_) => Sha384::OUTPUT,
        }
    }

    /// MAC of `prefix` and all of `content`.
    pub(crate) fn compute(&self, prefix: &[u8; PREFIX], content: &[u8]) -> [u8; MAX_MAC] {
        self.compute_secret_len(prefix, content, content.len(), content.len())
    }

    /// MAC of `prefix` and `content[..len]`, where `len` is secret, at least `min_len` and at most
    /// the length of `content`.
    pub(crate) fn compute_secret_len(
        &self,
        prefix: &[u8; PREFIX],
        content: &[u8],
        len: usize,
        min_len: usize,
    ) -> [u8; MAX_MAC] {
        match self {
            Self::Sha1(hmac) => hmac.compute(prefix, content, len, min_len),
            Self::Sha256(hmac) => hmac.compute(prefix, content, len, min_len),
            Self::Sha384(hmac) => hmac.compute(prefix, content, len, min_len),
        }
    }
}

/// A Merkle-Damgard hash, seen as its compression function.
pub(crate) trait BlockHash {
    type State: ConditionallySelectable + Zeroize;
    const INITIAL: Self::State;
    /// Octets of a block, at most 128.
    const BLOCK: usize;
    /// Octets of the length field that ends the last block.
    const LENGTH_FIELD: usize;
    /// Octets of the result.
    const OUTPUT: usize;

    /// `block` has [`Self::BLOCK`] octets.
    fn compress(state: &mut Self::State, block: &[u8]);
    fn output(state: &Self::State) -> [u8; MAX_MAC];
}

/// The states after the inner and the outer key block.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Hmac<H: BlockHash> {
    inner: H::State,
    outer: H::State,
}

impl<H: BlockHash> Hmac<H> {
    /// The MAC keys of TLS are as long as the hash's result, so never longer than a block.
    fn new(key: &[u8]) -> Self {
        let keyed = |pad: u8| {
            let mut block = [pad; MAX_BLOCK];
            block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
            let mut state = H::INITIAL;
            H::compress(&mut state, &block[..H::BLOCK]);
            block.zeroize();
            state
        };
        Self {
            inner: keyed(0x36),
            outer: keyed(0x5c),
        }
    }

    fn compute(&self, prefix: &[u8; PREFIX], content: &[u8], len: usize, min_len: usize) -> [u8; MAX_MAC] {
        let hash = self.inner_hash(prefix, content, len, min_len);
        let mut block = [0; MAX_BLOCK];
        block[..H::OUTPUT].copy_from_slice(&hash[..H::OUTPUT]);
        block[H::OUTPUT] = 0x80;
        let bits = ((H::BLOCK + H::OUTPUT) as u64 * 8).to_be_bytes();
        block[H::BLOCK - 8..H::BLOCK].copy_from_slice(&bits);
        let mut state = self.outer;
        H::compress(&mut state, &block[..H::BLOCK]);
        H::output(&state)
    }

    fn inner_hash(&self, prefix: &[u8; PREFIX], content: &[u8], len: usize, min_len: usize) -> [u8; MAX_MAC] {
        let end = PREFIX + len;
        let bits = ((H::BLOCK + end) as u64 * 8).to_be_bytes();
        // BLOCK is a constant power of two: this division of a secret is a shift.
        let last_block = ((end + H::LENGTH_FIELD) / H::BLOCK) as u64;
        let certain_blocks = (PREFIX + min_len) / H::BLOCK;
        let possible_blocks = (PREFIX + content.len() + 1 + H::LENGTH_FIELD).div_ceil(H::BLOCK);

        let mut state = self.inner;
        for index in 0..certain_blocks {
            H::compress(
                &mut state,
                &load_block(prefix, content, index * H::BLOCK)[..H::BLOCK],
            );
        }
        let mut result = state;
        for index in certain_blocks..possible_blocks {
            let start = index * H::BLOCK;
            let mut block = load_block(prefix, content, start);
            let is_last = (index as u64).ct_eq(&last_block);
            for (offset, octet) in block[..H::BLOCK].iter_mut().enumerate() {
                let position = (start + offset) as u64;
                octet.conditional_assign(&0, !position.ct_lt(&(end as u64)));
                octet.conditional_assign(&0x80, position.ct_eq(&(end as u64)));
            }
            for (octet, length) in block[H::BLOCK - 8..H::BLOCK].iter_mut().zip(&bits) {
                octet.conditional_assign(length, is_last);
            }
            H::compress(&mut state, &block[..H::BLOCK]);
            result.conditional_assign(&state, is_last);
        }
        H::output(&result)
    }
}

/// The octets of `prefix | content` from `start` on, then zeros. `start` is 0 or beyond the prefix.
fn load_block(prefix: &[u8; PREFIX], content: &[u8], start: usize) -> [u8; MAX_BLOCK] {
    let mut block = [0; MAX_BLOCK];
    let (from, room) = match start.checked_sub(PREFIX) {
        Some(from) => (from, &mut block[..]),
        None => {
            block[..PREFIX].copy_from_slice(prefix);
            (0, &mut block[PREFIX..])
        }
    };
    let content = content.get(from..).unwrap_or_default();
    room.iter_mut().zip(content).for_each(|(to, octet)| *to = *octet);
    block
}

pub(crate) struct Sha1;

impl BlockHash for Sha1 {
    type State = [u32; 5];
    const INITIAL: Self::State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    const BLOCK: usize = 64;
    const LENGTH_FIELD: usize = 8;
    const OUTPUT: usize = 20;

    fn compress(state: &mut Self::State, block: &[u8]) {
        sha1::compress(state, std::slice::from_ref(GenericArray::from_slice(block)));
    }

    fn output(state: &Self::State) -> [u8; MAX_MAC] {
        octets(state.iter().map(|word| word.to_be_bytes()))
    }
}

pub(crate) struct Sha256;

impl BlockHash for Sha256 {
    type State = [u32; 8];
    const INITIAL: Self::State = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    const BLOCK: usize = 64;
    const LENGTH_FIELD: usize = 8;
    const OUTPUT: usize = 32;

    fn compress(state: &mut Self::State, block: &[u8]) {
        sha2::compress256(state, std::slice::from_ref(GenericArray::from_slice(block)));
    }

    fn output(state: &Self::State) -> [u8; MAX_MAC] {
        octets(state.iter().map(|word| word.to_be_bytes()))
    }
}

pub(crate) struct Sha384;

impl BlockHash for Sha384 {
    type State = [u64; 8];
    const INITIAL: Self::State = [
        0xcbbb_9d5d_c105_9ed8,
        0x629a_292a_367c_d507,
        0x9159_015a_3070_dd17,
        0x152f_ecd8_f70e_5939,
        0x6733_2667_ffc0_0b31,
        0x8eb4_4a87_6858_1511,
        0xdb0c_2e0d_64f9_8fa7,
        0x47b5_481d_befa_4fa4,
    ];
    const BLOCK: usize = 128;
    const LENGTH_FIELD: usize = 16;
    const OUTPUT: usize = 48;

    fn compress(state: &mut Self::State, block: &[u8]) {
        sha2::compress512(state, std::slice::from_ref(GenericArray::from_slice(block)));
    }

    fn output(state: &Self::State) -> [u8; MAX_MAC] {
        octets(state.iter().map(|word| word.to_be_bytes()))
    }
}

/// The words one after another, cut or filled with zeros.
fn octets<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> [u8; MAX_MAC] {
    let mut octets = [0; MAX_MAC];
    octets
        .iter_mut()
        .zip(words.flatten())
        .for_each(|(to, octet)| *to = octet);
    octets
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is said to be secret, the result is the HMAC of another implementation.
        #[test]
        fn is_hmac(
            prefix: [u8; 13],
            content in prop::collection::vec(any::<u8>(), 0..700),
            cut in 0usize..300,
            slack in 0usize..300,
            key: [u8; 48],
        ) {
            let len = content.len().saturating_sub(cut);
            let min_len = len.saturating_sub(slack);
            let message = [&prefix[..], &content[..len]].concat();
            for (hash, algorithm) in [
                (MacHash::Sha1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
                (MacHash::Sha256, hmac::HMAC_SHA256),
                (MacHash::Sha384, hmac::HMAC_SHA384),
            ] {
                let key = &key[..hash.len()];
                let expected = hmac::sign(&hmac::Key::new(algorithm, key), &message);
                let mac = Mac::new(hash, key).compute_secret_len(&prefix, &content, len, min_len);
                prop_assert_eq!(&mac[..hash.len()], expected.as_ref());
            }
        }
    }
}
