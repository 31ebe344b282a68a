//! Writing DER (X.690 §10): elements with tags of one octet and definite lengths. What is read is read where
//! it comes from, each with its own strictness.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// GeneralString.
pub const GENERAL_STRING: u8 = 0x1b;
/// SEQUENCE and SEQUENCE OF.
pub const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub const SET: u8 = 0x31;
/// `[0]` around a value.
pub const EXPLICIT_0: u8 = 0xa0;

/// Octets of a tag and the longest length.
const HEADER_MAX: usize = 2 + size_of::<usize>();

/// An element.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + HEADER_MAX);
    append(tag, content, &mut out);
    out
}

/// Appends an element to `out`.
pub fn append(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    match length.get(zeros..).unwrap_or_default() {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(*short),
        digits => {
            // At most the eight octets of a length.
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
}

/// An INTEGER: an unsigned number, big-endian, with or without zeros before it.
pub fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    let digits = number.get(zeros..).unwrap_or_default();
    match digits.first() {
        Some(0..=0x7f) => element(INTEGER, digits),
        // Nothing, or what would be taken for a sign.
        _ => element(INTEGER, &[&[0], digits].concat()),
    }
}

/// A BIT STRING of whole octets.
pub fn bit_string(octets: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], octets].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths() {
        for (len, header) in [
            (0, &[4, 0][..]),
            (1, &[4, 1]),
            (0x7f, &[4, 0x7f]),
            (0x80, &[4, 0x81, 0x80]),
            (0xff, &[4, 0x81, 0xff]),
            (0x100, &[4, 0x82, 1, 0]),
            (300, &[4, 0x82, 1, 44]),
            (0xffff, &[4, 0x82, 0xff, 0xff]),
            (0x1_0000, &[4, 0x83, 1, 0, 0]),
        ] {
            let written = element(OCTET_STRING, &vec![9; len]);
            assert_eq!(written[..header.len()], *header, "{len}");
            assert_eq!(written.len(), header.len() + len);
        }
    }

    #[test]
    fn signs_and_zeros_of_numbers() {
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0x80, 0]), [2, 3, 0, 0x80, 0]);
        assert_eq!(bit_string(&[5]), [3, 2, 0, 5]);
    }

    proptest! {
        /// The length says how much follows, in as few octets as possible.
        #[test]
        fn a_length_is_that_of_the_content(len in 0usize..100_000) {
            let written = element(SEQUENCE, &vec![1; len]);
            let (header, content) = written.split_at(written.len() - len);
            prop_assert!(content.iter().all(|octet| *octet == 1));
            let said = match &header[1..] {
                [short] => usize::from(*short),
                [count, digits @ ..] => {
                    prop_assert_eq!(usize::from(count & 0x7f), digits.len());
                    prop_assert!(digits[0] != 0 && len > 0x7f);
                    digits.iter().fold(0, |said, digit| said << 8 | usize::from(*digit))
                }
                [] => unreachable!("an element has a length"),
            };
            prop_assert_eq!(said, len);
        }
    }
}
