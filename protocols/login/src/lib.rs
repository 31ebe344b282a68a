//! What the logins of all protocols have in common, so that one driver in the client and one in
//! the server serves them all:
//!
//! ```text
//! client   a login asks its driver for exchanges and forms, and ends in a cookie
//! server   a front-end asks its driver to have users and cookies judged
//! jar      the cookies of a login
//! ```

#![forbid(unsafe_code)]

pub mod client;
mod jar;
pub mod server;

pub use jar::{BadCookie, Jar};
