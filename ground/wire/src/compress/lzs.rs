//! LZS, the bit stream of RFC 1974 and RFC 2395: bits from the most significant one down.

use super::DecompressError;

/// Farthest distance of a match, in octets.
const WINDOW: usize = 2047;
/// Farthest distance that fits the short form.
const SHORT_OFFSET: usize = 127;
/// Slots of the table that finds earlier occurrences of two octets.
const TABLE: usize = 1 << 12;
/// A slot that names no position.
const EMPTY: u16 = u16::MAX;

/// Compresses `packet` (at most 65534 octets); `None` if the result does not fit `out`.
pub(super) fn compress(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    if packet.len() >= usize::from(EMPTY) {
        return None;
    }
    let mut latest = [EMPTY; TABLE];
    let mut bits = BitWriter::new(out);
    let mut at = 0;
    while at < packet.len() {
        match find_match(packet, at, &latest) {
            Some((offset, length)) => {
                write_match(&mut bits, offset, length)?;
                for position in at..at + length {
                    remember(packet, position, &mut latest);
                }
                at += length;
            }
            None => {
                bits.write(u32::from(packet[at]), 9)?;
                remember(packet, at, &mut latest);
                at += 1;
            }
        }
    }
    bits.write(0b1_1000_0000, 9)?;
    bits.finish()
}

fn slot(packet: &[u8], at: usize) -> Option<usize> {
    let pair = packet.get(at..at + 2)?;
    Some((usize::from(pair[0]) << 4 ^ usize::from(pair[1])) % TABLE)
}

fn remember(packet: &[u8], at: usize, latest: &mut [u16; TABLE]) {
    if let (Some(slot), Ok(position)) = (slot(packet, at), u16::try_from(at)) {
        latest[slot] = position;
    }
}

/// Distance and length of an earlier occurrence of what begins at `at`, 2 octets or more.
fn find_match(packet: &[u8], at: usize, latest: &[u16; TABLE]) -> Option<(usize, usize)> {
    let candidate = latest[slot(packet, at)?];
    if candidate == EMPTY {
        return None;
    }
    let candidate = usize::from(candidate);
    let offset = at - candidate;
    let length = packet[candidate..]
        .iter()
        .zip(&packet[at..])
        .take_while(|(a, b)| a == b)
        .count();
    (length >= 2 && offset <= WINDOW).then_some((offset, length))
}

fn write_match(bits: &mut BitWriter<'_>, offset: usize, length: usize) -> Option<()> {
    let distance = u32::try_from(offset).ok()?;
    if offset <= SHORT_OFFSET {
        bits.write(0b11 << 7 | distance, 9)?;
    } else {
        bits.write(0b10 << 11 | distance, 13)?;
    }
    match length {
        2..=4 => bits.write(u32::try_from(length - 2).ok()?, 2),
        5..=7 => bits.write(0b1100 | u32::try_from(length - 5).ok()?, 4),
        _ => {
            bits.write(0b1111, 4)?;
            let mut rest = length - 8;
            while rest >= 15 {
                bits.write(15, 4)?;
                rest -= 15;
            }
            bits.write(u32::try_from(rest).ok()?, 4)
        }
    }
}

/// Decompresses `packet` into `out`.
pub(super) fn decompress(packet: &[u8], out: &mut [u8]) -> Result<usize, DecompressError> {
    let mut bits = BitReader { input: packet, at: 0 };
    let mut written = 0;
    loop {
        if bits.take(1)? == 0 {
            let octet = u8::try_from(bits.take(8)?).map_err(|_| DecompressError)?;
            *out.get_mut(written).ok_or(DecompressError)? = octet;
            written += 1;
            continue;
        }
        let short = bits.take(1)? == 1;
        let offset = if short { bits.take(7)? } else { bits.take(11)? } as usize;
        if offset == 0 {
            return if short { Ok(written) } else { Err(DecompressError) };
        }
        let length = read_length(&mut bits)?;
        if offset > written || length > out.len() - written {
            return Err(DecompressError);
        }
        for at in written..written + length {
            out[at] = out[at - offset];
        }
        written += length;
    }
}

fn read_length(bits: &mut BitReader<'_>) -> Result<usize, DecompressError> {
    let first = bits.take(2)?;
    if first < 3 {
        return Ok(2 + first as usize);
    }
    let second = bits.take(2)?;
    if second < 3 {
        return Ok(5 + second as usize);
    }
    let mut length = 8;
    loop {
        let nibble = bits.take(4)?;
        length += nibble as usize;
        if nibble < 15 {
            return Ok(length);
        }
    }
}

struct BitReader<'a> {
    input: &'a [u8],
    /// Position in bits.
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: usize) -> Result<u32, DecompressError> {
        let mut value = 0;
        for _ in 0..count {
            let octet = self.input.get(self.at / 8).ok_or(DecompressError)?;
            value = value << 1 | u32::from(octet >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }
}

struct BitWriter<'a> {
    out: &'a mut [u8],
    written: usize,
    pending: u32,
    pending_bits: usize,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            written: 0,
            pending: 0,
            pending_bits: 0,
        }
    }

    /// Appends the low `count` (at most 16) bits of `value`; `None` when the output is full.
    fn write(&mut self, value: u32, count: usize) -> Option<()> {
        self.pending = self.pending << count | value;
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            *self.out.get_mut(self.written)? = (self.pending >> self.pending_bits & 0xff) as u8;
            self.written += 1;
            self.pending &= (1 << self.pending_bits) - 1;
        }
        Some(())
    }

    fn finish(mut self) -> Option<usize> {
        if self.pending_bits > 0 {
            self.write(0, 8 - self.pending_bits)?;
        }
        Some(self.written)
    }
}
