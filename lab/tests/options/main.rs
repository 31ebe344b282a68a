//! The command line of the client, end to end: login in two phases, background, scripts that take
//! the place of the device, privileges, signals, the host's network, outer packets, system log.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod http_auth;
mod login;
mod outer;
mod process;
mod side_by_side;
mod syslog;
mod transport;

use culvert_lab::Scene;
use culvert_lab::fixture::inner_server;

fn ca(scene: &Scene) -> String {
    scene.fixture.path("ca.pem").display().to_string()
}
