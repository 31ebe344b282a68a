//! Security associations: algorithms, SPI and keys of one direction (`specs/esp.md` §3, §4).

use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};

/// Security parameters index: names an association to its receiver. Numbers below 256 are
/// reserved (RFC 4303 §2.1) and cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Spi(u32);

impl Spi {
    /// `None` for a reserved number.
    pub fn new(spi: u32) -> Option<Self> {
        (spi > 255).then_some(Self(spi))
    }

    /// An SPI made of random octets whose first one is at least 0x40: its packets cannot be
    /// taken for DTLS records, which begin with 20 to 26 (`specs/esp.md` §12).
    pub fn from_random(octets: [u8; 4]) -> Self {
        let [first, a, b, c] = octets;
        Self(u32::from_be_bytes([first % 0xc0 + 0x40, a, b, c]))
    }

    /// The SPI of the session that has this identifier, which is random.
    pub fn of_session(identifier: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *identifier;
        Self::from_random([a, b, c, d])
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Spi {
    type Error = KeyError;

    fn try_from(spi: u32) -> Result<Self, KeyError> {
        Self::new(spi).ok_or(KeyError::Spi(spi))
    }
}

impl From<Spi> for u32 {
    fn from(spi: Spi) -> u32 {
        spi.0
    }
}

/// Encryption algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encryption {
    /// AES-128-CBC (RFC 3602).
    Aes128Cbc,
    /// AES-256-CBC (RFC 3602).
    Aes256Cbc,
}

impl Encryption {
    /// Octets of the key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes256Cbc => 32,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "AES-128-CBC",
            Self::Aes256Cbc => "AES-256-CBC",
        }
    }
}

/// Integrity algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Integrity {
    /// HMAC-MD5-96 (RFC 2403).
    HmacMd5,
    /// HMAC-SHA-1-96 (RFC 2404).
    HmacSha1,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256,
}

impl Integrity {
    /// Octets of the key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
        }
    }

    /// Octets of the integrity check value.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacMd5 | Self::HmacSha1 => 12,
            Self::HmacSha256 => 16,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::HmacMd5 => "HMAC-MD5-96",
            Self::HmacSha1 => "HMAC-SHA-1-96",
            Self::HmacSha256 => "HMAC-SHA-256-128",
        }
    }
}

/// SPI or keys do not make an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The SPI is reserved.
    #[error("the SPI {0} is reserved")]
    Spi(u32),
    /// A key is not as long as its algorithm demands.
    #[error("the {what} key has {len} octets instead of {expected}")]
    Length {
        /// `encryption` or `integrity`.
        what: &'static str,
        /// Octets given.
        len: usize,
        /// Octets wanted.
        expected: usize,
    },
}

/// One direction: SPI, algorithms, keys of their lengths. A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    spi: Spi,
    encryption: Encryption,
    integrity: Integrity,
    encryption_key: SecretBytes,
    integrity_key: SecretBytes,
}

impl Association {
    /// Checks the lengths of the keys.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(
        spi: Spi,
        encryption: Encryption,
        encryption_key: SecretBytes,
        integrity: Integrity,
        integrity_key: SecretBytes,
    ) -> Result<Self, KeyError> {
        check("encryption", &encryption_key, encryption.key_len())?;
        check("integrity", &integrity_key, integrity.key_len())?;
        Ok(Self {
            spi,
            encryption,
            integrity,
            encryption_key,
            integrity_key,
        })
    }

    /// The SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The encryption algorithm.
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// The integrity algorithm.
    pub fn integrity(&self) -> Integrity {
        self.integrity
    }

    /// The encryption key.
    pub fn encryption_key(&self) -> &SecretBytes {
        &self.encryption_key
    }

    /// The integrity key.
    pub fn integrity_key(&self) -> &SecretBytes {
        &self.integrity_key
    }

    /// The algorithms for logs and tools, e.g. `(ESP)-(AES-128-CBC)-(HMAC-SHA-1-96)`.
    pub fn description(&self) -> String {
        format!("(ESP)-({})-({})", self.encryption.name(), self.integrity.name())
    }
}

fn check(what: &'static str, key: &SecretBytes, expected: usize) -> Result<(), KeyError> {
    match key.len() {
        len if len == expected => Ok(()),
        len => Err(KeyError::Length { what, len, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_are_no_spis() {
        assert_eq!(Spi::new(0), None);
        assert_eq!(Spi::new(255), None);
        assert_eq!(Spi::try_from(7), Err(KeyError::Spi(7)));
        assert_eq!(Spi::new(256).map(Spi::get), Some(256));
    }

    #[test]
    fn random_spis_are_no_dtls_records() {
        for first in 0..=255 {
            assert!(Spi::from_random([first, 0, 0, 0]).get() >> 24 >= 0x40);
        }
    }

    #[test]
    fn keys_of_other_lengths_are_refused() {
        let spi = Spi::from_random([1; 4]);
        let made = Association::new(
            spi,
            Encryption::Aes256Cbc,
            SecretBytes::new(vec![0; 16]),
            Integrity::HmacSha1,
            SecretBytes::new(vec![0; 20]),
        );
        let expected = KeyError::Length {
            what: "encryption",
            len: 16,
            expected: 32,
        };
        assert_eq!(made.err(), Some(expected));
    }
}
