//! How long sessions live and what ends them: timeouts, dead peers, new keys, a server that moves.
//! Packets are the proof that a session lives; its end is looked for in the log, in `occtl` and at
//! the client.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dead_peer;
mod dynamic_dns;
mod rekey;
mod timeouts;

use culvert_lab::fixture::inner_server;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Process, Server, ServerOptions, World, probe, wait};
use serde_json::Value;

/// A server, somebody who listens to its events, and clients to come.
struct Scene {
    events: Option<Process>,
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(make: Make, overrides: &[(&str, &str)]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let options = ServerOptions {
            overrides,
            ..ServerOptions::default()
        };
        let server = Server::start_with(make, &world, &fixture, &options);
        let mut scene = Self {
            events: None,
            server,
            fixture,
            world,
        };
        if make == Make::Culvert {
            scene.events = Some(scene.listen());
        }
        scene
    }

    /// `occtl show events`, which goes on until its input ends.
    fn listen(&self) -> Process {
        let mut command = self.world.server.command(Make::Culvert.program("occtl"));
        command.arg("-j").arg("-s").arg(self.fixture.path("occtl.sock"));
        command.args(["show", "events"]);
        let mut events = Process::start(command, self.fixture.dir(), "events", None);
        events.wait_for("Press 'q'");
        events
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

    fn status(&self) -> Value {
        let (code, text) = self.server.occtl(&["-j", "show", "status"]);
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until nothing of the only session is left on the server, and checks the reason that
    /// the log and `occtl` give for its end.
    fn ended(&self, client: &Client, reason: &str) {
        self.server.wait_until_alone();
        wait::until("the device to vanish", || {
            (self.world.server.interfaces() == ["lo", "eth0"]).then_some(())
        });
        let line = format!("user disconnected (reason: {reason}, rx: ");
        assert!(self.server.log().contains(&line), "{}", self.logs(client));
        let events = self.events.as_ref().expect("our server tells events");
        let event = format!("\"Reason\":  \"{reason}\"");
        wait::until(&format!("{event} in {}", events.stdout()), || {
            events.stdout().contains(&event).then_some(())
        });
    }

    /// Sessions that a cookie can wake up.
    fn cookies(&self) -> usize {
        let (code, text) = self.server.occtl(&["-j", "show", "sessions", "valid"]);
        assert_eq!(code, 0, "{text}");
        let sessions: Value = serde_json::from_str(&text).unwrap();
        sessions.as_array().unwrap().len()
    }

    fn logs(&self, client: &Client) -> String {
        client.process.output() + &self.server.log()
    }
}

/// How often a client has got a tunnel.
fn tunnels(client: &Client) -> usize {
    client
        .process
        .stdout()
        .matches("Got CONNECT response: HTTP/1.1 200")
        .count()
}

/// Waits until the server has ended the client's session, which the client takes for good.
fn terminated(client: &mut Client) {
    assert_eq!(client.process.exit_code(), 1, "{}", client.process.output());
    let output = client.process.output();
    assert!(
        output.contains("Session terminated by server; exiting."),
        "{output}"
    );
}
