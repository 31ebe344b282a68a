//! What the processes of the server say to each other.
//!
//! All channels are `AF_UNIX` `SOCK_SEQPACKET` pairs made by main: a message is one packet, so a
//! reader never sees half of one, and a descriptor belongs to exactly one message.

pub mod codec;
pub mod fields;
pub mod link;
pub mod messages;
mod pollable;
pub mod pool;
pub mod session;
pub mod snapshot;

pub use codec::{MAX_MESSAGE, Malformed, decode, encode};
pub use fields::{Bytes, SecretField, SecretText, Text};
pub use link::Message;
pub use pollable::pollable;

#[cfg(test)]
mod tests;
