//! The handshake: messages, their reassembly and flights, the key schedule and the two sides.

mod reader;

pub(crate) use reader::Reader;
