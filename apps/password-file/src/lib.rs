//! The files of `auth = plain`: the password file, read and verified for the server and changed
//! for `ocpasswd` (`specs/server-tools.md` §1, `specs/server-auth.md` §2.1), and the file of
//! one-time passwords ([`otp`], §2.2).

#![forbid(unsafe_code)]

mod accounts;
mod edit;
mod hash;
pub mod otp;
pub mod tool;

pub use accounts::{Account, Credential, PasswordFile, PasswordFileCache};
pub use edit::{Edit, EditError};
pub use hash::{HashError, hash_password};
