//! The handshake messages so far, as they enter the hashes of Finished and of the extended master
//! secret: each with its header written as if unfragmented, in DTLS 0.9 without. Our own are
//! numbered here.

use super::flight::FlightMessage;
use super::keys::handshake_hash;
use super::reassembly::Message;
use crate::Version;
use crate::suite::PrfHash;

/// Kept as octets because the hash is known only once the suite is.
pub(crate) struct Transcript {
    version: Version,
    octets: Vec<u8>,
    /// Number of our next message; a cookie exchange does not start it again.
    next_seq: u16,
}

impl Transcript {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            octets: Vec::new(),
            next_seq: 0,
        }
    }

    /// A ChangeCipherSpec of our own; only in DTLS 0.9 is it numbered, and it is never recorded.
    pub(crate) fn change_cipher_spec(&mut self, epoch: u16) -> FlightMessage {
        let message_seq = match self.version {
            Version::Dtls12 | Version::Dtls10 => None,
            Version::Dtls09 => {
                self.next_seq += 1;
                Some(self.next_seq - 1)
            }
        };
        FlightMessage::ChangeCipherSpec { epoch, message_seq }
    }

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
        if self.version == Version::Dtls09 {
            return self.octets.extend_from_slice(body);
        }
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

    pub(crate) fn hash(&self, hash: PrfHash) -> Vec<u8> {
        handshake_hash(hash, &self.octets)
    }
}
