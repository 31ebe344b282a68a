//! The cipher suites: numbers, names and what they are made of.

use serde::{Deserialize, Serialize};

/// A cipher suite of `specs/cstp-dtls.md` §9.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CipherSuite {
    /// `TLS_PSK_WITH_AES_256_GCM_SHA384`, 00a9.
    PskAes256GcmSha384,
    /// `TLS_PSK_WITH_CHACHA20_POLY1305_SHA256`, ccab.
    PskChacha20Poly1305Sha256,
    /// `TLS_PSK_WITH_AES_128_GCM_SHA256`, 00a8.
    PskAes128GcmSha256,
    /// `TLS_PSK_WITH_AES_256_CBC_SHA384`, 00af.
    PskAes256CbcSha384,
    /// `TLS_PSK_WITH_AES_128_CBC_SHA256`, 00ae.
    PskAes128CbcSha256,
    /// `TLS_PSK_WITH_AES_256_CBC_SHA`, 008d.
    PskAes256CbcSha,
    /// `TLS_PSK_WITH_AES_128_CBC_SHA`, 008c.
    PskAes128CbcSha,
}

/// How records are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// AES-GCM with an explicit nonce of 8 octets (RFC 5288).
    AesGcm,
    /// ChaCha20-Poly1305 without explicit nonce (RFC 7905).
    Chacha20Poly1305,
    /// AES-CBC with HMAC.
    AesCbc(MacHash),
}

/// Hash of the HMAC of a CBC suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacHash {
    Sha1,
    Sha256,
    Sha384,
}

/// Hash of the PRF and of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrfHash {
    Sha256,
    Sha384,
}

impl CipherSuite {
    /// All suites, best first.
    pub const ALL: [Self; 7] = [
        Self::PskAes256GcmSha384,
        Self::PskChacha20Poly1305Sha256,
        Self::PskAes128GcmSha256,
        Self::PskAes256CbcSha384,
        Self::PskAes128CbcSha256,
        Self::PskAes256CbcSha,
        Self::PskAes128CbcSha,
    ];

    /// The suite of an IANA number, if it is known here.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// The IANA number.
    pub const fn id(self) -> u16 {
        match self {
            Self::PskAes128GcmSha256 => 0x00a8,
            Self::PskAes256GcmSha384 => 0x00a9,
            Self::PskChacha20Poly1305Sha256 => 0xccab,
            Self::PskAes128CbcSha => 0x008c,
            Self::PskAes256CbcSha => 0x008d,
            Self::PskAes128CbcSha256 => 0x00ae,
            Self::PskAes256CbcSha384 => 0x00af,
        }
    }

    /// Description as GnuTLS prints it, e.g. `(DTLS1.2)-(PSK)-(AES-256-GCM)`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::PskAes128GcmSha256 => "(DTLS1.2)-(PSK)-(AES-128-GCM)",
            Self::PskAes256GcmSha384 => "(DTLS1.2)-(PSK)-(AES-256-GCM)",
            Self::PskChacha20Poly1305Sha256 => "(DTLS1.2)-(PSK)-(CHACHA20-POLY1305)",
            Self::PskAes128CbcSha => "(DTLS1.2)-(PSK)-(AES-128-CBC)-(SHA1)",
            Self::PskAes256CbcSha => "(DTLS1.2)-(PSK)-(AES-256-CBC)-(SHA1)",
            Self::PskAes128CbcSha256 => "(DTLS1.2)-(PSK)-(AES-128-CBC)-(SHA256)",
            Self::PskAes256CbcSha384 => "(DTLS1.2)-(PSK)-(AES-256-CBC)-(SHA384)",
        }
    }

    pub(crate) const fn cipher(self) -> Cipher {
        match self {
            Self::PskAes128GcmSha256 | Self::PskAes256GcmSha384 => Cipher::AesGcm,
            Self::PskChacha20Poly1305Sha256 => Cipher::Chacha20Poly1305,
            Self::PskAes128CbcSha | Self::PskAes256CbcSha => Cipher::AesCbc(MacHash::Sha1),
            Self::PskAes128CbcSha256 => Cipher::AesCbc(MacHash::Sha256),
            Self::PskAes256CbcSha384 => Cipher::AesCbc(MacHash::Sha384),
        }
    }

    pub(crate) const fn prf_hash(self) -> PrfHash {
        match self {
            Self::PskAes256GcmSha384 | Self::PskAes256CbcSha384 => PrfHash::Sha384,
            _ => PrfHash::Sha256,
        }
    }

    /// Octets of a MAC key in the key block.
    pub(crate) const fn mac_key_len(self) -> usize {
        match self.cipher() {
            Cipher::AesGcm | Cipher::Chacha20Poly1305 => 0,
            Cipher::AesCbc(hash) => hash.len(),
        }
    }

    /// Octets of a cipher key in the key block.
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::PskAes128GcmSha256 | Self::PskAes128CbcSha | Self::PskAes128CbcSha256 => 16,
            Self::PskAes256GcmSha384
            | Self::PskChacha20Poly1305Sha256
            | Self::PskAes256CbcSha
            | Self::PskAes256CbcSha384 => 32,
        }
    }

    /// Octets of an IV in the key block. The CBC suites need none: their IV is in each record.
    pub(crate) const fn iv_len(self) -> usize {
        match self.cipher() {
            Cipher::AesGcm => 4,
            Cipher::Chacha20Poly1305 => 12,
            Cipher::AesCbc(_) => 0,
        }
    }
}

impl MacHash {
    /// Octets of the MAC and of its key.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}
