//! What the processes of the server say to each other.
//!
//! All channels are `AF_UNIX` `SOCK_SEQPACKET` pairs made by main: a message is one packet, so a
//! reader never sees half of one, and a descriptor belongs to exactly one message.

mod codec;
pub(crate) mod fields;
pub(crate) mod link;
pub mod messages;
mod pollable;
pub(crate) mod pool;
pub(crate) mod session;
pub(crate) mod snapshot;

pub(crate) use codec::MAX_MESSAGE;
pub use codec::{Malformed, decode, encode};
pub use fields::{Bytes, SecretField, SecretText, Text};
pub use link::Message;
pub(crate) use pollable::pollable;

#[cfg(test)]
mod tests;
