//! What the client does to the host that it runs on, and that nothing of it stays: names by
//! systemd-resolved, devices that somebody else made; installing and the demo.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod demo;
mod install;
mod persistent_device;
mod resolvconf;
mod resolved;
mod roaming;
mod sleep;

use std::fs;

use culvert_lab::{Client, ClientOptions, Fixture, Make, Process, Resolved, Server, ServerOptions, World};

/// A server that waits for clients of a host which has no systemd-resolved yet.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// A server of this make with these options.
    fn new(server: Make, overrides: &[(&str, &str)]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let options = ServerOptions {
            overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(server, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    /// Our client, configuring the network itself, with or without systemd-resolved.
    fn connect(&self, resolved: Option<&Resolved>, arguments: &[&str]) -> Process {
        let options = ClientOptions {
            arguments,
            script: false,
            ..ClientOptions::default()
        };
        let mut command = Client::command(Make::Culvert, &self.world, &self.fixture, &options);
        if let Some(resolved) = resolved {
            resolved.introduce(&mut command);
        }
        let input = format!("{}\n", options.input);
        let mut client = Process::start(command, self.fixture.dir(), options.name, Some(&input));
        client.wait_for("Configured as");
        client
    }

    /// Routes and resolver configuration of the client host.
    fn network(&self) -> (String, String) {
        let resolv_conf = fs::read_to_string(self.world.client.resolv_conf()).unwrap();
        (self.world.client.routes(), resolv_conf)
    }
}
