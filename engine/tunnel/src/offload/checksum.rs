//! The Internet checksum (RFC 1071).

/// A one's complement sum in progress, kept in the machine's byte order: the sum is the same in
/// either order once it is swapped back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds octets. Only the last piece may have an odd length.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        // Words of 64 bits, whose carries are collected, in independent lanes.
        let mut lanes = [0u128; 4];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u128::from(u64::from_ne_bytes(*word));
            }
        }
        let sum = lanes.iter().sum::<u128>();
        // 2^32 and 2^64 count as 1, like every power of 2^16.
        let folded = (sum & 0xffff_ffff) + (sum >> 32 & 0xffff_ffff) + (sum >> 64);
        let rest = rest.chunks(4).map(|word| u64::from(native(word))).sum::<u64>();
        Self(self.0 + folded as u64 + rest)
    }

    /// Adds one 16-bit field.
    pub(crate) fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The folded sum, not complemented, as the value of a big-endian field.
    pub(crate) fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// The value of a checksum field.
    pub(crate) fn finish(self) -> u16 {
        !self.fold()
    }
}

/// Four octets, padded with zeroes at the end.
fn native(word: &[u8]) -> u32 {
    match <[u8; 4]>::try_from(word) {
        Ok(word) => u32::from_ne_bytes(word),
        Err(_) => {
            let mut padded = [0; 4];
            for (slot, byte) in padded.iter_mut().zip(word) {
                *slot = *byte;
            }
            u32::from_ne_bytes(padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §4.1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn example_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::default().bytes(&bytes).finish(), !0xddf2);
    }

    proptest! {
        #[test]
        fn equals_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..200), word: u16) {
            let all = [&word.to_be_bytes()[..], &bytes].concat();
            prop_assert_eq!(Sum::default().word(word).bytes(&bytes).fold(), reference(&all));
        }
    }
}
