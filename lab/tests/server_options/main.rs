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

use std::net::IpAddr;
use std::path::Path;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe};

/// Our server with some options, and clients to come.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(overrides: &[(&str, &str)]) -> Self {
        Self::with(World::new(), Fixture::new(), overrides)
    }

    fn with(world: World, fixture: Fixture, overrides: &[(&str, &str)]) -> Self {
        let options = ServerOptions {
            overrides,
            ..ServerOptions::default()
        };
        let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        Self {
            server,
            fixture,
            world,
        }
    }

    fn connect(&self, make: Make, arguments: &[&str]) -> Client {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        Client::connect_with(make, &self.world, &self.fixture, &options)
    }

    /// A packet to the server through the tunnel is answered.
    fn ping(&self) {
        probe::ping(&self.world.client, inner_server());
    }

    fn logs(&self, client: &Client) -> String {
        client.process.output() + &self.server.log()
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// The laboratory's program that answers pings.
fn reflect() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reflect"))
}
