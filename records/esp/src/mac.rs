//! HMAC, cut to the length of the integrity check value.

use aws_lc_rs::hmac;
use culvert_sys::lanes::LANES;
use culvert_sys::lanes::sha1::{self as sha1_lanes, BLOCK};
use md5::Md5;
use md5::digest::Digest;
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::association::{Association, Integrity};

/// Longest integrity check value.
pub(crate) const ICV_MAX: usize = 16;

/// An integrity check value, longer than it is sent.
type Icv = [u8; ICV_MAX];

/// An HMAC key, ready for use.
pub(crate) struct Mac {
    key: Key,
    icv_len: usize,
}

enum Key {
    Md5(Box<Keyed<Md5>>),
    Sha1(Box<Keyed<Sha1>>, LaneKey),
    Sha256(Box<hmac::Key>),
}

/// The states after the inner and the outer key block: faster than aws-lc-rs, which has no MD5
/// either.
struct Keyed<D> {
    inner: D,
    outer: D,
}

/// The same for SHA-1 in lanes, as words.
struct LaneKey {
    inner: Zeroizing<[u32; 5]>,
    outer: Zeroizing<[u32; 5]>,
}

impl Mac {
    pub(crate) fn new(association: &Association) -> Self {
        let key = association.integrity_key().expose();
        let integrity = association.integrity();
        let key = match integrity {
            Integrity::HmacMd5 => Key::Md5(Box::new(Keyed::new(key))),
            Integrity::HmacSha1 => Key::Sha1(Box::new(Keyed::new(key)), LaneKey::new(key)),
            Integrity::HmacSha256 => Key::Sha256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))),
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
        self.is(&self.compute(message), icv)
    }

    /// True when `icv` is the computed one. Takes the same time for every wrong one.
    pub(crate) fn is(&self, computed: &Icv, icv: &[u8]) -> bool {
        computed
            .get(..self.icv_len)
            .is_some_and(|computed| computed.ct_eq(icv).into())
    }

    /// Messages from which on all at a time are faster than one after the other; `None` when they
    /// never are.
    pub(crate) fn lanes_worth(&self) -> Option<usize> {
        match self.key {
            Key::Sha1(..) => sha1_lanes::worth(),
            Key::Md5(_) | Key::Sha256(_) => None,
        }
    }

    /// The integrity check values of messages of equal length; an empty one is no message and gets
    /// some value. `None` when this algorithm does not do that.
    pub(crate) fn compute_lanes(&self, messages: &[&[u8]; LANES]) -> Option<[Icv; LANES]> {
        match &self.key {
            Key::Sha1(_, key) => Some(key.compute(messages)),
            Key::Md5(_) | Key::Sha256(_) => None,
        }
    }

    fn compute(&self, message: &[u8]) -> Icv {
        match &self.key {
            Key::Md5(keyed) => keyed.compute(message),
            Key::Sha1(keyed, _) => keyed.compute(message),
            Key::Sha256(key) => cut(hmac::sign(key, message).as_ref()),
        }
    }
}

fn cut(tag: &[u8]) -> Icv {
    let mut icv = [0; ICV_MAX];
    icv.iter_mut().zip(tag).for_each(|(to, octet)| *to = *octet);
    icv
}

/// A key that is not longer than a block as inner and outer block (RFC 2104 §2).
fn key_block(key: &[u8], pad: u8) -> Zeroizing<[u8; BLOCK]> {
    let mut block = Zeroizing::new([pad; BLOCK]);
    block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
    block
}

const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;

impl<D: Digest + Clone> Keyed<D> {
    fn new(key: &[u8]) -> Self {
        Self {
            inner: D::new_with_prefix(key_block(key, INNER).as_slice()),
            outer: D::new_with_prefix(key_block(key, OUTER).as_slice()),
        }
    }

    fn compute(&self, message: &[u8]) -> Icv {
        let digest = self.inner.clone().chain_update(message).finalize();
        cut(&self.outer.clone().chain_update(digest).finalize())
    }
}

/// FIPS 180-4 §5.3.1.
const SHA1_INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
/// Octets of the length at the end of the last block (FIPS 180-4 §5.1.1).
const LENGTH_LEN: usize = 8;
/// Octets of a digest.
const DIGEST_LEN: usize = 20;

impl LaneKey {
    fn new(key: &[u8]) -> Self {
        let state = |pad| {
            let block = key_block(key, pad);
            let mut state = SHA1_INITIAL.map(|word| [word; LANES]);
            sha1_lanes::compress(&mut state, &[block.as_slice(); LANES], 1);
            let words = state.map(|[word, ..]| word);
            state.as_flattened_mut().zeroize();
            Zeroizing::new(words)
        };
        Self {
            inner: state(INNER),
            outer: state(OUTER),
        }
    }

    fn compute(&self, messages: &[&[u8]; LANES]) -> [Icv; LANES] {
        let len = messages.iter().map(|message| message.len()).max().unwrap_or(0);
        let whole = len / BLOCK;
        let mut state = self.inner.map(|word| [word; LANES]);
        sha1_lanes::compress(&mut state, messages, whole);
        let blocks = (len % BLOCK + 1 + LENGTH_LEN).div_ceil(BLOCK);
        let ends = messages.map(|message| {
            let tail = message.get(whole * BLOCK..).unwrap_or_default();
            end(tail, blocks, BLOCK + len)
        });
        sha1_lanes::compress(
            &mut state,
            &ends.each_ref().map(<[u8; 2 * BLOCK]>::as_slice),
            blocks,
        );

        // The outer message is the digest, which is there as words already.
        let mut words = [[0; LANES]; BLOCK / 4];
        let [a, b, c, d, e] = state;
        words[..6].copy_from_slice(&[a, b, c, d, e, [0x8000_0000; LANES]]);
        words[BLOCK / 4 - 1] = [(BLOCK + DIGEST_LEN) as u32 * 8; LANES];
        let mut state = self.outer.map(|word| [word; LANES]);
        sha1_lanes::compress_words(&mut state, &words);
        std::array::from_fn(|lane| {
            let mut icv = [0; ICV_MAX];
            for (octets, word) in icv.as_chunks_mut::<4>().0.iter_mut().zip(&state) {
                *octets = word[lane].to_be_bytes();
            }
            icv
        })
    }
}

/// The last octets of a message, less than a block, and the end of one of `total` octets
/// (FIPS 180-4 §5.1.1).
fn end(tail: &[u8], blocks: usize, total: usize) -> [u8; 2 * BLOCK] {
    let mut end = [0; 2 * BLOCK];
    if let Some((octets, [mark, ..])) = end.split_at_mut_checked(tail.len()) {
        octets.copy_from_slice(tail);
        *mark = 0x80;
    }
    let length = (total as u64 * 8).to_be_bytes();
    if let Some(field) = end.get_mut(..blocks * BLOCK).and_then(<[u8]>::last_chunk_mut) {
        *field = length;
    }
    end
}
