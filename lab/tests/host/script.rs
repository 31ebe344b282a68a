//! Debian's vpnc-script and our own set-up lead to the same network.

use culvert_lab::client::DEVICE;
use culvert_lab::{Client, ClientOptions, Make, Process};

use crate::Scene;

/// Where packets to these addresses go, what the device has, and the resolver.
fn result(scene: &Scene, addresses: &[&str]) -> Vec<String> {
    let host = &scene.world.client;
    let mut result: Vec<String> = addresses
        .iter()
        .map(|address| {
            let route = host.ip(&format!("route get {address}"));
            let words: Vec<&str> = route.split_whitespace().collect();
            let value = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied();
            format!(
                "{address} {:?} {:?} {:?}",
                value("via"),
                value("dev"),
                value("src")
            )
        })
        .collect();
    let device = host.ip(&format!("-o address show dev {DEVICE} scope global"));
    // The index of the device, and `peer` with the address itself, which says nothing.
    let fields = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().skip(2);
        words.map(str::to_owned).take(2).collect()
    };
    result.extend(device.lines().map(|line| fields(line).join(" ")));
    let link = host.ip(&format!("-o link show dev {DEVICE}"));
    let mtu = link.split_whitespace().skip_while(|word| *word != "mtu").nth(1);
    result.push(format!("mtu {mtu:?} up {}", link.contains(",UP")));
    let (_, resolver) = scene.network();
    result.extend(resolver.lines().map(str::to_owned));
    result
}

fn both_ways(overrides: &[(&str, &str)], addresses: &[&str]) {
    let scene = Scene::new(Make::Real, overrides);
    let host = &scene.world.client;
    host.ip("route add default via 192.0.2.1 metric 100");
    host.ip("-6 route add default via 2001:db8::1 metric 1024");
    let before = scene.everything();
    let [by_script, by_ourselves] = [true, false].map(|script| {
        let options = ClientOptions {
            script,
            ..ClientOptions::default()
        };
        let command = Client::command(Make::Culvert, &scene.world, &scene.fixture, &options);
        let input = format!("{}\n", options.input);
        let mut client = Process::start(command, scene.fixture.dir(), options.name, Some(&input));
        client.wait_for("Configured as");
        scene.is_configured(&client);
        // MTU and the rest are final once a packet has passed.
        culvert_lab::probe::ping(host, culvert_lab::fixture::INNER_SERVER_V4.parse().unwrap());
        let result = result(&scene, addresses);
        client.signal("INT");
        assert_eq!(client.exit_code(), 0, "{}", client.output());
        if script {
            // The script copies every route that leads to the gateway, and leaves one behind.
            host.ip("route flush 192.0.2.1/32");
        }
        assert_eq!(scene.everything(), before);
        result
    });
    assert_eq!(by_ourselves, by_script);
}

#[test]
fn some_networks_by_script_and_by_ourselves() {
    let overrides = [
        ("route", "10.99.1.0/24"),
        ("route", "10.20.0.0/16"),
        ("route", "fd99:1::/64"),
        ("route", "fd20::/48"),
        ("no-route", "10.20.30.0/24"),
        ("dns", "10.99.1.1"),
        ("dns", "fd99:1::1"),
    ];
    let addresses = [
        "192.0.2.1",
        "10.99.1.1",
        "10.20.1.1",
        "10.20.30.1",
        "203.0.113.1",
        "fd99:1::1",
        "fd20::1",
        "2001:db8:ffff::1",
    ];
    both_ways(&overrides, &addresses);
}

#[test]
fn everything_by_script_and_by_ourselves() {
    let overrides = [("route", "default"), ("no-route", "198.51.100.0/24")];
    let addresses = [
        "192.0.2.1",
        "192.0.2.9",
        "10.99.1.1",
        "198.51.100.7",
        "203.0.113.1",
        "fd99:1::1",
    ];
    both_ways(&overrides, &addresses);
}
