//! What the client does to the host that it runs on, and that nothing of it stays: names by
//! systemd-resolved, devices that somebody else made; installing and the demo.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod demo;
mod exits;
mod install;
mod persistent_device;
mod resolvconf;
mod resolved;
mod roaming;
mod script;
mod sleep;

use std::fs;

use culvert_lab::fixture::USER;
use culvert_lab::{
    Client, ClientOptions, Fixture, Make, Process, Resolved, Server, ServerOptions, World, wait,
};

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
        self.connect_as(USER, resolved, arguments)
    }

    /// The same as another user.
    fn connect_as(&self, user: &str, resolved: Option<&Resolved>, arguments: &[&str]) -> Process {
        let options = ClientOptions {
            arguments,
            script: false,
            user,
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

    /// All that a client may change on its host: addresses, routes of all tables, rules, resolver.
    fn everything(&self) -> String {
        let host = &self.world.client;
        let mut all: Vec<String> = [
            "-o address show",
            "-4 route show table all",
            "-6 route show table all",
        ]
        .iter()
        .flat_map(|what| host.ip(what).lines().map(str::to_owned).collect::<Vec<_>>())
        // The kernel's own come when they like.
        .filter(|line| !line.contains("fe80:") && !line.contains("ff00:"))
        .collect();
        // The order is that of their making.
        all.sort();
        all.extend([host.ip("rule show"), host.ip("-6 rule show"), self.network().1]);
        all.join("\n")
    }

    /// Waits until the client has configured the network.
    fn is_configured(&self, client: &Process) {
        wait::until(&format!("the tunnel's resolver\n{}", client.output()), || {
            self.network().1.contains("nameserver 10.99.1.1\n").then_some(())
        });
    }

    /// Routes and resolver configuration of the client host.
    fn network(&self) -> (String, String) {
        let resolv_conf = fs::read_to_string(self.world.client.resolv_conf()).unwrap();
        (self.world.client.routes(), resolv_conf)
    }
}
