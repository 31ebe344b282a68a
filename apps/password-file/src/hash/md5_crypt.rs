//! MD5 crypt (`$1$`): weak, but old files have it.

use md5::{Digest, Md5};

use super::crypt_base64;

const ROUNDS: usize = 1000;
const SALT_MAX: usize = 8;
/// Order in which the bytes of the digest are written.
const ORDER: [usize; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];

/// The 22 characters after the salt.
pub(super) fn md5_crypt(password: &[u8], salt: &[u8]) -> String {
    let salt = salt.get(..SALT_MAX).unwrap_or(salt);
    let alternate = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut first = Md5::new()
        .chain_update(password)
        .chain_update("$1$")
        .chain_update(salt);
    for chunk in password.chunks(alternate.len()) {
        first.update(alternate.get(..chunk.len()).unwrap_or(&alternate));
    }
    // one byte per bit of the length: zero for a set bit, else the password's first byte
    let mut length = password.len();
    while length > 0 {
        first.update(if length & 1 == 1 {
            &[0]
        } else {
            password.get(..1).unwrap_or_default()
        });
        length >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(digest)
        } else {
            next.update(password)
        }
        digest = next.finalize();
    }
    let ordered: Vec<u8> = ORDER.iter().filter_map(|&at| digest.get(at).copied()).collect();
    crypt_base64()
        .map(|base64| base64.encode(&ordered))
        .unwrap_or_default()
}
