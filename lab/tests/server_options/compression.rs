//! `compression`, `compression-algo-priority`, `no-compress-limit`, with the real client.

use culvert_lab::{Make, wait};

use crate::Scene;
use crate::maintenance::json;

/// Octets of pings in one direction.
const PINGED: u64 = 100 * 1300;

/// Octets that passed the server's wire, both ways.
fn wire(scene: &Scene) -> u64 {
    let count = |direction: &str| -> u64 {
        let path = format!("/sys/class/net/eth0/statistics/{direction}_bytes");
        scene.world.server.run("cat", &[&path]).trim().parse().unwrap()
    };
    count("rx") + count("tx")
}

/// What 100 large pings of zeros cost on the wire. The client's device queues ten packets only, so
/// each goes when the one before has been answered; should one be lost, what the others cost is scaled up.
fn cost(overrides: &[(&str, &str)], arguments: &[&str], encoding: Option<&str>) -> u64 {
    let scene = Scene::new(Make::Culvert, overrides);
    let mut all = vec!["-v"];
    all.extend(arguments);
    let mut client = scene.connect(Make::Real, &all);
    let channel = if arguments.contains(&"--no-dtls") {
        "CSTP"
    } else {
        client.process.wait_for("Established DTLS connection");
        "DTLS"
    };
    scene.ping();
    let of_datagrams = encoding.filter(|_| channel == "DTLS");
    wait::until(&format!("{encoding:?}\n{}", scene.logs(&client)), || {
        let user = &json(&scene.server, &["show", "users"])[0];
        let is_so = user["CSTP compression"].as_str() == encoding
            && user["DTLS compression"].as_str() == of_datagrams;
        is_so.then_some(())
    });
    let before = wire(&scene);
    let arguments = ["-n", "-A", "-c", "100", "-s", "1300", "-p", "00", "10.99.1.1"];
    let pings = scene.world.client.run("ping", &arguments);
    let counted = pings
        .split_once(" received")
        .and_then(|(before, _)| before.rsplit(' ').next());
    let received: u64 = counted.and_then(|text| text.parse().ok()).unwrap();
    assert!(received >= 80, "{pings}\n{}", scene.logs(&client));
    let cost = (wire(&scene) - before) * 100 / received;
    let said = format!("X-{channel}-Content-Encoding: {}", encoding.unwrap_or_default());
    let text = client.process.output();
    assert_eq!(text.contains(&said), encoding.is_some(), "{said}: {text}");
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", scene.logs(&client));
    cost
}

const ON: (&str, &str) = ("compression", "true");
const LZS_FIRST: (&str, &str) = ("compression-algo-priority", "lzs:lz4");

#[test]
fn packets_are_compressed_with_lz4() {
    for transport in [&["--compression=all"][..], &["--compression=all", "--no-dtls"]] {
        let cost = cost(&[ON], transport, Some("oc-lz4"));
        assert!(cost < PINGED / 2, "{cost}");
    }
}

#[test]
fn packets_are_compressed_with_lzs() {
    for transport in [&["--compression=all"][..], &["--compression=all", "--no-dtls"]] {
        let cost = cost(&[ON, LZS_FIRST], transport, Some("lzs"));
        assert!(cost < PINGED / 2, "{cost}");
    }
}

#[test]
fn packets_are_not_compressed_unless_both_want_it() {
    let off = cost(
        &[("compression", "false")],
        &["--compression=all", "--no-dtls"],
        None,
    );
    assert!(off > 2 * PINGED, "{off}");
    let not_asked = cost(&[ON], &["--compression=none", "--no-dtls"], None);
    assert!(not_asked > 2 * PINGED, "{not_asked}");
}

/// The server leaves short packets alone; the client does not ask it.
#[test]
fn short_packets_are_not_compressed() {
    let limit = ("no-compress-limit", "1400");
    let cost = cost(&[ON, limit], &["--compression=all", "--no-dtls"], Some("oc-lz4"));
    assert!(cost > PINGED && cost < PINGED * 3 / 2, "{cost}");
}
