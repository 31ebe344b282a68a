//! Server side. Portal and gateway are the same server; who may log in is decided elsewhere.
//!
//! ```text
//! front_end   the requests of one connection, until the tunnel
//! opening     from a cookie to an open tunnel
//! beside      the connection beside a tunnel that goes over ESP
//! channels    ESP, or frames in TLS
//! ```

mod beside;
mod channels;
mod config_answer;
mod front_end;
mod hip;
mod opening;
mod pages;
mod request;

pub use channels::Channels;
pub use front_end::{FrontEnd, FrontEndConfig};
pub use opening::Opening;
