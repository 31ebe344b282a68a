//! The receiving half of one epoch.

use std::ops::Range;

use culvert_record::OpenError;

use super::protection::{DirectionKeys, Parameters, Protection};
use super::replay::ReplayWindow;
use super::{InEpoch, MAX_PLAINTEXT, RecordHeader};
use crate::Version;

/// Opens records of one epoch.
pub(crate) struct Opener {
    protection: Protection,
    version: Version,
    epoch: u16,
    window: ReplayWindow,
}

impl Opener {
    /// Epoch 0.
    pub(crate) fn plain() -> Self {
        Self {
            protection: Protection::Plain,
            version: Version::Dtls12,
            epoch: 0,
            window: ReplayWindow::default(),
        }
    }

    /// A later epoch. `None` when the keys do not have the suite's lengths.
    pub(crate) fn protected(parameters: Parameters, keys: &DirectionKeys, epoch: u16) -> Option<Self> {
        Some(Self {
            protection: Protection::new(parameters, keys)?,
            version: parameters.version,
            epoch,
            window: ReplayWindow::default(),
        })
    }

    /// Opens the fragment of a record of this epoch in place; returns where its content lies.
    pub(crate) fn open(
        &mut self,
        header: &RecordHeader,
        fragment: &mut [u8],
    ) -> Result<Range<usize>, OpenError> {
        // Epoch 0 has no window: anybody could move it, and message_seq sorts out what is doubled.
        let protected = !matches!(self.protection, Protection::Plain);
        if protected && header.version != self.version.wire() {
            return Err(OpenError::Malformed);
        }
        if protected && !self.window.is_fresh(header.sequence) {
            return Err(OpenError::Replay);
        }
        let content = self.protection.open(header, fragment)?;
        if content.len() > MAX_PLAINTEXT {
            return Err(OpenError::Malformed);
        }
        if protected {
            self.window.mark(header.sequence);
        }
        Ok(content)
    }
}

impl InEpoch for Opener {
    fn epoch(&self) -> u16 {
        self.epoch
    }
}
