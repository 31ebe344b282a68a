//! SHA-1 (FIPS 180-4 §6.1) of sixteen messages at a time: almost four times as fast as one message after
//! the other with the SHA extensions where the processor has AVX-512, one and a half times with AVX2.

use super::LANES;

/// Octets of a block.
pub const BLOCK: usize = 64;

/// One word of each message.
pub type Lane = [u32; LANES];

/// Words of a block.
const WORDS: usize = 16;
/// What a message that is too short has instead of a block.
const NOTHING: &[u8; BLOCK] = &[0; BLOCK];

/// Messages from which on all lanes together are faster than one after the other; `None` where
/// they never are.
pub fn worth() -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            return Some(6);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return Some(10);
        }
    }
    None
}

/// Takes the first `blocks` blocks of each message into its state; what a message does not have is
/// taken as zeroes.
pub fn compress(state: &mut [Lane; 5], messages: &[&[u8]; LANES], blocks: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the processor has the instructions that this function is compiled for.
            return unsafe { x86::compress_avx512(state, messages, blocks) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions that this function is compiled for.
            return unsafe { x86::compress_avx2(state, messages, blocks) };
        }
    }
    compress_lanes(state, messages, blocks);
}

/// Takes one block of each message, given as words, into its state.
pub fn compress_words(state: &mut [Lane; 5], words: &[Lane; WORDS]) {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the processor has the instructions that this function is compiled for.
            return unsafe { x86::compress_words_avx512(state, words) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions that this function is compiled for.
            return unsafe { x86::compress_words_avx2(state, words) };
        }
    }
    rounds(state, *words);
}

/// Block `number` of a message.
#[inline(always)]
fn block_of(message: &[u8], number: usize) -> &[u8; BLOCK] {
    message
        .get(number * BLOCK..)
        .and_then(<[u8]>::first_chunk)
        .unwrap_or(NOTHING)
}

/// Inlined, so that it is compiled for its caller's instructions.
#[inline(always)]
fn compress_lanes(state: &mut [Lane; 5], messages: &[&[u8]; LANES], blocks: usize) {
    for number in 0..blocks {
        let mut words = [[0; LANES]; WORDS];
        for (lane, message) in messages.iter().enumerate() {
            let (octets, _) = block_of(message, number).as_chunks::<4>();
            for (word, octets) in words.iter_mut().zip(octets) {
                word[lane] = u32::from_be_bytes(*octets);
            }
        }
        rounds(state, words);
    }
}

/// The eighty rounds of all lanes.
#[inline(always)]
fn rounds(state: &mut [Lane; 5], mut words: [Lane; WORDS]) {
    let mut working = *state;
    for round in 0..20 {
        step(&mut working, &mut words, round, 0x5a82_7999, |b, c, d| {
            (b & c) | (!b & d)
        });
    }
    for round in 20..40 {
        step(&mut working, &mut words, round, 0x6ed9_eba1, |b, c, d| b ^ c ^ d);
    }
    for round in 40..60 {
        step(&mut working, &mut words, round, 0x8f1b_bcdc, |b, c, d| {
            (b & c) | (d & (b | c))
        });
    }
    for round in 60..80 {
        step(&mut working, &mut words, round, 0xca62_c1d6, |b, c, d| b ^ c ^ d);
    }
    for (word, worked) in state.iter_mut().zip(&working) {
        for lane in 0..LANES {
            word[lane] = word[lane].wrapping_add(worked[lane]);
        }
    }
}

/// One round of all lanes.
#[inline(always)]
fn step(
    working: &mut [Lane; 5],
    words: &mut [Lane; WORDS],
    round: usize,
    constant: u32,
    function: impl Fn(u32, u32, u32) -> u32,
) {
    let mut word = words[round % WORDS];
    if round >= WORDS {
        let earlier = |back: usize| words[(round - back) % WORDS];
        let (a, b, c) = (earlier(3), earlier(8), earlier(14));
        for lane in 0..LANES {
            word[lane] = (a[lane] ^ b[lane] ^ c[lane] ^ word[lane]).rotate_left(1);
        }
        words[round % WORDS] = word;
    }
    let [a, b, c, d, e] = *working;
    let (mut first, mut third) = ([0; LANES], [0; LANES]);
    for lane in 0..LANES {
        first[lane] = a[lane]
            .rotate_left(5)
            .wrapping_add(function(b[lane], c[lane], d[lane]))
            .wrapping_add(e[lane])
            .wrapping_add(constant)
            .wrapping_add(word[lane]);
        third[lane] = b[lane].rotate_left(30);
    }
    *working = [first, a, third, c, d];
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::x86::gather;
    use super::{BLOCK, LANES, Lane, NOTHING, WORDS, block_of, compress_lanes, rounds};

    /// Bits of a ternary logic instruction: the function's results for all eight inputs.
    const CHOOSE: i32 = 0xca;
    const PARITY: i32 = 0x96;
    const MAJORITY: i32 = 0xe8;

    pub(super) fn has_avx512() -> bool {
        std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn compress_avx2(state: &mut [Lane; 5], messages: &[&[u8]; LANES], blocks: usize) {
        compress_lanes(state, messages, blocks);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn compress_words_avx2(state: &mut [Lane; 5], words: &[Lane; WORDS]) {
        rounds(state, *words);
    }

    /// What the loops of [`compress_lanes`] become is a third slower: the words of sixteen messages
    /// cost as much as half of the rounds when they are collected one by one.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn compress_avx512(state: &mut [Lane; 5], messages: &[&[u8]; LANES], blocks: usize) {
        rounds_avx512(state, blocks, |number| {
            // A loop: closures in `map` are not inlined.
            let mut all = [NOTHING; LANES];
            for (block, message) in all.iter_mut().zip(messages) {
                *block = block_of(message, number);
            }
            words_of(&all)
        });
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn compress_words_avx512(state: &mut [Lane; 5], words: &[Lane; WORDS]) {
        rounds_avx512(state, 1, |_| words.each_ref().map(|lane| from_lane(lane)));
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn from_lane(lane: &Lane) -> __m512i {
        // SAFETY: the reference is valid for the 64 octets that are read, of any alignment.
        unsafe { _mm512_loadu_si512(lane.as_ptr().cast()) }
    }

    /// Word for word what sixteen blocks hold: each word of all of them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn words_of(blocks: &[&[u8; BLOCK]; LANES]) -> [__m512i; WORDS] {
        let big_endian =
            _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        let mut words = [_mm512_setzero_si512(); WORDS];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            // The messages n, n + 4, n + 8 and n + 12, so that the words come out in order.
            let row = |row: usize| {
                let octets = |column: usize| &blocks[4 * column + row].as_chunks::<16>().0[quarter];
                _mm512_shuffle_epi8(gather([octets(0), octets(1), octets(2), octets(3)]), big_endian)
            };
            let rows = [row(0), row(1), row(2), row(3)];
            let low = [
                _mm512_unpacklo_epi32(rows[0], rows[1]),
                _mm512_unpacklo_epi32(rows[2], rows[3]),
            ];
            let high = [
                _mm512_unpackhi_epi32(rows[0], rows[1]),
                _mm512_unpackhi_epi32(rows[2], rows[3]),
            ];
            *words = [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ];
        }
        words
    }

    /// The rounds of `blocks` blocks, whose words `words_of` tells by their number. Generic, so that
    /// each caller has its own: what is not inlined keeps its vectors in memory.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rounds_avx512(state: &mut [Lane; 5], blocks: usize, words_of: impl Fn(usize) -> [__m512i; WORDS]) {
        let mut working = state.each_ref().map(|lane| from_lane(lane));
        for number in 0..blocks {
            let mut words = words_of(number);
            let before = working;
            // Written out, so that every word has its register.
            working = five::<CHOOSE, 0>(working, &mut words, 0x5a82_7999);
            working = five::<CHOOSE, 5>(working, &mut words, 0x5a82_7999);
            working = five::<CHOOSE, 10>(working, &mut words, 0x5a82_7999);
            working = five::<CHOOSE, 15>(working, &mut words, 0x5a82_7999);
            working = five::<PARITY, 20>(working, &mut words, 0x6ed9_eba1);
            working = five::<PARITY, 25>(working, &mut words, 0x6ed9_eba1);
            working = five::<PARITY, 30>(working, &mut words, 0x6ed9_eba1);
            working = five::<PARITY, 35>(working, &mut words, 0x6ed9_eba1);
            working = five::<MAJORITY, 40>(working, &mut words, 0x8f1b_bcdc);
            working = five::<MAJORITY, 45>(working, &mut words, 0x8f1b_bcdc);
            working = five::<MAJORITY, 50>(working, &mut words, 0x8f1b_bcdc);
            working = five::<MAJORITY, 55>(working, &mut words, 0x8f1b_bcdc);
            working = five::<PARITY, 60>(working, &mut words, 0xca62_c1d6);
            working = five::<PARITY, 65>(working, &mut words, 0xca62_c1d6);
            working = five::<PARITY, 70>(working, &mut words, 0xca62_c1d6);
            working = five::<PARITY, 75>(working, &mut words, 0xca62_c1d6);
            working = std::array::from_fn(|word| _mm512_add_epi32(before[word], working[word]));
        }
        for (lane, word) in state.iter_mut().zip(working) {
            // SAFETY: the reference is valid for the 64 octets that are written, of any alignment.
            unsafe { _mm512_storeu_si512(lane.as_mut_ptr().cast(), word) };
        }
    }

    /// Five rounds from `FIRST` on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn five<const FUNCTION: i32, const FIRST: usize>(
        mut working: [__m512i; 5],
        words: &mut [__m512i; WORDS],
        constant: u32,
    ) -> [__m512i; 5] {
        let constant = _mm512_set1_epi32(constant.cast_signed());
        for round in FIRST..FIRST + 5 {
            if round >= WORDS {
                let earlier = |back: usize| words[(round - back) % WORDS];
                let mixed = _mm512_ternarylogic_epi32::<PARITY>(earlier(3), earlier(8), earlier(14));
                words[round % WORDS] = _mm512_rol_epi32::<1>(_mm512_xor_si512(mixed, earlier(16)));
            }
            let [a, b, c, d, e] = working;
            let early = _mm512_add_epi32(_mm512_add_epi32(e, constant), words[round % WORDS]);
            let early = _mm512_add_epi32(early, _mm512_ternarylogic_epi32::<FUNCTION>(b, c, d));
            let first = _mm512_add_epi32(early, _mm512_rol_epi32::<5>(a));
            working = [first, a, _mm512_rol_epi32::<30>(b), c, d];
        }
        working
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

    type Compress = fn(&mut [Lane; 5], &[&[u8]; LANES], usize);
    type CompressWords = fn(&mut [Lane; 5], &[Lane; WORDS]);

    /// Every way that this processor has.
    fn ways() -> Vec<(&'static str, Compress, CompressWords)> {
        #[allow(unused_mut)]
        let mut ways: Vec<(_, Compress, CompressWords)> = vec![
            ("chosen", compress, compress_words),
            ("portable", compress_lanes, |state, words| rounds(state, *words)),
        ];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            ways.push((
                "avx2",
                |state, messages, blocks| unsafe { x86::compress_avx2(state, messages, blocks) },
                |state, words| unsafe { x86::compress_words_avx2(state, words) },
            ));
        }
        ways
    }

    /// A message of less than 56 octets with its end.
    fn padded(message: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..message.len()].copy_from_slice(message);
        block[message.len()] = 0x80;
        block[BLOCK - 1] = message.len() as u8 * 8;
        block
    }

    /// FIPS 180-4 examples: "abc", and the empty message in all other lanes.
    #[test]
    fn digests_of_the_standard() {
        let (abc, empty) = (padded(b"abc"), padded(b""));
        for (way, compress, compress_words) in ways() {
            for place in 0..LANES {
                let blocks: [&[u8; BLOCK]; LANES] =
                    std::array::from_fn(|lane| if lane == place { &abc } else { &empty });
                let mut state = INITIAL.map(|word| [word; LANES]);
                compress(&mut state, &blocks.map(<[u8; BLOCK]>::as_slice), 1);
                let mut by_words = INITIAL.map(|word| [word; LANES]);
                let words = std::array::from_fn(|word| {
                    blocks.map(|block| u32::from_be_bytes(block.as_chunks().0[word]))
                });
                compress_words(&mut by_words, &words);
                assert_eq!(state, by_words, "{way}");
                for lane in 0..LANES {
                    let digest = state.map(|word| word[lane]);
                    let expected = if lane == place {
                        [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d]
                    } else {
                        [0xda39_a3ee, 0x5e6b_4b0d, 0x3255_bfef, 0x9560_1890, 0xafd8_0709]
                    };
                    assert_eq!(digest, expected, "{way}: {lane} of {place}");
                }
            }
        }
    }

    /// Several blocks, all lanes different, some too short.
    #[test]
    fn all_ways_agree() {
        let octets: Vec<u8> = (0..5000u32)
            .map(|number| ((number * number) >> 5) as u8)
            .collect();
        let messages: [&[u8]; LANES] = std::array::from_fn(|lane| {
            &octets[lane * 7..][..if lane % 5 == 4 { lane * 13 } else { 4 * BLOCK }]
        });
        let results = ways().into_iter().map(|(_, compress, _)| {
            let mut state = INITIAL.map(|word| [word; LANES]);
            compress(&mut state, &messages, 4);
            state
        });
        let results: Vec<_> = results.collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        // What is missing counts as zeroes.
        let mut filled = vec![0; 4 * BLOCK];
        filled[..messages[4].len() / BLOCK * BLOCK]
            .copy_from_slice(&messages[4][..messages[4].len() / BLOCK * BLOCK]);
        let mut state = INITIAL.map(|word| [word; LANES]);
        compress(&mut state, &[&filled; LANES], 4);
        assert_eq!(state.map(|word| word[0]), results[0].map(|word| word[4]));
    }
}
