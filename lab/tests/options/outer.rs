//! The packets and connections between the two hosts: IPv6, type of service, TCP keepalive.

use std::net::IpAddr;

use culvert_lab::fixture::INNER_SERVER_V6;
use culvert_lab::net::SERVER_V6;
use culvert_lab::{Client, ClientOptions, Make, Process, probe, wait};

use crate::Scene;

/// A client that knows the server by its IPv6 address only.
fn over_ipv6(client: Make, scene: &Scene, arguments: &[&str]) -> Client {
    let options = ClientOptions {
        arguments,
        address: SERVER_V6,
        ..ClientOptions::default()
    };
    Client::connect_with(client, &scene.world, &scene.fixture, &options)
}

/// The whole tunnel over IPv6: login, DTLS or TLS, both families inside, nothing over IPv4.
fn ipv6_underlay(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    scene.world.client.nft(
        "add table ip lab; add chain ip lab out { type filter hook output priority 0; }; \
         add rule ip lab out oif eth0 reject",
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_transfer"));
    let inside_v6: IpAddr = INNER_SERVER_V6.parse().unwrap();
    for arguments in [&[][..], &["--no-dtls"][..]] {
        let mut process = over_ipv6(client, &scene, arguments).process;
        assert!(
            process
                .stdout()
                .contains(&format!("Connected to [{SERVER_V6}]:443")),
            "{}",
            process.output()
        );
        if arguments.is_empty() {
            process.wait_for("Established DTLS connection");
        }
        scene.ping();
        probe::ping(&scene.world.client, inside_v6);
        probe::ping(&scene.world.server, Client::inner_v4(&scene.world));
        // Full-size packets in both directions.
        let (from, to) = (&scene.world.client, &scene.world.server);
        probe::transfer(program, scene.fixture.dir(), from, to, crate::inner_server());
        let (_, users) = scene.server.occtl(&["show", "users"]);
        assert!(users.contains("2001:db8::2"), "{users}");
        process.signal("INT");
        assert_eq!(process.exit_code(), 0, "{}", process.output());
        assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
        scene.server.wait_for_workers(0);
    }
}

#[test]
fn real_client_and_our_server_over_ipv6() {
    ipv6_underlay(Make::Real, Make::Culvert);
}

#[test]
fn our_client_and_real_server_over_ipv6() {
    ipv6_underlay(Make::Culvert, Make::Real);
}

#[test]
fn our_client_and_our_server_over_ipv6() {
    ipv6_underlay(Make::Culvert, Make::Culvert);
}

/// A capture of the datagrams that the client host sends; tcpdump's text.
pub(crate) fn capture(scene: &Scene, name: &str) -> Process {
    let mut command = scene.world.client.command("tcpdump");
    command.args([
        "-i",
        "eth0",
        "-n",
        "-v",
        "-l",
        "-Z",
        "root",
        "--immediate-mode",
        "-Q",
        "out",
    ]);
    command.args(["udp", "dst", "port", "443"]);
    let mut capture = Process::start(command, scene.fixture.dir(), name, None);
    capture.wait_for("listening on eth0");
    capture
}

/// Pings with this type of service through the tunnel and gives what the outer packets had, in
/// tcpdump's words.
fn outer_service(scene: &Scene, name: &str, inside: &str) -> String {
    let mut capture = capture(scene, name);
    let host = &scene.world.client;
    // The first ones may still go over TLS: the real client has a channel for a moment before it uses it.
    // Payloads of a size of their own tell these packets from keepalives and probes.
    wait::until("the outer packets", || {
        host.run("ping", &["-n", "-c", "1", "-s", "700", "-Q", "0xb8", inside]);
        (capture.stdout().matches("UDP, length 7").count() >= 3).then_some(())
    });
    capture.signal("INT");
    capture.wait();
    capture.stdout()
}

/// `--passtos`: the outer packet has the type of service or traffic class of the inner one; without
/// the option it has none.
fn passes_the_type_of_service(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let start = |arguments: &[&str]| {
        let mut process = over_ipv6(client, &scene, arguments).process;
        process.wait_for("Established DTLS connection");
        scene.ping();
        process
    };
    let inner_v4 = crate::inner_server().to_string();
    let end = |mut process: Process| {
        process.signal("INT");
        assert_eq!(process.exit_code(), 0, "{}", process.output());
        scene.server.wait_for_workers(0);
    };

    let with = start(&["--passtos"]);
    for (name, inside) in [("v4-in-v6", inner_v4.as_str()), ("v6-in-v6", INNER_SERVER_V6)] {
        let seen = outer_service(&scene, name, inside);
        assert!(seen.matches("class 0xb8").count() >= 3, "{seen}");
    }
    end(with);
    let without = start(&[]);
    let seen = outer_service(&scene, "without", &inner_v4);
    assert!(!seen.contains("class 0xb8"), "{seen}");
    end(without);

    let options = ClientOptions {
        arguments: &["--passtos"],
        ..ClientOptions::default()
    };
    let mut v4 = Client::connect_with(client, &scene.world, &scene.fixture, &options);
    v4.process.wait_for("Established DTLS connection");
    for (name, inside) in [("v4-in-v4", inner_v4.as_str()), ("v6-in-v4", INNER_SERVER_V6)] {
        let seen = outer_service(&scene, name, inside);
        assert!(seen.matches("tos 0xb8").count() >= 3, "{seen}");
    }
}

#[test]
fn real_client_passes_the_type_of_service() {
    passes_the_type_of_service(Make::Real, Make::Culvert);
}

#[test]
fn our_client_passes_the_type_of_service() {
    passes_the_type_of_service(Make::Culvert, Make::Real);
}

/// `--tcp-keepalive`: the kernel's timer runs on the connection, with the interval asked for.
#[test]
fn our_client_keeps_the_tcp_connection_alive() {
    let scene = Scene::new(Make::Real, &[]);
    // `ss` shows the time left of the keepalive timer.
    for (option, shortest, longest) in [("--tcp-keepalive=77", 40, 77), ("--tcp-keepalive", 6000, 7200)] {
        let options = ClientOptions {
            arguments: &[option],
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
        let seconds = wait::until("the keepalive timer", || {
            let text = scene.world.client.run("ss", &["-tnoH", "state", "established"]);
            keepalive_seconds(&text)
        });
        assert!((shortest..=longest).contains(&seconds), "{seconds}");
        client.process.signal("INT");
        client.process.wait();
    }
    let client = Client::connect(Make::Culvert, &scene.world, &scene.fixture);
    let text = scene.world.client.run("ss", &["-tnoH", "state", "established"]);
    assert!(
        text.contains(":443") && !text.contains("keepalive"),
        "{text}{}",
        client.process.output()
    );
}

/// Seconds in `timer:(keepalive,1min16sec,0)`.
fn keepalive_seconds(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("keepalive,")?;
    let (time, _) = rest.split_once(',')?;
    let (minutes, seconds) = time.split_once("min").unwrap_or(("0", time));
    let seconds = seconds.strip_suffix("sec").unwrap_or("0");
    Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?)
}
