//! RADIUS, the client's side (RFC 2865, 2866, 2869, 3162, 3579, 5997, 6911;
//! `specs/server-auth.md` §2.4, §3.1).
//!
//! ```text
//! packet       octets of a packet and its attributes
//! attribute    numbers and names of attributes
//! request      packets that are sent: hidden passwords, authenticators
//! access       what an Access-Request says, and what an Access-Accept gives
//! accounting   what an Accounting-Request says
//! reply        replies, once their authenticators are verified
//! client       which server is asked, when again, and which one next; no I/O, no clock
//! config       files of radcli and freeradius-client: options, servers, dictionaries
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod accounting;
pub mod attribute;
pub mod client;
pub mod config;
pub mod packet;
pub mod reply;
pub mod request;

pub use access::{AccessRequest, Profile};
pub use accounting::{AccountingRequest, Status, TerminateCause};
pub use client::{Client, Event, Outcome, Policy, RequestKey, Server, Transmit};
pub use config::{ClientConfig, ConfigError, Dictionary, MessageAuthenticator, TlsSettings, Transport};
pub use packet::{Malformed, Packet};
pub use reply::Reply;
pub use request::{Code, Request, RequestError};
