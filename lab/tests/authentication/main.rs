//! How users prove who they are: the real client and ours against our server, and the same
//! configuration on the real one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod one_time_passwords;
mod tickets;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, World, probe};

/// A server and the files of its users.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// `prepare` writes files and gives the options of the server.
    fn new(make: Make, prepare: impl FnOnce(&Fixture) -> Vec<(&'static str, String)>) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let prepared = prepare(&fixture);
        let overrides: Vec<(&str, &str)> = prepared
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(make, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    fn path(&self, name: &str) -> String {
        self.fixture.path(name).display().to_string()
    }

    /// A login without a tunnel.
    fn log_in(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> Finished {
        let arguments = [arguments, &["--authenticate", "--non-inter"]].concat();
        let options = ClientOptions {
            user,
            input,
            arguments: &arguments,
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    fn accepts(&self, client: Make, user: &str, input: &str, arguments: &[&str]) {
        let login = self.log_in(client, user, input, arguments);
        assert_eq!(login.code, 0, "{}\n{}", login.stderr, self.server.log());
        assert!(login.stdout.contains("COOKIE="), "{}", login.stdout);
    }

    fn refuses(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> String {
        let login = self.log_in(client, user, input, arguments);
        assert_ne!(login.code, 0, "{}\n{}", login.stderr, self.server.log());
        assert!(!login.stdout.contains("COOKIE="), "{}", login.stdout);
        login.stderr
    }

    /// A tunnel that carries packets, for which `check` sees what `occtl show users` says.
    fn connects(&self, client: Make, user: &str, input: &str, arguments: &[&str], check: &str) {
        let options = ClientOptions {
            user,
            input,
            arguments,
            name: "tunnel",
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(client, &self.world, &self.fixture, &options);
        probe::ping(&self.world.client, INNER_SERVER_V4.parse().unwrap());
        let (_, users) = self.server.occtl(&["--json", "show", "users"]);
        assert!(users.contains(check), "{users}");
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    }
}
