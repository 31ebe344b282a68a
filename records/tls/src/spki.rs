//! Kinds of public keys, from their SubjectPublicKeyInfo.

use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_RSASSAPSS, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::KeyError;

/// `rsa_pss_pss_*` of RFC 8446 §4.2.3, for keys that are limited to RSA-PSS; rustls has no names.
pub(crate) const RSA_PSS_PSS_SHA256: SignatureScheme = SignatureScheme::Unknown(0x0809);
pub(crate) const RSA_PSS_PSS_SHA384: SignatureScheme = SignatureScheme::Unknown(0x080a);
pub(crate) const RSA_PSS_PSS_SHA512: SignatureScheme = SignatureScheme::Unknown(0x080b);

/// Kind of a server's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA for any padding.
    Rsa,
    /// RSA for PSS padding only (OID id-RSASSA-PSS).
    RsaPss,
    /// NIST P-256.
    EcdsaP256,
    /// NIST P-384.
    EcdsaP384,
    /// NIST P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// Kind of a DER SubjectPublicKeyInfo.
    pub(crate) fn of_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::PublicKey)?;
        let algorithm = &info.algorithm.algorithm;
        if *algorithm == OID_PKCS1_RSAENCRYPTION {
            Ok(Self::Rsa)
        } else if *algorithm == OID_PKCS1_RSASSAPSS {
            Ok(Self::RsaPss)
        } else if *algorithm == OID_SIG_ED25519 {
            Ok(Self::Ed25519)
        } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = info
                .algorithm
                .parameters
                .as_ref()
                .and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 => Ok(Self::EcdsaP256),
                Some(curve) if curve == OID_NIST_EC_P384 => Ok(Self::EcdsaP384),
                Some(curve) if curve == OID_NIST_EC_P521 => Ok(Self::EcdsaP521),
                _ => Err(KeyError::PublicKey),
            }
        } else {
            Err(KeyError::PublicKey)
        }
    }

    /// Schemes that the key can sign with, best first.
    pub(crate) fn schemes(self) -> &'static [SignatureScheme] {
        match self {
            Self::Rsa => &[
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
            ],
            Self::RsaPss => &[RSA_PSS_PSS_SHA256, RSA_PSS_PSS_SHA384, RSA_PSS_PSS_SHA512],
            Self::EcdsaP256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Self::EcdsaP384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            Self::EcdsaP521 => &[SignatureScheme::ECDSA_NISTP521_SHA512],
            Self::Ed25519 => &[SignatureScheme::ED25519],
        }
    }

    /// The algorithm as rustls matches it with TLS 1.2 cipher suites.
    pub(crate) fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::Rsa | Self::RsaPss => SignatureAlgorithm::RSA,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => SignatureAlgorithm::ECDSA,
            Self::Ed25519 => SignatureAlgorithm::ED25519,
        }
    }
}
