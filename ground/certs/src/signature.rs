//! Signatures of certificates and handshakes, verified by aws-lc for every kind of certificate.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::signature::{self as lc, UnparsedPublicKey, VerificationAlgorithm};
use rustls::SignatureScheme;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_HASH_SHA1, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD2WITHRSAENC,
    OID_PKCS1_MD4WITHRSAENC, OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::prelude::{AlgorithmIdentifier, FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm as CertSignature;

use crate::CertError;
use crate::describe::parse;

/// Smallest RSA key that counts as secure, in bits.
const RSA_MIN_BITS: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RsaPkcs1(Digest),
    RsaPss(Digest),
    Ecdsa(Digest),
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rsa,
    /// May only be used with PSS.
    RsaPss,
    P256,
    P384,
    P521,
    Ed25519,
}

/// Outcome of a certificate's signature check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The issuer's key made the signature.
    Valid,
    /// It did not, or nobody can tell.
    Invalid,
    /// The algorithm is too weak to prove anything.
    Insecure,
}

/// The hash of a server's certificate that names the end of a TLS connection, "tls-server-end-point"
/// (RFC 5929 §4.1): that of its own signature, but SHA-256 in place of MD5 and SHA-1. `None` where the
/// name is not defined: for signatures without a hash function (Ed25519) or with one that is not known.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn server_end_point(certificate: &[u8]) -> Result<Option<Vec<u8>>, CertError> {
    let parsed = parse(certificate)?;
    let algorithm: &'static Algorithm = match certificate_kind(&parsed.signature_algorithm) {
        Some(Kind::RsaPkcs1(hash) | Kind::RsaPss(hash) | Kind::Ecdsa(hash)) => match hash {
            Digest::Sha1 | Digest::Sha256 => &SHA256,
            Digest::Sha384 => &SHA384,
            Digest::Sha512 => &SHA512,
        },
        Some(Kind::Ed25519) => return Ok(None),
        None if is_md5_or_sha1(&parsed.signature_algorithm) => &SHA256,
        None => return Ok(None),
    };
    Ok(Some(digest(algorithm, certificate).as_ref().to_vec()))
}

/// Checks that `issuer` signed `certificate`. SHA-1 counts as insecure unless `allow_sha1`.
pub(crate) fn check_certificate(
    certificate: &X509Certificate<'_>,
    issuer: &SubjectPublicKeyInfo<'_>,
    allow_sha1: bool,
) -> Checked {
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Checked::Invalid;
    }
    let Some(kind) = certificate_kind(&certificate.signature_algorithm) else {
        return if is_obsolete(&certificate.signature_algorithm) {
            Checked::Insecure
        } else {
            Checked::Invalid
        };
    };
    if is_sha1(kind) && !allow_sha1 || is_short_rsa(issuer) {
        return Checked::Insecure;
    }
    let message = certificate.tbs_certificate.as_ref();
    match verify(kind, issuer, message, &certificate.signature_value.data) {
        true => Checked::Valid,
        false => Checked::Invalid,
    }
}

/// Checks the signature of something else that certificate authorities sign. SHA-1 counts as
/// insecure.
pub(crate) fn check_signed(
    algorithm: &AlgorithmIdentifier<'_>,
    issuer: &SubjectPublicKeyInfo<'_>,
    message: &[u8],
    signature: &[u8],
) -> Checked {
    match certificate_kind(algorithm) {
        None => Checked::Invalid,
        Some(kind) if is_sha1(kind) || is_short_rsa(issuer) => Checked::Insecure,
        Some(kind) if verify(kind, issuer, message, signature) => Checked::Valid,
        Some(_) => Checked::Invalid,
    }
}

/// True when the holder of the key with this DER SubjectPublicKeyInfo has signed `message`.
pub fn signature_is_by(spki: &[u8], scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> bool {
    SubjectPublicKeyInfo::from_der(spki)
        .is_ok_and(|(_, key)| check_handshake(scheme, &key, false, message, signature))
}

/// Checks a handshake signature. TLS 1.3 ties ECDSA schemes to their curve (RFC 8446 §4.2.3).
pub(crate) fn check_handshake(
    scheme: SignatureScheme,
    key: &SubjectPublicKeyInfo<'_>,
    tls13: bool,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some(kind) = scheme_kind(scheme) else {
        return false;
    };
    let curve = match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(Key::P256),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(Key::P384),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Some(Key::P521),
        _ => None,
    };
    let pss_only = matches!(u16::from(scheme), 0x0809..=0x080b);
    match (kind, key_kind(key)) {
        (_, None) => return false,
        (Kind::RsaPkcs1(_), _) if tls13 => return false,
        (Kind::RsaPss(_), Some(key)) if pss_only != (key == Key::RsaPss) => return false,
        (Kind::Ecdsa(_), Some(key)) if tls13 && Some(key) != curve => return false,
        _ => {}
    }
    verify(kind, key, message, signature)
}

/// Schemes that [`check_handshake`] knows, best first.
pub(crate) fn handshake_schemes(allow_sha1: bool) -> Vec<SignatureScheme> {
    let mut schemes = vec![
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
        SignatureScheme::RSA_PSS_SHA512,
        SignatureScheme::Unknown(0x0809),
        SignatureScheme::Unknown(0x080a),
        SignatureScheme::Unknown(0x080b),
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512,
    ];
    if allow_sha1 {
        schemes.push(SignatureScheme::RSA_PKCS1_SHA1);
    }
    schemes
}

fn verify(kind: Kind, key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> bool {
    key_kind(key)
        .and_then(|key_kind| algorithm(kind, key_kind))
        .is_some_and(|algorithm| {
            UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
                .verify(message, signature)
                .is_ok()
        })
}

fn algorithm(kind: Kind, key: Key) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, key) {
        (Kind::RsaPkcs1(Digest::Sha1), Key::Rsa) => &lc::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (Kind::RsaPkcs1(Digest::Sha256), Key::Rsa) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (Kind::RsaPkcs1(Digest::Sha384), Key::Rsa) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (Kind::RsaPkcs1(Digest::Sha512), Key::Rsa) => &lc::RSA_PKCS1_2048_8192_SHA512,
        (Kind::RsaPss(Digest::Sha256), Key::Rsa | Key::RsaPss) => &lc::RSA_PSS_2048_8192_SHA256,
        (Kind::RsaPss(Digest::Sha384), Key::Rsa | Key::RsaPss) => &lc::RSA_PSS_2048_8192_SHA384,
        (Kind::RsaPss(Digest::Sha512), Key::Rsa | Key::RsaPss) => &lc::RSA_PSS_2048_8192_SHA512,
        (Kind::Ecdsa(Digest::Sha256), Key::P256) => &lc::ECDSA_P256_SHA256_ASN1,
        (Kind::Ecdsa(Digest::Sha384), Key::P256) => &lc::ECDSA_P256_SHA384_ASN1,
        (Kind::Ecdsa(Digest::Sha512), Key::P256) => &lc::ECDSA_P256_SHA512_ASN1,
        (Kind::Ecdsa(Digest::Sha256), Key::P384) => &lc::ECDSA_P384_SHA256_ASN1,
        (Kind::Ecdsa(Digest::Sha384), Key::P384) => &lc::ECDSA_P384_SHA384_ASN1,
        (Kind::Ecdsa(Digest::Sha512), Key::P384) => &lc::ECDSA_P384_SHA512_ASN1,
        (Kind::Ecdsa(Digest::Sha256), Key::P521) => &lc::ECDSA_P521_SHA256_ASN1,
        (Kind::Ecdsa(Digest::Sha384), Key::P521) => &lc::ECDSA_P521_SHA384_ASN1,
        (Kind::Ecdsa(Digest::Sha512), Key::P521) => &lc::ECDSA_P521_SHA512_ASN1,
        (Kind::Ed25519, Key::Ed25519) => &lc::ED25519,
        _ => return None,
    })
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        Some(Key::Rsa)
    } else if *algorithm == OID_PKCS1_RSASSAPSS {
        Some(Key::RsaPss)
    } else if *algorithm == OID_SIG_ED25519 {
        Some(Key::Ed25519)
    } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
        [
            (OID_EC_P256, Key::P256),
            (OID_NIST_EC_P384, Key::P384),
            (OID_NIST_EC_P521, Key::P521),
        ]
        .into_iter()
        .find_map(|(oid, key)| (oid == curve).then_some(key))
    } else {
        None
    }
}

fn certificate_kind(algorithm: &AlgorithmIdentifier<'_>) -> Option<Kind> {
    let oid = &algorithm.algorithm;
    let simple = [
        (OID_PKCS1_SHA1WITHRSA, Kind::RsaPkcs1(Digest::Sha1)),
        (OID_PKCS1_SHA256WITHRSA, Kind::RsaPkcs1(Digest::Sha256)),
        (OID_PKCS1_SHA384WITHRSA, Kind::RsaPkcs1(Digest::Sha384)),
        (OID_PKCS1_SHA512WITHRSA, Kind::RsaPkcs1(Digest::Sha512)),
        (OID_SIG_ECDSA_WITH_SHA256, Kind::Ecdsa(Digest::Sha256)),
        (OID_SIG_ECDSA_WITH_SHA384, Kind::Ecdsa(Digest::Sha384)),
        (OID_SIG_ECDSA_WITH_SHA512, Kind::Ecdsa(Digest::Sha512)),
        (OID_SIG_ED25519, Kind::Ed25519),
    ];
    if let Some((_, kind)) = simple.into_iter().find(|(known, _)| known == oid) {
        return Some(kind);
    }
    let Ok(CertSignature::RSASSA_PSS(parameters)) = CertSignature::try_from(algorithm) else {
        return None;
    };
    let digests = [
        (OID_HASH_SHA1, Digest::Sha1),
        (OID_NIST_HASH_SHA256, Digest::Sha256),
        (OID_NIST_HASH_SHA384, Digest::Sha384),
        (OID_NIST_HASH_SHA512, Digest::Sha512),
    ];
    let hash = parameters.hash_algorithm_oid();
    digests
        .into_iter()
        .find(|(known, _)| known == hash)
        .map(|(_, digest)| Kind::RsaPss(digest))
}

fn scheme_kind(scheme: SignatureScheme) -> Option<Kind> {
    Some(match scheme {
        SignatureScheme::RSA_PKCS1_SHA1 => Kind::RsaPkcs1(Digest::Sha1),
        SignatureScheme::RSA_PKCS1_SHA256 => Kind::RsaPkcs1(Digest::Sha256),
        SignatureScheme::RSA_PKCS1_SHA384 => Kind::RsaPkcs1(Digest::Sha384),
        SignatureScheme::RSA_PKCS1_SHA512 => Kind::RsaPkcs1(Digest::Sha512),
        SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::Unknown(0x0809) => Kind::RsaPss(Digest::Sha256),
        SignatureScheme::RSA_PSS_SHA384 | SignatureScheme::Unknown(0x080a) => Kind::RsaPss(Digest::Sha384),
        SignatureScheme::RSA_PSS_SHA512 | SignatureScheme::Unknown(0x080b) => Kind::RsaPss(Digest::Sha512),
        SignatureScheme::ECDSA_NISTP256_SHA256 => Kind::Ecdsa(Digest::Sha256),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Kind::Ecdsa(Digest::Sha384),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Kind::Ecdsa(Digest::Sha512),
        SignatureScheme::ED25519 => Kind::Ed25519,
        _ => return None,
    })
}

fn is_sha1(kind: Kind) -> bool {
    matches!(kind, Kind::RsaPkcs1(Digest::Sha1) | Kind::RsaPss(Digest::Sha1))
}

/// Algorithms that nobody verifies any more.
fn is_obsolete(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    is_md5_or_sha1(algorithm)
        || [OID_PKCS1_MD2WITHRSAENC, OID_PKCS1_MD4WITHRSAENC].contains(&algorithm.algorithm)
}

/// Those among them whose hash function is known.
fn is_md5_or_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    /// ecdsa-with-SHA1 (RFC 3279 §2.2.3).
    const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
    let oid = &algorithm.algorithm;
    *oid == OID_PKCS1_MD5WITHRSAENC || oid.to_id_string() == ECDSA_WITH_SHA1
}

fn is_short_rsa(key: &SubjectPublicKeyInfo<'_>) -> bool {
    use x509_parser::public_key::PublicKey;
    matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() < RSA_MIN_BITS)
}
