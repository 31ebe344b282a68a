//! TLS as old gateways speak it, by OpenSSL: TLS 1.0 to 1.2 with static RSA and CBC, 3DES and RC4
//! on demand, renegotiation (`specs/client.md` §10.5). rustls refuses these on purpose.
//!
//! [`LegacyConnection`] has the methods of [`culvert_tls::Handshake`]: sans-IO, octets in and out.
//! After the take-over OpenSSL goes on protecting the records ([`culvert_tls::ForeignSealer`]).
//! Certificates are judged by the same verifier as rustls'.
//!
//! For the client only; a server never speaks this.

mod connection;
mod description;
mod elsewhere;
mod judge;
#[allow(unsafe_code)]
mod lacking;
mod pipe;
mod records;
mod settings;

pub use connection::LegacyConnection;
pub use elsewhere::{KeyElsewhere, Operation};
pub use settings::{LegacyIdentity, LegacyKey, LegacySettings, OldestVersion};
