//! `tls-priorities`: GnuTLS priority strings (`specs/server-config.md` §10.2).

use serde::{Deserialize, Serialize};

/// A priority string whose every item is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPriorities(String);

impl TlsPriorities {
    /// The text as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
