//! The AnyConnect-compatible protocol, both sides next to each other and without input or
//! output (`specs/anyconnect.md`, `specs/cstp-dtls.md`):
//!
//! ```text
//! client/   login over HTTPS, CONNECT, what the answer means
//! server/   requests to actions, forms, the answer to CONNECT
//! data/     frames in TLS and DTLS records, for the packet path
//! mtu/      arithmetic of both sides, path probing
//! wire      frame types and headers
//! dtls      the ciphers of the DTLS channel and their names
//! psk       what hangs on the exporter of the TLS channel
//! ```

#![forbid(unsafe_code)]

pub mod client;
pub mod data;
pub mod dtls;
pub mod mtu;
pub mod psk;
pub mod server;
pub mod wire;
