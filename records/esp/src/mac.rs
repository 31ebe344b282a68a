//! HMAC, cut to the length of the integrity check value.

use aws_lc_rs::hmac;
use culvert_sys::sha1_lanes::{self, BLOCK, LANES, Lane};
use md5::Md5;
use md5::digest::Digest;
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::association::{Association, Integrity};

/// Longest integrity check value.
pub(crate) const ICV_MAX: usize = 16;
/// Lanes that have to be used for all of them together to be faster than one after the other.
pub(crate) const LANES_WORTH: usize = 10;

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

    /// True when many messages at a time are faster than one after the other.
    pub(crate) fn has_lanes(&self) -> bool {
        matches!(self.key, Key::Sha1(..)) && sha1_lanes::is_fast()
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
            sha1_lanes::compress(&mut state, &[&block; LANES]);
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
        let mut state = self.inner.map(|word| [word; LANES]);
        let whole = len / BLOCK;
        for number in 0..whole {
            let blocks = messages.map(|message| {
                message
                    .get(number * BLOCK..)
                    .and_then(<[u8]>::first_chunk)
                    .unwrap_or(&[0; BLOCK])
            });
            sha1_lanes::compress(&mut state, &blocks);
        }
        let tails = messages.map(|message| message.get(whole * BLOCK..).unwrap_or_default());
        end(&mut state, &tails, len % BLOCK, BLOCK + len);

        let inner = digests(&state);
        let mut state = self.outer.map(|word| [word; LANES]);
        let inner = inner.each_ref().map(<[u8; DIGEST_LEN]>::as_slice);
        end(&mut state, &inner, DIGEST_LEN, BLOCK + DIGEST_LEN);
        digests(&state).map(|digest| cut(&digest))
    }
}

/// Takes the last `len` octets of messages of `total` octets into their states, and their ends.
fn end(state: &mut [Lane; 5], tails: &[&[u8]; LANES], len: usize, total: usize) {
    let blocks = if len + 1 + LENGTH_LEN <= BLOCK { 1 } else { 2 };
    let length = (total as u64 * 8).to_be_bytes();
    let padded = tails.map(|tail| {
        let mut padded = [0; 2 * BLOCK];
        let octets = tail.iter().take(len).copied().chain([0x80]);
        padded.iter_mut().zip(octets).for_each(|(to, octet)| *to = octet);
        padded
            .iter_mut()
            .skip(blocks * BLOCK - LENGTH_LEN)
            .zip(length)
            .for_each(|(to, octet)| *to = octet);
        padded
    });
    for number in 0..blocks {
        let block = padded
            .each_ref()
            .map(|padded| padded.as_chunks::<BLOCK>().0.get(number).unwrap_or(&[0; BLOCK]));
        sha1_lanes::compress(state, &block);
    }
}

/// The states as octets.
fn digests(state: &[Lane; 5]) -> [[u8; DIGEST_LEN]; LANES] {
    let mut digests = [[0; DIGEST_LEN]; LANES];
    for (lane, digest) in digests.iter_mut().enumerate() {
        let words = state.iter().filter_map(|word| word.get(lane));
        for (octets, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *octets = word.to_be_bytes();
        }
    }
    digests
}
