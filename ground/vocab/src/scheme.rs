use std::fmt;

use serde::{Deserialize, Serialize};

/// A scheme of HTTP authentication that the server takes (RFC 9110 §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpScheme {
    /// SPNEGO (RFC 4559).
    Negotiate,
    /// A token that somebody else has signed (RFC 6750).
    Bearer,
}

impl HttpScheme {
    /// The scheme with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Negotiate, Self::Bearer]
            .into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }

    /// The name in `WWW-Authenticate` and `Authorization`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Bearer => "Bearer",
        }
    }
}

impl fmt::Display for HttpScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
