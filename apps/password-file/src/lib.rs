//! The password file of `auth = plain`: reading and verifying for the server, changing for
//! `ocpasswd` (`specs/server-tools.md` §1, `specs/server-auth.md` §2.1).

#![forbid(unsafe_code)]

mod accounts;
mod edit;
mod hash;
pub mod tool;

pub use accounts::{Account, Credential, PasswordFile, PasswordFileCache};
pub use edit::{Edit, EditError};
pub use hash::{HashError, hash_password};
