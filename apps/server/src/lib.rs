//! The `ocserv` server: main process, broker, zygote and workers.
//!
//! [`ipc::messages`] is the privilege boundary between them; `docs/architecture.md` has the map.

#![forbid(unsafe_code)]

mod bans;
mod broker;
mod cli;
mod confine;
mod control;
mod first_datagrams;
mod helper;
pub mod ipc;
mod leases;
mod log;
mod main_process;
pub mod proxy_header;
mod sessions;
mod startup;
mod test_auth;
mod worker;
mod zygote;

pub use startup::run;
