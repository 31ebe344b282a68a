//! Encryption with a passphrase: PBES1 and PBES2 (RFC 8018 §6), the schemes of PKCS#12
//! (RFC 7292 appendix C) and scrypt (RFC 7914 §7).

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use culvert_wire::der::{INTEGER, OCTET_STRING, SEQUENCE};
use md5::Digest;
use zeroize::Zeroizing;

use crate::ber::{Reader, is_one_sequence};
use crate::cipher::Cipher;
use crate::pkcs12_kdf::{Hash, Purpose};
use crate::{CredentialError, Passphrase};

/// Most iterations of a key derivation: a few seconds. Programs write 1 to 1,000,000.
pub(crate) const ITERATIONS_MAX: u64 = 10_000_000;
/// Most memory that scrypt may take, in octets; OpenSSL's own limit is 32 MiB.
const SCRYPT_MEMORY_MAX: u64 = 128 << 20;
/// Most that N times r times p of scrypt may be.
const SCRYPT_WORK_MAX: u64 = 1 << 24;

const WHAT: &str = "encryption parameters";

/// How a text is encrypted.
#[derive(Debug, Clone)]
pub(crate) enum Scheme {
    /// Hash of passphrase and salt gives key and initialisation vector.
    Pbes1 {
        hash: Pbkdf1Hash,
        cipher: Cipher,
        salt: Vec<u8>,
        iterations: u32,
    },
    Pbes2 {
        derivation: Derivation,
        cipher: Cipher,
        iv: Vec<u8>,
    },
    /// The derivation of PKCS#12 with SHA-1.
    Pkcs12 {
        cipher: Cipher,
        salt: Vec<u8>,
        iterations: u32,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Pbkdf1Hash {
    Md5,
    Sha1,
}

/// HMAC with this hash, as PBKDF2 uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prf {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Clone)]
pub(crate) enum Derivation {
    Pbkdf2 {
        prf: Prf,
        salt: Vec<u8>,
        iterations: u32,
    },
    Scrypt {
        salt: Vec<u8>,
        params: scrypt::Params,
    },
}

impl Scheme {
    /// Reads an AlgorithmIdentifier: `der` is its content.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CredentialError> {
        let mut reader = Reader::new(der, WHAT);
        let oid = reader.oid()?;
        let rc2 = |bits| Cipher::Rc2 {
            bits,
            key_len: bits / 8,
        };
        match oid.as_str() {
            "1.2.840.113549.1.5.3" => Self::pbes1(reader, Pbkdf1Hash::Md5, Cipher::Des),
            "1.2.840.113549.1.5.6" => Self::pbes1(reader, Pbkdf1Hash::Md5, rc2(64)),
            "1.2.840.113549.1.5.10" => Self::pbes1(reader, Pbkdf1Hash::Sha1, Cipher::Des),
            "1.2.840.113549.1.5.11" => Self::pbes1(reader, Pbkdf1Hash::Sha1, rc2(64)),
            "1.2.840.113549.1.5.13" => Self::pbes2(reader),
            "1.2.840.113549.1.12.1.3" => Self::pkcs12(reader, Cipher::TripleDes),
            "1.2.840.113549.1.12.1.4" => Self::pkcs12(reader, Cipher::TripleDesTwoKeys),
            "1.2.840.113549.1.12.1.5" => Self::pkcs12(reader, rc2(128)),
            "1.2.840.113549.1.12.1.6" => Self::pkcs12(reader, rc2(40)),
            _ => Err(CredentialError::Unsupported(format!("encryption scheme {oid}"))),
        }
    }

    fn pbes1(mut reader: Reader<'_>, hash: Pbkdf1Hash, cipher: Cipher) -> Result<Self, CredentialError> {
        let (salt, iterations) = salt_and_iterations(reader.enter(SEQUENCE)?)?;
        Ok(Self::Pbes1 {
            hash,
            cipher,
            salt,
            iterations,
        })
    }

    fn pkcs12(mut reader: Reader<'_>, cipher: Cipher) -> Result<Self, CredentialError> {
        let (salt, iterations) = salt_and_iterations(reader.enter(SEQUENCE)?)?;
        Ok(Self::Pkcs12 {
            cipher,
            salt,
            iterations,
        })
    }

    fn pbes2(mut reader: Reader<'_>) -> Result<Self, CredentialError> {
        let mut parameters = reader.enter(SEQUENCE)?;
        let derivation = Derivation::parse(parameters.enter(SEQUENCE)?)?;
        let (cipher, iv) = cipher_and_iv(parameters.enter(SEQUENCE)?)?;
        Ok(Self::Pbes2 {
            derivation,
            cipher,
            iv,
        })
    }

    /// What the derivation of a key costs, in iterations; so much of scrypt's work takes about as long.
    pub(crate) fn work(&self) -> u64 {
        match self {
            Self::Pbes1 { iterations, .. }
            | Self::Pkcs12 { iterations, .. }
            | Self::Pbes2 {
                derivation: Derivation::Pbkdf2 { iterations, .. },
                ..
            } => (*iterations).into(),
            Self::Pbes2 {
                derivation: Derivation::Scrypt { params, .. },
                ..
            } => scrypt_work(params),
        }
    }

    /// Decrypts. What comes out must be one SEQUENCE, otherwise the passphrase is wrong.
    pub(crate) fn decrypt(
        &self,
        ciphertext: &[u8],
        passphrase: &Passphrase,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        let forms = match self {
            Self::Pkcs12 { .. } => passphrase.pkcs12_forms(),
            Self::Pbes1 { .. } | Self::Pbes2 { .. } => passphrase.octet_forms(),
        };
        for octets in forms {
            match self.decrypt_with(ciphertext, &octets) {
                Ok(plain) if is_one_sequence(&plain) => return Ok(plain),
                Ok(_) | Err(CredentialError::WrongPassphrase) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CredentialError::WrongPassphrase)
    }

    fn decrypt_with(&self, ciphertext: &[u8], octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        match self {
            Self::Pbes1 {
                hash,
                cipher,
                salt,
                iterations,
            } => {
                let derived = match hash {
                    Pbkdf1Hash::Md5 => pbkdf1::<md5::Md5>(octets, salt, *iterations),
                    Pbkdf1Hash::Sha1 => pbkdf1::<sha1::Sha1>(octets, salt, *iterations),
                };
                // Both hashes are longer than the 16 octets that are used.
                let key = derived.get(..8).unwrap_or_default();
                let iv = derived.get(8..16).unwrap_or_default();
                cipher.decrypt(key, iv, ciphertext)
            }
            Self::Pbes2 {
                derivation,
                cipher,
                iv,
            } => {
                let key = derivation.derive(octets, cipher.key_len())?;
                cipher.decrypt(&key, iv, ciphertext)
            }
            Self::Pkcs12 {
                cipher,
                salt,
                iterations,
            } => {
                let derive = |purpose, len| Hash::Sha1.derive(purpose, octets, salt, *iterations, len);
                let key = derive(Purpose::Key, cipher.key_len());
                let iv = derive(Purpose::Iv, cipher.block_len());
                cipher.decrypt(&key, &iv, ciphertext)
            }
        }
    }
}

impl Prf {
    fn of_oid(oid: &str) -> Result<Self, CredentialError> {
        Ok(match oid {
            "1.2.840.113549.2.7" => Self::Sha1,
            "1.2.840.113549.2.9" => Self::Sha256,
            "1.2.840.113549.2.10" => Self::Sha384,
            "1.2.840.113549.2.11" => Self::Sha512,
            _ => {
                return Err(CredentialError::Unsupported(format!(
                    "PBKDF2 with function {oid}"
                )));
            }
        })
    }

    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

impl Derivation {
    fn parse(mut reader: Reader<'_>) -> Result<Self, CredentialError> {
        let oid = reader.oid()?;
        let mut parameters = reader.enter(SEQUENCE)?;
        match oid.as_str() {
            "1.2.840.113549.1.5.12" => {
                let salt = parameters.content(OCTET_STRING)?.to_vec();
                let iterations = iterations(parameters.unsigned()?)?;
                parameters.optional(INTEGER)?;
                let prf = match parameters.optional(SEQUENCE)? {
                    Some(prf) => Prf::of_oid(&Reader::new(prf, WHAT).oid()?)?,
                    None => Prf::Sha1,
                };
                Ok(Self::Pbkdf2 {
                    prf,
                    salt,
                    iterations,
                })
            }
            "1.3.6.1.4.1.11591.4.11" => {
                let salt = parameters.content(OCTET_STRING)?.to_vec();
                let (n, r, p) = (
                    parameters.unsigned()?,
                    parameters.unsigned()?,
                    parameters.unsigned()?,
                );
                Ok(Self::Scrypt {
                    salt,
                    params: scrypt_params(n, r, p)?,
                })
            }
            _ => Err(CredentialError::Unsupported(format!("key derivation {oid}"))),
        }
    }

    fn derive(&self, octets: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        let mut key = Zeroizing::new(vec![0; len]);
        match self {
            Self::Pbkdf2 {
                prf,
                salt,
                iterations,
            } => {
                let iterations = NonZeroU32::new(*iterations).ok_or(CredentialError::Malformed(WHAT))?;
                pbkdf2::derive(prf.algorithm(), iterations, salt, octets, &mut key);
            }
            Self::Scrypt { salt, params } => scrypt::scrypt(octets, salt, params, &mut key)
                .map_err(|_| CredentialError::Malformed(WHAT))?,
        }
        Ok(key)
    }
}

fn salt_and_iterations(mut parameters: Reader<'_>) -> Result<(Vec<u8>, u32), CredentialError> {
    let salt = parameters.content(OCTET_STRING)?.to_vec();
    Ok((salt, iterations(parameters.unsigned()?)?))
}

/// Checks an iteration count.
pub(crate) fn iterations(count: u64) -> Result<u32, CredentialError> {
    match u32::try_from(count) {
        Ok(0) => Err(CredentialError::Malformed(WHAT)),
        Ok(iterations) if count <= ITERATIONS_MAX => Ok(iterations),
        _ => Err(CredentialError::TooCostly("iterations")),
    }
}

fn scrypt_params(n: u64, r: u64, p: u64) -> Result<scrypt::Params, CredentialError> {
    let work = n.checked_mul(r).and_then(|work| work.checked_mul(p.max(1)));
    let memory = n.checked_mul(r).and_then(|blocks| blocks.checked_mul(128));
    if work.is_none_or(|work| work > SCRYPT_WORK_MAX)
        || memory.is_none_or(|memory| memory > SCRYPT_MEMORY_MAX)
    {
        return Err(CredentialError::TooCostly("scrypt"));
    }
    let malformed = CredentialError::Malformed(WHAT);
    if !n.is_power_of_two() {
        return Err(malformed);
    }
    // Bounded above.
    let (log_n, r, p) = (n.trailing_zeros() as u8, r as u32, p as u32);
    scrypt::Params::new(log_n, r, p, scrypt::Params::RECOMMENDED_LEN).map_err(|_| malformed)
}

/// N times r times p.
fn scrypt_work(params: &scrypt::Params) -> u64 {
    (u64::from(params.r()) * u64::from(params.p())) << params.log_n()
}

fn cipher_and_iv(mut reader: Reader<'_>) -> Result<(Cipher, Vec<u8>), CredentialError> {
    let oid = reader.oid()?;
    let cipher = match oid.as_str() {
        "1.3.14.3.2.7" => Cipher::Des,
        "1.2.840.113549.3.7" => Cipher::TripleDes,
        "2.16.840.1.101.3.4.1.2" => Cipher::Aes128,
        "2.16.840.1.101.3.4.1.22" => Cipher::Aes192,
        "2.16.840.1.101.3.4.1.42" => Cipher::Aes256,
        "1.2.840.113549.3.2" => return rc2_and_iv(reader.enter(SEQUENCE)?),
        _ => return Err(CredentialError::Unsupported(format!("cipher {oid}"))),
    };
    let iv = reader.content(OCTET_STRING)?.to_vec();
    Ok((cipher, iv))
}

/// RFC 8018 §B.2.3: the version stands for the effective key bits.
fn rc2_and_iv(mut parameters: Reader<'_>) -> Result<(Cipher, Vec<u8>), CredentialError> {
    let bits = match parameters.unsigned()? {
        160 => 40,
        120 => 64,
        58 => 128,
        _ => return Err(CredentialError::Unsupported("RC2 with this key length".into())),
    };
    let cipher = Cipher::Rc2 {
        bits,
        key_len: bits / 8,
    };
    Ok((cipher, parameters.content(OCTET_STRING)?.to_vec()))
}

/// RFC 8018 §5.1.
fn pbkdf1<D: Digest>(octets: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
    let mut hash = D::new().chain_update(octets).chain_update(salt).finalize();
    for _ in 1..iterations {
        hash = D::digest(&hash);
    }
    Zeroizing::new(hash.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits() {
        assert_eq!(iterations(0), Err(CredentialError::Malformed(WHAT)));
        assert_eq!(iterations(2048), Ok(2048));
        assert_eq!(
            iterations(u64::MAX),
            Err(CredentialError::TooCostly("iterations"))
        );
        assert_eq!(
            scrypt_params(16384, 8, 1).map(|params| scrypt_work(&params)),
            Ok(16384 * 8)
        );
        for (n, r, p) in [(1 << 40, 8, 1), (16384, u64::MAX, 1), (16384, 8, 1 << 40)] {
            let refused = scrypt_params(n, r, p).map(|_| ());
            assert_eq!(refused, Err(CredentialError::TooCostly("scrypt")));
        }
        assert!(scrypt_params(16383, 8, 1).is_err());
        assert!(scrypt_params(0, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Scheme::parse(&bytes);
        }
    }
}
