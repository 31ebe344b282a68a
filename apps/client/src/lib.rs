//! The `openconnect` client: options, login, tunnel, scripts and process matters
//! (`specs/client.md`).
//!
//! ```text
//! options/    command line, configuration file, help, completion
//! output      messages: streams, levels, syslog
//! prompt      questions to the user and lines of standard input
//! signals     waits that a signal ends
//! protocol/   what differs from protocol to protocol
//! credentials/ certificates and keys
//! net/        names, TCP, TLS with the user's trust, HTTP
//! login/      from nothing to a cookie
//! profile     the file of --xmlconfig
//! replace     files of the user, written as a whole
//! helper      programs that look at this host for a gateway
//! connect     from a cookie to a tunnel
//! token/      one-time codes
//! tunnel/     packets, UDP, reconnect, the host's network, the end
//! script/     programs of the user: environment, running them
//! ```

#![forbid(unsafe_code)]

mod charset;
mod connect;
mod context;
mod credentials;
mod helper;
pub mod identity;
mod login;
mod net;
pub mod options;
pub mod output;
mod process;
mod profile;
mod program;
pub mod prompt;
mod protocol;
mod replace;
pub mod script;
pub mod signals;
mod token;
mod tunnel;

pub use program::run;
