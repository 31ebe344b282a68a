//! The machine sleeps: logind says so, and the tunnel has a new connection at once. The stand-in for
//! logind is on a bus of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Make, Process, probe, wait};

use crate::Scene;

#[test]
fn after_a_sleep_there_is_a_new_connection() {
    let scene = Scene::new(Make::Real, &[("dpd", "300"), ("keepalive", "300")]);
    let address = format!("unix:path={}", scene.fixture.path("bus").display());
    let config = scene.fixture.write_file(
        "bus.conf",
        &format!(
            "<busconfig><type>custom</type><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow own=\"*\"/><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/></policy></busconfig>"
        ),
    );
    let mut bus = scene.world.client.command("dbus-daemon");
    bus.args(["--nofork", "--nopidfile", "--print-address", "--config-file"])
        .arg(&config);
    let mut bus = Process::start(bus, scene.fixture.dir(), "bus", None);
    bus.wait_for("unix:path=");
    let mut logind = scene.world.client.command(env!("CARGO_BIN_EXE_logind"));
    let mut logind = logind
        .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(logind.stdout.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert_eq!(ready, "ready\n");

    let options = ClientOptions {
        script: false,
        ..ClientOptions::default()
    };
    let mut command = Client::command(Make::Culvert, &scene.world, &scene.fixture, &options);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let input = format!("{}\n", options.input);
    let mut client = Process::start(command, scene.fixture.dir(), options.name, Some(&input));
    client.wait_for("Configured as");
    // The client may still be on its way to the bus: it is told until it has heard it.
    let mut bell = logind.stdin.take().unwrap();
    wait::until("the news of the sleep", || {
        writeln!(bell).unwrap();
        client
            .stdout()
            .contains("The machine was asleep; reconnecting")
            .then_some(())
    });
    wait::until("a new connection", || {
        let connected = client
            .stdout()
            .matches("Got CONNECT response: HTTP/1.1 200")
            .count();
        (connected >= 2).then_some(())
    });
    probe::ping(&scene.world.client, INNER_SERVER_V4.parse().unwrap());
    drop(bell);
    assert!(logind.wait().unwrap().success());
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
}
