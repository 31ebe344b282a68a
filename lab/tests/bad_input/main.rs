//! What bad input gets, end to end: the right words, the right status, the right exit code - and
//! nobody else notices. A witness has a tunnel all the while.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificate;
mod configuration;
mod cookie;
mod datagrams;
mod host;
mod http;
mod password;
mod script;
mod spellings;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, World, probe, wait,
};

/// A server with one good client, Debian's, whose tunnel carries packets.
struct Scene {
    witness: Client,
    server: Server,
    fixture: Fixture,
    world: World,
    /// What a client of alice says about the group, where groups are offered.
    group: &'static [&'static str],
}

impl Scene {
    fn new(server: Make) -> Self {
        Self::with(server, &[], |_| ())
    }

    /// A scene with other options of the server; `prepare` may write files first.
    fn with(server: Make, overrides: &[(&str, &str)], prepare: impl FnOnce(&Fixture)) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        prepare(&fixture);
        let dir = fixture.dir().display().to_string();
        let values: Vec<String> = overrides
            .iter()
            .map(|(_, value)| value.replace("DIR", &dir))
            .collect();
        let overrides: Vec<(&str, &str)> = overrides
            .iter()
            .zip(&values)
            .map(|((name, _), value)| (*name, value.as_str()))
            .collect();
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        let server = Server::start_with(server, &world, &fixture, &options);
        let offers_groups = overrides.iter().any(|(name, _)| *name == "select-group");
        let group: &[&str] = if offers_groups {
            &["--authgroup", "staff"]
        } else {
            &[]
        };
        let options = ClientOptions {
            name: "witness",
            arguments: group,
            ..ClientOptions::default()
        };
        let mut witness = Client::connect_with(Make::Real, &world, &fixture, &options);
        witness.process.wait_for("Established DTLS connection");
        Self {
            witness,
            server,
            fixture,
            world,
            group,
        }
    }

    /// A login of `bob` with these further arguments and this standard input.
    fn login(&self, client: Make, arguments: &[&str], input: &str) -> Finished {
        let options = ClientOptions {
            arguments,
            user: "bob",
            input,
            name: "login",
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    /// The witness still has its first connection, packets pass, and others can log in.
    fn is_undisturbed(&mut self) {
        let log = self.server.log();
        assert!(self.witness.process.is_running(), "{log}");
        probe::ping(&self.world.client, INNER_SERVER_V4.parse().unwrap());
        let said = self.witness.process.stdout();
        assert_eq!(said.matches("Got CONNECT response").count(), 1, "{said}{log}");
        assert_eq!(
            said.matches("Established DTLS connection").count(),
            1,
            "{said}{log}"
        );
        let arguments = [&["--cookieonly", "--user", culvert_lab::USER], self.group].concat();
        let login = self.login(Make::Real, &arguments, culvert_lab::PASSWORD);
        assert_eq!(login.code, 0, "{}{}", login.stderr, self.server.log());
        // One device and one user: whoever failed has left nothing.
        self.server.wait_for_workers(1);
        wait::until("the end of other devices than the witness'", || {
            (self.world.server.interfaces().len() == 3).then_some(())
        });
    }
}
