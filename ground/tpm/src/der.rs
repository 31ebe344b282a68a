//! The few DER structures that are made here.

pub(crate) const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// One element; the content is shorter than 64 KiB.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    let header: &[u8] = match (high, low) {
        (0, low) if low < 0x80 => &[tag, low],
        (0, low) => &[tag, 0x81, low],
        (high, low) => &[tag, 0x82, high, low],
    };
    [header, content].concat()
}

/// An unsigned big-endian number.
pub(crate) fn integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|octet| *octet != 0);
    let number = start.and_then(|start| number.get(start..)).unwrap_or(&[0]);
    match number.first() {
        Some(first) if first & 0x80 != 0 => element(INTEGER, &[&[0], number].concat()),
        _ => element(INTEGER, number),
    }
}

/// Octets as a BIT STRING.
pub(crate) fn bit_string(content: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], content].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_signs() {
        assert_eq!(integer(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(element(4, &[0; 0x90])[..3], [4, 0x81, 0x90]);
        assert_eq!(element(4, &[0; 0x123])[..4], [4, 0x82, 1, 0x23]);
    }
}
