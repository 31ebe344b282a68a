//! Padding of RSA signatures (RFC 8017 §9), for TPMs that only do the bare operation.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::rand;

use crate::TpmError;

/// DER DigestInfo up to the hash (RFC 8017 §9.2 note 1).
fn digest_info_prefix(hash: &'static Algorithm) -> Option<&'static [u8]> {
    if hash == &SHA256 {
        Some(b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20")
    } else if hash == &SHA384 {
        Some(b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30")
    } else if hash == &SHA512 {
        Some(b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40")
    } else {
        None
    }
}

/// EMSA-PKCS1-v1_5 of `message` for a modulus of `len` octets.
pub(crate) fn pkcs1(hash: &'static Algorithm, message: &[u8], len: usize) -> Result<Vec<u8>, TpmError> {
    let prefix = digest_info_prefix(hash).ok_or(TpmError::Scheme)?;
    pkcs1_info(&[prefix, digest(hash, message).as_ref()].concat(), len)
}

/// The hash and the digest of a DigestInfo.
pub(crate) fn digest_of_info(info: &[u8]) -> Option<(&'static Algorithm, &[u8])> {
    let hashes = [&SHA256, &SHA384, &SHA512];
    hashes.into_iter().find_map(|hash| {
        let digest = info.strip_prefix(digest_info_prefix(hash)?)?;
        (digest.len() == hash.output_len()).then_some((hash, digest))
    })
}

/// The padding of PKCS #1 v1.5 around `info`, for a modulus of `len` octets.
pub(crate) fn pkcs1_info(info: &[u8], len: usize) -> Result<Vec<u8>, TpmError> {
    let padding = len.checked_sub(info.len() + 3).filter(|padding| *padding >= 8);
    let padding = vec![0xff; padding.ok_or(TpmError::Scheme)?];
    Ok([&[0, 1], padding.as_slice(), &[0], info].concat())
}

/// EMSA-PSS of `message` with a salt as long as the hash, for a modulus of `len` octets whose
/// highest bit is set.
pub(crate) fn pss(hash: &'static Algorithm, message: &[u8], len: usize) -> Result<Vec<u8>, TpmError> {
    let mut salt = vec![0; hash.output_len()];
    rand::fill(&mut salt).map_err(|_| TpmError::Scheme)?;
    pss_with_salt(hash, message, len, &salt)
}

fn pss_with_salt(
    hash: &'static Algorithm,
    message: &[u8],
    len: usize,
    salt: &[u8],
) -> Result<Vec<u8>, TpmError> {
    let hashed = digest(hash, message);
    let mixed = digest(hash, &[&[0; 8], hashed.as_ref(), salt].concat());
    let mixed = mixed.as_ref();
    let block_len = len.checked_sub(mixed.len() + 1).ok_or(TpmError::Scheme)?;
    let zeroes = block_len.checked_sub(salt.len() + 1).ok_or(TpmError::Scheme)?;
    let block = [vec![0; zeroes].as_slice(), &[1], salt].concat();
    let mask = mask(hash, mixed, block_len);
    let mut encoded: Vec<u8> = block
        .iter()
        .zip(&mask)
        .map(|(octet, mask)| octet ^ mask)
        .collect();
    if let Some(first) = encoded.first_mut() {
        *first &= 0x7f;
    }
    encoded.extend_from_slice(mixed);
    encoded.push(0xbc);
    Ok(encoded)
}

/// MGF1 (RFC 8017 §B.2.1).
fn mask(hash: &'static Algorithm, seed: &[u8], len: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(len + hash.output_len());
    for counter in 0_u32.. {
        if mask.len() >= len {
            break;
        }
        mask.extend_from_slice(digest(hash, &[seed, &counter.to_be_bytes()].concat()).as_ref());
    }
    mask.truncate(len);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_form() {
        let block = pkcs1(&SHA256, b"message", 256).unwrap();
        assert_eq!((block.len(), &block[..3]), (256, [0, 1, 0xff].as_slice()));
        assert!(block.ends_with(digest(&SHA256, b"message").as_ref()));
        let masked = pss(&SHA512, b"message", 256).unwrap();
        assert_eq!((masked.len(), masked[255], masked[0] & 0x80), (256, 0xbc, 0));
        // A key of 1024 bits has no room for two hashes of 64 octets (`specs/client.md` §8.5).
        assert!(pss(&SHA512, b"message", 128).is_err());
        assert!(pkcs1(&SHA256, b"message", 32).is_err());
        let (hash, hashed) = digest_of_info(&block[205..]).unwrap();
        assert_eq!((hash, hashed), (&SHA256, digest(&SHA256, b"message").as_ref()));
        assert!(digest_of_info(&[0; 36]).is_none());
    }
}
