//! The GlobalProtect protocol, both sides next to each other and without input or output
//! (`specs/globalprotect.md`, `specs/esp.md`):
//!
//! ```text
//! client/   login at portal and gateway, configuration, host check, logout
//! server/   requests to actions, and the answers
//! data/     frames in TLS records, magic pings in ESP, for the packet path
//! wire/     what both sides write and read: cookie, key block, frame header, paths
//! ```

#![forbid(unsafe_code)]

pub mod client;
pub mod data;
pub mod server;
pub mod wire;
