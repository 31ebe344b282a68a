//! `listen-host-is-dyndns`: after a change of the server's address its clients find it again.

use std::fs;

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::{PASSWORD, SERVER_NAME, USER};
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Make, Process, World, wait};

use crate::Scene;

const NEW_ADDRESS: &str = "192.0.2.9";

/// Tells the client host where the server is; `ip netns exec` shows it this file as `/etc/hosts`.
fn name_server(world: &World, address: &str) {
    let hosts = world.client.resolv_conf().with_file_name("hosts");
    fs::write(hosts, format!("127.0.0.1 localhost\n{address} {SERVER_NAME}\n")).unwrap();
}

/// The addresses of the server that the client's host has TCP connections with.
fn connected_to(world: &World) -> String {
    world.client.run("ss", &["-Htn", "state", "established"])
}

fn finds_the_server_again(make: Make, dynamic: bool) {
    let scene = Scene::new(
        Make::Culvert,
        &[("listen-host-is-dyndns", if dynamic { "true" } else { "false" })],
    );
    name_server(&scene.world, SERVER_V4);
    let mut command = scene.world.client.command(make.program("openconnect"));
    command
        .arg("--cafile")
        .arg(scene.fixture.path("ca.pem"))
        .args(["--user", USER, "--passwd-on-stdin", "--interface", DEVICE])
        .args(["--script", "/usr/share/vpnc-scripts/vpnc-script"])
        .arg(format!("https://{SERVER_NAME}/"));
    let input = format!("{PASSWORD}\n");
    let mut client = Process::start(command, scene.fixture.dir(), "client", Some(&input));
    client.wait_for("Configured as");
    scene.ping();
    assert!(connected_to(&scene.world).contains(&format!("{SERVER_V4}:443")));

    scene
        .world
        .server
        .ip(&format!("address add {NEW_ADDRESS}/24 dev eth0"));
    name_server(&scene.world, NEW_ADDRESS);
    client.signal("USR2");
    wait::until(&format!("a reconnect\n{}", client.output()), || {
        (client
            .stdout()
            .matches("Got CONNECT response: HTTP/1.1 200")
            .count()
            == 2)
            .then_some(())
    });
    scene.ping();
    let (expected, other) = if dynamic {
        (NEW_ADDRESS, SERVER_V4)
    } else {
        (SERVER_V4, NEW_ADDRESS)
    };
    let connections = connected_to(&scene.world);
    assert!(
        connections.contains(&format!("{expected}:443")) && !connections.contains(&format!("{other}:443")),
        "{connections}\n{}",
        client.output()
    );
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
}

#[test]
fn real_client_finds_a_server_with_a_dynamic_name() {
    finds_the_server_again(Make::Real, true);
}

#[test]
fn our_client_finds_a_server_with_a_dynamic_name() {
    finds_the_server_again(Make::Culvert, true);
}

#[test]
fn clients_stay_with_the_address_of_a_server_with_a_fixed_name() {
    finds_the_server_again(Make::Real, false);
}
