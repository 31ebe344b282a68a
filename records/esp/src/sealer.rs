//! The sending half of an association (`specs/esp.md` §5).

use culvert_record::{FrameKind, PacketSealer, SealError};
use culvert_sys::lanes::LANES;

use crate::association::{Association, KeyError, Spi};
use crate::cipher::Cipher;
use crate::mac::Mac;
use crate::packet::{BLOCK, HEADER_LEN, NextHeader, PREFIX_LEN, TRAILER_LEN, pad_len};

/// IVs that are drawn at once: each call of the random generator costs more than it gives.
const IVS: usize = 32;
/// Longest payload: what fits a UDP datagram, generously.
const PAYLOAD_MAX: usize = 65_000;

/// Seals packets.
pub struct Sealer {
    spi: Spi,
    cipher: Cipher,
    mac: Mac,
    /// Packets from which on all at a time are faster than one after the other; `None` when they
    /// never are.
    lanes_worth: Option<usize>,
    /// `None` when the numbers are used up: they never wrap.
    next_sequence: Option<u32>,
    ivs: [[u8; BLOCK]; IVS],
    ivs_left: usize,
}

impl Sealer {
    /// Begins with sequence number 1 (RFC 4303 §2.2).
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(association: &Association) -> Result<Self, KeyError> {
        let (cipher, mac) = (Cipher::new(association)?, Mac::new(association));
        // Chains gain more by it than hashes do.
        let share = if cipher.is_wide() { 2 } else { 1 };
        Ok(Self {
            spi: association.spi(),
            lanes_worth: mac.lanes_worth().map(|packets| packets / share),
            cipher,
            mac,
            next_sequence: Some(1),
            ivs: [[0; BLOCK]; IVS],
            ivs_left: 0,
        })
    }

    /// Seals the payload at `buffer[headroom..headroom + len]` in place; returns the packet's
    /// length.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_as(
        &mut self,
        next_header: NextHeader,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        let sealed = self.lay_out(next_header, buffer, len)?;
        self.protect(buffer.get_mut(..sealed).unwrap_or_default());
        Ok(sealed)
    }

    /// Everything but encryption and integrity check value, with the next number and a fresh IV.
    fn lay_out(
        &mut self,
        next_header: NextHeader,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        let sequence = self.next_sequence.ok_or(SealError::Exhausted)?;
        let iv = self.iv()?;
        let sealed = self.lay_out_with(sequence, iv, next_header, buffer, len)?;
        // The last number is not used: its successor could not be told from a wrap.
        self.next_sequence = sequence.checked_add(1).filter(|next| *next < u32::MAX);
        Ok(sealed)
    }

    pub(crate) fn lay_out_with(
        &self,
        sequence: u32,
        iv: [u8; BLOCK],
        next_header: NextHeader,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        if len > PAYLOAD_MAX {
            return Err(SealError::Oversize);
        }
        let sealed_len = self.sealed_len(len);
        let packet = buffer.get_mut(..sealed_len).ok_or(SealError::Buffer)?;
        let (prefix, plaintext) = packet
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(SealError::Buffer)?;
        let (spi, rest) = prefix.split_at_mut(HEADER_LEN / 2);
        let (number, iv_field) = rest.split_at_mut(HEADER_LEN / 2);
        spi.copy_from_slice(&self.spi.get().to_be_bytes());
        number.copy_from_slice(&sequence.to_be_bytes());
        iv_field.copy_from_slice(&iv);
        let padding = pad_len(len) as u8;
        let trailer = (1..=padding).chain([padding, next_header.octet()]);
        plaintext
            .iter_mut()
            .skip(len)
            .zip(trailer)
            .for_each(|(to, octet)| *to = octet);
        Ok(sealed_len)
    }

    /// Encryption and integrity check value of a packet that is laid out.
    pub(crate) fn protect(&self, packet: &mut [u8]) {
        let end = packet.len().saturating_sub(self.mac.icv_len());
        let (message, icv) = packet.split_at_mut(end);
        if let Some((prefix, blocks)) = message.split_first_chunk_mut::<PREFIX_LEN>()
            && let Some(iv) = prefix.last_chunk::<BLOCK>()
        {
            self.cipher.encrypt(*iv, blocks);
        }
        self.mac.sign(message, icv);
    }

    /// The same for several packets of `len` octets each, the last may be shorter. At most [`LANES`].
    pub(crate) fn protect_lanes(&self, packets: &mut [u8], len: usize) {
        let icv_len = self.mac.icv_len();
        let end_of = |packet: &[u8]| packet.len().saturating_sub(icv_len);
        let mut encrypted = packets.chunks_mut(len);
        let mut chains: [&mut [u8]; LANES] = std::array::from_fn(|_| {
            let packet = encrypted.next().unwrap_or_default();
            let end = end_of(packet);
            packet.get_mut(HEADER_LEN..end).unwrap_or_default()
        });
        self.cipher.encrypt_lanes(&mut chains);
        let mut signed = packets.chunks(len);
        let messages = std::array::from_fn(|_| {
            let packet = signed.next().unwrap_or_default();
            packet.get(..end_of(packet)).unwrap_or_default()
        });
        let Some(values) = self.mac.compute_lanes(&messages) else {
            return;
        };
        for (packet, value) in packets.chunks_mut(len).zip(values) {
            let icv = packet.get_mut(end_of(packet)..).unwrap_or_default();
            icv.iter_mut().zip(value).for_each(|(to, octet)| *to = octet);
        }
    }

    fn iv(&mut self) -> Result<[u8; BLOCK], SealError> {
        if self.ivs_left == 0 {
            // Without unpredictable IVs the key must not be used any more.
            aws_lc_rs::rand::fill(self.ivs.as_flattened_mut()).map_err(|_| SealError::Exhausted)?;
            self.ivs_left = IVS;
        }
        self.ivs_left -= 1;
        self.ivs.get(self.ivs_left).copied().ok_or(SealError::Exhausted)
    }
}

impl PacketSealer for Sealer {
    fn headroom(&self) -> usize {
        PREFIX_LEN
    }

    fn tailroom(&self) -> usize {
        tailroom(self.mac.icv_len())
    }

    fn sealed_len(&self, len: usize) -> usize {
        sealed_len(self.mac.icv_len(), len)
    }

    /// ESP knows data only: a frame of any other kind is a dummy packet, which the peer discards.
    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.seal_as(next_header_of(kind, buffer), buffer, len)
    }

    fn prepare(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.lay_out(next_header_of(kind, buffer), buffer, len)
    }

    fn complete(&mut self, records: &mut [u8], lengths: &mut dyn Iterator<Item = usize>) {
        let mut lengths = lengths.peekable();
        let mut rest = records;
        while let Some(len) = lengths.next() {
            let (mut count, mut octets) = (1, len);
            while count < LANES
                && let Some(next) = lengths.next_if(|next| *next <= len)
            {
                count += 1;
                octets += next;
                // A shorter one ends a run.
                if next < len {
                    break;
                }
            }
            let Some((run, behind)) = rest.split_at_mut_checked(octets) else {
                return;
            };
            rest = behind;
            if self.lanes_worth.is_some_and(|worth| count >= worth) {
                self.protect_lanes(run, len);
            } else {
                run.chunks_mut(len).for_each(|packet| self.protect(packet));
            }
        }
    }
}

fn next_header_of(kind: FrameKind, buffer: &[u8]) -> NextHeader {
    match kind {
        FrameKind::Data => NextHeader::of_packet(buffer.get(PREFIX_LEN..).unwrap_or_default()),
        _ => NextHeader::Dummy,
    }
}

/// Most octets after a payload.
pub(crate) fn tailroom(icv_len: usize) -> usize {
    BLOCK - 1 + TRAILER_LEN + icv_len
}

/// Octets of the packet for a payload of `len` octets.
pub(crate) fn sealed_len(icv_len: usize, len: usize) -> usize {
    PREFIX_LEN + len + pad_len(len) + TRAILER_LEN + icv_len
}

#[cfg(test)]
mod tests {
    use culvert_vocab::SecretBytes;

    use super::*;
    use crate::association::{Encryption, Integrity};

    fn sealer() -> Sealer {
        let association = Association::new(
            Spi::from_random([9; 4]),
            Encryption::Aes128Cbc,
            SecretBytes::new(vec![1; 16]),
            Integrity::HmacSha1,
            SecretBytes::new(vec![2; 20]),
        );
        Sealer::new(&association.unwrap()).unwrap()
    }

    #[test]
    fn numbers_begin_with_one_and_never_wrap() {
        let mut sealer = sealer();
        let mut buffer = [0; 100];
        sealer.seal_as(NextHeader::Ipv4, &mut buffer, 20).unwrap();
        assert_eq!(buffer[4..8], [0, 0, 0, 1]);
        sealer.next_sequence = Some(u32::MAX - 1);
        sealer.seal_as(NextHeader::Ipv4, &mut buffer, 20).unwrap();
        assert_eq!(
            sealer.seal_as(NextHeader::Ipv4, &mut buffer, 20),
            Err(SealError::Exhausted)
        );
    }

    #[test]
    fn ivs_do_not_repeat() {
        let mut sealer = sealer();
        let mut ivs = std::collections::HashSet::new();
        let mut buffer = [0; 100];
        for _ in 0..200 {
            sealer.seal_as(NextHeader::Ipv4, &mut buffer, 20).unwrap();
            ivs.insert(buffer[8..24].to_vec());
        }
        assert_eq!(ivs.len(), 200);
    }

    #[test]
    fn a_buffer_that_is_too_small_is_refused() {
        let mut sealer = sealer();
        let needed = sealer.sealed_len(20);
        assert_eq!(
            sealer.seal_as(NextHeader::Ipv4, &mut vec![0; needed - 1], 20),
            Err(SealError::Buffer)
        );
        assert_eq!(
            sealer.seal_as(NextHeader::Ipv4, &mut vec![0; 70_000], 66_000),
            Err(SealError::Oversize)
        );
    }
}
