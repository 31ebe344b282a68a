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

    /// The integrity check values of messages; an empty one is no message and gets some value.
    /// `None` when this algorithm does not do that.
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
        let ends = messages.map(End::new);
        let mut state = self.inner.map(|word| [word; LANES]);
        let mut digests = state;
        let mut done = 0;
        // From one place where something ends to the next: there are two or four.
        while let Some(next) = ends.iter().filter_map(|end| end.next_after(done)).min() {
            let mut rest: [&[u8]; LANES] = [&[]; LANES];
            for ((rest, message), end) in rest.iter_mut().zip(messages).zip(&ends) {
                *rest = end.rest(message, done);
            }
            sha1_lanes::compress(&mut state, &rest, next - done);
            done = next;
            for (lane, end) in ends.iter().enumerate() {
                if end.total == done {
                    for (digest, word) in digests.iter_mut().zip(&state) {
                        digest[lane] = word[lane];
                    }
                }
            }
        }

        // The outer message is the digest, which is there as words already.
        let mut words = [[0; LANES]; BLOCK / 4];
        let [a, b, c, d, e] = digests;
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

/// Where a message that follows a key block ends (FIPS 180-4 §5.1.1). Counts are blocks.
struct End {
    /// What is less than a block, the mark and the length.
    octets: [u8; 2 * BLOCK],
    /// The blocks that are only the message's.
    whole: usize,
    /// With the end; 0 when there is no message.
    total: usize,
}

impl End {
    fn new(message: &[u8]) -> Self {
        let whole = message.len() / BLOCK;
        let (_, tail) = message.as_chunks::<BLOCK>();
        let blocks = (tail.len() + 1 + LENGTH_LEN).div_ceil(BLOCK);
        let mut octets = [0; 2 * BLOCK];
        if let Some((to, [mark, ..])) = octets.split_at_mut_checked(tail.len()) {
            to.copy_from_slice(tail);
            *mark = 0x80;
        }
        if let Some(field) = octets.get_mut(..blocks * BLOCK).and_then(<[u8]>::last_chunk_mut) {
            *field = ((BLOCK + message.len()) as u64 * 8).to_be_bytes();
        }
        let total = if message.is_empty() { 0 } else { whole + blocks };
        Self { octets, whole, total }
    }

    /// The next block from which on something else follows, after `done` blocks.
    fn next_after(&self, done: usize) -> Option<usize> {
        [self.whole, self.total].into_iter().find(|place| *place > done)
    }

    /// What comes after `done` blocks, until [`Self::next_after`].
    fn rest<'a>(&'a self, message: &'a [u8], done: usize) -> &'a [u8] {
        let rest = if done < self.whole {
            message.get(done * BLOCK..)
        } else {
            self.octets.get((done - self.whole) * BLOCK..)
        };
        rest.unwrap_or_default()
    }
}
