//! DTLS 1.2 with a pre-shared key or by resumption, and Cisco's DTLS 0.9, client and server,
//! without input or output: datagrams and `now` in, datagrams, application data and the next
//! deadline out.
//!
//! ```text
//! connection     one association: handshake, both record halves, timers
//! handshake/     messages, reassembly, flights, key schedule, the two sides' state machines
//! record/        one epoch in one direction: sealer, opener, replay window, ciphers
//! hello          a look into a first datagram, for the server's demultiplexer
//! suite          the table of cipher suites
//! ```
//!
//! Sources: `specs/cstp-dtls.md` §7.2-§11, RFC 6347, RFC 5246, RFC 4279, RFC 5487, RFC 7905,
//! RFC 7627 (extended master secret), RFC 7366 (encrypt-then-MAC), RFC 5746 (renegotiation),
//! RFC 8449 (record size limit).

#![forbid(unsafe_code)]

mod application;
mod config;
mod connection;
mod error;
mod handshake;
mod hello;
mod record;
mod suite;
#[cfg(test)]
mod vectors;

pub use application::ApplicationSealer;
pub use config::{ClientConfig, Random, ResumptionConfig, ServerConfig, SystemRandom};
pub use connection::{Connection, Opened};
pub use error::{AlertDescription, Error};
pub use hello::{HelloError, hello_identifier};
pub use suite::{CipherSuite, Version};
