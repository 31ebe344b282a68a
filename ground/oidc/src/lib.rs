//! Bearer tokens of OpenID Connect (`specs/server-auth.md` §2.6): is this token signed by the
//! provider, and whom does it speak of?
//!
//! ```text
//! config   the JSON file of `oidc[config=FILE]`
//! keys     the provider's documents: discovery, JWK set (RFC 7517, RFC 7518 §6)
//! token    JWS compact form (RFC 7515), claims (RFC 7519)
//! ```
//!
//! No network and no clock: documents and the time come from the caller.

#![forbid(unsafe_code)]

mod config;
mod keys;
mod token;

pub use config::{Config, ConfigError};
pub use keys::{DocumentError, KeySet, jwks_location};
pub use token::{TokenError, User, verify};
