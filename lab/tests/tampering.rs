//! A man in the middle repeats, replays and corrupts what the two ends send: the tunnel goes on,
//! inner packets arrive once, and a broken TLS connection is replaced.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::net::SERVER_V4;
use culvert_lab::probe::Echoes;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, World, probe, wait};

/// Where the man in the middle waits for the client.
const MIDDLE: &str = "127.0.0.9";

/// The man in the middle, on the client host.
struct Tamper {
    child: Child,
    commands: Option<ChildStdin>,
    said: PathBuf,
}

impl Tamper {
    fn start(world: &World, fixture: &Fixture) -> Self {
        let said = fixture.path("tamper.out");
        let mut command = world.client.command(env!("CARGO_BIN_EXE_tamper"));
        command
            .arg(format!("{MIDDLE}:443"))
            .arg(format!("{SERVER_V4}:443"))
            .stdin(Stdio::piped())
            .stdout(File::create(&said).unwrap());
        let mut child = command.spawn().unwrap();
        let tamper = Self {
            commands: child.stdin.take(),
            child,
            said,
        };
        tamper.wait_for("ready", 1);
        tamper
    }

    /// Gives a command and waits until it is in effect.
    fn order(&mut self, command: &str) {
        let answer = format!("done {command}");
        let before = self.count(&answer);
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        self.wait_for(&answer, before + 1);
    }

    fn count(&self, line: &str) -> usize {
        let said = std::fs::read_to_string(&self.said).unwrap();
        said.lines().filter(|said| *said == line).count()
    }

    fn wait_for(&self, line: &str, times: usize) {
        wait::until(&format!("the man in the middle: {line}"), || {
            (self.count(line) >= times).then_some(())
        });
    }
}

impl Drop for Tamper {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.commands = None;
        let _ended = self.child.wait();
    }
}

struct Tunnel {
    client: Client,
    tamper: Tamper,
    server: Server,
    world: World,
    _fixture: Fixture,
}

impl Tunnel {
    /// A tunnel through the man in the middle, who follows `order` from the start.
    fn new(client: Make, server: Make, order: &str, arguments: &[&str]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let server = Server::start(server, &world, &fixture);
        let mut tamper = Tamper::start(&world, &fixture);
        tamper.order(order);
        let arguments = [&["--base-mtu", "1400"], arguments].concat();
        let options = ClientOptions {
            arguments: &arguments,
            address: MIDDLE,
            ..ClientOptions::default()
        };
        let client = Client::connect_with(client, &world, &fixture, &options);
        Self {
            client,
            tamper,
            server,
            world,
            _fixture: fixture,
        }
    }

    fn logs(&self) -> String {
        self.client.process.output() + &self.server.log()
    }

    fn said(&self, text: &str) -> usize {
        self.client.process.stdout().matches(text).count()
    }

    /// Pings in both directions: every request and every answer arrives exactly once.
    fn every_packet_arrives_once(&self) {
        const COUNT: u64 = 20;
        let to_client = Client::inner_v4(&self.world).to_string();
        let (client, server) = (&self.world.client, &self.world.server);
        for (from, to, address) in [
            (client, server, INNER_SERVER_V4),
            (server, client, to_client.as_str()),
        ] {
            let echoes = Echoes::of(from, to);
            let mut ping = from.command("ping");
            ping.args(["-n", "-i", "0.05", "-c"])
                .arg(COUNT.to_string())
                .arg(address);
            let output = ping.output().unwrap();
            assert_eq!(output.stderr, b"", "{output:?}");
            echoes.all_arrive_once(COUNT);
        }
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// Datagrams that come twice, again later, or forged: also while the channel is being opened.
fn datagrams(client: Make, server: Make) {
    let mut tunnel = Tunnel::new(client, server, "duplicate", &[]);
    tunnel.client.process.wait_for("Established DTLS connection");
    probe::ping(&tunnel.world.client, inner_server());
    tunnel.every_packet_arrives_once();
    tunnel.tamper.order("forge");
    tunnel.every_packet_arrives_once();
    tunnel.tamper.order("pass");
    tunnel.every_packet_arrives_once();

    let (client, server) = (&tunnel.world.client, &tunnel.world.server);
    let echoes = [Echoes::of(client, server), Echoes::of(server, client)];
    tunnel.tamper.order("replay");
    // What was replayed is in the way of what comes now, so it has been dealt with.
    probe::ping(client, inner_server());
    echoes.iter().for_each(Echoes::none_came_twice);
    tunnel.every_packet_arrives_once();

    assert_eq!(tunnel.said("Got CONNECT response"), 1, "{}", tunnel.logs());
    assert_eq!(tunnel.said("Established DTLS connection"), 1, "{}", tunnel.logs());
    assert_eq!(tunnel.server.workers().len(), 1, "{}", tunnel.logs());
}

#[test]
fn datagrams_between_the_real_client_and_our_server() {
    datagrams(Make::Real, Make::Culvert);
}

#[test]
fn datagrams_between_our_client_and_the_real_server() {
    datagrams(Make::Culvert, Make::Real);
}

#[test]
fn datagrams_between_our_client_and_our_server() {
    datagrams(Make::Culvert, Make::Culvert);
}

/// A corrupted TLS record ends the connection: one line says why, and the session goes on over a
/// new one.
fn records(client: Make, server: Make) {
    let mut tunnel = Tunnel::new(client, server, "pass", &["--no-dtls"]);
    probe::ping(&tunnel.world.client, inner_server());
    let address = Client::inner_v4(&tunnel.world);
    for (order, connections) in [("corrupt-down", 2), ("corrupt-up", 3)] {
        let errors = tunnel.client.process.stderr().lines().count();
        tunnel.tamper.order(order);
        // Something to corrupt; there may be no answer.
        probe::answers(&tunnel.world.client, inner_server());
        tunnel.tamper.wait_for("corrupted", connections - 1);
        wait::until(&format!("a reconnect\n{}", tunnel.logs()), || {
            (tunnel.said("Got CONNECT response: HTTP/1.1 200") == connections).then_some(())
        });
        probe::ping(&tunnel.world.client, inner_server());
        assert_eq!(Client::inner_v4(&tunnel.world), address, "{}", tunnel.logs());
        if client == Make::Culvert {
            let stderr = tunnel.client.process.stderr();
            let new: Vec<&str> = stderr.lines().skip(errors).collect();
            assert!(
                new.len() == 1 && new[0].starts_with("SSL connection "),
                "{new:?}\n{}",
                tunnel.logs()
            );
        }
    }
    tunnel.client.process.signal("INT");
    assert_eq!(tunnel.client.process.exit_code(), 0, "{}", tunnel.logs());
}

#[test]
fn records_between_the_real_client_and_our_server() {
    records(Make::Real, Make::Culvert);
}

#[test]
fn records_between_our_client_and_the_real_server() {
    records(Make::Culvert, Make::Real);
}

#[test]
fn records_between_our_client_and_our_server() {
    records(Make::Culvert, Make::Culvert);
}
