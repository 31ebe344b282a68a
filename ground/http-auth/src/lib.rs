//! HTTP authentication, the client's side (`specs/client.md` §11.3): challenges of a proxy or a
//! server in, the value of the next `Authorization` or `Proxy-Authorization` header out.
//!
//! ```text
//! authenticator   which scheme is used, and what has failed already
//! challenge       WWW-Authenticate and Proxy-Authenticate lines (RFC 9110 §11.6)
//! basic           RFC 7617
//! digest          RFC 7616, and RFC 2069 for old servers
//! ntlm            MS-NLMP: NTLMv2, NTLM2 session, NTLMv1
//! sign_on         where the messages of Negotiate (RFC 4559) come from, and of NTLM without a password
//! ```
//!
//! No I/O, no clock, no random source of its own: each answer takes them as [`Circumstances`].

#![forbid(unsafe_code)]

mod authenticator;
mod basic;
mod challenge;
mod digest;
mod ntlm;
mod sign_on;

pub use authenticator::{
    Answer, Attempted, AuthError, Authenticator, Circumstances, Credentials, Scheme, Schemes,
};
pub use sign_on::{SignOn, SignOnError};
