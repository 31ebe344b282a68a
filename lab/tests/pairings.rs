//! All four pairings of our programs and the real ones, over DTLS and over TLS alone, with IPv4
//! and IPv6 inside: packets pass both ways, and both ends leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::path::Path;

use culvert_lab::fixture::{INNER_SERVER_V4, INNER_SERVER_V6};
use culvert_lab::process::children;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, wait};

/// How packets travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Dtls,
    Tls,
}

/// Whose server, and how it carries tunnels.
#[derive(Clone, Copy)]
enum Servers {
    Real,
    /// A process for each client.
    Culvert,
    /// `worker-processes = 2`.
    Pool,
}

impl Servers {
    fn start(self, world: &World, fixture: &Fixture) -> Server {
        let (make, overrides): (Make, &[(&str, &str)]) = match self {
            Servers::Real => (Make::Real, &[]),
            Servers::Culvert => (Make::Culvert, &[]),
            Servers::Pool => (Make::Culvert, &[("worker-processes", "2")]),
        };
        let options = ServerOptions {
            overrides,
            ..ServerOptions::default()
        };
        Server::start_with(make, world, fixture, &options)
    }
}

/// One login, packets of every kind in both directions, an orderly end of the client and then of
/// the server.
fn pairing(client_make: Make, server: Servers, over: Over) {
    let world = World::new();
    let fixture = Fixture::new();
    let routes_before = world.client.routes();
    let mut server = server.start(&world, &fixture);
    let arguments: &[&str] = if over == Over::Tls { &["--no-dtls"] } else { &[] };
    let options = ClientOptions {
        arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(client_make, &world, &fixture, &options);
    if over == Over::Dtls {
        client.process.wait_for("Established DTLS connection");
    }

    packets_both_ways(&world, fixture.dir());
    assert_eq!(
        over == Over::Dtls,
        client.process.stdout().contains("Established DTLS connection"),
        "{}",
        client.process.output()
    );
    let (code, users) = server.occtl(&["show", "users"]);
    assert!(
        code == 0 && users.contains("alice") && users.contains("connected"),
        "{users}\n{}",
        server.log()
    );

    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    assert!(
        client
            .process
            .stdout()
            .contains("User cancelled (SIGINT/SIGTERM); exiting.")
    );
    assert_eq!(world.client.routes(), routes_before);
    assert_eq!(world.client.interfaces(), ["lo", "eth0"]);
    server.wait_for_workers(0);
    wait::until("the end of the server's device", || {
        (world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });

    stop(&mut server, &world, &fixture);
}

fn packets_both_ways(world: &World, dir: &Path) {
    let server_v4: IpAddr = INNER_SERVER_V4.parse().unwrap();
    let server_v6: IpAddr = INNER_SERVER_V6.parse().unwrap();
    let (client_v4, client_v6) = (Client::inner_v4(world), Client::inner_v6(world));
    for address in [server_v4, server_v6] {
        probe::ping(&world.client, address);
    }
    for address in [client_v4, client_v6] {
        probe::ping(&world.server, address);
    }
    let program = Path::new(env!("CARGO_BIN_EXE_transfer"));
    for address in [server_v4, server_v6] {
        probe::transfer(program, dir, &world.client, &world.server, address);
    }
    for address in [client_v4, client_v6] {
        probe::transfer(program, dir, &world.server, &world.client, address);
    }
}

/// SIGTERM ends the server with code 0 and leaves no process, device, socket or pid file.
fn stop(server: &mut Server, world: &World, fixture: &Fixture) {
    let processes = children(server.process.pid());
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
    for pid in processes {
        wait::until("the end of a child of the server", || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
    assert_eq!(world.server.interfaces(), ["lo", "eth0"]);
    for file in ["occtl.sock", "ocserv.pid"] {
        assert!(!fixture.path(file).exists(), "{file} is left");
    }
}

macro_rules! pairings {
    ($($name:ident: $client:ident with $server:ident over $over:ident;)*) => {
        $(#[test]
        fn $name() {
            pairing(Make::$client, Servers::$server, Over::$over);
        })*
    };
}

pairings! {
    real_client_and_real_server_over_dtls: Real with Real over Dtls;
    real_client_and_real_server_over_tls: Real with Real over Tls;
    our_client_and_real_server_over_dtls: Culvert with Real over Dtls;
    our_client_and_real_server_over_tls: Culvert with Real over Tls;
    real_client_and_our_server_over_dtls: Real with Culvert over Dtls;
    real_client_and_our_server_over_tls: Real with Culvert over Tls;
    our_client_and_our_server_over_dtls: Culvert with Culvert over Dtls;
    our_client_and_our_server_over_tls: Culvert with Culvert over Tls;
    real_client_and_our_pool_over_dtls: Real with Pool over Dtls;
    real_client_and_our_pool_over_tls: Real with Pool over Tls;
    our_client_and_our_pool_over_dtls: Culvert with Pool over Dtls;
    our_client_and_our_pool_over_tls: Culvert with Pool over Tls;
}

/// A server that knows only this cipher: the same one protects DTLS, and packets of the tunnel's
/// full size pass.
fn only(client_make: Make, server_make: Make, priorities: &str, description: &str) {
    let world = World::new();
    let fixture = Fixture::new();
    let priorities = format!("\"{priorities}\"");
    let options = ServerOptions {
        overrides: &[("tls-priorities", &priorities)],
        ..ServerOptions::default()
    };
    let server = Server::start_with(server_make, &world, &fixture, &options);
    let mut client = Client::connect(client_make, &world, &fixture);
    client.process.wait_for("Established DTLS connection");
    let output = client.process.output();
    assert!(
        output.contains(description),
        "{description}: {output}{}",
        server.log()
    );
    let device = format!("/sys/class/net/{}/mtu", culvert_lab::client::DEVICE);
    let mtu: u16 = world.client.run("cat", &[&device]).trim().parse().unwrap();
    for less in 0..4 {
        world.client.ping_uncut(mtu - 28 - less, INNER_SERVER_V4);
    }
}

#[test]
fn every_cipher_of_dtls() {
    let chacha = (
        "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
        "(DTLS1.2)-(PSK)-(CHACHA20-POLY1305)",
    );
    let aes128 = ("NORMAL:-CIPHER-ALL:+AES-128-GCM", "(DTLS1.2)-(PSK)-(AES-128-GCM)");
    // TLS is OpenSSL's then.
    let cbc = (
        "NORMAL:-VERS-TLS1.3:-CIPHER-ALL:+AES-256-CBC:-MAC-ALL:+SHA1",
        "(DTLS1.2)-(PSK)-(AES-256-CBC)-(SHA1)",
    );
    std::thread::scope(|scope| {
        for (client, server, (priorities, description)) in [
            (Make::Culvert, Make::Real, chacha),
            (Make::Culvert, Make::Real, aes128),
            (Make::Culvert, Make::Real, cbc),
            (Make::Real, Make::Culvert, chacha),
            (Make::Real, Make::Culvert, aes128),
        ] {
            scope.spawn(move || only(client, server, priorities, description));
        }
    });
}
