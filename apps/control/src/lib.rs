//! The control socket of the server: its messages and framing, and the whole of `occtl`
//! (`specs/server-tools.md` §3).

#![forbid(unsafe_code)]

pub mod client;
pub mod frame;
pub mod messages;
pub mod occtl;
