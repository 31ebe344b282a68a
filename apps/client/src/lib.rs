//! The `openconnect` client: options, login, tunnel, scripts and process matters
//! (`specs/client.md`).

#![forbid(unsafe_code)]

pub mod identity;
pub mod login;
pub mod options;
pub mod output;
pub mod prompt;
pub mod script;
pub mod signals;
