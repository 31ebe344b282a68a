//! What tests of the client against the real ocserv share.

use culvert_lab::{Fixture, Make, Server, ServerOptions, World};

/// The real ocserv on a host of its own, and one for the client.
pub(crate) struct Lab {
    // Dropped in this order: programs before the namespaces they run in.
    pub(crate) server: Server,
    pub(crate) fixture: Fixture,
    pub(crate) world: World,
}

impl Lab {
    /// Starts the server with these options in place of the ordinary ones.
    pub(crate) fn new(overrides: &[(&str, &str)]) -> Self {
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
