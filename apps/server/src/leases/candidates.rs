//! Which addresses a user is offered, in order (`specs/server-config.md` §11): first the ones that
//! follow from the user name, so that somebody who comes back finds the same address.

use sha1::{Digest, Sha1};

/// Candidates that follow from the seed: the seed itself and a chain of five hashes.
const CHAINED: usize = 6;
/// Chained and random candidates together.
const TOTAL: usize = 16;

/// Fills a buffer with random octets.
pub(crate) type RandomSource<'a> = &'a mut dyn FnMut(&mut [u8]);

/// The four seed octets of a user name: its lookup3 hash, little-endian.
pub(super) fn seed(user: &str) -> [u8; 4] {
    hashlittle(user.as_bytes(), 0).to_le_bytes()
}

/// Host parts to try in an IPv4 pool, already merged into it: six that follow from the seed, then random ones.
pub(super) fn ipv4(network: u32, mask: u32, seed: [u8; 4], random: RandomSource<'_>) -> Vec<u32> {
    let merge = |bytes: [u8; 4]| network | (u32::from_be_bytes(bytes) & !mask);
    let mut candidates = Vec::with_capacity(TOTAL);
    let mut current = merge(seed);
    candidates.push(current);
    while candidates.len() < CHAINED {
        current = merge(leading(&Sha1::digest(current.to_be_bytes())));
        candidates.push(current);
    }
    while candidates.len() < TOTAL {
        let mut bytes = [0; 4];
        random(&mut bytes);
        candidates.push(merge(bytes));
    }
    candidates
}

/// Host parts to try in an IPv6 pool, already merged into it. Ours: the chain hashes the previous
/// candidate and random candidates are random in all octets; ocserv repeats a constant instead.
pub(super) fn ipv6(network: u128, mask: u128, seed: [u8; 4], random: RandomSource<'_>) -> Vec<u128> {
    let merge = |bytes: [u8; 16]| network | (u128::from_be_bytes(bytes) & !mask);
    let mut candidates = Vec::with_capacity(TOTAL);
    let mut current = merge(leading(&Sha1::digest(seed)));
    candidates.push(current);
    while candidates.len() < CHAINED {
        current = merge(leading(&Sha1::digest(current.to_be_bytes())));
        candidates.push(current);
    }
    while candidates.len() < TOTAL {
        let mut bytes = [0; 16];
        random(&mut bytes);
        candidates.push(merge(bytes));
    }
    candidates
}

/// The first `N` octets of a SHA-1 digest (`N` <= 20).
fn leading<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = *from;
    }
    bytes
}

/// Bob Jenkins' lookup3 hash `hashlittle` (public domain), which ocserv seeds addresses with.
fn hashlittle(key: &[u8], initval: u32) -> u32 {
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(initval);
    let [mut a, mut b, mut c] = [start; 3];
    let mut rest = key;
    while rest.len() > 12 {
        let (block, tail) = rest.split_at(12);
        let [x, y, z] = words(block);
        a = a.wrapping_add(x);
        b = b.wrapping_add(y);
        c = c.wrapping_add(z);
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = tail;
    }
    if rest.is_empty() {
        return c;
    }
    let [x, y, z] = words(rest);
    a = a.wrapping_add(x);
    b = b.wrapping_add(y);
    c = c.wrapping_add(z);
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// Up to twelve octets as three little-endian words, missing ones as zero.
fn words(bytes: &[u8]) -> [u32; 3] {
    let mut words = [0u32; 3];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = chunk
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u32::from(byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/predictable-ip.txt");

    /// `vectors/server/predictable-ip.txt`: hash and first candidates of each user.
    #[test]
    fn predictable_addresses() {
        let mut users = 0;
        for line in VECTORS
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [user, hash, v4, rest @ ..] = columns.as_slice() else {
                panic!("bad vector line {line}")
            };
            users += 1;
            let want = u32::from_str_radix(hash.trim_start_matches("0x"), 16).unwrap();
            assert_eq!(hashlittle(user.as_bytes(), 0), want, "{user}");

            let mut no_random = |bytes: &mut [u8]| bytes.fill(0);
            let pool = u32::from(Ipv4Addr::new(10, 99, 1, 0));
            let first = ipv4(pool, 0xffff_ff00, seed(user), &mut no_random)[0];
            assert_eq!(Ipv4Addr::from(first), v4.parse::<Ipv4Addr>().unwrap(), "{user}");
            if let [v6] = rest {
                let pool = u128::from("fd99::".parse::<Ipv6Addr>().unwrap());
                let first = ipv6(pool, u128::MAX << 64, seed(user), &mut no_random)[0];
                assert_eq!(Ipv6Addr::from(first), v6.parse::<Ipv6Addr>().unwrap(), "{user}");
            }
        }
        assert_eq!(users, 5);
    }

    #[test]
    fn lookup3_of_every_tail_length_differs() {
        let key = b"abcdefghijklmnopqrstuvwxyz";
        let hashes: std::collections::HashSet<u32> =
            (0..=key.len()).map(|n| hashlittle(&key[..n], 0)).collect();
        assert_eq!(hashes.len(), key.len() + 1);
        // Known answers of the hash's author (lookup3.c, driver5).
        assert_eq!(hashlittle(b"", 0), 0xdead_beef);
        assert_eq!(hashlittle(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(hashlittle(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn candidates_are_chained_then_random() {
        let mut counter = 0u8;
        let mut random = |bytes: &mut [u8]| {
            counter += 1;
            bytes.fill(counter);
        };
        let v6 = ipv6(0, 0, seed("test"), &mut random);
        assert_eq!(v6.len(), TOTAL);
        assert_eq!(
            v6[1],
            u128::from_be_bytes(leading(&Sha1::digest(v6[0].to_be_bytes())))
        );
        assert_eq!(v6[6], u128::from_be_bytes([1; 16]));
        let v4 = ipv4(0x0a00_0000, 0xff00_0000, seed("test"), &mut random);
        assert!(v4.iter().all(|address| address >> 24 == 10));
    }
}
