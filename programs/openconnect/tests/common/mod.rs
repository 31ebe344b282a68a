//! What tests of the client against the real ocserv share.

use culvert_lab::{Fixture, Make, Server, ServerOptions, World};

/// The real ocserv on a host of its own, and one for the client.
pub struct Lab {
    // Dropped in this order: programs before the namespaces they run in.
    pub server: Server,
    pub fixture: Fixture,
    pub world: World,
}

impl Lab {
    /// Starts the server with these options in place of the ordinary ones.
    pub fn new(overrides: &[(&str, &str)]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let options = ServerOptions {
            overrides,
            ..Default::default()
        };
        let server = Server::start_with(Make::Real, &world, &fixture, &options);
        Self {
            server,
            fixture,
            world,
        }
    }
}
