//! Many clients at once: all log in, all pass packets, strangers' datagrams do not stop them, and a
//! stop of the server tells them and leaves no device behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use culvert_lab::net::{CLIENT_V4, SERVER_V4};
use culvert_lab::{Fixture, Make, Server, ServerOptions, World, wait};

/// Addresses of the clients: any of them may be used on their host.
const CLIENTS: &str = "198.18.0.0/16";
/// Longest time for the logins and the packets of all clients.
const LIMIT: Duration = Duration::from_secs(240);
/// Longest time from SIGTERM until the last device is gone.
const DEVICES: Duration = Duration::from_secs(5);
/// What the server may grow under a flood of junk, in KiB.
const GROWTH: u64 = 32 * 1024;

/// The two tests would only take each other's time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The program `load`, which keeps its sessions until it is released.
struct Load {
    child: Child,
    fixture: Fixture,
}

impl Load {
    fn start(world: &World, fixture: Fixture, clients: usize, server: &Server) -> Self {
        let mut command = world.client.command(env!("CARGO_BIN_EXE_load"));
        command
            .args(["--server", &format!("{SERVER_V4}:443"), "--hold"])
            .args(["--source", "198.18.0.1", "--sources", "250"])
            .args(["--clients", &clients.to_string(), "--rate", "2000"])
            .args(["--seconds", "5", "--junk", "100000", "--junk-kind", "hello"])
            .args(["--server-pid", &server.process.pid().to_string()])
            .stdin(Stdio::piped())
            .stdout(File::create(fixture.path("load.out")).unwrap())
            .stderr(File::create(fixture.path("load.err")).unwrap());
        let child = command.spawn().unwrap();
        Self { child, fixture }
    }

    fn output(&self) -> String {
        let read = |name| fs::read_to_string(self.fixture.path(name)).unwrap();
        read("load.out") + &read("load.err")
    }

    fn wait_for_the_sessions(&mut self) {
        wait::until_within(LIMIT, "the load", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the load has ended:\n{}", self.output());
            self.output().contains("holding").then_some(())
        });
    }

    /// Lets it end and gives what it has said.
    fn release(mut self) -> String {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.output());
        self.output()
    }
}

/// Private memory of all processes of the server, in KiB, in the line that begins with `title`.
fn private(output: &str, title: &str) -> u64 {
    let line = output
        .lines()
        .find(|line| line.starts_with(title))
        .unwrap_or_else(|| panic!("no '{title}' in:\n{output}"));
    let all = line.rsplit_once('/').unwrap().1;
    all.strip_suffix(" KiB").unwrap().parse().unwrap()
}

fn many(clients: usize, overrides: &[(&str, &str)]) {
    let _alone = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = World::new();
    let fixture = Fixture::new();
    world.client.ip(&format!("route add local {CLIENTS} dev lo"));
    world.server.ip(&format!("route add {CLIENTS} via {CLIENT_V4}"));
    let overrides = [
        &[("ipv4-network", "10.99.0.0/20"), ("route", "default")],
        overrides,
    ]
    .concat();
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let mut load = Load::start(&world, fixture, clients, &server);
    load.wait_for_the_sessions();
    let devices = || {
        let names = world.server.interfaces();
        names.iter().filter(|name| name.starts_with("vpns")).count()
    };
    assert_eq!(devices(), clients, "{}", load.output());
    let told = Instant::now();
    server.process.signal("TERM");
    wait::until_within(DEVICES, "the end of all devices", || {
        (devices() == 0).then_some(())
    });
    let gone = told.elapsed();
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
    let output = load.release();
    println!("{output}devices gone after {gone:?}");
    for line in [
        format!("logins {clients} of {clients} "),
        format!("dtls {clients} of {clients}\n"),
        format!("ended by the server: {clients}\n"),
    ] {
        assert!(output.contains(&line), "{line} is missing:\n{output}");
    }
    let passing = format!("passing {clients} of {clients},");
    assert_eq!(
        output.matches(&passing).count(),
        2,
        "with and without junk:\n{output}"
    );
    let (full, flooded) = (
        private(&output, "memory full"),
        private(&output, "memory under junk"),
    );
    assert!(flooded < full + GROWTH, "{output}");
}

#[test]
fn two_thousand_clients_in_a_pool() {
    many(2000, &[("worker-processes", "2")]);
}

#[test]
fn two_hundred_clients_with_a_process_each() {
    many(200, &[]);
}
