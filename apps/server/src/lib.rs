//! The `ocserv` server: main process, broker, zygote and workers.
//!
//! [`ipc::messages`] is the privilege boundary between them; `docs/architecture.md` has the map.

#![forbid(unsafe_code)]

pub mod bans;
pub mod cli;
pub mod control;
pub mod ipc;
pub mod leases;
pub mod log;
pub mod sessions;
