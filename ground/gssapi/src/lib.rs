//! GSSAPI (RFC 2743, RFC 2744) with the mechanism SPNEGO (RFC 4178): the library of MIT or
//! Heimdal, loaded at run time.
//!
//! ```text
//! initiator   a user's side, with his tickets
//! acceptor    a server's side, with its keytab
//! ffi         the library's functions: all the unsafe code, behind a safe face
//! ```
//!
//! Calls may wait for a KDC, and run the code of whatever plug-ins the host has.

mod acceptor;
#[allow(unsafe_code)]
mod ffi;
mod initiator;

pub use acceptor::{Accepted, Acceptor, Channel, Credentials};
pub use initiator::Initiator;

use zeroize::Zeroizing;

/// Largest token that is taken from a peer (`specs/server-auth.md` §2.5).
pub const TOKEN_MAX: usize = 65536;

/// Why something does not work, in the words of the library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GssError {
    /// The library is not there.
    #[error(transparent)]
    Library(#[from] culvert_sys::library::LibraryError),
    /// The library lacks a function.
    #[error("the GSSAPI library has no function {0}")]
    Function(&'static str),
    /// A call failed.
    #[error("{attempt}: {reason}")]
    Failed {
        /// What was attempted.
        attempt: &'static str,
        /// What the library says.
        reason: String,
    },
    /// The client has made its token for another channel than this one (RFC 5056).
    #[error("the client's ticket is for another TLS connection (channel bindings)")]
    Bindings,
    /// The other side's token is too large, or one comes when none is due.
    #[error("{0}")]
    Token(&'static str),
}

/// What a side says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Token for the other side; may be empty when `complete`.
    pub token: Zeroizing<Vec<u8>>,
    /// Both sides are known to each other; no further token is due from the other side.
    pub complete: bool,
}
