//! Software tokens (`specs/client.md` §9): secrets in all their spellings, and the codes that they
//! give. No clock and no file is touched here.
//!
//! - [`Oath`] is a TOTP or HOTP token (RFC 6238, RFC 4226), from a secret, an `otpauth:` URI or a
//!   PSKC document.
//! - [`SecurId`] is a SecurID token of 81 digits.
//! - [`Applet`] is the OATH applet of a YubiKey, which makes the codes itself.

#![forbid(unsafe_code)]

mod error;
mod oath;
mod otpauth;
mod pskc;
mod secret;
mod securid;
mod yubikey;

pub use error::TokenError;
pub use oath::{Hash, Mode, Oath, PERIOD};
pub use securid::{SecurId, UnlockedSecurId};
pub use yubikey::{Applet, Card, Credential, YubikeyError};
