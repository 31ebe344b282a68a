//! The handshake messages so far, as they enter the hashes of Finished and of the extended master
//! secret: each with its header written as if unfragmented. Our own are numbered here.

use aws_lc_rs::digest::Digest;

use super::flight::FlightMessage;
use super::keys::handshake_hash;
use super::reassembly::Message;
use crate::suite::PrfHash;

/// Kept as octets because the hash is known only once the suite is.
#[derive(Default)]
pub(crate) struct Transcript {
    octets: Vec<u8>,
    /// Number of our next message; a cookie exchange does not start it again.
    next_seq: u16,
}

impl Transcript {
    /// Numbers and records a message of our own.
    pub(crate) fn send(&mut self, epoch: u16, kind: u8, body: Vec<u8>) -> FlightMessage {
        let message_seq = self.next_seq;
        self.next_seq += 1;
        self.push(kind, message_seq, &body);
        FlightMessage::Handshake {
            epoch,
            kind,
            message_seq,
            body,
        }
    }

    /// Records a message of the peer.
    pub(crate) fn receive(&mut self, message: &Message) {
        self.push(message.kind, message.message_seq, &message.body);
    }

    fn push(&mut self, kind: u8, message_seq: u16, body: &[u8]) {
        let length = (body.len() as u32).to_be_bytes();
        self.octets.push(kind);
        self.octets.extend_from_slice(&length[1..]);
        self.octets.extend_from_slice(&message_seq.to_be_bytes());
        self.octets.extend_from_slice(&[0; 3]);
        self.octets.extend_from_slice(&length[1..]);
        self.octets.extend_from_slice(body);
    }

    /// Forgets everything: a cookie exchange is not part of the transcript.
    pub(crate) fn clear(&mut self) {
        self.octets.clear();
    }

    pub(crate) fn hash(&self, hash: PrfHash) -> Digest {
        handshake_hash(hash, &self.octets)
    }
}
