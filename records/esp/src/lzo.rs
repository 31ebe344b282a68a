//! LZO1X, as Juniper's servers compress IPv4 packets (`specs/esp.md` §11): a decoder that checks
//! every index and never writes more than it is allowed.

/// A stream that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LzoError {
    /// It ends before its end marker.
    #[error("the LZO stream is cut off")]
    Truncated,
    /// The result is longer than allowed.
    #[error("the LZO stream holds more than allowed")]
    TooLong,
    /// It refers to octets before the beginning, or its end marker is wrong.
    #[error("the LZO stream refers to what it does not hold")]
    BadReference,
    /// Something follows the end marker.
    #[error("octets follow the end of the LZO stream")]
    Trailing,
}

/// A distance that stands for the end of the stream.
const END_DISTANCE: usize = 16384;

/// Decodes one complete stream to the start of `out` and returns the length of the result.
///
/// # Errors
/// See [`LzoError`]; the content of `out` is then unspecified.
pub fn decompress(stream: &[u8], out: &mut [u8]) -> Result<usize, LzoError> {
    let mut decoder = Decoder {
        rest: stream,
        out,
        len: 0,
    };
    decoder.run()?;
    if decoder.rest.is_empty() {
        Ok(decoder.len)
    } else {
        Err(LzoError::Trailing)
    }
}

/// What the previous instruction ended with: how the numbers 0 to 15 are to be read.
#[derive(Clone, Copy)]
enum Before {
    /// This many literals, 0 to 3.
    Literals(usize),
    /// A run of literals.
    Run,
}

struct Decoder<'a> {
    rest: &'a [u8],
    out: &'a mut [u8],
    /// Octets of the result so far.
    len: usize,
}

impl Decoder<'_> {
    fn run(&mut self) -> Result<(), LzoError> {
        let mut before = Before::Literals(0);
        if let Some(&first @ 18..) = self.rest.first() {
            self.octet()?;
            let count = usize::from(first) - 17;
            self.literals(count)?;
            before = if count < 4 {
                Before::Literals(count)
            } else {
                Before::Run
            };
        }
        loop {
            let x = usize::from(self.octet()?);
            let trailing = match (x, before) {
                (0..16, Before::Literals(0)) => {
                    let count = self.length(x, 15)? + 3;
                    self.literals(count)?;
                    before = Before::Run;
                    continue;
                }
                (0..16, Before::Literals(_)) => {
                    let high = usize::from(self.octet()?);
                    self.copy(2, (high << 2) + (x >> 2) + 1)?;
                    x & 3
                }
                (0..16, Before::Run) => {
                    let high = usize::from(self.octet()?);
                    self.copy(3, (high << 2) + (x >> 2) + 2049)?;
                    x & 3
                }
                (16..32, _) => {
                    let count = self.length(x, 7)? + 2;
                    let value = self.word()?;
                    let distance = END_DISTANCE + ((x & 8) << 11) + (value >> 2);
                    if distance == END_DISTANCE {
                        return if count == 3 {
                            Ok(())
                        } else {
                            Err(LzoError::BadReference)
                        };
                    }
                    self.copy(count, distance)?;
                    value & 3
                }
                (32..64, _) => {
                    let count = self.length(x, 31)? + 2;
                    let value = self.word()?;
                    self.copy(count, (value >> 2) + 1)?;
                    value & 3
                }
                _ => {
                    let high = usize::from(self.octet()?);
                    self.copy((x >> 5) + 1, (high << 3) + ((x >> 2) & 7) + 1)?;
                    x & 3
                }
            };
            self.literals(trailing)?;
            before = Before::Literals(trailing);
        }
    }

    fn octet(&mut self) -> Result<u8, LzoError> {
        let (first, rest) = self.rest.split_first().ok_or(LzoError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Two octets, little-endian.
    fn word(&mut self) -> Result<usize, LzoError> {
        let (word, rest) = self.rest.split_first_chunk().ok_or(LzoError::Truncated)?;
        self.rest = rest;
        Ok(usize::from(u16::from_le_bytes(*word)))
    }

    /// The length in the bits `mask` of an instruction; 0 means that more octets follow.
    fn length(&mut self, x: usize, mask: usize) -> Result<usize, LzoError> {
        let short = x & mask;
        if short > 0 {
            return Ok(short);
        }
        let mut length = mask;
        loop {
            match self.octet()? {
                0 => length += 255,
                last => return Ok(length + usize::from(last)),
            }
            if length > self.out.len() {
                return Err(LzoError::TooLong);
            }
        }
    }

    fn literals(&mut self, count: usize) -> Result<(), LzoError> {
        let (literals, rest) = self.rest.split_at_checked(count).ok_or(LzoError::Truncated)?;
        let end = self.len + count;
        self.out
            .get_mut(self.len..end)
            .ok_or(LzoError::TooLong)?
            .copy_from_slice(literals);
        self.len = end;
        self.rest = rest;
        Ok(())
    }

    /// Repeats octets from `distance` before the end, byte by byte: the two may overlap.
    fn copy(&mut self, count: usize, distance: usize) -> Result<(), LzoError> {
        let start = self.len.checked_sub(distance).ok_or(LzoError::BadReference)?;
        for from in start..start + count {
            let octet = *self.out.get(from).ok_or(LzoError::TooLong)?;
            *self.out.get_mut(self.len).ok_or(LzoError::TooLong)? = octet;
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 2048;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.trim().as_bytes()).unwrap()
    }

    #[test]
    fn vectors() {
        let (mut good, mut bad) = (0, 0);
        let (mut out, mut compressed) = ([0; LIMIT], Vec::new());
        for line in include_str!("../tests/vectors/lzo1x.txt").lines() {
            match line.split_once('=').map(|(key, value)| (key.trim(), value)) {
                Some(("compressed", value)) => compressed = hex(value),
                Some(("plain", value)) => {
                    good += 1;
                    let len = decompress(&compressed, &mut out).unwrap();
                    assert_eq!(out[..len], hex(value));
                }
                Some(("reject", value)) => {
                    bad += 1;
                    assert!(decompress(&hex(value), &mut out).is_err(), "{line}");
                }
                _ => {}
            }
        }
        assert!(good >= 6 && bad >= 8, "{good} {bad}");
    }

    proptest! {
        #[test]
        fn never_panics(stream in prop::collection::vec(any::<u8>(), 0..300), room in 0usize..500) {
            let _ = decompress(&stream, &mut vec![0; room]);
        }
    }
}
