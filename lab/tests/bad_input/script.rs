//! Scripts that fail or hang, at both ends.

use std::fs;
use std::time::{Duration, Instant};

use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, World, wait};

use crate::Scene;

/// A script of the server that does `what` for bob and nothing for others.
const FOR_BOB: &str = "[ \"$USERNAME\" = bob ] || exit 0\n";

/// The connect script refuses bob: 401, no device, no address, nothing in the lists.
fn failing_connect_script(client: Make, server: Make) {
    let script = ("connect-script", "DIR/connect");
    let mut scene = Scene::with(server, &[script], |fixture| {
        fixture.write_script("connect", &format!("{FOR_BOB}exit 7"));
    });
    let refused = scene.login(client, &["--interface", "tunbob"], culvert_lab::PASSWORD);
    assert!(
        refused.stderr.contains("401"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let why = match server {
        Make::Real => "connect-script exit status: 7",
        Make::Culvert => "/connect failed: exit status: 7",
    };
    scene.server.wait_for_log(why, 1);
    scene.is_undisturbed();
    let (_, users) = scene.server.occtl(&["show", "users"]);
    assert!(!users.contains("bob"), "{users}");
}

#[test]
fn real_client_and_a_failing_connect_script_of_the_real_server() {
    failing_connect_script(Make::Real, Make::Real);
}

#[test]
fn real_client_and_a_failing_connect_script_of_our_server() {
    failing_connect_script(Make::Real, Make::Culvert);
}

#[test]
fn our_client_and_a_failing_connect_script_of_our_server() {
    failing_connect_script(Make::Culvert, Make::Culvert);
}

/// The connect script hangs for bob: others log in and pass packets, bob can give up, and the
/// server's end is the script's end.
#[test]
fn a_hanging_connect_script_of_our_server() {
    let script = ("connect-script", "DIR/connect");
    let mut scene = Scene::with(Make::Culvert, &[script], |fixture| {
        let pid = fixture.path("script.pid").display().to_string();
        fixture.write_script("connect", &format!("{FOR_BOB}echo $$ >{pid}\nexec sleep 1000"));
    });
    let options = ClientOptions {
        user: "bob",
        name: "bob",
        arguments: &["--interface", "tunbob"],
        ..ClientOptions::default()
    };
    let mut bob = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    let file = scene.fixture.path("script.pid");
    let script = wait::until("the script", || {
        fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok()
    });
    let login = scene.login(Make::Real, &["--cookieonly"], culvert_lab::PASSWORD);
    assert_eq!(login.code, 0, "{}", login.stderr);
    culvert_lab::probe::ping(
        &scene.world.client,
        culvert_lab::fixture::INNER_SERVER_V4.parse().unwrap(),
    );
    bob.process.signal("INT");
    bob.process.wait();

    scene.server.process.signal("TERM");
    assert_eq!(scene.server.process.exit_code(), 0, "{}", scene.server.log());
    wait::until("the end of the script", || {
        (!fs::exists(format!("/proc/{script}")).unwrap()).then_some(())
    });
    assert_eq!(scene.world.server.interfaces(), ["lo", "eth0"]);
}

/// A script of the client that fails at each of its occasions: one line for each, and the session
/// goes on.
fn failing_script(client: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start(Make::Real, &world, &fixture);
    let script = fixture.write_script("script", "exit 3").display().to_string();
    let options = ClientOptions {
        script: false,
        arguments: &["--script", &script],
        ..ClientOptions::default()
    };
    let mut client = Client::launch(client, &world, &fixture, &options);
    client.process.wait_for("Configured as");
    client
        .process
        .wait_for(&format!("Script '{script}' returned error 3"));
    let failures = |client: &Client| client.process.output().matches("returned error 3").count();
    wait::until("the script", || (failures(&client) == 2).then_some(()));
    client.process.signal("USR2");
    wait::until("the script", || (failures(&client) == 4).then_some(()));
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    assert_eq!(failures(&client), 5, "{}", client.process.output());
    assert_eq!(world.client.interfaces(), ["lo", "eth0"]);
}

#[test]
fn real_client_with_a_script_that_fails() {
    failing_script(Make::Real);
}

#[test]
fn our_client_with_a_script_that_fails() {
    failing_script(Make::Culvert);
}

/// SIGUSR2 while the connect script runs is obeyed when it has ended.
fn reconnect_during_the_script(client: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start(Make::Real, &world, &fixture);
    let gate = fixture.path("gate");
    let body = format!(
        "echo \"$reason;\"\n[ \"$reason\" = connect ] || exit 0\nuntil [ -e {} ]; do sleep 0.05; done",
        gate.display()
    );
    let script = fixture.write_script("script", &body).display().to_string();
    let options = ClientOptions {
        script: false,
        arguments: &["--script", &script],
        ..ClientOptions::default()
    };
    let mut client = Client::launch(client, &world, &fixture, &options);
    client.process.wait_for("\nconnect;");
    client.process.signal("USR2");
    fs::write(gate, "").unwrap();
    client.process.wait_for("\nreconnect;");
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

#[test]
fn real_client_reconnects_after_the_script() {
    reconnect_during_the_script(Make::Real);
}

#[test]
fn our_client_reconnects_after_the_script() {
    reconnect_during_the_script(Make::Culvert);
}

/// A script of the client that hangs at any of its occasions: the client can be ended all the same,
/// and so is the script.
#[test]
fn our_client_with_a_script_that_hangs() {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start(Make::Real, &world, &fixture);
    let (pid, said) = (fixture.path("script.pid"), fixture.path("script.said"));
    for reason in [
        "pre-init",
        "connect",
        "attempt-reconnect",
        "reconnect",
        "disconnect",
    ] {
        for file in [&pid, &said] {
            fs::write(file, "").unwrap();
        }
        let body = format!(
            "echo \"$reason;\" >>{}\n[ \"$reason\" = {reason} ] || exit 0\necho $$ >{}\nexec sleep 1000",
            said.display(),
            pid.display()
        );
        let script = fixture.write_script("script", &body).display().to_string();
        let options = ClientOptions {
            script: false,
            arguments: &["--script", &script],
            ..ClientOptions::default()
        };
        let mut client = Client::launch(Make::Culvert, &world, &fixture, &options);
        if let Some(signal) = match reason {
            "pre-init" | "connect" => None,
            "disconnect" => Some("INT"),
            _ => Some("USR2"),
        } {
            wait::until("the tunnel", || {
                fs::read_to_string(&said)
                    .unwrap()
                    .contains("\nconnect;")
                    .then_some(())
            });
            client.process.signal(signal);
        }
        let pid = wait::until(&format!("the script at {reason}"), || {
            fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok()
        });
        let begin = Instant::now();
        // The second signal says that the script's ten seconds are too long.
        wait::until("the end of the client", || {
            if !client.process.is_running() {
                return Some(());
            }
            client.process.signal("INT");
            None
        });
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{}",
            client.process.output()
        );
        assert_eq!(
            client.process.exit_code(),
            0,
            "{reason}: {}",
            client.process.output()
        );
        wait::until("the end of the script", || {
            (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(())
        });
        assert_eq!(world.client.interfaces(), ["lo", "eth0"], "{reason}");
    }
}
