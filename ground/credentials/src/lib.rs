//! Private keys and certificates as users have them in files (`specs/client.md` §8): PEM, DER,
//! PKCS#1, PKCS#8, SEC1, OpenSSL's encrypted PEM, PKCS#12. Octets and a passphrase in, DER out;
//! no file is opened here and nobody is asked.
//!
//! - [`KeyFile`] recognises the format of a private key and opens it.
//! - [`Pkcs12`] opens a container of keys and certificates.
//! - [`certificates`] reads the certificates of a PEM or DER file.
//! - [`Passphrase`] is what the user typed, with the encodings that old programs made of it.
//!
//! Old algorithms (DES, RC2, MD5) are here to read old files; nothing is ever encrypted with them.

#![forbid(unsafe_code)]

mod ber;
mod certificate;
mod cipher;
mod error;
mod key_file;
mod legacy_pem;
mod passphrase;
mod pem;
mod pkcs12;
mod pkcs12_kdf;
mod scheme;

pub use certificate::certificates;
pub use error::CredentialError;
pub use key_file::{KeyFile, KeyFormat};
pub use passphrase::Passphrase;
pub use pkcs12::{Contents, Pkcs12};
