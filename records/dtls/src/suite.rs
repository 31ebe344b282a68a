//! The cipher suites: numbers, names and what they are made of.

use serde::{Deserialize, Serialize};

/// A cipher suite of `specs/cstp-dtls.md` §7.2 or §9.3.
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
    /// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`, c030; only for resumption, as all that follow.
    EcdheRsaAes256GcmSha384,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, c02f.
    EcdheRsaAes128GcmSha256,
    /// `TLS_RSA_WITH_AES_256_GCM_SHA384`, 009d.
    RsaAes256GcmSha384,
    /// `TLS_RSA_WITH_AES_128_GCM_SHA256`, 009c.
    RsaAes128GcmSha256,
    /// `TLS_DHE_RSA_WITH_AES_256_CBC_SHA`, 0039.
    DheRsaAes256CbcSha,
    /// `TLS_DHE_RSA_WITH_AES_128_CBC_SHA`, 0033.
    DheRsaAes128CbcSha,
    /// `TLS_RSA_WITH_AES_256_CBC_SHA`, 0035.
    RsaAes256CbcSha,
    /// `TLS_RSA_WITH_AES_128_CBC_SHA`, 002f.
    RsaAes128CbcSha,
    /// `TLS_RSA_WITH_3DES_EDE_CBC_SHA`, 000a.
    RsaTripleDesCbcSha,
}

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// DTLS 1.2 (RFC 6347).
    Dtls12,
    /// DTLS 1.0 (RFC 4347), which a client takes when the server knows nothing newer.
    Dtls10,
    /// What Cisco made of a draft of DTLS 1.0, version 0100 (`specs/cstp-dtls.md` §11).
    Dtls09,
}

impl Version {
    /// The number in records and hellos.
    pub(crate) const fn wire(self) -> u16 {
        match self {
            Self::Dtls12 => 0xfefd,
            Self::Dtls10 => 0xfeff,
            Self::Dtls09 => 0x0100,
        }
    }
}

/// How records are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// AES-GCM with an explicit nonce of 8 octets (RFC 5288).
    AesGcm,
    /// ChaCha20-Poly1305 without explicit nonce (RFC 7905).
    Chacha20Poly1305,
    /// AES-CBC or 3DES-CBC with HMAC.
    Cbc(MacHash),
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
    /// Both, side by side: TLS 1.0 and 1.1.
    Md5Sha1,
    Sha256,
    Sha384,
}

impl CipherSuite {
    /// The suites with a pre-shared key, best first.
    pub const PSK: [Self; 7] = [
        Self::PskAes256GcmSha384,
        Self::PskChacha20Poly1305Sha256,
        Self::PskAes128GcmSha256,
        Self::PskAes256CbcSha384,
        Self::PskAes128CbcSha256,
        Self::PskAes256CbcSha,
        Self::PskAes128CbcSha,
    ];
    /// The suites of resumed sessions, best first. Their key exchange never takes place.
    pub const RESUMED: [Self; 10] = [
        Self::EcdheRsaAes256GcmSha384,
        Self::RsaAes256GcmSha384,
        Self::PskChacha20Poly1305Sha256,
        Self::EcdheRsaAes128GcmSha256,
        Self::RsaAes128GcmSha256,
        Self::DheRsaAes256CbcSha,
        Self::RsaAes256CbcSha,
        Self::DheRsaAes128CbcSha,
        Self::RsaAes128CbcSha,
        Self::RsaTripleDesCbcSha,
    ];

    /// Those of [`Self::RESUMED`] that DTLS 0.9 knows, best first.
    pub const RESUMED_SHA1: [Self; 5] = [
        Self::DheRsaAes256CbcSha,
        Self::RsaAes256CbcSha,
        Self::DheRsaAes128CbcSha,
        Self::RsaAes128CbcSha,
        Self::RsaTripleDesCbcSha,
    ];

    /// The suite of an IANA number, if it is known here.
    pub fn from_id(id: u16) -> Option<Self> {
        let mut all = Self::PSK.into_iter().chain(Self::RESUMED);
        all.find(|suite| suite.id() == id)
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
            Self::EcdheRsaAes256GcmSha384 => 0xc030,
            Self::EcdheRsaAes128GcmSha256 => 0xc02f,
            Self::RsaAes256GcmSha384 => 0x009d,
            Self::RsaAes128GcmSha256 => 0x009c,
            Self::DheRsaAes256CbcSha => 0x0039,
            Self::DheRsaAes128CbcSha => 0x0033,
            Self::RsaAes256CbcSha => 0x0035,
            Self::RsaAes128CbcSha => 0x002f,
            Self::RsaTripleDesCbcSha => 0x000a,
        }
    }

    /// Description as GnuTLS prints it, e.g. `(DTLS1.2)-(PSK)-(AES-256-GCM)`.
    pub const fn description(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::DheRsaAes256CbcSha, Version::Dtls09) => "(DTLS0.9)-(DHE-RSA)-(AES-256-CBC)-(SHA1)",
            (Self::DheRsaAes128CbcSha, Version::Dtls09) => "(DTLS0.9)-(DHE-RSA)-(AES-128-CBC)-(SHA1)",
            (Self::RsaAes256CbcSha, Version::Dtls09) => "(DTLS0.9)-(RSA)-(AES-256-CBC)-(SHA1)",
            (Self::RsaAes128CbcSha, Version::Dtls09) => "(DTLS0.9)-(RSA)-(AES-128-CBC)-(SHA1)",
            (Self::RsaTripleDesCbcSha, Version::Dtls09) => "(DTLS0.9)-(RSA)-(3DES-CBC)-(SHA1)",
            (Self::PskAes256CbcSha, Version::Dtls10) => "(DTLS1.0)-(PSK)-(AES-256-CBC)-(SHA1)",
            (Self::PskAes128CbcSha, Version::Dtls10) => "(DTLS1.0)-(PSK)-(AES-128-CBC)-(SHA1)",
            (suite, _) => suite.description_12(),
        }
    }

    const fn description_12(self) -> &'static str {
        match self {
            Self::PskAes128GcmSha256 => "(DTLS1.2)-(PSK)-(AES-128-GCM)",
            Self::PskAes256GcmSha384 => "(DTLS1.2)-(PSK)-(AES-256-GCM)",
            Self::PskChacha20Poly1305Sha256 => "(DTLS1.2)-(PSK)-(CHACHA20-POLY1305)",
            Self::PskAes128CbcSha => "(DTLS1.2)-(PSK)-(AES-128-CBC)-(SHA1)",
            Self::PskAes256CbcSha => "(DTLS1.2)-(PSK)-(AES-256-CBC)-(SHA1)",
            Self::PskAes128CbcSha256 => "(DTLS1.2)-(PSK)-(AES-128-CBC)-(SHA256)",
            Self::PskAes256CbcSha384 => "(DTLS1.2)-(PSK)-(AES-256-CBC)-(SHA384)",
            Self::EcdheRsaAes256GcmSha384 => "(DTLS1.2)-(ECDHE-RSA)-(AES-256-GCM)",
            Self::EcdheRsaAes128GcmSha256 => "(DTLS1.2)-(ECDHE-RSA)-(AES-128-GCM)",
            Self::RsaAes256GcmSha384 => "(DTLS1.2)-(RSA)-(AES-256-GCM)",
            Self::RsaAes128GcmSha256 => "(DTLS1.2)-(RSA)-(AES-128-GCM)",
            Self::DheRsaAes256CbcSha => "(DTLS1.2)-(DHE-RSA)-(AES-256-CBC)-(SHA1)",
            Self::DheRsaAes128CbcSha => "(DTLS1.2)-(DHE-RSA)-(AES-128-CBC)-(SHA1)",
            Self::RsaAes256CbcSha => "(DTLS1.2)-(RSA)-(AES-256-CBC)-(SHA1)",
            Self::RsaAes128CbcSha => "(DTLS1.2)-(RSA)-(AES-128-CBC)-(SHA1)",
            Self::RsaTripleDesCbcSha => "(DTLS1.2)-(RSA)-(3DES-CBC)-(SHA1)",
        }
    }

    /// Cipher and MAC under GnuTLS's names, e.g. `AES-128-CBC` and `SHA1`; authenticated encryption
    /// has the MAC `AEAD`.
    pub const fn cipher_and_mac(self) -> (&'static str, &'static str) {
        let mac = match self.cipher() {
            Cipher::AesGcm | Cipher::Chacha20Poly1305 => "AEAD",
            Cipher::Cbc(MacHash::Sha1) => "SHA1",
            Cipher::Cbc(MacHash::Sha256) => "SHA256",
            Cipher::Cbc(MacHash::Sha384) => "SHA384",
        };
        let cipher = match (self.cipher(), self.key_len()) {
            (Cipher::AesGcm, 16) => "AES-128-GCM",
            (Cipher::AesGcm, _) => "AES-256-GCM",
            (Cipher::Chacha20Poly1305, _) => "CHACHA20-POLY1305",
            (Cipher::Cbc(_), 16) => "AES-128-CBC",
            (Cipher::Cbc(_), 24) => "3DES-CBC",
            (Cipher::Cbc(_), _) => "AES-256-CBC",
        };
        (cipher, mac)
    }

    pub(crate) const fn cipher(self) -> Cipher {
        match self {
            Self::PskAes128GcmSha256
            | Self::PskAes256GcmSha384
            | Self::EcdheRsaAes256GcmSha384
            | Self::EcdheRsaAes128GcmSha256
            | Self::RsaAes256GcmSha384
            | Self::RsaAes128GcmSha256 => Cipher::AesGcm,
            Self::PskChacha20Poly1305Sha256 => Cipher::Chacha20Poly1305,
            Self::PskAes128CbcSha
            | Self::PskAes256CbcSha
            | Self::DheRsaAes256CbcSha
            | Self::DheRsaAes128CbcSha
            | Self::RsaAes256CbcSha
            | Self::RsaAes128CbcSha
            | Self::RsaTripleDesCbcSha => Cipher::Cbc(MacHash::Sha1),
            Self::PskAes128CbcSha256 => Cipher::Cbc(MacHash::Sha256),
            Self::PskAes256CbcSha384 => Cipher::Cbc(MacHash::Sha384),
        }
    }

    /// Hash of the PRF in DTLS 1.2.
    pub(crate) const fn prf_hash(self) -> PrfHash {
        match self {
            Self::PskAes256GcmSha384
            | Self::PskAes256CbcSha384
            | Self::EcdheRsaAes256GcmSha384
            | Self::RsaAes256GcmSha384 => PrfHash::Sha384,
            _ => PrfHash::Sha256,
        }
    }

    /// Octets of a MAC key in the key block.
    pub(crate) const fn mac_key_len(self) -> usize {
        match self.cipher() {
            Cipher::AesGcm | Cipher::Chacha20Poly1305 => 0,
            Cipher::Cbc(hash) => hash.len(),
        }
    }

    /// Octets of a cipher key in the key block.
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::PskAes128GcmSha256
            | Self::PskAes128CbcSha
            | Self::PskAes128CbcSha256
            | Self::EcdheRsaAes128GcmSha256
            | Self::RsaAes128GcmSha256
            | Self::DheRsaAes128CbcSha
            | Self::RsaAes128CbcSha => 16,
            Self::RsaTripleDesCbcSha => 24,
            Self::PskAes256GcmSha384
            | Self::PskChacha20Poly1305Sha256
            | Self::PskAes256CbcSha
            | Self::PskAes256CbcSha384
            | Self::EcdheRsaAes256GcmSha384
            | Self::RsaAes256GcmSha384
            | Self::DheRsaAes256CbcSha
            | Self::RsaAes256CbcSha => 32,
        }
    }

    /// Octets of an IV in the key block. The CBC suites need none: their IV is in each record.
    pub(crate) const fn iv_len(self) -> usize {
        match self.cipher() {
            Cipher::AesGcm => 4,
            Cipher::Chacha20Poly1305 => 12,
            Cipher::Cbc(_) => 0,
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
