//! The proxy to Kerberos KDCs over HTTPS (MS-KKDCP, `specs/server-auth.md` §2.8), the server's side:
//! HTTP requests in, messages for a KDC out, and the other way.
//!
//! ```text
//! message    KDC-PROXY-MESSAGE, and the length before each Kerberos message
//! front_end  which requests are answered, and with what
//! ```
//!
//! No I/O: whoever drives this has the message carried to the KDC.

#![forbid(unsafe_code)]

mod front_end;
mod message;

pub use front_end::{Action, Failure, FrontEnd, Path};
pub use message::{BadMessage, MESSAGE_MAX, ProxyMessage, encode_reply, is_allowed, is_too_big};
