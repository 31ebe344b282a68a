//! Certificates and keys of the client against the real ocserv: every format of a file logs in, and
//! what the client says about good and bad files is what the real openconnect says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chain;
mod files;
mod formats;
mod password;
mod texts;
mod tokens;

use culvert_lab::{Client, Finished, Fixture, Make, Process, Server, ServerOptions, World};

/// The real ocserv, which wants client certificates of an authority of its own.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// A server with these further options; `auth` comes first.
    fn new(auth: &[(&str, &str)]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        files::make_authority(&fixture);
        let authority = fixture.path("client-ca.pem").display().to_string();
        let mut overrides = auth.to_vec();
        overrides.extend([("ca-cert", authority.as_str()), ("cert-user-oid", "2.5.4.3")]);
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(Make::Real, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    /// A login without a tunnel, in the fixture's folder.
    fn log_in(&self, client: Make, arguments: &[&str], input: &str) -> Finished {
        let ca = self.fixture.path("ca.pem").display().to_string();
        let mut all = vec!["--cookieonly", "--cafile", &ca];
        all.extend(arguments);
        let mut command = Client::bare(client, &self.world, &all);
        command
            .current_dir(self.fixture.dir())
            .env("SOFTHSM2_CONF", self.fixture.path("softhsm2.conf"));
        Process::start(command, self.fixture.dir(), "client", Some(input)).finish()
    }
}
