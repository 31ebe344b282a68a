//! The host's network without a script: what vpnc-script does, and back exactly.

use std::fs;

use culvert_lab::process::kill;
use culvert_lab::{Client, ClientOptions, Make, World, wait};

use crate::Scene;

/// Routes and resolver configuration.
fn network(world: &World) -> (String, String) {
    (
        world.client.routes(),
        fs::read_to_string(world.client.resolv_conf()).unwrap(),
    )
}

fn connect(scene: &Scene) -> Client {
    let options = ClientOptions {
        script: false,
        ..ClientOptions::default()
    };
    let client = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    scene.ping();
    wait::until("the tunnel's name server", || {
        let resolver = network(&scene.world).1;
        (resolver.contains("nameserver 10.99.1.1\n") && resolver.contains("corp.test")).then_some(())
    });
    client
}

#[test]
fn the_network_is_as_before_after_sigint() {
    let scene = Scene::new(Make::Real);
    let before = network(&scene.world);
    let mut client = connect(&scene);
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    assert_eq!(network(&scene.world), before);
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
}

#[test]
fn the_network_is_as_before_after_sigkill() {
    let scene = Scene::new(Make::Real);
    let before = network(&scene.world);
    let mut client = connect(&scene);
    kill(client.process.pid(), "9");
    client.process.wait();
    wait::until("the old routes and names", || {
        (network(&scene.world) == before).then_some(())
    });
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
    // And a new client finds nothing in its way.
    let mut again = connect(&scene);
    again.process.signal("INT");
    assert_eq!(again.process.exit_code(), 0, "{}", again.process.output());
    assert_eq!(network(&scene.world), before);
}
