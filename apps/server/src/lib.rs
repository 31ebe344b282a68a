//! The `ocserv` server: main process, broker, zygote and workers.
//!
//! [`ipc::messages`] is the privilege boundary between them; `docs/architecture.md` has the map.

#![forbid(unsafe_code)]

pub mod bans;
pub mod broker;
pub mod cli;
mod confine;
pub mod control;
mod first_datagrams;
mod helper;
pub mod ipc;
pub mod leases;
pub mod log;
mod main_process;
pub mod proxy_header;
pub mod sessions;
mod startup;
mod test_auth;
mod worker;
mod zygote;

pub use startup::run;
