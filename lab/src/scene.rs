//! A server and a place for clients: what most tests begin with.

use crate::fixture::inner_server;
use crate::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe};

/// A server, its files, and two hosts.
#[derive(Debug)]
pub struct Scene {
    // Dropped in this order: programs before the namespaces they run in.
    /// The server.
    pub server: Server,
    /// Its files.
    pub fixture: Fixture,
    /// Its host, and the host of its clients.
    pub world: World,
}

impl Scene {
    /// A server with these options in place of the ordinary ones.
    ///
    /// # Panics
    /// It does not come up.
    pub fn new(make: Make, overrides: &[(&str, &str)]) -> Self {
        Self::with(make, World::new(), Fixture::new(), overrides)
    }

    /// [`Self::new`] where hosts or files have been prepared.
    ///
    /// # Panics
    /// The server does not come up.
    pub fn with(make: Make, world: World, fixture: Fixture, overrides: &[(&str, &str)]) -> Self {
        let options = ServerOptions {
            overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(make, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    /// A client with these further arguments, whose device has an address.
    ///
    /// # Panics
    /// It does not come up.
    pub fn connect(&self, make: Make, arguments: &[&str]) -> Client {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        Client::connect_with(make, &self.world, &self.fixture, &options)
    }

    /// Waits until a packet to the server through the tunnel is answered.
    ///
    /// # Panics
    /// None is.
    pub fn ping(&self) {
        probe::ping(&self.world.client, inner_server());
    }

    /// What a client and the server have said, for messages of failed tests.
    pub fn logs(&self, client: &Client) -> String {
        client.process.output() + &self.server.log()
    }
}
