//! Reading of DER, and of BER made into DER: old PKCS#12 files have indefinite lengths and octet
//! strings in pieces (X.690 §8.1.3.6, §8.7.3).

use culvert_wire::der::{INTEGER, OCTET_STRING, OID, SEQUENCE, append};
use zeroize::Zeroizing;

use crate::CredentialError;

/// `[0]` in place of OCTET STRING.
pub(crate) const IMPLICIT_0: u8 = 0x80;

const CONSTRUCTED: u8 = 0x20;
const INDEFINITE: u8 = 0x80;
/// Deepest nesting; a PKCS#12 file needs about ten levels.
const DEPTH_MAX: usize = 32;

/// Reads the elements of one level in order, which may be secret.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for errors.
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `der`, a part of `what`.
    pub(crate) fn new(der: &'a [u8], what: &'static str) -> Self {
        Self { rest: der, what }
    }

    /// True when no element is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tag of the next element.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, CredentialError> {
        let malformed = CredentialError::Malformed(self.what);
        let (header, content_len) = header(self.rest).ok_or(malformed.clone())?;
        let end = content_len.and_then(|len| header.checked_add(len));
        let (whole, rest) = end
            .and_then(|end| self.rest.split_at_checked(end))
            .ok_or(malformed)?;
        self.rest = rest;
        Ok(Element {
            tag: whole.first().copied().unwrap_or_default(),
            content: whole.get(header..).unwrap_or_default(),
        })
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn content(&mut self, tag: u8) -> Result<&'a [u8], CredentialError> {
        let element = self.any()?;
        match element.tag == tag {
            true => Ok(element.content),
            false => Err(CredentialError::Malformed(self.what)),
        }
    }

    /// Goes into the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, CredentialError> {
        Ok(Self::new(self.content(tag)?, self.what))
    }

    /// The next element's content if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, CredentialError> {
        match self.peek() == Some(tag) {
            true => self.content(tag).map(Some),
            false => Ok(None),
        }
    }

    /// An object identifier in dotted form.
    pub(crate) fn oid(&mut self) -> Result<String, CredentialError> {
        dotted(self.content(OID)?).ok_or(CredentialError::Malformed(self.what))
    }

    /// A non-negative integer of at most 63 bits.
    pub(crate) fn unsigned(&mut self) -> Result<u64, CredentialError> {
        let octets = self.content(INTEGER)?;
        let fits = octets.len() <= 8 && octets.first().is_some_and(|first| first & 0x80 == 0);
        match fits {
            true => Ok(octets
                .iter()
                .fold(0, |value, octet| value << 8 | u64::from(*octet))),
            false => Err(CredentialError::Malformed(self.what)),
        }
    }
}

/// One element of an encoding.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
}

/// True when `bytes` are exactly one SEQUENCE.
pub(crate) fn is_one_sequence(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes, "");
    reader.content(SEQUENCE).is_ok() && reader.is_empty()
}

/// The same value in DER: definite lengths, octet strings in one piece. What follows the first
/// element is left out.
pub(crate) fn to_der(ber: &[u8], what: &'static str) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let mut out = Zeroizing::new(Vec::with_capacity(ber.len()));
    let malformed = CredentialError::Malformed(what);
    copy_element(ber, DEPTH_MAX, &mut out).ok_or(malformed)?;
    Ok(out)
}

/// Appends the first element of `ber` in DER and returns what follows it.
fn copy_element<'a>(ber: &'a [u8], depth: usize, out: &mut Zeroizing<Vec<u8>>) -> Option<&'a [u8]> {
    let depth = depth.checked_sub(1)?;
    let tag = *ber.first()?;
    let (content, rest) = split(ber, depth)?;
    if tag & CONSTRUCTED == 0 {
        append(tag, content, out);
        return Some(rest);
    }
    let mut inner = Zeroizing::new(Vec::with_capacity(content.len()));
    let mut members = content;
    while !members.is_empty() {
        members = copy_element(members, depth, &mut inner)?;
    }
    if tag == OCTET_STRING | CONSTRUCTED {
        let mut joined = Zeroizing::new(Vec::with_capacity(inner.len()));
        let mut pieces = Reader::new(&inner, "");
        while !pieces.is_empty() {
            joined.extend_from_slice(pieces.content(OCTET_STRING).ok()?);
        }
        append(OCTET_STRING, &joined, out);
    } else {
        append(tag, &inner, out);
    }
    Some(rest)
}

/// Content of the first element, end-of-contents excluded, and what follows it.
fn split(ber: &[u8], depth: usize) -> Option<(&[u8], &[u8])> {
    let (header, content_len) = header(ber)?;
    let content = ber.get(header..)?;
    if let Some(len) = content_len {
        return content.split_at_checked(len);
    }
    let depth = depth.checked_sub(1)?;
    let mut rest = content;
    while !rest.starts_with(&[0, 0]) {
        rest = split(rest, depth)?.1;
    }
    let len = content.len() - rest.len();
    Some((content.get(..len)?, rest.get(2..)?))
}

/// Octets of tag and length, and the length of the content, `None` for indefinite. Only low tag
/// numbers, as no format here has others.
fn header(ber: &[u8]) -> Option<(usize, Option<usize>)> {
    let (&tag, &first) = (ber.first()?, ber.get(1)?);
    if tag & 0x1f == 0x1f {
        return None;
    }
    match first {
        0..=0x7f => Some((2, Some(usize::from(first)))),
        INDEFINITE => (tag & CONSTRUCTED != 0).then_some((2, None)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let octets = ber.get(2..2 + count)?;
            let len = octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet));
            Some((2 + count, Some(len)))
        }
        _ => None,
    }
}

fn dotted(octets: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut value: u64 = 0;
    if octets.last().is_some_and(|last| last & 0x80 != 0) {
        return None;
    }
    for octet in octets {
        value = value.checked_mul(128)? + u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            arcs.push(value);
            value = 0;
        }
    }
    let (&first, others) = arcs.split_first()?;
    let root = (first / 40).min(2);
    let mut text = format!("{root}.{}", first - root * 40);
    for arc in others {
        text.push_str(&format!(".{arc}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indefinite_lengths_and_strings_in_pieces() {
        // SEQUENCE (indefinite) { [0] (indefinite) { OCTET STRING in pieces 01 02, 03 }, INTEGER 5 }
        let ber = [
            0x30, 0x80, 0xa0, 0x80, 0x24, 0x80, 0x04, 2, 1, 2, 0x04, 1, 3, 0, 0, 0, 0, 2, 1, 5, 0, 0,
        ];
        let der = to_der(&ber, "test").expect("BER");
        assert_eq!(*der, [0x30, 10, 0xa0, 5, 4, 3, 1, 2, 3, 2, 1, 5]);
        assert_eq!(*to_der(&der, "test").expect("DER"), *der);
    }

    #[test]
    fn damaged_encodings() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 5, 1],
            &[0x30, 0x80, 2, 1],
            &[4, 0x80, 0, 0],
            &[0x3f, 1, 0],
        ] {
            assert!(to_der(bytes, "test").is_err(), "{bytes:?}");
        }
        let nested = [&[0x30, 0x80].repeat(2000)[..], &[0, 0].repeat(2000)[..]].concat();
        assert!(to_der(&nested, "test").is_err());
    }

    #[test]
    fn long_content_keeps_its_length() {
        let mut der = Vec::new();
        append(SEQUENCE, &[0; 300], &mut der);
        assert_eq!(der[..4], [0x30, 0x82, 1, 44]);
        assert!(is_one_sequence(&der));
        der.push(0);
        assert!(!is_one_sequence(&der));
    }

    #[test]
    fn object_identifiers() {
        let der = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
        assert_eq!(
            Reader::new(&der, "").oid().as_deref(),
            Ok("1.2.840.113549.1.5.13")
        );
        for damaged in [&[6, 0][..], &[6, 2, 0x2a, 0x86]] {
            assert!(Reader::new(damaged, "").oid().is_err(), "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(der) = to_der(&bytes, "test") {
                prop_assert_eq!(&*to_der(&der, "test").expect("DER"), &*der);
            }
            let mut reader = Reader::new(&bytes, "test");
            while let Ok(element) = reader.any() {
                dotted(element.content);
            }
        }
    }
}
