//! The record layer (RFC 6347 §4.1, `specs/cstp-dtls.md` §8, §9.5): one epoch in one direction is
//! a [`Sealer`] or an [`Opener`]; the two share nothing.

mod aead;
mod cbc;
mod epochs;
mod mac;
mod opener;
mod protection;
mod replay;
mod sealer;

pub(crate) use epochs::{Epochs, InEpoch};
pub(crate) use opener::Opener;
pub(crate) use protection::{DirectionKeys, Parameters};
pub(crate) use sealer::Sealer;

/// Octets of a record header.
pub(crate) const HEADER_LEN: usize = 13;
/// Version of the first records of DTLS 1.2, before a version is agreed.
pub(crate) const DTLS10: u16 = 0xfeff;
/// Most octets of plaintext in a record.
pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;
/// Last sequence number of an epoch.
const MAX_SEQUENCE: u64 = (1 << 48) - 1;

/// Content types (RFC 5246 §6.2.1).
pub(crate) mod content_type {
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) content_type: u8,
    pub(crate) version: u16,
    pub(crate) epoch: u16,
    /// 48 bits.
    pub(crate) sequence: u64,
    /// Octets of the fragment that follows.
    pub(crate) length: u16,
}

impl RecordHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [content_type, v0, v1, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1] = *header;
        Some(Self {
            content_type,
            version: u16::from_be_bytes([v0, v1]),
            epoch: u16::from_be_bytes([e0, e1]),
            sequence: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
            length: u16::from_be_bytes([l0, l1]),
        })
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[0] = self.content_type;
        header[1..3].copy_from_slice(&self.version.to_be_bytes());
        header[3..11].copy_from_slice(&self.number());
        header[11..].copy_from_slice(&self.length.to_be_bytes());
        header
    }

    /// Epoch and sequence number, as they enter nonces and MACs.
    fn number(&self) -> [u8; 8] {
        (u64::from(self.epoch) << 48 | self.sequence).to_be_bytes()
    }

    /// What the MAC or AEAD protects besides the content; `length` is that of the content and may
    /// be secret.
    fn additional_data(&self, length: u16) -> [u8; 13] {
        let mut data = [0; 13];
        data[..8].copy_from_slice(&self.number());
        data[8] = self.content_type;
        data[9..11].copy_from_slice(&self.version.to_be_bytes());
        data[11..].copy_from_slice(&length.to_be_bytes());
        data
    }
}
