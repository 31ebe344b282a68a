use culvert_vocab::SecretBytes;
use culvert_wire::der::{EXPLICIT_0, OCTET_STRING, SEQUENCE};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::ber::{IMPLICIT_0, Reader, to_der};
use crate::pkcs12_kdf::Hash;
use crate::scheme::{ITERATIONS_MAX, Scheme, iterations};
use crate::{CredentialError, Passphrase};

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const X509_CERTIFICATE: &str = "1.2.840.113549.1.9.22.1";
const WHAT: &str = "PKCS#12 file";
/// Deepest nesting of bags in bags.
const NESTING_MAX: usize = 4;
/// Most bags of one file.
const BAGS_MAX: usize = 256;
/// Most work for one file with one passphrase, in iterations: for the check, a key and some certificates, each as
/// costly as it may be.
const WORK_MAX: u64 = 4 * ITERATIONS_MAX;

/// A PKCS#12 file (RFC 7292), not opened yet.
#[derive(Debug, Clone)]
pub struct Pkcs12 {
    /// The AuthenticatedSafe as it is in the file, over which the MAC goes.
    content: SecretBytes,
    mac: Option<MacData>,
}

/// What an opened PKCS#12 file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Private keys in the order of the file, wiped when dropped.
    pub keys: Vec<Zeroizing<PrivatePkcs8KeyDer<'static>>>,
    /// Certificates in the order of the file, which says nothing.
    pub certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug, Clone)]
struct MacData {
    hash: Hash,
    mac: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
}

impl Pkcs12 {
    /// Reads the outer structure of a file, DER or BER. `None` if it is something else.
    ///
    /// # Errors
    /// It is a PKCS#12 file with an integrity check that is not supported.
    pub fn parse(file: &[u8]) -> Result<Option<Self>, CredentialError> {
        let Ok(der) = to_der(file, WHAT) else {
            return Ok(None);
        };
        let mut top = Reader::new(&der, WHAT);
        let Ok(mut pfx) = top.enter(SEQUENCE) else {
            return Ok(None);
        };
        let Some(content) = authenticated_safe(&mut pfx) else {
            return Ok(None);
        };
        let mac = match pfx.is_empty() {
            true => None,
            false => Some(MacData::parse(pfx.enter(SEQUENCE)?)?),
        };
        Ok(Some(Self { content, mac }))
    }

    /// Checks the integrity and decrypts everything that a client needs.
    ///
    /// # Errors
    /// [`CredentialError::WrongPassphrase`], or the file is damaged, uses what is not supported or wants too
    /// much work to be done.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Contents, CredentialError> {
        self.open_within(WORK_MAX, passphrase)
    }

    fn open_within(&self, work: u64, passphrase: &Passphrase) -> Result<Contents, CredentialError> {
        let mut opening = Opening {
            passphrase,
            contents: Contents::default(),
            bags: 0,
            work,
        };
        let content = self.content.expose();
        if let Some(mac) = &self.mac {
            opening.spend(mac.iterations.into())?;
            if !mac.verify(content, passphrase) {
                return Err(CredentialError::WrongPassphrase);
            }
        }
        let safe = to_der(content, WHAT)?;
        let mut infos = Reader::new(&safe, WHAT).enter(SEQUENCE)?;
        while !infos.is_empty() {
            opening.content_info(infos.enter(SEQUENCE)?)?;
        }
        Ok(opening.contents)
    }
}

/// Version 3 and the octets of the AuthenticatedSafe; `None` if this is no PFX.
fn authenticated_safe(pfx: &mut Reader<'_>) -> Option<SecretBytes> {
    if pfx.unsigned().ok()? != 3 {
        return None;
    }
    let mut info = pfx.enter(SEQUENCE).ok()?;
    if info.oid().ok()? != DATA {
        return None;
    }
    let octets = info.enter(EXPLICIT_0).ok()?.content(OCTET_STRING).ok()?;
    Some(octets.to_vec().into())
}

impl MacData {
    fn parse(mut reader: Reader<'_>) -> Result<Self, CredentialError> {
        let mut digest = reader.enter(SEQUENCE)?;
        let hash = Hash::of_oid(&digest.enter(SEQUENCE)?.oid()?)?;
        let mac = digest.content(OCTET_STRING)?.to_vec();
        let salt = reader.content(OCTET_STRING)?.to_vec();
        let count = match reader.is_empty() {
            true => 1,
            false => reader.unsigned()?,
        };
        Ok(Self {
            hash,
            mac,
            salt,
            iterations: iterations(count)?,
        })
    }

    fn verify(&self, content: &[u8], passphrase: &Passphrase) -> bool {
        let holds = |octets: &Zeroizing<Vec<u8>>| {
            self.hash
                .verify(octets, &self.salt, self.iterations, content, &self.mac)
        };
        passphrase.pkcs12_forms().iter().any(holds)
    }
}

/// A file that is being opened.
struct Opening<'a> {
    passphrase: &'a Passphrase,
    contents: Contents,
    bags: usize,
    /// How much may still be done.
    work: u64,
}

impl Opening<'_> {
    fn spend(&mut self, work: u64) -> Result<(), CredentialError> {
        let left = self.work.checked_sub(work);
        self.work = left.ok_or(CredentialError::TooCostly("iterations"))?;
        Ok(())
    }

    fn decrypt(&mut self, scheme: &Scheme, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        self.spend(scheme.work())?;
        scheme.decrypt(ciphertext, self.passphrase)
    }

    fn content_info(&mut self, mut info: Reader<'_>) -> Result<(), CredentialError> {
        let kind = info.oid()?;
        let mut content = info.enter(EXPLICIT_0)?;
        match kind.as_str() {
            DATA => {
                let bags = to_der(content.content(OCTET_STRING)?, WHAT)?;
                self.safe_contents(&bags, NESTING_MAX)
            }
            ENCRYPTED_DATA => {
                let mut data = content.enter(SEQUENCE)?;
                data.unsigned()?;
                let mut encrypted = data.enter(SEQUENCE)?;
                encrypted.oid()?;
                let scheme = Scheme::parse(encrypted.content(SEQUENCE)?)?;
                let ciphertext = encrypted_content(&mut encrypted)?;
                let bags = to_der(&self.decrypt(&scheme, &ciphertext)?, WHAT)?;
                self.safe_contents(&bags, NESTING_MAX)
            }
            _ => Err(CredentialError::Unsupported(
                "PKCS#12 protection with a public key".into(),
            )),
        }
    }

    fn safe_contents(&mut self, der: &[u8], nesting: usize) -> Result<(), CredentialError> {
        let nesting = nesting.checked_sub(1).ok_or(CredentialError::Malformed(WHAT))?;
        let mut bags = Reader::new(der, WHAT).enter(SEQUENCE)?;
        while !bags.is_empty() {
            self.bags += 1;
            if self.bags > BAGS_MAX {
                return Err(CredentialError::Malformed(WHAT));
            }
            self.bag(bags.enter(SEQUENCE)?, nesting)?;
        }
        Ok(())
    }

    fn bag(&mut self, mut bag: Reader<'_>, nesting: usize) -> Result<(), CredentialError> {
        let kind = bag.oid()?;
        let value = bag.content(EXPLICIT_0)?;
        let mut reader = Reader::new(value, WHAT);
        match kind.as_str() {
            "1.2.840.113549.1.12.10.1.1" => self.add_key(value),
            "1.2.840.113549.1.12.10.1.2" => {
                let mut info = reader.enter(SEQUENCE)?;
                let scheme = Scheme::parse(info.content(SEQUENCE)?)?;
                let key = self.decrypt(&scheme, info.content(OCTET_STRING)?)?;
                self.add_key(&key);
            }
            "1.2.840.113549.1.12.10.1.3" => {
                let mut certificate = reader.enter(SEQUENCE)?;
                if certificate.oid()? == X509_CERTIFICATE {
                    let der = certificate.enter(EXPLICIT_0)?.content(OCTET_STRING)?;
                    self.contents.certificates.push(der.to_vec().into());
                }
            }
            "1.2.840.113549.1.12.10.1.6" => self.safe_contents(value, nesting)?,
            // Revocation lists and secrets are of no use here.
            _ => {}
        }
        Ok(())
    }

    fn add_key(&mut self, pkcs8: &[u8]) {
        self.contents.keys.push(Zeroizing::new(pkcs8.to_vec().into()));
    }
}

/// `[0] IMPLICIT OCTET STRING`; in pieces it is constructed, which [`to_der`] leaves alone.
fn encrypted_content(reader: &mut Reader<'_>) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let element = reader.any()?;
    match element.tag {
        IMPLICIT_0 => Ok(Zeroizing::new(element.content.to_vec())),
        EXPLICIT_0 => {
            let mut joined = Zeroizing::new(Vec::with_capacity(element.content.len()));
            let mut pieces = Reader::new(element.content, WHAT);
            while !pieces.is_empty() {
                joined.extend_from_slice(pieces.content(OCTET_STRING)?);
            }
            Ok(joined)
        }
        _ => Err(CredentialError::Malformed(WHAT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check and a key, both with one iteration; the certificate is in the clear.
    const BUNDLE: &[u8] = include_bytes!("../tests/vectors/bundle.p12");

    #[test]
    fn work_is_limited_over_the_whole_file() {
        let bundle = Pkcs12::parse(BUNDLE).unwrap().unwrap();
        let opened = |work| {
            bundle
                .open_within(work, &Passphrase::new("pass".into()))
                .map(|_| ())
        };
        assert_eq!(opened(2), Ok(()));
        for too_little in [0, 1] {
            assert_eq!(opened(too_little), Err(CredentialError::TooCostly("iterations")));
        }
    }
}
