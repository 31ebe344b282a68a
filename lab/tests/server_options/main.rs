//! Options of the server, each by what it does to a real client.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod accounting;
mod announced;
mod compression;
mod iroutes;
mod leases;
mod limits;
mod maintenance;
mod priorities;
mod rate_limits;
mod scripts;
mod transport;
mod vendor_clients;

use std::path::Path;

use culvert_lab::Scene;
use culvert_lab::fixture::inner_server;

/// The laboratory's program that answers pings.
fn reflect() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reflect"))
}
