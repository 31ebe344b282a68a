use std::fmt;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use culvert_vocab::SecretString;
use culvert_wire::der::{SEQUENCE, element, integer};
use rustls::SignatureScheme;
use zeroize::Zeroizing;

use crate::file::{Parent, hierarchy_name};
use crate::padding;
use crate::public::{ALG_ECDSA, ALG_NULL, ALG_RSAPSS, ALG_RSASSA, Curve, Kind};
use crate::tpm::Tpm;
use crate::{AskAuth, Interface, KeyFile, Protected, TpmError};

/// Octets of a TPM2B_AUTH.
const AUTH_MAX: usize = 64;
/// What is signed to find out whether the password is right.
const PROBE: &[u8] = b"does this password open the key?";

/// A key whose passwords are known. The TPM loads it anew for each signature: between them nothing
/// of it is there, so processes may share it.
pub struct Key {
    file: KeyFile,
    interface: Interface,
    parent_auth: Auth,
    key_auth: Auth,
}

type Auth = Zeroizing<Vec<u8>>;

/// A signature scheme in its parts.
struct Scheme {
    hash: &'static Algorithm,
    /// TPM_ALG_ID.
    id: u16,
}

impl Scheme {
    fn of(scheme: SignatureScheme, kind: Kind) -> Result<Self, TpmError> {
        let (hash, id) = match scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => (&SHA256, ALG_RSASSA),
            SignatureScheme::RSA_PKCS1_SHA384 => (&SHA384, ALG_RSASSA),
            SignatureScheme::RSA_PKCS1_SHA512 => (&SHA512, ALG_RSASSA),
            SignatureScheme::RSA_PSS_SHA256 => (&SHA256, ALG_RSAPSS),
            SignatureScheme::RSA_PSS_SHA384 => (&SHA384, ALG_RSAPSS),
            SignatureScheme::RSA_PSS_SHA512 => (&SHA512, ALG_RSAPSS),
            SignatureScheme::ECDSA_NISTP256_SHA256 => (&SHA256, ALG_ECDSA),
            SignatureScheme::ECDSA_NISTP384_SHA384 => (&SHA384, ALG_ECDSA),
            SignatureScheme::ECDSA_NISTP521_SHA512 => (&SHA512, ALG_ECDSA),
            _ => return Err(TpmError::Scheme),
        };
        let fits = match kind {
            Kind::Ecc(_) => id == ALG_ECDSA,
            Kind::Rsa { scheme: ALG_NULL, .. } => id != ALG_ECDSA,
            Kind::Rsa { scheme, .. } => id == scheme,
        };
        fits.then_some(Self { hash, id }).ok_or(TpmError::Scheme)
    }

    /// One that the key can make.
    fn probe(kind: Kind) -> SignatureScheme {
        match kind {
            Kind::Rsa {
                scheme: ALG_RSAPSS, ..
            } => SignatureScheme::RSA_PSS_SHA256,
            Kind::Rsa { .. } => SignatureScheme::RSA_PKCS1_SHA256,
            Kind::Ecc(Curve::P256) => SignatureScheme::ECDSA_NISTP256_SHA256,
            Kind::Ecc(Curve::P384) => SignatureScheme::ECDSA_NISTP384_SHA384,
            Kind::Ecc(Curve::P521) => SignatureScheme::ECDSA_NISTP521_SHA512,
        }
    }
}

impl Key {
    /// Finds out the passwords and that the key works. A password that was refused is not sent
    /// again.
    ///
    /// # Errors
    /// The TPM cannot be reached or refuses the key, or a password was not given.
    pub fn open(file: KeyFile, interface: Interface, ask: &mut dyn AskAuth) -> Result<Self, TpmError> {
        let mut key = Self {
            parent_auth: Auth::default(),
            key_auth: Auth::default(),
            file,
            interface,
        };
        let protected = key.parent_protection();
        if let Parent::Persistent(handle) = key.file.parent
            && Tpm::open(&key.interface)?.counts_attempts(handle)?
        {
            key.parent_auth = asked(ask, protected, false)?;
        }
        let mut wrong = false;
        while let Err(error) = key.load(&mut Tpm::open(&key.interface)?) {
            if !error.is_wrong_auth() {
                return Err(error);
            }
            key.parent_auth = asked(ask, protected, wrong)?;
            wrong = true;
        }
        if !key.file.empty_auth {
            key.key_auth = asked(ask, Protected::Key, false)?;
        }
        while let Err(error) = key.sign(Scheme::probe(key.file.public.kind), PROBE) {
            if !error.is_wrong_auth() {
                return Err(error);
            }
            key.key_auth = asked(ask, Protected::Key, true)?;
        }
        Ok(key)
    }

    /// Signs `message` (not its hash) as TLS wants it.
    ///
    /// # Errors
    /// The key cannot be used with this scheme, or the TPM fails.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let public = &self.file.public;
        let scheme = Scheme::of(scheme, public.kind)?;
        if matches!(public.kind, Kind::Rsa { scheme: ALG_NULL, .. }) && public.may_decrypt() {
            let len = public.number.len();
            return self.sign_block(&match scheme.id {
                ALG_RSASSA => padding::pkcs1(scheme.hash, message, len),
                _ => padding::pss(scheme.hash, message, len),
            }?);
        }
        let mut tpm = Tpm::open(&self.interface)?;
        let key = self.load(&mut tpm)?;
        let digest = digest(scheme.hash, message);
        self.sign_with(&mut tpm, key, &scheme, digest.as_ref())
    }

    /// RSA with the padding of PKCS #1 v1.5 over a DigestInfo, or over the two hashes of old
    /// versions of TLS, which only keys that may also decrypt can do.
    ///
    /// # Errors
    /// The key cannot do that, or the TPM fails.
    pub fn sign_info(&self, info: &[u8]) -> Result<Vec<u8>, TpmError> {
        match self.file.public.kind {
            Kind::Rsa { scheme: ALG_NULL, .. } if self.file.public.may_decrypt() => {
                self.sign_block(&padding::pkcs1_info(info, self.file.public.number.len())?)
            }
            Kind::Rsa {
                scheme: ALG_NULL | ALG_RSASSA,
                ..
            } => {
                let (hash, digest) = padding::digest_of_info(info).ok_or(TpmError::Scheme)?;
                let mut tpm = Tpm::open(&self.interface)?;
                let key = self.load(&mut tpm)?;
                let scheme = Scheme { hash, id: ALG_RSASSA };
                self.sign_with(&mut tpm, key, &scheme, digest)
            }
            _ => Err(TpmError::Scheme),
        }
    }

    /// RSA alone over a block that is as long as the modulus.
    ///
    /// # Errors
    /// The key cannot do that, or the TPM fails.
    pub fn sign_block(&self, block: &[u8]) -> Result<Vec<u8>, TpmError> {
        let public = &self.file.public;
        if !matches!(public.kind, Kind::Rsa { scheme: ALG_NULL, .. }) || !public.may_decrypt() {
            return Err(TpmError::Scheme);
        }
        let mut tpm = Tpm::open(&self.interface)?;
        let key = self.load(&mut tpm)?;
        let signature = tpm.rsa_decrypt(key, &self.key_auth, block)?;
        full_length(&signature, public.number.len())
    }

    /// ECDSA over a digest; the signature is DER. The length tells the hash
    /// (`specs/client.md` §8.5).
    ///
    /// # Errors
    /// The key cannot do that, or the TPM fails.
    pub fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, TpmError> {
        let hashes = [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256, &SHA384, &SHA512];
        let hash = hashes.into_iter().find(|hash| hash.output_len() == digest.len());
        let scheme = Scheme {
            hash: hash.ok_or(TpmError::Scheme)?,
            id: ALG_ECDSA,
        };
        if !matches!(self.file.public.kind, Kind::Ecc(_)) {
            return Err(TpmError::Scheme);
        }
        let mut tpm = Tpm::open(&self.interface)?;
        let key = self.load(&mut tpm)?;
        self.sign_with(&mut tpm, key, &scheme, digest)
    }

    /// TPM2_Sign.
    fn sign_with(
        &self,
        tpm: &mut Tpm<'_>,
        key: u32,
        scheme: &Scheme,
        digest: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let numbers = tpm.sign(key, &self.key_auth, scheme.id, scheme.hash, digest)?;
        match numbers.as_slice() {
            [r, s] => Ok(element(SEQUENCE, &[integer(r), integer(s)].concat())),
            [signature] => full_length(signature, self.file.public.number.len()),
            _ => Err(TpmError::Answer),
        }
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.file.spki()
    }

    fn parent_protection(&self) -> Protected {
        match self.file.parent {
            Parent::Hierarchy(handle) => Protected::Hierarchy(hierarchy_name(handle).unwrap_or_default()),
            Parent::Persistent(_) => Protected::Parent,
        }
    }

    fn load(&self, tpm: &mut Tpm<'_>) -> Result<u32, TpmError> {
        let parent = tpm.parent(&self.file, &self.parent_auth)?;
        // What was made from the template has no password.
        let auth = match self.file.parent {
            Parent::Hierarchy(_) => &[],
            Parent::Persistent(_) => self.parent_auth.as_slice(),
        };
        tpm.load(&self.file, parent, auth)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn asked(ask: &mut dyn AskAuth, what: Protected, wrong: bool) -> Result<Auth, TpmError> {
    let password: SecretString = ask.auth(what, wrong).ok_or(TpmError::NoAuth)?;
    let octets = password.expose().as_bytes();
    if octets.len() > AUTH_MAX {
        ask.truncated(what);
    }
    Ok(Zeroizing::new(octets.get(..AUTH_MAX).unwrap_or(octets).to_vec()))
}

/// A number with the zeroes in front that make it this long.
fn full_length(number: &[u8], len: usize) -> Result<Vec<u8>, TpmError> {
    let zeroes = len.checked_sub(number.len()).ok_or(TpmError::Answer)?;
    Ok([vec![0; zeroes].as_slice(), number].concat())
}
