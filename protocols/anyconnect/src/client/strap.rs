//! STRAP: proof that who shows a cookie is who logged in (`specs/cstp-dtls.md` §2.3).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use culvert_vocab::SecretString;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::browser_token::unwrap_token;

/// A key could not be made, read or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StrapError {
    /// The `openconnect_strapkey` of a cookie is no P-256 private key.
    #[error("the STRAP key of the cookie is not a P-256 private key")]
    Key,
    /// The cryptographic library failed.
    #[error("cannot make a STRAP key or signature")]
    Crypto,
}

/// A P-256 key pair. Cheap to clone; never printed.
#[derive(Clone)]
pub struct StrapKey {
    pair: Arc<EcdsaKeyPair>,
    /// DER SubjectPublicKeyInfo.
    public: Vec<u8>,
}

impl StrapKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn generate() -> Result<Self, StrapError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| StrapError::Crypto)?;
        Self::new(pair)
    }

    /// Reads the `openconnect_strapkey` of a cookie: base64 of a DER ECPrivateKey.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_secret(key: &SecretString) -> Result<Self, StrapError> {
        let der = BASE64
            .decode(key.expose().as_bytes())
            .map_err(|_| StrapError::Key)?;
        let der = Zeroizing::new(der);
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
            .map_err(|_| StrapError::Key)?;
        Self::new(pair)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, StrapError> {
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| StrapError::Crypto)?;
        let public = public.as_ref().to_vec();
        Ok(Self {
            pair: Arc::new(pair),
            public,
        })
    }

    /// The form that [`Self::from_secret`] reads.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn to_secret(&self) -> Result<SecretString, StrapError> {
        let der: EcPrivateKeyRfc5915Der<'_> =
            self.pair.private_key().as_der().map_err(|_| StrapError::Crypto)?;
        Ok(BASE64.encode(der.as_ref()).into())
    }

    /// The public key as headers carry it: base64 of a DER SubjectPublicKeyInfo.
    pub fn public_key(&self) -> String {
        BASE64.encode(&self.public)
    }

    /// Proves possession of this key, announced earlier, on a connection with this channel
    /// binding, and announces `next` (which may be the same key).
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn prove(&self, channel_binding: &[u8], next: &StrapKey) -> Result<StrapProof, StrapError> {
        let message = [channel_binding, &next.public].concat();
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &message)
            .map_err(|_| StrapError::Crypto)?;
        Ok(StrapProof {
            verify: BASE64.encode(signature.as_ref()),
            public_key: next.public_key(),
        })
    }
}

impl fmt::Debug for StrapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrapKey(..)")
    }
}

/// Values of the STRAP headers of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrapProof {
    /// `X-AnyConnect-STRAP-Verify`.
    pub verify: String,
    /// `X-AnyConnect-STRAP-Pubkey`.
    pub public_key: String,
}

/// The keys that a login announces. Cheap to clone; never printed.
#[derive(Debug, Clone)]
pub struct StrapKeys {
    signing: StrapKey,
    dh: Arc<PrivateKey>,
    dh_public: String,
}

impl StrapKeys {
    /// Makes new keys: one signs, the other opens what a browser sign-in brings.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn generate() -> Result<Self, StrapError> {
        let dh = PrivateKey::generate(&ECDH_P256).map_err(|_| StrapError::Crypto)?;
        let dh_public = dh.compute_public_key().map_err(|_| StrapError::Crypto)?;
        let dh_public: PublicKeyX509Der<'_> = dh_public.as_der().map_err(|_| StrapError::Crypto)?;
        Ok(Self {
            signing: StrapKey::generate()?,
            dh: Arc::new(dh),
            dh_public: BASE64.encode(dh_public.as_ref()),
        })
    }

    /// The key that signs.
    pub fn signing(&self) -> &StrapKey {
        &self.signing
    }

    /// Value of `X-AnyConnect-STRAP-DH-Pubkey`.
    pub fn dh_public(&self) -> &str {
        &self.dh_public
    }

    /// Unwraps the token of a browser sign-in; `None` if it is not for these keys.
    pub(super) fn unwrap_token(&self, blob: &str) -> Option<SecretString> {
        unwrap_token(&self.dh, blob)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/strap.txt");

    /// Octets of a P-256 SubjectPublicKeyInfo before the point.
    const SPKI_PREFIX: usize = 26;

    fn base64(text: &str) -> Vec<u8> {
        BASE64.decode(text.as_bytes()).unwrap()
    }

    fn verifies(binding: &[u8], old: &str, new: &str, verify: &str) -> bool {
        let message = [binding, &base64(new)].concat();
        let old = base64(old);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &old[SPKI_PREFIX..])
            .verify(&message, &base64(verify))
            .is_ok()
    }

    #[test]
    fn captured_proofs_sign_binding_and_new_key() {
        let mut values = std::collections::HashMap::new();
        let mut checked = 0;
        for (name, value) in VECTORS.lines().filter_map(|line| line.split_once('=')) {
            values.insert(name, value);
            if name == "verify" {
                let binding = data_encoding::HEXLOWER
                    .decode(values["binding"].as_bytes())
                    .unwrap();
                assert!(verifies(
                    &binding,
                    values["old_pubkey"],
                    values["new_pubkey"],
                    value
                ));
                checked += 1;
            }
        }
        assert!(checked >= 5);
    }

    #[test]
    fn our_proof_verifies_also_after_a_round_trip_of_the_key() {
        let first = StrapKeys::generate().unwrap();
        let again = StrapKey::from_secret(&first.signing().to_secret().unwrap()).unwrap();
        let next = StrapKey::generate().unwrap();
        let proof = again.prove(b"binding", &next).unwrap();
        assert!(verifies(
            b"binding",
            &first.signing().public_key(),
            &proof.public_key,
            &proof.verify
        ));
        assert!(!verifies(
            b"other",
            &first.signing().public_key(),
            &proof.public_key,
            &proof.verify
        ));
        assert_eq!(base64(first.dh_public()).len(), base64(&proof.public_key).len());
    }

    #[test]
    fn bad_keys() {
        for bad in ["", "!", "AAAA"] {
            assert_eq!(
                StrapKey::from_secret(&bad.into()).err(),
                Some(StrapError::Key),
                "{bad}"
            );
        }
    }
}
