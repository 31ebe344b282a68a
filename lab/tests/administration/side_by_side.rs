//! Two servers on one host with the same `device` and `socket-file`: what happens to one is no concern
//! of the other.

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{
    Client, Fixture, Make, PASSWORD, Process, Server, ServerOptions, USER, World, probe, wait,
};

use crate::inner_server;

/// The second server: its own ports and networks, the first one's names.
fn second(socket_file: &str) -> [(&'static str, &str); 7] {
    [
        ("tcp-port", "4443"),
        ("udp-port", "4443"),
        ("socket-file", socket_file),
        ("ipv4-network", "10.99.2.0/24"),
        ("ipv6-network", "fd99:2::/64"),
        ("dns", "10.99.2.1"),
        ("route", "10.99.2.0/24"),
    ]
}

struct Other<'w> {
    server: Server,
    fixture: Fixture,
    world: &'w World,
}

impl<'w> Other<'w> {
    fn start(world: &'w World, socket_file: &str) -> Self {
        let fixture = Fixture::new();
        let server = Self::launch(world, &fixture, socket_file);
        Self {
            server,
            fixture,
            world,
        }
    }

    fn launch(world: &World, fixture: &Fixture, socket_file: &str) -> Server {
        let options = ServerOptions {
            overrides: &second(socket_file),
            ..ServerOptions::default()
        };
        let mut server = Server::launch(Make::Culvert, world, fixture, &options);
        server.process.wait_for("listening (TCP) on [::]:4443");
        server
    }

    fn client(&self) -> Client {
        let mut command = self.world.client.command(Make::Real.program("openconnect"));
        command.arg("--cafile").arg(self.fixture.path("ca.pem"));
        command
            .args(["--user", USER, "--passwd-on-stdin", "--interface", "tunother"])
            .args(["--script", "/usr/share/vpnc-scripts/vpnc-script"])
            .args(["--resolve", &format!("{SERVER_NAME}:{SERVER_V4}")])
            .arg(format!("https://{SERVER_NAME}:4443/"));
        let input = format!("{PASSWORD}\n");
        let process = Process::start(command, self.fixture.dir(), "openconnect", Some(&input));
        Client { process }
    }
}

/// Devices of both servers.
fn devices(world: &World) -> usize {
    let names = world.server.interfaces();
    names.iter().filter(|name| name.starts_with("vpns")).count()
}

#[test]
fn two_servers_with_the_same_names() {
    let (world, fixture) = (World::new(), Fixture::new());
    let mut first = Server::start(Make::Culvert, &world, &fixture);
    let socket_file = fixture.path("ocserv.sock").display().to_string();
    let mut other = Other::start(&world, &socket_file);
    let client = Client::connect(Make::Real, &world, &fixture);
    let mut others_client = other.client();
    others_client.process.wait_for("Established DTLS connection");
    wait::until("both devices", || (devices(&world) == 2).then_some(()));
    let others_address = "10.99.2.1".parse().unwrap();
    probe::ping(&world.client, inner_server());
    probe::ping(&world.client, others_address);

    // One ends and begins again: the other's client, device and socket are as they were.
    first.process.signal("TERM");
    assert_eq!(first.process.exit_code(), 0, "{}", first.log());
    wait::until("the first server's device is gone", || {
        (devices(&world) == 1).then_some(())
    });
    probe::ping(&world.client, others_address);
    let (code, users) = other.server.occtl(&["show", "users"]);
    assert!(code == 0 && users.contains("alice"), "{users}");
    drop(client);
    let first = Server::start(Make::Culvert, &world, &fixture);
    let _client = Client::connect(Make::Real, &world, &fixture);
    probe::ping(&world.client, inner_server());

    // Killed without a chance to clean up, and started again.
    other.server.process.signal("KILL");
    other.server.process.wait();
    other.server = Other::launch(&world, &other.fixture, &socket_file);
    probe::ping(&world.client, inner_server());
    let log = first.log() + &other.server.log();
    assert!(!log.contains("sessions end with the server"), "{log}");
}
