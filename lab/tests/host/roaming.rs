//! The client's network changes under a tunnel that takes everything. Dead peer detection is too
//! slow to have a part in this.

use std::fs;
use std::time::{Duration, Instant};

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Client, Make, Process, probe, wait};

use crate::Scene;

/// Everything goes into the tunnel; dead peers are noticed after ten minutes.
const OPTIONS: [(&str, &str); 3] = [("route", "default"), ("dpd", "300"), ("keepalive", "300")];

/// Longest time until packets pass again, where an attempt to reconnect would be made at last: less than 2 s,
/// and what a busy machine adds.
const BEFORE_THE_NEXT_ATTEMPT: Duration = Duration::from_secs(10);

fn ping(scene: &Scene) {
    probe::ping(&scene.world.client, INNER_SERVER_V4.parse().unwrap());
}

fn connections(client: &Process) -> usize {
    client.stdout().matches("CSTP connected.").count()
}

/// Waits for the tunnel to carry packets over a new connection.
fn is_back(scene: &Scene, client: &Process, connections_then: usize) {
    is_back_within(wait::PATIENCE, scene, client, connections_then);
}

fn is_back_within(limit: Duration, scene: &Scene, client: &Process, connections_then: usize) {
    let since = Instant::now();
    wait::until_within(limit, &format!("the tunnel\n{}", client.output()), || {
        let inner = INNER_SERVER_V4.parse().unwrap();
        (connections(client) == connections_then && probe::answers(&scene.world.client, inner)).then_some(())
    });
    println!("back after {:?}", since.elapsed());
}

fn end(scene: &Scene, mut client: Process, before: &(String, String)) {
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert_eq!(scene.network().1, before.1);
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
}

/// Another address: a new connection with the same session, at once; and back to the first one.
fn another_address(server: Make) {
    let scene = Scene::new(server, &OPTIONS);
    let before = scene.network();
    // Also for a client that has given up its privileges.
    let client = scene.connect(None, &["--setuid", "nobody"]);
    ping(&scene);
    let inner = Client::inner_v4(&scene.world);
    let host = &scene.world.client;
    for (from, to, connections) in [("192.0.2.2", "192.0.2.77", 2), ("192.0.2.77", "192.0.2.2", 3)] {
        host.ip(&format!("address delete {from}/24 dev eth0"));
        host.ip(&format!("address add {to}/24 dev eth0"));
        is_back(&scene, &client, connections);
        assert_eq!(Client::inner_v4(&scene.world), inner);
        let route = host.ip(&format!("route get {SERVER_V4}"));
        assert!(route.contains("dev eth0") && route.contains(to), "{route}");
    }
    end(&scene, client, &before);
}

#[test]
fn another_address_with_the_real_server() {
    another_address(Make::Real);
}

#[test]
fn another_address_with_our_server() {
    another_address(Make::Culvert);
}

/// The link goes away for a while and comes back with another address, as when a laptop is carried
/// to another room.
#[test]
fn away_and_back() {
    let scene = Scene::new(Make::Culvert, &OPTIONS);
    let before = scene.network();
    let client = scene.connect(None, &[]);
    ping(&scene);
    let host = &scene.world.client;
    host.ip("link set eth0 down");
    host.ip("address delete 192.0.2.2/24 dev eth0");
    // The order to reconnect finds no network: the client waits for the next attempt.
    client.signal("USR2");
    wait::until(&format!("the pause\n{}", client.output()), || {
        client.stdout().contains("sleep 10s").then_some(())
    });
    host.ip("address add 192.0.2.78/24 dev eth0");
    // The DHCP client of the new network has its own name server, and a default route that replaces
    // the one into the tunnel.
    fs::write(host.resolv_conf(), "nameserver 192.0.2.153\n").unwrap();
    host.ip("link set eth0 up");
    host.ip("route replace default via 192.0.2.254 dev eth0");
    is_back_within(BEFORE_THE_NEXT_ATTEMPT, &scene, &client, 2);
    wait::until("the tunnel's names and routes", || {
        let resolver = scene.network().1;
        let ours = resolver.contains("nameserver 10.99.1.1\n") && !resolver.contains("192.0.2.153");
        let far = host.ip("route get 203.0.113.1");
        (ours && far.contains(culvert_lab::client::DEVICE)).then_some(())
    });
    let before = (before.0, "nameserver 192.0.2.153\n".to_owned());
    end(&scene, client, &before);
    assert!(
        host.routes().contains("default via 192.0.2.254 dev eth0"),
        "{}",
        host.routes()
    );
}

/// The same link and address again: the connection goes on.
#[test]
fn the_same_network_again() {
    let scene = Scene::new(Make::Real, &OPTIONS);
    let before = scene.network();
    let client = scene.connect(None, &[]);
    ping(&scene);
    let host = &scene.world.client;
    host.ip("link set eth0 down");
    host.ip("link set eth0 up");
    is_back(&scene, &client, 1);
    let route = host.ip(&format!("route get {SERVER_V4}"));
    assert!(route.contains("dev eth0"), "{route}");
    end(&scene, client, &before);
}

/// A tunnel for all of IPv4 without IPv6: what the host reaches by IPv6 beyond its link is
/// unreachable while the tunnel is up.
#[test]
fn ipv6_does_not_pass_the_tunnel_by() {
    let scene = Scene::new(Make::Real, &OPTIONS);
    let (client_host, server_host) = (&scene.world.client, &scene.world.server);
    server_host.ip("address add 2001:db8:ffff::1/128 dev lo");
    client_host.ip("-6 route add default via 2001:db8::1 dev eth0");
    let far = "2001:db8:ffff::1".parse().unwrap();
    probe::ping(client_host, far);
    let before = scene.network();
    let client = scene.connect(None, &["--disable-ipv6"]);
    ping(&scene);
    scene.is_configured(&client);
    assert!(!probe::answers(client_host, far), "{}", client_host.routes());
    end(&scene, client, &before);
    assert_eq!(scene.network(), before);
    probe::ping(client_host, far);
}
