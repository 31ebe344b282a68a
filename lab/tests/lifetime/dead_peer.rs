//! Clients that vanish without a word: dead peer detection gives back what they had.

use culvert_lab::client::DEVICE;
use culvert_lab::{Client, ClientOptions, Make, wait};

use crate::{Scene, tunnels};

/// A pool with room for one client: the next one gets the address only if it is free.
const ONE_CLIENT: (&str, &str) = ("ipv4-network", "10.99.1.0/30");

/// A client whose process stands still.
fn a_stopped_client_is_forgotten(arguments: &[&str]) {
    let scene = Scene::new(Make::Culvert, &[ONE_CLIENT, ("dpd", "1")]);
    let mut client = scene.connect(Make::Real, arguments);
    scene.ping();
    let address = Client::inner_v4(&scene.world);
    client.process.signal("STOP");
    scene.ended(&client, "DPD timeout");
    assert_eq!(scene.cookies(), 1, "the client may come back");
    client.process.signal("KILL");
    assert_eq!(client.process.exit_code(), 128 + 9);
    wait::until("the end of its device", || {
        let devices = scene.world.client.interfaces();
        (!devices.iter().any(|name| name == DEVICE)).then_some(())
    });

    let options = ClientOptions {
        user: "bob",
        name: "next",
        ..ClientOptions::default()
    };
    let next = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", scene.logs(&next));
}

#[test]
fn a_stopped_client_is_forgotten_over_dtls() {
    a_stopped_client_is_forgotten(&[]);
}

#[test]
fn a_stopped_client_is_forgotten_over_tls() {
    a_stopped_client_is_forgotten(&["--no-dtls"]);
}

/// A client whose network is gone for a while comes back with its cookie and its address.
fn comes_back_after_a_dead_link(make: Make) {
    let scene = Scene::new(Make::Culvert, &[("dpd", "1")]);
    let mut client = scene.connect(make, &[]);
    scene.ping();
    let address = Client::inner_v4(&scene.world);
    let before = tunnels(&client);
    scene.world.client.ip("link set eth0 down");
    scene.ended(&client, "DPD timeout");
    scene.world.client.ip("link set eth0 up");
    wait::until(&format!("a reconnect\n{}", scene.logs(&client)), || {
        (tunnels(&client) > before).then_some(())
    });
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", scene.logs(&client));
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", scene.logs(&client));
}

#[test]
fn real_client_comes_back_after_a_dead_link() {
    comes_back_after_a_dead_link(Make::Real);
}

#[test]
fn our_client_comes_back_after_a_dead_link() {
    comes_back_after_a_dead_link(Make::Culvert);
}
