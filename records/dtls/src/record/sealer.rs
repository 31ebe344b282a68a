//! The sending half of one epoch.

use culvert_record::SealError;

use super::protection::{DirectionKeys, Parameters, Protection};
use super::{HEADER_LEN, InEpoch, MAX_PLAINTEXT, MAX_SEQUENCE, RecordHeader};
use crate::Version;

/// Seals records of one epoch.
pub(crate) struct Sealer {
    protection: Protection,
    version: Version,
    epoch: u16,
    next_sequence: u64,
}

impl Sealer {
    /// Epoch 0.
    pub(crate) fn plain(version: Version) -> Self {
        Self {
            protection: Protection::Plain,
            version,
            epoch: 0,
            next_sequence: 0,
        }
    }

    /// Records of epoch 0 have the version that was agreed on, once it is.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Seals nothing: stands in for the sealer of `epoch` while that is somewhere else.
    pub(crate) fn absent(epoch: u16) -> Self {
        Self {
            protection: Protection::Plain,
            version: Version::Dtls12,
            epoch,
            next_sequence: MAX_SEQUENCE + 1,
        }
    }

    /// True for [`Self::absent`].
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.protection, Protection::Plain) && self.next_sequence > MAX_SEQUENCE
    }

    /// A later epoch. `None` when the keys do not have the suite's lengths.
    pub(crate) fn protected(parameters: Parameters, keys: &DirectionKeys, epoch: u16) -> Option<Self> {
        Some(Self {
            protection: Protection::new(parameters, keys)?,
            version: parameters.version,
            epoch,
            next_sequence: 0,
        })
    }

    /// Version of the records.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Octets before the content: header, and explicit nonce or IV.
    pub(crate) fn headroom(&self) -> usize {
        HEADER_LEN + self.protection.prefix_len()
    }

    /// Most octets after the content.
    pub(crate) fn tailroom(&self) -> usize {
        self.protection.tailroom()
    }

    /// Octets of the record for `len` octets of content.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        HEADER_LEN + self.protection.sealed_len(len)
    }

    /// Seals `len` octets of content at `buffer[headroom..]` in place; returns the record's length.
    pub(crate) fn seal(
        &mut self,
        content_type: u8,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        self.seal_as(None, content_type, buffer, len)
    }

    /// As [`Self::seal`], with another version in the record: that of a first flight.
    pub(crate) fn seal_as(
        &mut self,
        version: Option<u16>,
        content_type: u8,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        if len > MAX_PLAINTEXT {
            return Err(SealError::Oversize);
        }
        if buffer.len() < self.headroom() + len + self.tailroom() {
            return Err(SealError::Buffer);
        }
        if self.next_sequence > MAX_SEQUENCE {
            return Err(SealError::Exhausted);
        }
        let mut record = RecordHeader {
            content_type,
            version: version.unwrap_or(self.version.wire()),
            epoch: self.epoch,
            sequence: self.next_sequence,
            length: 0,
        };
        let (header, fragment) = buffer
            .split_first_chunk_mut::<HEADER_LEN>()
            .ok_or(SealError::Buffer)?;
        let length = u16::try_from(len).map_err(|_| SealError::Oversize)?;
        let fragment_len = self.protection.seal(&record, fragment, length)?;
        self.next_sequence += 1;
        record.length = u16::try_from(fragment_len).map_err(|_| SealError::Oversize)?;
        *header = record.encode();
        Ok(HEADER_LEN + fragment_len)
    }
}

impl InEpoch for Sealer {
    fn epoch(&self) -> u16 {
        self.epoch
    }
}
