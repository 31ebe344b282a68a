//! Private keys that OpenSSL knows only the public half of: something else signs.

#[allow(unsafe_code)]
mod ffi;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::ec::EcKey;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, PKeyRef, Private, Public};
use openssl::rsa::Rsa;

/// What a key that something else holds is to do.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// The padding of PKCS #1 v1.5 and RSA, over a DigestInfo, or over the two hashes (36 octets) of
    /// TLS 1.0 and 1.1.
    RsaPkcs1(&'a [u8]),
    /// RSA alone, over a block that is as long as the modulus.
    RsaBare(&'a [u8]),
    /// ECDSA over this digest; the signature is DER.
    Ecdsa(&'a [u8]),
}

type Sign = Box<dyn Fn(Operation<'_>) -> Result<Vec<u8>, String> + Send + Sync>;

/// A private key in hardware.
pub struct KeyElsewhere {
    sign: Sign,
    failure: Mutex<Option<String>>,
}

impl KeyElsewhere {
    /// A key that `sign` uses; it says in words why it cannot.
    pub fn new(sign: impl Fn(Operation<'_>) -> Result<Vec<u8>, String> + Send + Sync + 'static) -> Self {
        Self {
            sign: Box::new(sign),
            failure: Mutex::default(),
        }
    }

    /// Why the last signature could not be made.
    pub(crate) fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A signature of `max` octets at most.
    fn sign(&self, operation: Operation<'_>, max: usize) -> Option<Vec<u8>> {
        let signature = (self.sign)(operation).and_then(|signature| match signature.len() {
            1.. if signature.len() <= max => Ok(signature),
            len => Err(format!("a signature of {len} octets")),
        });
        signature
            .map_err(|text| *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text))
            .ok()
    }
}

impl fmt::Debug for KeyElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyElsewhere(..)")
    }
}

/// The key of a certificate with this public key, as OpenSSL uses it.
///
/// # Errors
/// OpenSSL knows no signatures by something else for this kind of key.
pub(crate) fn private_key(
    public: &PKeyRef<Public>,
    key: &Arc<KeyElsewhere>,
) -> Result<PKey<Private>, ErrorStack> {
    match public.id() {
        Id::EC => {
            let public = public.ec_key()?;
            ffi::ec(&EcKey::from_public_key(public.group(), public.public_key())?, key)
        }
        _ => {
            let public = public.rsa()?;
            ffi::rsa(
                &Rsa::from_public_components(public.n().to_owned()?, public.e().to_owned()?)?,
                key,
            )
        }
    }
}
