//! Key derivation and integrity check of PKCS#12 (RFC 7292 appendix B).

use hmac::digest::Digest;
use hmac::digest::core_api::BlockSizeUser;
use hmac::{Mac, SimpleHmac};
use zeroize::Zeroizing;

use crate::CredentialError;

/// What derived octets are for (appendix B.3).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Key = 1,
    Iv = 2,
    MacKey = 3,
}

/// Hash functions of PKCS#12 files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The hash with this object identifier.
    pub(crate) fn of_oid(oid: &str) -> Result<Self, CredentialError> {
        Ok(match oid {
            "1.2.840.113549.2.5" => Self::Md5,
            "1.3.14.3.2.26" => Self::Sha1,
            "2.16.840.1.101.3.4.2.4" => Self::Sha224,
            "2.16.840.1.101.3.4.2.1" => Self::Sha256,
            "2.16.840.1.101.3.4.2.2" => Self::Sha384,
            "2.16.840.1.101.3.4.2.3" => Self::Sha512,
            other => return Err(CredentialError::Unsupported(format!("hash function {other}"))),
        })
    }

    /// Derives `len` octets from a passphrase in the form that PKCS#12 wants.
    pub(crate) fn derive(
        self,
        purpose: Purpose,
        passphrase: &[u8],
        salt: &[u8],
        iterations: u32,
        len: usize,
    ) -> Zeroizing<Vec<u8>> {
        let input = Input {
            purpose,
            passphrase,
            salt,
            iterations,
            len,
        };
        match self {
            Self::Md5 => derive::<md5::Md5>(&input),
            Self::Sha1 => derive::<sha1::Sha1>(&input),
            Self::Sha224 => derive::<sha2::Sha224>(&input),
            Self::Sha256 => derive::<sha2::Sha256>(&input),
            Self::Sha384 => derive::<sha2::Sha384>(&input),
            Self::Sha512 => derive::<sha2::Sha512>(&input),
        }
    }

    /// True when `mac` is the HMAC of `content` with the key that is derived from the passphrase.
    pub(crate) fn verify(
        self,
        passphrase: &[u8],
        salt: &[u8],
        iterations: u32,
        content: &[u8],
        mac: &[u8],
    ) -> bool {
        let key = |len| self.derive(Purpose::MacKey, passphrase, salt, iterations, len);
        match self {
            Self::Md5 => verify::<md5::Md5>(key, content, mac),
            Self::Sha1 => verify::<sha1::Sha1>(key, content, mac),
            Self::Sha224 => verify::<sha2::Sha224>(key, content, mac),
            Self::Sha256 => verify::<sha2::Sha256>(key, content, mac),
            Self::Sha384 => verify::<sha2::Sha384>(key, content, mac),
            Self::Sha512 => verify::<sha2::Sha512>(key, content, mac),
        }
    }
}

struct Input<'a> {
    purpose: Purpose,
    passphrase: &'a [u8],
    salt: &'a [u8],
    iterations: u32,
    len: usize,
}

/// Appendix B.2, with its letters.
fn derive<D: Digest + BlockSizeUser>(input: &Input<'_>) -> Zeroizing<Vec<u8>> {
    let v = D::block_size();
    let d = vec![input.purpose as u8; v];
    let repeated = |text: &[u8]| -> Vec<u8> {
        let len = text.len().div_ceil(v) * v;
        text.iter().copied().cycle().take(len).collect()
    };
    let mut i = Zeroizing::new(repeated(input.salt));
    i.extend_from_slice(&Zeroizing::new(repeated(input.passphrase)));
    let mut derived = Zeroizing::new(Vec::with_capacity(input.len + v));
    while derived.len() < input.len {
        let mut a = D::new().chain_update(&d).chain_update(&*i).finalize();
        for _ in 1..input.iterations {
            a = D::digest(&a);
        }
        derived.extend_from_slice(&a);
        let b: Vec<u8> = a.iter().copied().cycle().take(v).collect();
        for block in i.chunks_mut(v) {
            add_one_and(block, &b);
        }
    }
    derived.truncate(input.len);
    derived
}

/// `block` = `block` + `addend` + 1, big-endian, modulo its size.
fn add_one_and(block: &mut [u8], addend: &[u8]) {
    let mut carry = 1u16;
    for (octet, other) in block.iter_mut().zip(addend).rev() {
        let sum = u16::from(*octet) + u16::from(*other) + carry;
        let [high, low] = sum.to_be_bytes();
        *octet = low;
        carry = u16::from(high);
    }
}

fn verify<D: Digest + BlockSizeUser>(
    key: impl Fn(usize) -> Zeroizing<Vec<u8>>,
    content: &[u8],
    mac: &[u8],
) -> bool {
    let Ok(hmac) = SimpleHmac::<D>::new_from_slice(&key(<D as Digest>::output_size())) else {
        return false;
    };
    hmac.chain_update(content).verify_slice(mac).is_ok()
}
