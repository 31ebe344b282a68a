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

use std::net::IpAddr;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Fixture, Make, Server, World, probe};

/// A server that waits for clients.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(server: Make) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        Self {
            server: Server::start(server, &world, &fixture),
            fixture,
            world,
        }
    }

    /// A packet to the server through the tunnel is answered.
    fn ping(&self) {
        probe::ping(&self.world.client, inner_server());
    }

    fn ca(&self) -> String {
        self.fixture.path("ca.pem").display().to_string()
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}
