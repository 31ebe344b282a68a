//! The handshake messages so far, as they enter the hashes of Finished and of the extended master
//! secret: each with its header written as if unfragmented.

use aws_lc_rs::digest::Digest;

use super::keys::handshake_hash;
use crate::suite::PrfHash;

/// Kept as octets because the hash is known only once the suite is.
#[derive(Default)]
pub(crate) struct Transcript(Vec<u8>);

impl Transcript {
    pub(crate) fn push(&mut self, kind: u8, message_seq: u16, body: &[u8]) {
        let length = (body.len() as u32).to_be_bytes();
        self.0.push(kind);
        self.0.extend_from_slice(&length[1..]);
        self.0.extend_from_slice(&message_seq.to_be_bytes());
        self.0.extend_from_slice(&[0; 3]);
        self.0.extend_from_slice(&length[1..]);
        self.0.extend_from_slice(body);
    }

    /// Forgets everything: a cookie exchange is not part of the transcript.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn hash(&self, hash: PrfHash) -> Digest {
        handshake_hash(hash, &self.0)
    }
}
