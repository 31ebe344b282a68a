//! The receiving half of an association (`specs/esp.md` §6).

use std::ops::Range;

use culvert_record::OpenError;
use culvert_sys::lanes::LANES;

use crate::association::{Association, KeyError, Spi};
use crate::cipher::Cipher;
use crate::mac::Mac;
use crate::packet::{BLOCK, HEADER_LEN, NextHeader, PREFIX_LEN, TRAILER_LEN, spi_of};
use crate::replay::ReplayWindow;

/// Datagrams of a run that are checked together: as many as the bits of the answer.
const RUN_MAX: usize = u64::BITS as usize;

/// Opens packets.
pub struct Opener {
    spi: Spi,
    cipher: Cipher,
    mac: Mac,
    window: ReplayWindow,
}

/// An authentic packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the payload is.
    pub next_header: NextHeader,
    /// Position of the payload in the datagram; not empty.
    pub payload: Range<usize>,
}

impl Opener {
    /// Nothing has been received yet; the peer may begin with 0 or 1.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(association: &Association) -> Result<Self, KeyError> {
        Ok(Self {
            spi: association.spi(),
            cipher: Cipher::new(association)?,
            mac: Mac::new(association),
            window: ReplayWindow::default(),
        })
    }

    /// The SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The number after the highest one received.
    pub(crate) fn next_expected(&self) -> u64 {
        self.window.next_expected()
    }

    /// Opens a datagram in place.
    ///
    /// # Errors
    /// [`OpenError::Unknown`]: another SPI. [`OpenError::Authentication`]: the integrity check
    /// value is wrong. [`OpenError::Replay`]: seen before or too old. [`OpenError::Malformed`]:
    /// too short, or authentic and yet wrong inside; its sequence number is then used up.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<Opened, OpenError> {
        self.open_as(datagram, false)
    }

    /// As [`Self::open`]; with `checked`, [`Self::check_run`] has found the datagram authentic.
    pub(crate) fn open_as(&mut self, datagram: &mut [u8], checked: bool) -> Result<Opened, OpenError> {
        let message_len = datagram
            .len()
            .checked_sub(self.mac.icv_len())
            .filter(|len| *len > PREFIX_LEN)
            .ok_or(OpenError::Malformed)?;
        if spi_of(datagram) != Some(self.spi) {
            return Err(OpenError::Unknown);
        }
        let (message, icv) = datagram
            .split_at_mut_checked(message_len)
            .ok_or(OpenError::Malformed)?;
        if !checked && !self.mac.verify(message, icv) {
            return Err(OpenError::Authentication);
        }
        let sequence = sequence_of(message).ok_or(OpenError::Malformed)?;
        if !self.window.is_fresh(sequence) {
            return Err(OpenError::Replay);
        }
        self.window.mark(sequence);
        let (prefix, ciphertext) = message
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(OpenError::Malformed)?;
        let iv = *prefix.last_chunk::<BLOCK>().ok_or(OpenError::Malformed)?;
        if !ciphertext.len().is_multiple_of(BLOCK) {
            return Err(OpenError::Malformed);
        }
        self.cipher.decrypt(iv, ciphertext);
        let (next_header, len) = check_trailer(ciphertext).ok_or(OpenError::Malformed)?;
        Ok(Opened {
            next_header,
            payload: PREFIX_LEN..PREFIX_LEN + len,
        })
    }

    /// Checks datagrams of `segment` octets each (the last may be shorter), many at a time. A set
    /// bit says that this one has this SPI and is authentic; the others are not checked, or wrong.
    pub(crate) fn check_run(&self, run: &[u8], segment: usize) -> u64 {
        let Some(worth) = self.mac.lanes_worth() else {
            return 0;
        };
        let icv_len = self.mac.icv_len();
        if segment.saturating_sub(icv_len) <= PREFIX_LEN {
            return 0;
        }
        let mut authentic = 0;
        for (number, group) in run.chunks(segment * LANES).enumerate().take(RUN_MAX / LANES) {
            if group.len().div_ceil(segment) < worth {
                break;
            }
            let mut datagrams = group.chunks(segment);
            let messages = std::array::from_fn(|_| {
                let datagram = datagrams.next().unwrap_or_default();
                datagram
                    .split_at_checked(datagram.len().saturating_sub(icv_len))
                    .unwrap_or_default()
                    .0
            });
            let Some(values) = self.mac.compute_lanes(&messages) else {
                return 0;
            };
            for (lane, (datagram, value)) in group.chunks(segment).zip(&values).enumerate() {
                let end = datagram.len().saturating_sub(icv_len);
                let icv = datagram.get(end..).unwrap_or_default();
                if end > PREFIX_LEN && spi_of(datagram) == Some(self.spi) && self.mac.is(value, icv) {
                    authentic |= 1 << (number * LANES + lane);
                }
            }
        }
        authentic
    }
}

/// The sequence number of a packet.
pub(crate) fn sequence_of(packet: &[u8]) -> Option<u32> {
    packet
        .first_chunk::<HEADER_LEN>()
        .and_then(|header| header.last_chunk())
        .map(|octets| u32::from_be_bytes(*octets))
}

/// Next header and length of the payload, when the padding is 1, 2, 3, ... and leaves a payload.
fn check_trailer(plaintext: &[u8]) -> Option<(NextHeader, usize)> {
    let (padded, &[pad_len, next_header]) = plaintext.split_last_chunk::<TRAILER_LEN>()?;
    let next_header = NextHeader::from_octet(next_header)?;
    let len = padded
        .len()
        .checked_sub(usize::from(pad_len))
        .filter(|len| *len > 0)?;
    let padding = padded.get(len..)?;
    let good = padding
        .iter()
        .zip(1..)
        .all(|(octet, expected)| *octet == expected);
    good.then_some((next_header, len))
}
