use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use culvert_wire::url::{ServerUrl, UrlError};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

use crate::config::https;

/// Most keys of a set that are looked at.
const KEYS_MAX: usize = 256;

/// A document of the provider that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not the JSON that it has to be.
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The place of the keys cannot be used.
    #[error("'jwks_uri': {0}")]
    Url(#[from] UrlError),
    /// No key of it can be used.
    #[error("no usable key among {0}")]
    NoKey(usize),
}

/// Where the keys are, as the discovery document says.
///
/// # Errors
/// It is no such document, or names a place outside HTTPS.
pub fn jwks_location(discovery: &[u8]) -> Result<ServerUrl, DocumentError> {
    #[derive(Deserialize)]
    struct Discovery {
        jwks_uri: String,
    }
    let discovery: Discovery = serde_json::from_slice(discovery)?;
    Ok(https(&discovery.jwks_uri)?)
}

/// The provider's public keys.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: String,
    /// The only algorithm that it is for.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    Ec {
        curve: &'static Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

/// A curve of JWA (RFC 7518 §6.2.1.1) and the one algorithm that goes with it.
#[derive(Debug)]
struct Curve {
    name: &'static str,
    algorithm: &'static str,
    /// Octets of a coordinate.
    len: usize,
    verification: &'static EcdsaVerificationAlgorithm,
}

static CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        algorithm: "ES256",
        len: 32,
        verification: &signature::ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        name: "P-384",
        algorithm: "ES384",
        len: 48,
        verification: &signature::ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        name: "P-521",
        algorithm: "ES512",
        len: 66,
        verification: &signature::ECDSA_P521_SHA512_FIXED,
    },
];

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// A member of a JWK set, as far as it matters.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWK set. Keys without an id, for encryption or of other kinds are left out.
    ///
    /// # Errors
    /// It is none, or no key is left.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(document)?;
        let count = set.keys.len();
        let usable = set.keys.into_iter().take(KEYS_MAX).filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            Key::new(jwk)
        });
        let keys: Vec<_> = usable.collect();
        if keys.is_empty() {
            return Err(DocumentError::NoKey(count));
        }
        Ok(Self(keys))
    }

    /// True when there is a key with this id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether a key with this id has made the signature. The kind of the key says which algorithms
    /// it may be, never the token alone (RFC 8725 §3.1).
    pub(crate) fn verify(&self, id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0
            .iter()
            .filter(|key| key.id == id)
            .any(|key| key.verify(algorithm, message, signature))
    }
}

impl Key {
    fn new(jwk: Jwk) -> Option<Self> {
        let other_purpose = jwk.purpose.is_some_and(|purpose| purpose != "sig");
        // RFC 7517 §4.3
        let other_operations = jwk
            .key_ops
            .is_some_and(|operations| operations.iter().all(|operation| operation != "verify"));
        if other_purpose || other_operations {
            return None;
        }
        let material = match jwk.kty.as_str() {
            "RSA" => Material::Rsa {
                n: number(&jwk.n?)?,
                e: number(&jwk.e?)?,
            },
            "EC" => {
                let name = jwk.crv?;
                let curve = CURVES.iter().find(|curve| curve.name == name)?;
                let mut point = vec![4];
                point.extend(coordinate(&jwk.x?, curve.len)?);
                point.extend(coordinate(&jwk.y?, curve.len)?);
                Material::Ec { curve, point }
            }
            "OKP" if jwk.crv.as_deref() == Some("Ed25519") => Material::Ed25519(decode(&jwk.x?)?),
            _ => return None,
        };
        Some(Self {
            id: jwk.kid?,
            algorithm: jwk.alg,
            material,
        })
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.as_ref().is_some_and(|only| only != algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => rsa(algorithm).is_some_and(|parameters| {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }),
            Material::Ec { curve, point } => {
                curve.algorithm == algorithm
                    && UnparsedPublicKey::new(curve.verification, point)
                        .verify(message, signature)
                        .is_ok()
            }
            Material::Ed25519(key) => {
                matches!(algorithm, "EdDSA" | "Ed25519")
                    && UnparsedPublicKey::new(&signature::ED25519, key)
                        .verify(message, signature)
                        .is_ok()
            }
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()
}

/// A number without zeros in front, which some providers write.
fn number(text: &str) -> Option<Vec<u8>> {
    let octets = decode(text)?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets
        .get(zeros..)
        .filter(|octets| !octets.is_empty())
        .map(<[u8]>::to_vec)
}

/// A number of exactly `len` octets; some providers leave out zeros in front.
fn coordinate(text: &str, len: usize) -> Option<Vec<u8>> {
    let octets = number(text)?;
    let mut padded = vec![0; len.checked_sub(octets.len())?];
    padded.extend(octets);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn where_the_keys_are() {
        let location =
            jwks_location(br#"{"issuer":"x","jwks_uri":"https://id.example:8443/keys?v=1"}"#).unwrap();
        assert_eq!(
            (location.host.as_str(), location.port, location.path.as_str()),
            ("id.example", 8443, "keys?v=1")
        );
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"jwks_uri":7}"#,
            r#"{"jwks_uri":"http://id.example/keys"}"#,
        ] {
            assert!(jwks_location(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_left_out() {
        let rsa = r#"{"kty":"RSA","kid":"a","key_ops":["verify"],"n":"AQAB","e":"AQAB"}"#;
        let good = format!(
            r#"{{"keys":[{rsa},{{"kty":"oct","kid":"b","k":"AAAA"}},{{"kty":"EC","kid":"c","crv":"secp256k1"}},7,
            {{"kty":"RSA","n":"AQAB","e":"AQAB"}},{{"kty":"RSA","kid":"d","use":"enc","n":"AQAB","e":"AQAB"}},
            {{"kty":"RSA","kid":"e","key_ops":["encrypt"],"n":"AQAB","e":"AQAB"}}]}}"#
        );
        let set = KeySet::parse(good.as_bytes()).unwrap();
        assert_eq!(set.0.len(), 1);
        assert!(set.has("a") && !set.has("b"));
        let none = good.replace(rsa, "null");
        assert!(matches!(
            KeySet::parse(none.as_bytes()),
            Err(DocumentError::NoKey(7))
        ));
    }

    #[test]
    fn coordinates() {
        assert_eq!(coordinate("AAH_", 4), Some(vec![0, 0, 1, 255]));
        assert_eq!(coordinate("AQEB", 2), None);
        assert_eq!(number("AAAA"), None);
        assert_eq!(number("AAEA="), Some(vec![1, 0]));
    }

    proptest! {
        #[test]
        fn never_panics(document in prop::collection::vec(any::<u8>(), 0..200), kty in "RSA|EC|OKP", text in "[A-Za-z0-9_=-]{0,90}") {
            let _ = KeySet::parse(&document);
            let _ = jwks_location(&document);
            for crv in ["P-256", "P-384", "P-521", "Ed25519"] {
                let set = format!(r#"{{"keys":[{{"kty":"{kty}","kid":"k","crv":"{crv}","n":"{text}","e":"{text}","x":"{text}","y":"{text}"}}]}}"#);
                if let Ok(set) = KeySet::parse(set.as_bytes()) {
                    for algorithm in ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"] {
                        prop_assert!(!set.verify("k", algorithm, b"message", &document));
                    }
                }
            }
        }
    }
}
