use culvert_priorities::TlsPriorities;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};

use crate::TlsError;

/// Protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Record protection algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The cipher of a suite, `None` for suites unknown here.
    pub(crate) fn of_suite(suite: CipherSuite) -> Option<Self> {
        Some(match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Self::Aes128Gcm,
            CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Self::Aes256Gcm,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Self::ChaCha20Poly1305,
            _ => return None,
        })
    }

    fn suites(self) -> [SupportedCipherSuite; 3] {
        match self {
            Self::Aes128Gcm => [
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ],
            Self::Aes256Gcm => [
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            ],
            Self::ChaCha20Poly1305 => [
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
        }
    }
}

/// Key exchange groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Group {
    /// X25519 combined with ML-KEM-768 (TLS 1.3 only).
    X25519MlKem768,
    /// X25519.
    X25519,
    /// NIST P-256.
    Secp256r1,
    /// NIST P-384.
    Secp384r1,
}

impl Group {
    fn implementation(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
            Self::X25519 => kx_group::X25519,
            Self::Secp256r1 => kx_group::SECP256R1,
            Self::Secp384r1 => kx_group::SECP384R1,
        }
    }
}

/// What may be negotiated, in order of preference. The default is everything, with the hybrid
/// post-quantum group first and AES-256-GCM before ChaCha20 and AES-128-GCM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Protocol versions.
    pub versions: Vec<Version>,
    /// Record protection.
    pub ciphers: Vec<Cipher>,
    /// Key exchange.
    pub groups: Vec<Group>,
}

impl Default for Algorithms {
    fn default() -> Self {
        Self {
            versions: vec![Version::Tls13, Version::Tls12],
            ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm],
            groups: vec![
                Group::X25519MlKem768,
                Group::X25519,
                Group::Secp256r1,
                Group::Secp384r1,
            ],
        }
    }
}

impl Algorithms {
    /// What of a priority string exists here, in its order. The hybrid post-quantum group goes first
    /// wherever X25519 is allowed.
    pub fn of_priorities(priorities: &TlsPriorities) -> Self {
        let versions = [
            (priorities.allows_protocol("TLS1.3"), Version::Tls13),
            (priorities.allows_tls12(), Version::Tls12),
        ];
        let ciphers = priorities.ciphers().filter_map(|name| match name {
            "AES-256-GCM" => Some(Cipher::Aes256Gcm),
            "AES-128-GCM" => Some(Cipher::Aes128Gcm),
            "CHACHA20-POLY1305" => Some(Cipher::ChaCha20Poly1305),
            _ => None,
        });
        let mut groups: Vec<Group> = priorities
            .groups()
            .filter_map(|name| match name {
                "X25519" => Some(Group::X25519),
                "SECP256R1" => Some(Group::Secp256r1),
                "SECP384R1" => Some(Group::Secp384r1),
                _ => None,
            })
            .collect();
        if groups.contains(&Group::X25519) {
            groups.insert(0, Group::X25519MlKem768);
        }
        Self {
            versions: versions
                .into_iter()
                .filter(|(allowed, _)| *allowed)
                .map(|(_, version)| version)
                .collect(),
            ciphers: ciphers.collect(),
            groups,
        }
    }

    /// The same without the hybrid group, for peers or middleboxes that cannot take the large
    /// ClientHello.
    #[must_use]
    pub fn without_post_quantum(mut self) -> Self {
        self.groups.retain(|group| *group != Group::X25519MlKem768);
        self
    }

    pub(crate) fn provider(&self) -> Result<CryptoProvider, TlsError> {
        if self.ciphers.is_empty() {
            return Err(TlsError::NothingEnabled("cipher"));
        }
        if self.groups.is_empty() {
            return Err(TlsError::NothingEnabled("key exchange group"));
        }
        Ok(CryptoProvider {
            cipher_suites: self.ciphers.iter().flat_map(|cipher| cipher.suites()).collect(),
            kx_groups: self.groups.iter().map(|group| group.implementation()).collect(),
            ..default_provider()
        })
    }

    pub(crate) fn protocol_versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let mut versions = Vec::new();
        if self.versions.contains(&Version::Tls13) {
            versions.push(&rustls::version::TLS13);
        }
        if self.versions.contains(&Version::Tls12) {
            versions.push(&rustls::version::TLS12);
        }
        if versions.is_empty() {
            return Err(TlsError::NothingEnabled("version"));
        }
        Ok(versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_priorities_allow_everything() {
        let usual =
            Algorithms::of_priorities(&TlsPriorities::parse("NORMAL:%SERVER_PRECEDENCE:%COMPAT").unwrap());
        assert_eq!(usual.versions, [Version::Tls13, Version::Tls12]);
        assert_eq!(usual.groups.first(), Some(&Group::X25519MlKem768));
        assert!(usual.ciphers.contains(&Cipher::Aes256Gcm) && usual.ciphers.contains(&Cipher::Aes128Gcm));
    }

    #[test]
    fn priorities_restrict() {
        let tls12 =
            Algorithms::of_priorities(&TlsPriorities::parse("NORMAL:-VERS-TLS1.3:-AES-256-GCM").unwrap());
        assert_eq!(tls12.versions, [Version::Tls12]);
        let tls13 =
            Algorithms::of_priorities(&TlsPriorities::parse("NORMAL:-ECDHE-RSA:-ECDHE-ECDSA").unwrap());
        assert_eq!(tls13.versions, [Version::Tls13]);
        assert!(!tls12.ciphers.contains(&Cipher::Aes256Gcm));
    }
}
