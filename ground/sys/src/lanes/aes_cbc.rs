//! AES-CBC (RFC 3602) with the AES instructions for 512 bits: four blocks per instruction. Blocks of
//! one packet can be decrypted side by side, but not encrypted; for that there are
//! [`LANES`] packets.

use super::LANES;

/// Octets of a block.
pub const BLOCK: usize = 16;

/// An expanded key of 16 or 32 octets on a processor that has the instructions.
pub struct Key(
    #[cfg(target_arch = "x86_64")] x86::Key,
    #[cfg(not(target_arch = "x86_64"))] std::convert::Infallible,
);

#[cfg(target_arch = "x86_64")]
impl Key {
    /// `None` when the processor lacks the instructions, or the key has another length.
    pub fn new(key: &[u8]) -> Option<Self> {
        let has_instructions = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("vaes")
            && std::arch::is_x86_feature_detected!("aes");
        // SAFETY: the processor has the instructions that this function is compiled for.
        (has_instructions && matches!(key.len(), 16 | 32)).then(|| Self(unsafe { x86::expand(key) }))
    }

    /// Encrypts packets of equal length, each an IV with whole blocks behind it, side by side. One
    /// that is shorter is encrypted as far as it goes; an empty one is no packet.
    pub fn encrypt(&self, packets: &mut [&mut [u8]; LANES]) {
        // SAFETY: there is a key only where the processor has the instructions.
        unsafe {
            match self.0.rounds() {
                x86::ROUNDS_128 => x86::encrypt::<{ x86::ROUNDS_128 }>(&self.0, packets),
                _ => x86::encrypt::<{ x86::ROUNDS_256 }>(&self.0, packets),
            }
        }
    }

    /// Decrypts whole blocks in place.
    pub fn decrypt(&self, iv: &[u8; BLOCK], blocks: &mut [u8]) {
        // SAFETY: there is a key only where the processor has the instructions.
        unsafe {
            match self.0.rounds() {
                x86::ROUNDS_128 => x86::decrypt::<{ x86::ROUNDS_128 }>(&self.0, iv, blocks),
                _ => x86::decrypt::<{ x86::ROUNDS_256 }>(&self.0, iv, blocks),
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Key {
    /// `None`: there are no such instructions.
    pub fn new(_key: &[u8]) -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub fn encrypt(&self, _packets: &mut [&mut [u8]; LANES]) {
        match self.0 {}
    }

    /// Cannot be called.
    pub fn decrypt(&self, _iv: &[u8; BLOCK], _blocks: &mut [u8]) {
        match self.0 {}
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use zeroize::Zeroizing;

    use super::super::x86::{gather, load, store};
    use super::{BLOCK, LANES};

    /// Round keys of AES-128 and of AES-256 (FIPS 197 §5).
    pub(super) const ROUNDS_128: usize = 11;
    pub(super) const ROUNDS_256: usize = 15;

    /// What a packet that is shorter has instead of a block.
    const NOTHING: &[u8; BLOCK] = &[0; BLOCK];

    pub(super) struct Key {
        rounds: usize,
        encrypt: Zeroizing<[[u8; BLOCK]; ROUNDS_256]>,
        /// In the order of their use, for the equivalent inverse cipher (FIPS 197 §5.3.5).
        decrypt: Zeroizing<[[u8; BLOCK]; ROUNDS_256]>,
    }

    impl Key {
        /// [`ROUNDS_128`] or [`ROUNDS_256`].
        pub(super) fn rounds(&self) -> usize {
            self.rounds
        }
    }

    /// The key expansion of FIPS 197 §5.2, for keys of 16 or 32 octets.
    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn expand(key: &[u8]) -> Key {
        let key_words = key.len() / 4;
        let rounds = key_words + 7;
        let mut words = Zeroizing::new([[0; 4]; 4 * ROUNDS_256]);
        let (given, _) = key.as_chunks::<4>();
        words
            .iter_mut()
            .zip(given)
            .for_each(|(word, given)| *word = *given);
        let substituted = |word: u32| {
            let all = _mm_set1_epi32(word.cast_signed());
            _mm_extract_epi32::<0>(_mm_aeskeygenassist_si128::<0>(all)).cast_unsigned()
        };
        let mut constant = 1u32;
        for number in key_words..4 * rounds {
            let mut word = u32::from_le_bytes(words[number - 1]);
            if number % key_words == 0 {
                word = substituted(word).rotate_right(8) ^ constant;
                constant = (constant << 1) ^ ((constant >> 7) * 0x11b);
            } else if key_words > 6 && number % key_words == 4 {
                word = substituted(word);
            }
            words[number] = (word ^ u32::from_le_bytes(words[number - key_words])).to_le_bytes();
        }
        let mut schedule = Key {
            rounds,
            encrypt: Zeroizing::new([[0; BLOCK]; ROUNDS_256]),
            decrypt: Zeroizing::new([[0; BLOCK]; ROUNDS_256]),
        };
        let (keys, _) = words.as_flattened().as_chunks::<BLOCK>();
        schedule.encrypt.copy_from_slice(keys);
        for (number, (to, key)) in schedule
            .decrypt
            .iter_mut()
            .zip(keys[..rounds].iter().rev())
            .enumerate()
        {
            let key = load(key);
            let is_outer = number == 0 || number == rounds - 1;
            store(to, if is_outer { key } else { _mm_aesimc_si128(key) });
        }
        schedule
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn broadcast<const ROUNDS: usize>(keys: &[[u8; BLOCK]; ROUNDS_256]) -> [__m512i; ROUNDS] {
        std::array::from_fn(|round| _mm512_broadcast_i32x4(load(&keys[round])))
    }

    /// `ROUNDS` is the key's.
    #[target_feature(enable = "avx512f,vaes")]
    pub(super) fn encrypt<const ROUNDS: usize>(key: &Key, packets: &mut [&mut [u8]; LANES]) {
        let keys = broadcast::<ROUNDS>(&key.encrypt);
        let blocks = packets
            .iter()
            .map(|packet| packet.len() / BLOCK)
            .max()
            .unwrap_or(0);
        let at = |packets: &[&mut [u8]; LANES], group: usize, number: usize| {
            gather(std::array::from_fn(|lane| {
                packets[4 * group + lane]
                    .as_chunks::<BLOCK>()
                    .0
                    .get(number)
                    .unwrap_or(NOTHING)
            }))
        };
        let mut chains: [__m512i; LANES / 4] = std::array::from_fn(|group| at(packets, group, 0));
        for number in 1..blocks {
            for (group, chain) in chains.iter_mut().enumerate() {
                *chain = _mm512_xor_si512(_mm512_xor_si512(*chain, at(packets, group, number)), keys[0]);
            }
            for key in &keys[1..ROUNDS - 1] {
                chains = chains.map(|chain| _mm512_aesenc_epi128(chain, *key));
            }
            chains = chains.map(|chain| _mm512_aesenclast_epi128(chain, keys[ROUNDS - 1]));
            for (group, chain) in packets.as_chunks_mut::<4>().0.iter_mut().zip(chains) {
                let encrypted = [
                    _mm512_castsi512_si128(chain),
                    _mm512_extracti32x4_epi32::<1>(chain),
                    _mm512_extracti32x4_epi32::<2>(chain),
                    _mm512_extracti32x4_epi32::<3>(chain),
                ];
                for (packet, encrypted) in group.iter_mut().zip(encrypted) {
                    if let Some(block) = packet.as_chunks_mut::<BLOCK>().0.get_mut(number) {
                        store(block, encrypted);
                    }
                }
            }
        }
    }

    /// `ROUNDS` is the key's.
    #[target_feature(enable = "avx512f,vaes")]
    pub(super) fn decrypt<const ROUNDS: usize>(key: &Key, iv: &[u8; BLOCK], blocks: &mut [u8]) {
        let keys = broadcast::<ROUNDS>(&key.decrypt);
        let mut previous = _mm512_inserti32x4::<3>(_mm512_setzero_si512(), load(iv));
        let (runs, rest) = blocks.as_chunks_mut::<{ 16 * BLOCK }>();
        for run in runs {
            let quads = run.as_chunks_mut::<{ 4 * BLOCK }>().0;
            let encrypted: [__m512i; 4] = std::array::from_fn(|quad| load_quad(&quads[quad]));
            let mut worked = encrypted.map(|quad| _mm512_xor_si512(quad, keys[0]));
            for key in &keys[1..ROUNDS - 1] {
                worked = worked.map(|quad| _mm512_aesdec_epi128(quad, *key));
            }
            for ((to, worked), encrypted) in quads.iter_mut().zip(worked).zip(encrypted) {
                let last = _mm512_aesdeclast_epi128(worked, keys[ROUNDS - 1]);
                store_quad(to, _mm512_xor_si512(last, behind(previous, encrypted)));
                previous = encrypted;
            }
        }
        let (quads, rest) = rest.as_chunks_mut::<{ 4 * BLOCK }>();
        for quad in quads {
            let encrypted = load_quad(quad);
            let worked = decrypt_quad(&keys, encrypted);
            store_quad(quad, _mm512_xor_si512(worked, behind(previous, encrypted)));
            previous = encrypted;
        }
        // Up to three blocks are left.
        let mut padded = [0; 4 * BLOCK];
        let whole = rest.len() / BLOCK * BLOCK;
        if let (Some(rest), Some(room)) = (rest.get_mut(..whole), padded.get_mut(..whole)) {
            room.copy_from_slice(rest);
            let encrypted = load_quad(&padded);
            let worked = decrypt_quad(&keys, encrypted);
            store_quad(&mut padded, _mm512_xor_si512(worked, behind(previous, encrypted)));
            rest.copy_from_slice(&padded[..whole]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn decrypt_quad<const ROUNDS: usize>(keys: &[__m512i; ROUNDS], quad: __m512i) -> __m512i {
        let mut worked = _mm512_xor_si512(quad, keys[0]);
        for key in &keys[1..ROUNDS - 1] {
            worked = _mm512_aesdec_epi128(worked, *key);
        }
        _mm512_aesdeclast_epi128(worked, keys[ROUNDS - 1])
    }

    /// Of four blocks, the one before each: the last of the previous four, and three of these.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn behind(previous: __m512i, quad: __m512i) -> __m512i {
        _mm512_alignr_epi64::<6>(quad, previous)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_quad(quad: &[u8; 4 * BLOCK]) -> __m512i {
        // SAFETY: the reference is valid for the 64 octets that are read, of any alignment.
        unsafe { _mm512_loadu_si512(quad.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store_quad(to: &mut [u8; 4 * BLOCK], quad: __m512i) {
        // SAFETY: the reference is valid for the 64 octets that are written, of any alignment.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), quad) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// NIST SP 800-38A, F.2.1 and F.2.5: key, IV with the plaintext, ciphertext.
    const PLAIN: &str = "000102030405060708090a0b0c0d0e0f\
        6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
    const EXAMPLES: [(&str, &str); 2] = [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ];

    #[test]
    fn examples_of_the_standard() {
        let plain = octets(PLAIN);
        for (key, encrypted) in EXAMPLES {
            let encrypted = octets(encrypted);
            let Some(key) = Key::new(&octets(key)) else {
                return;
            };
            // Every number of blocks, and a packet that is none.
            for place in 0..LANES {
                let mut lanes: Vec<Vec<u8>> = (0..LANES)
                    .map(|lane| plain[..(16 + lane % 5 * 16) * usize::from(lane != place)].to_vec())
                    .collect();
                let mut slices = lanes.iter_mut().map(Vec::as_mut_slice);
                let mut packets = std::array::from_fn(|_| slices.next().unwrap());
                key.encrypt(&mut packets);
                for packet in packets.into_iter().filter(|packet| !packet.is_empty()) {
                    let (iv, blocks) = packet.split_first_chunk_mut::<BLOCK>().unwrap();
                    assert_eq!(*blocks, encrypted[..blocks.len()]);
                    key.decrypt(iv, blocks);
                    assert_eq!(*blocks, plain[BLOCK..][..blocks.len()]);
                }
            }
        }
    }

    #[test]
    fn long_packets_are_restored() {
        for len in [16, 32] {
            let Some(key) = Key::new(&vec![7; len]) else {
                return;
            };
            for blocks in [15, 16, 17, 20, 35, 90] {
                let plain: Vec<u8> = (0..(blocks + 1) * BLOCK)
                    .map(|number| ((number * 31) >> 3) as u8)
                    .collect();
                let mut lanes = vec![plain.clone(); LANES];
                let mut slices = lanes.iter_mut().map(Vec::as_mut_slice);
                let mut packets = std::array::from_fn(|_| slices.next().unwrap());
                key.encrypt(&mut packets);
                assert_ne!(packets[0], plain);
                assert!(packets.iter().all(|packet| *packet == packets[0]));
                let (iv, encrypted) = packets[15].split_first_chunk_mut::<BLOCK>().unwrap();
                key.decrypt(iv, encrypted);
                assert_eq!(*encrypted, plain[BLOCK..], "{blocks} blocks");
            }
        }
    }

    #[test]
    fn keys_of_other_lengths_are_none() {
        assert!(Key::new(&[0; 24]).is_none() && Key::new(&[]).is_none());
    }
}
