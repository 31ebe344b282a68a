//! What the client asks of the tunnel, and what it says about itself: compression, local UDP port,
//! server name of TLS, identity.

use std::net::IpAddr;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Process, Server, ServerOptions, World, probe, wait};

use crate::Scene;
use crate::outer::capture;

/// Lengths of the datagrams in tcpdump's text that carry a ping of 1200 octets, in full or less.
fn longest_datagram(scene: &Scene, name: &str) -> usize {
    let mut seen = capture(scene, name);
    let host = &scene.world.client;
    // 1200 equal octets: hardly anything is left of them.
    let ping = [
        "-n",
        "-c",
        "3",
        "-i",
        "0.2",
        "-s",
        "1200",
        "-p",
        "00",
        INNER_SERVER_V4,
    ];
    host.run("ping", &ping);
    let lengths = wait::until("the datagrams", || {
        let text = seen.stdout();
        let lengths: Vec<usize> = text
            .lines()
            .filter_map(|line| line.rsplit_once("UDP, length ")?.1.trim().parse().ok())
            .collect();
        (lengths.len() >= 3).then_some(lengths)
    });
    seen.signal("INT");
    seen.wait();
    lengths.into_iter().max().unwrap_or_default()
}

/// Both channels are compressed by default where the server agrees; `-D` offers nothing.
fn compression(client: Make, server: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let options = ServerOptions {
        overrides: &[("compression", "true"), ("no-compress-limit", "100")],
        ..ServerOptions::default()
    };
    let scene = Scene {
        server: Server::start_with(server, &world, &fixture, &options),
        fixture,
        world,
    };
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_transfer"));
    let (from, to) = (&scene.world.client, &scene.world.server);
    let inner_server: IpAddr = INNER_SERVER_V4.parse().unwrap();
    for (arguments, words) in [
        (&[][..], "SSL + LZ4 connected and DTLS + LZ4 connected"),
        (&["--no-dtls", "-d"], "SSL + LZ4 connected and DTLS disabled"),
        (&["-D"], "SSL connected and DTLS connected"),
    ] {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        let mut tunnel = Client::connect_with(client, &scene.world, &scene.fixture, &options);
        let with_dtls = !arguments.contains(&"--no-dtls");
        if with_dtls {
            tunnel.process.wait_for("Established DTLS connection");
        }
        scene.ping();
        // Asked again and again: the real client calls its channel "established" for a moment
        // after the first answer.
        wait::until(words, || {
            tunnel.process.signal("USR1");
            tunnel.process.output().contains(words).then_some(())
        });
        if with_dtls {
            let longest = longest_datagram(&scene, &format!("compressed{}", arguments.len()));
            assert_eq!(longest < 400, arguments.is_empty(), "{longest}: {arguments:?}");
        }
        // Octets that do not compress, in packets of every size.
        probe::transfer(program, scene.fixture.dir(), from, to, inner_server);
        let address = Client::inner_v4(&scene.world);
        probe::transfer(program, scene.fixture.dir(), to, from, address);
        tunnel.process.signal("INT");
        assert_eq!(tunnel.process.exit_code(), 0, "{}", tunnel.process.output());
        scene.server.wait_for_workers(0);
    }
}

#[test]
fn compression_of_the_real_client_with_our_server() {
    compression(Make::Real, Make::Culvert);
}

#[test]
fn compression_of_our_client_with_the_real_server() {
    compression(Make::Culvert, Make::Real);
}

#[test]
fn compression_of_our_client_with_our_server() {
    compression(Make::Culvert, Make::Culvert);
}

/// `--dtls-local-port`, `--os`, `--local-hostname`, `--useragent`: seen in the packets and by the
/// server. `--pfs` and `--dtls-ciphers=PSK-NEGOTIATE` change nothing.
fn identity(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let options = ClientOptions {
        arguments: &[
            "--dtls-local-port=4567",
            "--local-hostname=laptop-of-alice",
            "--useragent=Laboratory Agent 7",
            "--os=win",
            "--version-string=v7.7.7",
            "--pfs",
            "--dtls-ciphers=PSK-NEGOTIATE",
        ],
        ..ClientOptions::default()
    };
    let mut tunnel = Client::connect_with(client, &scene.world, &scene.fixture, &options);
    tunnel.process.wait_for("Established DTLS connection");
    let sockets = scene.world.client.run("ss", &["-unH", "sport", "=", "4567"]);
    assert!(sockets.contains("192.0.2.1:443"), "{sockets}");
    let (code, user) = scene.server.occtl(&["-j", "show", "user", "alice"]);
    assert_eq!(code, 0, "{user}");
    for word in ["laptop-of-alice", "Laboratory Agent 7"] {
        assert!(user.contains(word), "no {word}: {user}");
    }
}

#[test]
fn identity_of_the_real_client() {
    identity(Make::Real, Make::Culvert);
}

#[test]
fn identity_of_our_client() {
    identity(Make::Culvert, Make::Real);
}

/// `--sni`: the name in the ClientHello, against which the certificate is checked, too; the HTTP
/// host stays that of the URL.
#[test]
fn server_name_of_our_client() {
    let scene = Scene::new(Make::Real, &[]);
    let ca = crate::ca(&scene);
    let login = |host: &str, sni: Option<&str>| {
        let mut command = scene.world.client.command(Make::Culvert.program("openconnect"));
        command
            .args([
                "--cafile",
                &ca,
                "--user",
                "alice",
                "--passwd-on-stdin",
                "--cookieonly",
            ])
            .args(["--non-inter", "-v", "--dump-http-traffic"])
            .arg(format!("--resolve={host}:192.0.2.1"));
        if let Some(sni) = sni {
            command.args(["--sni", sni]);
        }
        command.arg(format!("https://{host}/"));
        let input = format!("{}\n", culvert_lab::PASSWORD);
        Process::start(command, scene.fixture.dir(), "sni", Some(&input)).finish()
    };
    let other = login("front.test", None);
    assert_eq!(other.code, 1, "{}", other.stderr);
    assert!(
        other.stderr.contains("certificate does not match hostname"),
        "{}",
        other.stderr
    );
    let fronted = login("front.test", Some("vpn.test"));
    assert_eq!(fronted.code, 0, "{}", fronted.stderr);
    assert!(
        fronted.stderr.contains("> Host: front.test"),
        "{}",
        fronted.stderr
    );
    let wrong = login("vpn.test", Some("front.test"));
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
}

/// A path that drops larger datagrams without a word: what passes is found out, and packets of that
/// size and no larger ones pass.
fn path_mtu(client: Make, server: Make, path: u16, script: bool) {
    let scene = Scene::new(server, &[]);
    for (host, port) in [(&scene.world.server, "dport"), (&scene.world.client, "sport")] {
        host.nft(&format!(
            "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
             add rule inet lab in udp {port} 443 meta length > {path} drop"
        ));
    }
    let options = ClientOptions {
        arguments: &["-v"],
        script,
        ..ClientOptions::default()
    };
    let mut tunnel = Client::connect_with(client, &scene.world, &scene.fixture, &options);
    // IP and UDP, the record with its nonce and tag, the type of the packet.
    let found = path - 28 - (13 + 8 + 16) - 1;
    tunnel
        .process
        .wait_for(&format!("Detected MTU of {found} bytes (was 1434)"));
    let device = format!("/sys/class/net/{}/mtu", culvert_lab::client::DEVICE);
    wait::until("the MTU of the device", || {
        let mtu = scene.world.client.run("cat", &[&device]);
        (mtu.trim() == found.to_string()).then_some(())
    });
    scene.world.client.ping_uncut(found - 28, INNER_SERVER_V4);
    let output = tunnel.process.output();
    assert!(output.contains("Established DTLS connection"), "{output}");
    tunnel.process.signal("INT");
    assert_eq!(tunnel.process.exit_code(), 0, "{}", tunnel.process.output());
}

#[test]
fn path_mtu_of_the_real_client() {
    path_mtu(Make::Real, Make::Culvert, 1400, true);
}

#[test]
fn path_mtu_of_our_client_with_the_real_server() {
    path_mtu(Make::Culvert, Make::Real, 1400, false);
}

/// Too narrow for IPv6 inside: IPv4 works.
#[test]
fn narrow_path_of_our_client_with_the_real_server() {
    for script in [false, true] {
        path_mtu(Make::Culvert, Make::Real, 1300, script);
    }
}
