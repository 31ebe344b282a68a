use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    VerificationAlgorithm,
};
use culvert_vocab::SecretBytes;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{AlgorithmIdentifier, PrivateKeyDer, alg_id};
use rustls::sign::public_key_to_spki;
use x509_parser::der_parser::asn1_rs::{Any, FromDer, OctetString, Oid, Sequence};
use x509_parser::oid_registry::OID_PKCS1_RSASSAPSS;
use x509_parser::prelude::SubjectPublicKeyInfo;

use crate::signed_message::is_server_handshake;
use crate::spki::{KeyKind, RSA_PSS_PSS_SHA256, RSA_PSS_PSS_SHA384, RSA_PSS_PSS_SHA512};
use crate::{KeyError, KeyIndex, RemoteKey, RemoteSignError};

/// AlgorithmIdentifier of id-RSASSA-PSS without parameters.
const RSASSA_PSS: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a]);

/// A server's private key where it is kept. For others it signs handshakes of TLS servers and
/// nothing else ([`Self::sign`]).
pub struct PrivateKey {
    kind: KeyKind,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Elsewhere(Elsewhere),
}

/// A key that something else holds: hardware.
struct Elsewhere {
    spki: Vec<u8>,
    public_key: Vec<u8>,
    sign: SignElsewhere,
}

/// Makes a signature of this scheme over a message (not its hash); `None` when that fails.
pub type SignElsewhere = Box<dyn Fn(SignatureScheme, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

impl PrivateKey {
    /// Reads the first private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let encrypted = |marker: &[u8]| pem.windows(marker.len()).any(|window| window == marker);
        if encrypted(b"BEGIN ENCRYPTED PRIVATE KEY") || encrypted(b"Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotFound)?;
        Self::from_der(&der)
    }

    /// Reads a private key in one of the encodings that rustls knows.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let found = match der {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok().map(Self::rsa),
            PrivateKeyDer::Sec1(key) => {
                ecdsa(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, key.secret_sec1_der()).ok())
            }
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                RsaKeyPair::from_pkcs8(der)
                    .ok()
                    .map(Self::rsa)
                    .or_else(|| ecdsa(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok()))
                    .or_else(|| {
                        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
                        Some(Self {
                            kind: KeyKind::Ed25519,
                            pair: Pair::Ed25519(pair),
                        })
                    })
                    .or_else(|| rsa_pss(der))
            }
            _ => None,
        };
        found.ok_or(KeyError::Unsupported)
    }

    /// A key that only `sign` can use, with the DER SubjectPublicKeyInfo of its certificate.
    ///
    /// # Errors
    /// The public key is damaged or of an unsupported kind.
    pub fn elsewhere(spki: &[u8], sign: SignElsewhere) -> Result<Self, KeyError> {
        let kind = KeyKind::of_spki(spki)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::PublicKey)?;
        let public_key = info.subject_public_key.data.to_vec();
        let spki = spki.to_vec();
        Ok(Self {
            kind,
            pair: Pair::Elsewhere(Elsewhere {
                spki,
                public_key,
                sign,
            }),
        })
    }

    /// True when a signature of this key can be verified with its public key: the key that something
    /// else holds is the one that was meant.
    pub fn works(&self) -> bool {
        // What RFC 8446 §4.4.3 has a server sign, of no handshake that ever was.
        let mut message = vec![b' '; 64];
        message.extend(b"TLS 1.3, server CertificateVerify\0");
        message.extend([0; 32]);
        let scheme = self.kind.schemes().first();
        let signature = scheme.and_then(|scheme| self.sign(*scheme, &message).ok());
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            KeyKind::Rsa | KeyKind::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
            KeyKind::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            KeyKind::EcdsaP384 => &signature::ECDSA_P384_SHA384_ASN1,
            KeyKind::EcdsaP521 => &signature::ECDSA_P521_SHA512_ASN1,
            KeyKind::Ed25519 => &signature::ED25519,
        };
        signature.is_some_and(|signature| {
            let key = signature::UnparsedPublicKey::new(algorithm, self.public_key());
            key.verify(&message, &signature).is_ok()
        })
    }

    /// DER SubjectPublicKeyInfo. For keys limited to RSA-PSS the certificate's may differ in its
    /// parameters; compare with [`Self::belongs_to`].
    pub fn spki(&self) -> Vec<u8> {
        if let Pair::Elsewhere(key) = &self.pair {
            return key.spki.clone();
        }
        let algorithm = match self.kind {
            KeyKind::Rsa => alg_id::RSA_ENCRYPTION,
            KeyKind::RsaPss => RSASSA_PSS,
            KeyKind::EcdsaP256 => alg_id::ECDSA_P256,
            KeyKind::EcdsaP384 => alg_id::ECDSA_P384,
            KeyKind::EcdsaP521 => alg_id::ECDSA_P521,
            KeyKind::Ed25519 => alg_id::ED25519,
        };
        public_key_to_spki(&algorithm, self.public_key()).to_vec()
    }

    /// True when this is the key of a certificate with the given DER SubjectPublicKeyInfo.
    pub fn belongs_to(&self, certificate_spki: &[u8]) -> bool {
        KeyKind::of_spki(certificate_spki) == Ok(self.kind)
            && SubjectPublicKeyInfo::from_der(certificate_spki)
                .is_ok_and(|(_, info)| info.subject_public_key.data.as_ref() == self.public_key())
    }

    /// The key as PKCS#8, unless something else holds it.
    pub fn to_pkcs8(&self) -> Option<SecretBytes> {
        let der = match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
                der.as_ref().to_vec()
            }
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Pair::Elsewhere(_) => return None,
        };
        Some(SecretBytes::new(der))
    }

    /// Signs `message` (not its hash) if it is what a TLS server signs in a handshake
    /// (`specs/server-auth.md` §7.3 rule 2).
    ///
    /// # Errors
    /// The message is something else, or the scheme does not fit the key.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if !is_server_handshake(message) {
            return Err(KeyError::Message);
        }
        self.sign_anything(scheme, message)
    }

    /// A rustls key that signs in this process whatever rustls wants signed, as clients and
    /// single-process servers need it.
    ///
    /// # Errors
    /// Never in practice: the public key was made by this type.
    pub fn into_signing_key(self) -> Result<RemoteKey, KeyError> {
        let spki = self.spki();
        let sign = move |_: KeyIndex, scheme: SignatureScheme, message: &[u8]| {
            self.sign_anything(scheme, message)
                .map_err(|error| RemoteSignError(error.to_string()))
        };
        RemoteKey::new(KeyIndex(0), &spki, Arc::new(sign))
    }

    fn sign_anything(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if !self.kind.schemes().contains(&scheme) {
            return Err(KeyError::Scheme(scheme.into()));
        }
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(scheme).ok_or(KeyError::Scheme(scheme.into()))?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| KeyError::Signing)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => {
                let signature = pair
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| KeyError::Signing)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Elsewhere(key) => (key.sign)(scheme, message).ok_or(KeyError::Signing),
        }
    }

    fn rsa(pair: RsaKeyPair) -> Self {
        Self {
            kind: KeyKind::Rsa,
            pair: Pair::Rsa(pair),
        }
    }

    fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Elsewhere(key) => &key.public_key,
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

fn ecdsa(load: impl Fn(&'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair>) -> Option<PrivateKey> {
    let curves: [(KeyKind, &'static EcdsaSigningAlgorithm); 3] = [
        (KeyKind::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
        (KeyKind::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        (KeyKind::EcdsaP521, &ECDSA_P521_SHA512_ASN1_SIGNING),
    ];
    curves.into_iter().find_map(|(kind, algorithm)| {
        Some(PrivateKey {
            kind,
            pair: Pair::Ecdsa(load(algorithm)?),
        })
    })
}

/// PKCS#8 (RFC 5958 §2) with the algorithm id-RSASSA-PSS: aws-lc takes the PKCS#1 key inside.
fn rsa_pss(pkcs8: &[u8]) -> Option<PrivateKey> {
    let (_, sequence) = Sequence::from_der(pkcs8).ok()?;
    let (rest, _version) = Any::from_der(&sequence.content).ok()?;
    let (rest, algorithm) = Sequence::from_der(rest).ok()?;
    let (_, oid) = Oid::from_der(&algorithm.content).ok()?;
    if oid != OID_PKCS1_RSASSAPSS {
        return None;
    }
    let (_, key) = OctetString::from_der(rest).ok()?;
    let pair = RsaKeyPair::from_der(key.as_ref()).ok()?;
    Some(PrivateKey {
        kind: KeyKind::RsaPss,
        pair: Pair::Rsa(pair),
    })
}

fn rsa_encoding(scheme: SignatureScheme) -> Option<&'static dyn RsaEncoding> {
    Some(match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => &signature::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384 => &signature::RSA_PKCS1_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512 => &signature::RSA_PKCS1_SHA512,
        SignatureScheme::RSA_PSS_SHA256 | RSA_PSS_PSS_SHA256 => &signature::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384 | RSA_PSS_PSS_SHA384 => &signature::RSA_PSS_SHA384,
        SignatureScheme::RSA_PSS_SHA512 | RSA_PSS_PSS_SHA512 => &signature::RSA_PSS_SHA512,
        _ => return None,
    })
}
