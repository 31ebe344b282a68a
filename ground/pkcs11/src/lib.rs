//! Certificates and private keys on smart cards and other PKCS#11 tokens (`specs/client.md` §8.4),
//! named by URIs (RFC 7512). The modules are those that p11-kit is configured to use; they are
//! loaded at run time.
//!
//! - [`Uri`] names objects.
//! - [`Tokens`] finds them, logging in where that is needed.
//! - [`Key`] signs.

#![forbid(unsafe_code)]

mod error;
mod key;
mod modules;
mod tokens;
mod uri;

pub use error::Pkcs11Error;
pub use key::Key;
pub use tokens::{AskPin, Certificate, PinRequest, Tokens};
pub use uri::Uri;
