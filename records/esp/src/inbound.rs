//! The receiving side across a rekey (`specs/esp.md` §8).

use std::time::{Duration, Instant};

use culvert_record::OpenError;

use crate::association::{Association, KeyError};
use crate::opener::{Opened, Opener, sequence_of};
use crate::packet::spi_of;

/// Packets of the previous association that are still taken, and how the count of the present
/// one reduces them.
const LATE_PACKETS: u64 = 32;
/// Longest life of the previous association.
const LATE: Duration = Duration::from_secs(30);

/// The present association, and for a while the one before.
pub struct Inbound {
    current: Opener,
    previous: Option<Previous>,
}

struct Previous {
    opener: Opener,
    /// The number that was expected when it was replaced.
    expected: u64,
    until: Instant,
}

impl Inbound {
    /// Receives on this association.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(association: &Association) -> Result<Self, KeyError> {
        Ok(Self {
            current: Opener::new(association)?,
            previous: None,
        })
    }

    /// Receives on a new association; late packets of the present one are taken for a while.
    ///
    /// # Errors
    /// See [`KeyError`]; nothing has changed then.
    pub fn replace(&mut self, now: Instant, association: &Association) -> Result<(), KeyError> {
        let opener = std::mem::replace(&mut self.current, Opener::new(association)?);
        self.previous = Some(Previous {
            expected: opener.next_expected(),
            opener,
            until: now + LATE,
        });
        Ok(())
    }

    /// Opens a datagram in place.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open(&mut self, now: Instant, datagram: &mut [u8]) -> Result<Opened, OpenError> {
        self.open_as(now, datagram, false)
    }

    /// The number after the highest one received on the present association.
    pub(crate) fn next_expected(&self) -> u64 {
        self.current.next_expected()
    }

    /// As [`Opener::check_run`] of the present association.
    pub(crate) fn check_run(&self, run: &[u8], segment: usize) -> u64 {
        self.current.check_run(run, segment)
    }

    /// As [`Self::open`]; with `checked`, [`Self::check_run`] has found the datagram authentic.
    pub(crate) fn open_as(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        checked: bool,
    ) -> Result<Opened, OpenError> {
        let spi = spi_of(datagram).ok_or(OpenError::Unknown)?;
        if spi == self.current.spi() {
            return self.current.open_as(datagram, checked);
        }
        if self
            .previous
            .as_ref()
            .is_some_and(|previous| previous.until < now)
        {
            self.previous = None;
        }
        let previous = self
            .previous
            .as_mut()
            .filter(|previous| previous.opener.spi() == spi)
            .ok_or(OpenError::Unknown)?;
        let sequence = sequence_of(datagram).ok_or(OpenError::Malformed)?;
        if u64::from(sequence) + self.current.next_expected() >= previous.expected + LATE_PACKETS {
            return Err(OpenError::Unknown);
        }
        previous.opener.open(datagram)
    }
}
