use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use cryptoki::session::Session;
use culvert_wire::der;
use rustls::SignatureScheme;

use crate::Pkcs11Error;

/// DER DigestInfo up to the hash (RFC 8017 §9.2 note 1).
const SHA256_PREFIX: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const SHA384_PREFIX: &[u8] = b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30";
const SHA512_PREFIX: &[u8] = b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40";

/// A private key that never leaves its token.
pub struct Key {
    /// Tokens do one thing at a time.
    session: Mutex<Session>,
    object: ObjectHandle,
}

impl Key {
    pub(crate) fn new(session: Session, object: ObjectHandle) -> Self {
        Self {
            session: Mutex::new(session),
            object,
        }
    }

    /// Signs `message` (not its hash) as TLS wants it. The hash is made here, so that the token
    /// needs nothing but the bare operation.
    ///
    /// # Errors
    /// The key cannot be used with this scheme, or the token fails.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        match scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => self.rsa_pkcs1(SHA256_PREFIX, &SHA256, message),
            SignatureScheme::RSA_PKCS1_SHA384 => self.rsa_pkcs1(SHA384_PREFIX, &SHA384, message),
            SignatureScheme::RSA_PKCS1_SHA512 => self.rsa_pkcs1(SHA512_PREFIX, &SHA512, message),
            SignatureScheme::RSA_PSS_SHA256 => self.rsa_pss(&SHA256, message),
            SignatureScheme::RSA_PSS_SHA384 => self.rsa_pss(&SHA384, message),
            SignatureScheme::RSA_PSS_SHA512 => self.rsa_pss(&SHA512, message),
            SignatureScheme::ECDSA_NISTP256_SHA256 => self.ecdsa(&SHA256, message),
            SignatureScheme::ECDSA_NISTP384_SHA384 => self.ecdsa(&SHA384, message),
            SignatureScheme::ECDSA_NISTP521_SHA512 => self.ecdsa(&SHA512, message),
            SignatureScheme::ED25519 => {
                let parameters = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                self.raw(KeyType::EC_EDWARDS, &Mechanism::Eddsa(parameters), message)
            }
            _ => Err(Pkcs11Error::Scheme),
        }
    }

    fn rsa_pkcs1(
        &self,
        prefix: &[u8],
        hash: &'static Algorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, Pkcs11Error> {
        self.sign_info(&[prefix, digest(hash, message).as_ref()].concat())
    }

    /// RSA with the padding of PKCS #1 v1.5 over a DigestInfo, or whatever stands in its place.
    ///
    /// # Errors
    /// This is no RSA key, or the token fails.
    pub fn sign_info(&self, info: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        self.raw(KeyType::RSA, &Mechanism::RsaPkcs, info)
    }

    /// RSA alone over a block that is as long as the modulus. Not all tokens do that.
    ///
    /// # Errors
    /// This is no RSA key, or the token fails.
    pub fn sign_block(&self, block: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        self.raw(KeyType::RSA, &Mechanism::RsaX509, block)
    }

    fn rsa_pss(&self, hash: &'static Algorithm, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let (hash_alg, mgf) = if hash == &SHA256 {
            (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
        } else if hash == &SHA384 {
            (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384)
        } else {
            (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512)
        };
        let digest = digest(hash, message);
        let s_len = digest.as_ref().len() as u64;
        let parameters = PkcsPssParams {
            hash_alg,
            mgf,
            s_len: s_len.into(),
        };
        self.raw(KeyType::RSA, &Mechanism::RsaPkcsPss(parameters), digest.as_ref())
    }

    fn ecdsa(&self, hash: &'static Algorithm, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        self.sign_digest(digest(hash, message).as_ref())
    }

    /// ECDSA over a digest; the signature is DER.
    ///
    /// # Errors
    /// This is no EC key, or the token fails.
    pub fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let signature = self.raw(KeyType::EC, &Mechanism::Ecdsa, digest)?;
        let (r, s) = signature
            .split_at_checked(signature.len() / 2)
            .ok_or(Pkcs11Error::Scheme)?;
        Ok(der::element(
            der::SEQUENCE,
            &[der::integer(r), der::integer(s)].concat(),
        ))
    }

    fn raw(&self, kind: KeyType, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        // SoftHSM crashes when it is asked for an operation of another kind of key.
        let attributes = session.get_attributes(self.object, &[AttributeType::KeyType])?;
        if !attributes.contains(&Attribute::KeyType(kind)) {
            return Err(Pkcs11Error::Scheme);
        }
        Ok(session.sign(mechanism, self.object, data)?)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}
