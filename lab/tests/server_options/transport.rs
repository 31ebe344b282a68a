//! How packets travel: marks, buffers, ciphers, the way round UDP that does not get through, and
//! the end of a server that drains.

use std::time::{Duration, Instant};

use culvert_lab::{Client, ClientOptions, Make, Process, probe, wait};

use crate::{Scene, inner_server};

/// A tcpdump that ends with the first packet that it waits for.
fn sniff(scene: &Scene, host: &culvert_lab::Host, interface: &str, filter: &str, name: &str) -> Process {
    let mut command = host.command("tcpdump");
    command.args(["-i", interface, "-n", "--immediate-mode", "-c", "1", filter]);
    let mut sniffer = Process::start(command, scene.fixture.dir(), name, None);
    sniffer.wait_for("listening on");
    sniffer
}

#[test]
fn packets_to_clients_are_marked() {
    let scene = Scene::new(
        Make::Culvert,
        &[("net-priority", "0x28"), ("output-buffer", "10")],
    );
    let mut client = scene.connect(Make::Real, &[]);
    client.process.wait_for("Established DTLS connection");
    let filter = |protocol: &str| format!("{protocol} and src port 443 and ip[1] = 0x28");
    let mut udp = sniff(&scene, &scene.world.server, "eth0", &filter("udp"), "udp");
    wait::until(&scene.logs(&client), || {
        // The first may be answered over TLS: the real client has a channel for a moment before it uses it.
        scene.ping();
        (!udp.is_running()).then_some(())
    });
    let mut tcp = sniff(&scene, &scene.world.server, "eth0", &filter("tcp"), "tcp");
    scene.server.occtl(&["disconnect", "user", "alice"]);
    wait::until(&scene.logs(&client), || (!tcp.is_running()).then_some(()));
}

/// A decimal `net-priority` is for the queues of the server's host: no packet shows it outside.
#[test]
fn packets_to_clients_have_a_priority_in_the_queues() {
    for processes in ["per-client", "2"] {
        let scene = Scene::new(
            Make::Culvert,
            &[("net-priority", "5"), ("worker-processes", processes)],
        );
        for rule in [
            "add table inet marks",
            "add chain inet marks out { type filter hook postrouting priority 0; }",
            "add rule inet marks out udp sport 443 meta priority 0:5 counter",
            "add rule inet marks out tcp sport 443 meta priority 0:5 counter",
        ] {
            scene.world.server.nft(rule);
        }
        let mut client = scene.connect(Make::Real, &[]);
        client.process.wait_for("Established DTLS connection");
        scene.ping();
        scene.server.occtl(&["disconnect", "user", "alice"]);
        client.process.wait();
        let counted = scene.world.server.run("nft", &["list", "table", "inet", "marks"]);
        let packets = counted
            .lines()
            .filter_map(|line| line.split_once("counter packets "));
        let packets: Vec<&str> = packets.filter_map(|(_, rest)| rest.split(' ').next()).collect();
        assert_eq!(packets.len(), 2, "{counted}");
        assert!(
            packets.iter().all(|count| *count != "0"),
            "{processes}: {counted}"
        );
    }
}

#[test]
fn the_send_buffer_has_the_size_of_output_buffer() {
    let scene = Scene::new(Make::Culvert, &[("output-buffer", "10"), ("mtu", "1300")]);
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    let text = scene
        .world
        .server
        .run("ss", &["-Htnm", "state", "established", "sport", "=", ":443"]);
    // The kernel doubles what it is asked for.
    let size = text.split(",tb").nth(1).and_then(|rest| rest.split(',').next());
    let size: u32 = size.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!(
        size.is_multiple_of(20) && (20 * 1100..=20 * 1300).contains(&size),
        "{text}"
    );
}

/// The cipher that DTLS has; `None` without DTLS.
fn datagram_cipher(overrides: &[(&str, &str)], arguments: &[&str]) -> Option<String> {
    let scene = Scene::new(Make::Culvert, overrides);
    let options = ClientOptions {
        arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Real, &scene.world, &scene.fixture, &options);
    if client
        .process
        .stdout()
        .contains("with SSL connected and DTLS disabled")
    {
        return None;
    }
    client.process.wait_for("Established DTLS connection");
    scene.ping();
    let text = client.process.stdout();
    let (_, cipher) = text
        .split_once("Ciphersuite (DTLS1.2)-(PSK)-(")
        .unwrap_or_else(|| panic!("no cipher with PSK: {text}"));
    cipher.split(')').next().map(str::to_owned)
}

#[test]
fn the_ciphers_of_dtls_follow_the_configuration() {
    assert_eq!(datagram_cipher(&[], &[]).as_deref(), Some("AES-256-GCM"));
    let no_256 = ("tls-priorities", "NORMAL:-AES-256-GCM:-CHACHA20-POLY1305");
    assert_eq!(datagram_cipher(&[no_256], &[]).as_deref(), Some("AES-128-GCM"));
    let neither = [("dtls-psk", "false"), ("dtls-legacy", "false")];
    assert_eq!(datagram_cipher(&neither, &[]), None);
    assert_eq!(datagram_cipher(&[("udp-port", "0")], &[]), None);
}

/// TLS takes what the client likes best, DTLS what the priorities begin with.
#[test]
fn dtls_has_the_cipher_of_tls_with_match_tls_dtls_ciphers() {
    let both = [("tls-priorities", "PERFORMANCE"), ("dtls-legacy", "false")];
    assert_eq!(datagram_cipher(&both, &[]).as_deref(), Some("AES-128-GCM"));
    let matching = [both[0], both[1], ("match-tls-dtls-ciphers", "true")];
    assert_eq!(datagram_cipher(&matching, &[]).as_deref(), Some("AES-256-GCM"));
}

/// UDP does not reach the server any more: what it has for the client goes over TLS soon, long
/// before dead peer detection would notice.
#[test]
fn packets_go_round_udp_after_switch_to_tcp_timeout() {
    let scene = Scene::new(Make::Culvert, &[("switch-to-tcp-timeout", "2"), ("dpd", "60")]);
    let mut client = scene.connect(Make::Real, &[]);
    client.process.wait_for("Established DTLS connection");
    scene.ping();
    scene.world.block_udp();
    let address = Client::inner_v4(&scene.world).to_string();
    let mut arrival = sniff(
        &scene,
        &scene.world.client,
        culvert_lab::client::DEVICE,
        "icmp[icmptype] = icmp-echo",
        "arrival",
    );
    let mut command = scene.world.server.command("ping");
    command.args(["-n", "-i", "0.5", &address]);
    let _pings = Process::start(command, scene.fixture.dir(), "pings", None);
    wait::until(&scene.logs(&client), || (!arrival.is_running()).then_some(()));
}

/// A server that drains takes no new clients; those that it has stay until the time is over.
#[test]
fn a_server_drains() {
    let mut scene = Scene::new(Make::Culvert, &[("server-drain-ms", "4000")]);
    let mut client = scene.connect(Make::Real, &[]);
    scene.ping();
    let told = Instant::now();
    scene.server.process.signal("TERM");
    wait::until(&scene.server.log(), || {
        scene.server.log().contains("draining for 4000 ms").then_some(())
    });
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        name: "late",
        ..ClientOptions::default()
    };
    let late = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
    assert_eq!(late.code, 1, "{}{}", late.stdout, late.stderr);
    probe::ping(&scene.world.client, inner_server());
    assert_eq!(client.process.exit_code(), 1, "{}", scene.logs(&client));
    assert!(
        told.elapsed() >= Duration::from_secs(4),
        "{}",
        scene.logs(&client)
    );
    assert_eq!(scene.server.process.exit_code(), 0, "{}", scene.server.log());
}

/// The server's path becomes narrow: its tunnel follows, and nothing is cut in two outside.
#[test]
fn the_mtu_follows_the_path_with_try_mtu_discovery() {
    let scene = Scene::new(Make::Culvert, &[("try-mtu-discovery", "true")]);
    let mut client = scene.connect(Make::Real, &[]);
    client.process.wait_for("Established DTLS connection");
    scene.ping();
    let mtu = |scene: &Scene| -> u32 {
        let (_, text) = scene.server.occtl(&["-j", "show", "users"]);
        let users: serde_json::Value = serde_json::from_str(&text).unwrap();
        users[0]["MTU"].as_str().unwrap().parse().unwrap()
    };
    assert!(mtu(&scene) > 1400, "{}", scene.logs(&client));
    scene.world.server.ip("link set eth0 mtu 1300");
    let device = culvert_lab::client::DEVICE;
    let filter = "icmp[icmptype] = icmp-echo and greater 1000";
    let mut arrival = sniff(&scene, &scene.world.client, device, filter, "arrival");
    let address = Client::inner_v4(&scene.world).to_string();
    let mut command = scene.world.server.command("ping");
    command.args(["-n", "-i", "0.3", "-s", "1350", &address]);
    let _pings = Process::start(command, scene.fixture.dir(), "pings", None);
    wait::until(&scene.logs(&client), || (!arrival.is_running()).then_some(()));
    wait::until(&scene.logs(&client), || (mtu(&scene) < 1280).then_some(()));
}
