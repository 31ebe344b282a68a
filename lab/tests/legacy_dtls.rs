//! DTLS without the pre-shared key: sessions that are resumed with the client's master secret, in
//! DTLS 1.2 and in Cisco's DTLS 0.9. Packets pass both ways in records of the right version, at the
//! largest size that the tunnel promises; keys are renewed and connections made anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::time::Duration;

use culvert_lab::fixture::{INNER_SERVER_V4, INNER_SERVER_V6};
use culvert_lab::probe::Echoes;
use culvert_lab::{Client, Make, Process, Scene, client, probe, wait};

/// A cipher of the resumption modes.
struct Mode {
    /// What makes a client offer nothing else.
    arguments: &'static [&'static str],
    /// Version in the records.
    version: &'static str,
    /// As both clients print it.
    description: &'static str,
}

const fn mode(arguments: &'static [&'static str], version: &'static str, description: &'static str) -> Mode {
    Mode {
        arguments,
        version,
        description,
    }
}

const DTLS12: &str = "0xfefd";
const DTLS09: &str = "0x0100";

/// Every cipher that servers take (`specs/cstp-dtls.md` §7.2); the last [`NEWER`] of them are not known
/// to ocserv 1.1.6.
const MODES: [Mode; 9] = [
    mode(
        &["--dtls-ciphers=AES128-SHA"],
        DTLS09,
        "(DTLS0.9)-(RSA)-(AES-128-CBC)-(SHA1)",
    ),
    mode(
        &["--dtls-ciphers=AES256-SHA"],
        DTLS09,
        "(DTLS0.9)-(RSA)-(AES-256-CBC)-(SHA1)",
    ),
    mode(
        &["--dtls-ciphers=DES-CBC3-SHA", "--allow-insecure-crypto"],
        DTLS09,
        "(DTLS0.9)-(RSA)-(3DES-CBC)-(SHA1)",
    ),
    mode(
        &["--dtls-ciphers=OC-DTLS1_2-AES128-GCM"],
        DTLS12,
        "(DTLS1.2)-(RSA)-(AES-128-GCM)",
    ),
    mode(
        &["--dtls-ciphers=OC-DTLS1_2-AES256-GCM"],
        DTLS12,
        "(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    mode(
        &["--dtls12-ciphers=AES128-GCM-SHA256"],
        DTLS12,
        "(DTLS1.2)-(RSA)-(AES-128-GCM)",
    ),
    mode(
        &["--dtls12-ciphers=AES256-GCM-SHA384"],
        DTLS12,
        "(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    mode(
        &["--dtls12-ciphers=ECDHE-RSA-AES128-GCM-SHA256"],
        DTLS12,
        "(DTLS1.2)-(ECDHE-RSA)-(AES-128-GCM)",
    ),
    mode(
        &["--dtls12-ciphers=ECDHE-RSA-AES256-GCM-SHA384"],
        DTLS12,
        "(DTLS1.2)-(ECDHE-RSA)-(AES-256-GCM)",
    ),
];

const NEWER: usize = 2;

/// A client whose packets go over DTLS.
fn connect(scene: &Scene, make: Make, arguments: &[&str]) -> Client {
    let mut client = scene.connect(make, &[arguments, &["-v"]].concat());
    client.process.wait_for("Established DTLS connection");
    client
}

fn end(scene: &Scene, mut client: Client) {
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", scene.logs(&client));
    scene.server.wait_until_alone();
}

/// Waits for 20 datagrams of the server's port that match `filter`.
fn sniff(scene: &Scene, name: &str, filter: &str) -> Process {
    let mut command = scene.world.server.command("tcpdump");
    let filter = format!("udp and port 443 and {filter}");
    command.args(["-i", "eth0", "-n", "--immediate-mode", "-c", "20", &filter]);
    let mut sniffer = Process::start(command, scene.fixture.dir(), name, None);
    sniffer.wait_for("listening on eth0");
    sniffer
}

/// The largest packet passes without being cut, and its neighbours, over which padding differs.
fn ping_at_full_size(scene: &Scene) -> u16 {
    let device = format!("/sys/class/net/{}/mtu", client::DEVICE);
    let mtu: u16 = scene.world.client.run("cat", &[&device]).trim().parse().unwrap();
    assert!((1280..1500).contains(&mtu), "{mtu}");
    for less in 0..17 {
        scene.world.client.ping_uncut(mtu - 28 - less, INNER_SERVER_V4);
    }
    mtu
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every mode, one client after another.
fn packets_pass_in_every_mode(client_make: Make, server_make: Make) {
    let scene = Scene::new(server_make, &[("dtls-legacy", "true")]);
    let known = match server_make {
        Make::Real => MODES.len() - NEWER,
        Make::Culvert => MODES.len(),
    };
    for mode in &MODES[..known] {
        let mut client = connect(&scene, client_make, mode.arguments);
        let output = client.process.stdout();
        assert!(output.contains(mode.description), "{}", scene.logs(&client));
        let data = |direction: &str| {
            format!(
                "{direction} port 443 and udp[8] = 23 and udp[9:2] = {}",
                mode.version
            )
        };
        let mut sniffers = ["dst", "src"].map(|direction| sniff(&scene, direction, &data(direction)));
        scene.ping();
        probe::ping(&scene.world.client, address(INNER_SERVER_V6));
        probe::ping(&scene.world.server, Client::inner_v4(&scene.world));
        let mtu = ping_at_full_size(&scene);
        for words in [
            "DTLS initialised. DPD 20, Keepalive 300",
            &format!(", max={mtu})"),
            &format!("No change in MTU after detection (was {mtu})"),
        ] {
            client.process.wait_for(words);
        }
        for sniffer in &mut sniffers {
            wait::until(&scene.logs(&client), || (!sniffer.is_running()).then_some(()));
        }
        if server_make == Make::Culvert {
            let (_, users) = scene.server.occtl(&["show", "users"]);
            let (_, all) = scene.server.occtl(&["show", "user", "alice"]);
            assert!(all.contains(mode.description), "{all}{users}");
        }
        end(&scene, client);
    }
}

#[test]
fn real_client_in_every_mode_with_our_server() {
    packets_pass_in_every_mode(Make::Real, Make::Culvert);
}

#[test]
fn our_client_in_every_mode_with_the_real_server() {
    packets_pass_in_every_mode(Make::Culvert, Make::Real);
}

#[test]
fn our_client_in_every_mode_with_our_server() {
    packets_pass_in_every_mode(Make::Culvert, Make::Culvert);
}

/// Without the pre-shared key a client that offers everything gets what its TLS channel has.
fn chosen(client_make: Make, overrides: &[(&str, &str)], arguments: &[&str]) -> String {
    let scene = Scene::new(Make::Culvert, overrides);
    let client = connect(&scene, client_make, arguments);
    scene.ping();
    let output = client.process.stdout();
    let cipher = output.split("Ciphersuite ").nth(1).expect("a cipher");
    let cipher = cipher.lines().next().unwrap().trim_end_matches('.').to_owned();
    end(&scene, client);
    cipher
}

#[test]
fn the_server_chooses_by_its_options_and_by_the_cipher_of_tls() {
    let no_psk = ("dtls-psk", "false");
    for make in [Make::Real, Make::Culvert] {
        assert_eq!(
            chosen(make, &[no_psk], &[]),
            "(DTLS1.2)-(ECDHE-RSA)-(AES-256-GCM)"
        );
        let no_256 = ("tls-priorities", "NORMAL:-AES-256-GCM:-CHACHA20-POLY1305");
        assert_eq!(
            chosen(make, &[no_psk, no_256], &[]),
            "(DTLS1.2)-(ECDHE-RSA)-(AES-128-GCM)"
        );
        assert_eq!(
            chosen(
                make,
                &[no_psk],
                &["--dtls-ciphers=AES128-SHA:AES256-SHA:DHE-RSA-AES256-SHA"]
            ),
            "(DTLS0.9)-(RSA)-(AES-256-CBC)-(SHA1)"
        );
        assert_eq!(chosen(make, &[], &[]), "(DTLS1.2)-(PSK)-(AES-256-GCM)");
    }
}

/// `dtls-legacy = false`: what such a client has to say goes over TLS.
#[test]
fn a_server_that_forbids_resumed_sessions() {
    let scene = Scene::new(Make::Culvert, &[("dtls-legacy", "false")]);
    for make in [Make::Real, Make::Culvert] {
        let client = scene.connect(make, &["--dtls-ciphers=AES128-SHA:OC-DTLS1_2-AES256-GCM"]);
        scene.ping();
        let output = client.process.output();
        for words in [
            "with SSL connected and DTLS disabled",
            "No DTLS address",
            "Set up UDP failed; using SSL instead",
        ] {
            assert!(output.contains(words), "{words}: {output}");
        }
        end(&scene, client);
    }
}

/// A pool knows first datagrams of all versions, too, and takes resumed sessions over.
#[test]
fn sessions_in_a_pool() {
    let scene = Scene::new(Make::Culvert, &[("worker-processes", "2")]);
    for (make, cipher) in [
        (Make::Real, "--dtls-ciphers=AES128-SHA"),
        (Make::Culvert, "--dtls-ciphers=AES256-SHA"),
        (Make::Real, "--dtls12-ciphers=AES128-GCM-SHA256"),
    ] {
        let client = connect(&scene, make, &[cipher]);
        scene.ping();
        ping_at_full_size(&scene);
        end(&scene, client);
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

fn handshakes(client: &Client) -> usize {
    client
        .process
        .stdout()
        .matches("Established DTLS connection")
        .count()
}

/// SIGUSR2, then keys that are renewed by themselves: the server announces new tunnels, because a
/// resumed session knows no rehandshake.
fn connections_are_made_anew(client_make: Make, cipher: &str) {
    let overrides = [("rekey-time", "2"), ("rekey-method", "ssl")];
    let scene = Scene::new(Make::Culvert, &overrides);
    let client = connect(&scene, client_make, &[cipher]);
    let address = Client::inner_v4(&scene.world);
    scene.ping();
    client.process.signal("USR2");
    wait::until(&scene.logs(&client), || {
        (tunnels(&client) >= 4 && handshakes(&client) >= 4).then_some(())
    });
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address);
    let output = client.process.output();
    assert!(output.contains("User requested reconnect"), "{output}");
    assert!(output.contains("CSTP rekey due"), "{output}");
    end(&scene, client);
}

#[test]
fn the_real_client_connects_anew_in_dtls_09() {
    connections_are_made_anew(Make::Real, "--dtls-ciphers=AES256-SHA");
}

#[test]
fn our_client_connects_anew_in_dtls_12() {
    connections_are_made_anew(Make::Culvert, "--dtls-ciphers=OC-DTLS1_2-AES256-GCM");
}

/// The real server announces rehandshakes also here: our client begins another session in the second slot. What
/// the server still sends in the first one, as its way to the client is slow, is not lost.
#[test]
fn our_client_renews_the_keys_with_the_real_server() {
    let overrides = [
        ("rekey-time", "2"),
        ("rekey-method", "ssl"),
        ("dtls-legacy", "true"),
    ];
    let scene = Scene::new(Make::Real, &overrides);
    let client = connect(&scene, Make::Culvert, &["--dtls-ciphers=AES128-SHA"]);
    scene.ping();
    let slow = "qdisc add dev eth0 root tbf rate 1mbit burst 4kb limit 200kb";
    scene.world.server.run("tc", &slow.split(' ').collect::<Vec<_>>());
    let echoes = Echoes::of(&scene.world.client, &scene.world.server);
    let mut command = scene.world.client.command("ping");
    // Twenty are always on their way, and never more.
    command.args(["-n", "-q", "-A", "-l", "20", "-s", "500", INNER_SERVER_V4]);
    let mut flow = Process::start(command, scene.fixture.dir(), "flow", None);
    wait::until_within(Duration::from_secs(40), &scene.logs(&client), || {
        (handshakes(&client) >= 2).then_some(())
    });
    scene.ping();
    flow.signal("INT");
    flow.wait();
    echoes.none_is_lost();
    assert_eq!(tunnels(&client), 1, "{}", scene.logs(&client));
    end(&scene, client);
}

/// Every third datagram is lost: the handshake still completes, whoever has to repeat.
#[test]
fn handshakes_complete_on_a_bad_network() {
    let scene = Scene::new(Make::Culvert, &[]);
    scene.world.lose_every_third_udp();
    for (make, cipher) in [
        (Make::Real, "--dtls-ciphers=AES128-SHA"),
        (Make::Culvert, "--dtls-ciphers=AES128-SHA"),
        (Make::Culvert, "--dtls12-ciphers=AES256-GCM-SHA384"),
    ] {
        let client = connect(&scene, make, &[cipher]);
        end(&scene, client);
    }
}
