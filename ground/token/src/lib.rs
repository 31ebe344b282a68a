//! Software tokens (`specs/client.md` §9): secrets in all their spellings, and the codes that they
//! give. No clock and no file is touched here.
//!
//! - [`Oath`] is a TOTP or HOTP token (RFC 6238, RFC 4226), from a secret, an `otpauth:` URI or a
//!   PSKC document.

#![forbid(unsafe_code)]

mod error;
mod oath;
mod otpauth;
mod pskc;
mod secret;

pub use error::TokenError;
pub use oath::{Hash, Mode, Oath};
