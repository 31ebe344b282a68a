//! Our client seals on a thread of its own: bulk data both ways through loss, new keys, statistics and a
//! reconnect, with either server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use culvert_lab::fixture::{INNER_SERVER_V4, PASSWORD};
use culvert_lab::probe::TRANSFER_SIZE;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Process, Server, ServerOptions, World, probe, wait};

/// Octets of a transfer that loses packets: TCP is the slower, the busier the machine.
const LOSSY_SIZE: u64 = 5_000_000;

struct Scene {
    client: Process,
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(server: Make, arguments: &[&str]) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let options = ServerOptions {
            overrides: &[("rekey-time", "1"), ("rekey-method", "ssl")],
            ..ServerOptions::default()
        };
        let server = Server::start_with(server, &world, &fixture, &options);
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        let mut command = Client::command(Make::Culvert, &world, &fixture, &options);
        command.env("CULVERT_SECOND_THREAD", "always");
        let input = format!("{PASSWORD}\n");
        let mut client = Process::start(command, fixture.dir(), "openconnect", Some(&input));
        client.wait_for("Configured as");
        probe::ping(&world.client, inner_server());
        Self {
            client,
            server,
            fixture,
            world,
        }
    }

    fn logs(&self) -> String {
        self.client.output() + &self.server.log()
    }

    /// One transfer of `size` octets in either direction at the same time, and what `meanwhile` does until
    /// both are done.
    fn transfer_both_ways(&self, size: u64, meanwhile: impl Fn()) {
        let program = Path::new(env!("CARGO_BIN_EXE_transfer"));
        let (client, server) = (&self.world.client, &self.world.server);
        std::thread::scope(|scope| {
            let transfers = [
                ("up", client, server, inner_server()),
                ("down", server, client, Client::inner_v4(&self.world)),
            ]
            .map(|(name, from, to, address)| {
                let dir = self.fixture.path(name);
                fs::create_dir_all(&dir).unwrap();
                scope.spawn(move || probe::transfer_of(size, program, &dir, from, to, address))
            });
            while !transfers.iter().all(|transfer| transfer.is_finished()) {
                meanwhile();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// True while the client has its second thread.
    fn has_two_threads(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.client.pid());
        let names = fs::read_dir(tasks)
            .unwrap()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "uplink").count() == 1
    }

    fn stop(mut self) {
        self.client.signal("INT");
        assert_eq!(self.client.exit_code(), 0, "{}", self.logs());
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// TLS with a key update every second, statistics (which need everything back) all the time, and a
/// new connection in the middle.
fn survives_new_keys_of_the_stream(server: Make) {
    let scene = Scene::new(server, &["--no-dtls"]);
    let seen = std::cell::Cell::new(0);
    scene.transfer_both_ways(TRANSFER_SIZE, || {
        seen.set(seen.get() + u32::from(scene.has_two_threads()));
        scene.client.signal("USR1");
    });
    assert!(seen.get() > 0, "there was no second thread\n{}", scene.logs());
    scene.client.signal("USR2");
    wait::until(&scene.logs(), || {
        let tunnels = scene.client.stdout().matches("Got CONNECT response").count();
        (tunnels == 2).then_some(())
    });
    probe::ping(&scene.world.client, inner_server());
    scene.transfer_both_ways(TRANSFER_SIZE, || ());
    wait::until(&scene.logs(), || {
        let updates = match server {
            Make::Real => scene.client.stdout().matches("CSTP rekey due").count(),
            Make::Culvert => scene.server.log().matches("session keys refreshed").count(),
        };
        (updates >= 3).then_some(())
    });
    scene.transfer_both_ways(TRANSFER_SIZE, || ());
    let statistics = scene.client.stdout();
    assert!(
        statistics.contains("User requested reconnect") && statistics.contains("; TX: "),
        "{}",
        scene.logs()
    );
    scene.stop();
}

#[test]
fn new_keys_of_the_stream_with_the_real_server() {
    survives_new_keys_of_the_stream(Make::Real);
}

#[test]
fn new_keys_of_the_stream_with_our_server() {
    survives_new_keys_of_the_stream(Make::Culvert);
}

/// DTLS with 1 % loss in either direction, and a handshake inside the channel.
fn survives_loss_and_new_keys_of_the_datagrams(server: Make) {
    let mut scene = Scene::new(server, &[]);
    scene.client.wait_for("Established DTLS connection");
    scene.world.lose_udp(1);
    let mut command = scene.world.server.command("tcpdump");
    let new_epoch = "udp and dst port 443 and udp[8] = 23 and udp[11:2] = 2";
    command.args(["-i", "eth0", "-n", "--immediate-mode", "-c", "1", new_epoch]);
    let mut sniffer = Process::start(command, scene.fixture.dir(), "tcpdump", None);
    sniffer.wait_for("listening on eth0");
    let seen = std::cell::Cell::new(0);
    let transfer = || {
        scene.transfer_both_ways(LOSSY_SIZE, || {
            seen.set(seen.get() + u32::from(scene.has_two_threads()))
        });
    };
    wait::until_within(Duration::from_secs(60), &scene.logs(), || {
        transfer();
        (!sniffer.is_running()).then_some(())
    });
    transfer();
    assert!(seen.get() > 0, "there was no second thread\n{}", scene.logs());
    assert_eq!(
        scene
            .client
            .stdout()
            .matches("Established DTLS connection")
            .count(),
        1,
        "{}",
        scene.logs()
    );
    scene.stop();
}

#[test]
fn loss_and_new_keys_of_the_datagrams_with_the_real_server() {
    survives_loss_and_new_keys_of_the_datagrams(Make::Real);
}

#[test]
fn loss_and_new_keys_of_the_datagrams_with_our_server() {
    survives_loss_and_new_keys_of_the_datagrams(Make::Culvert);
}
