//! Two own ends in memory.

#![allow(clippy::unwrap_used)] // Helpers outside of `#[test]` functions too.

mod network;
mod psk;
mod resumption;
