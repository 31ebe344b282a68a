//! Private keys that only a TPM 2.0 can use (`specs/client.md` §8.5): PEM files with `TSS2 PRIVATE
//! KEY` or `TSS2 KEY BLOB`, wrapped by a key of the TPM.
//!
//! [`KeyFile`] reads such a file, [`Key`] signs with it. The few commands that this takes are spoken
//! directly (TPM 2.0 Library, part 3), over `/dev/tpmrm0` or a
//! simulator's socket: no TSS library is needed.

#![forbid(unsafe_code)]

mod auth;
mod command;
mod device;
mod error;
mod file;
mod key;
mod marshal;
mod padding;
mod public;
mod tpm;

pub use auth::{AskAuth, Protected};
pub use device::{Interface, Transport};
pub use error::TpmError;
pub use file::KeyFile;
pub use key::Key;
