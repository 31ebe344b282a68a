//! What is wrong on the host itself: the configuration, the port, the TUN device.

use std::process::Command;

use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, Process, Server, ServerOptions, World, probe, wait,
};

use crate::Scene;

/// Runs the server's check of a configuration that is good but for `lines` at its end.
pub(crate) fn check(server: Make, fixture: &Fixture, lines: &str) -> Finished {
    let config = fixture.write_file("bad.conf", &(fixture.ocserv_conf(&[]) + lines));
    let mut command = Command::new(server.program("ocserv"));
    command.args(["-f", "-t", "-c"]).arg(config);
    Process::start(command, fixture.dir(), "check", None).finish()
}

/// Neither server starts; ours says what is wrong and where.
#[test]
fn configurations_with_errors() {
    let fixture = Fixture::new();
    let line = fixture.ocserv_conf(&[]).lines().count() + 1;
    for (lines, message) in [
        ("rekey-method = sometimes\n", "unknown rekey method 'sometimes'"),
        ("auth = pam\n", "you cannot mix multiple authentication methods"),
    ] {
        let real = check(Make::Real, &fixture, lines);
        let ours = check(Make::Culvert, &fixture, lines);
        assert_eq!(real.code, 1, "{lines}: {}", real.stderr);
        assert_eq!(ours.code, 1, "{lines}: {}", ours.stderr);
        let errors: Vec<&str> = ours
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        let place = format!("line {line} ({})", fixture.path("bad.conf").display());
        assert!(
            errors.iter().any(|error| error.contains(message))
                && errors.iter().any(|error| error.contains(&place)),
            "{lines}: {}",
            ours.stderr
        );
    }
    let none = fixture.path("none.conf");
    for server in [Make::Real, Make::Culvert] {
        let mut command = Command::new(server.program("ocserv"));
        command.arg("-f").arg("-c").arg(&none);
        let missing = Process::start(command, fixture.dir(), "missing", None).finish();
        assert_eq!(missing.code, 1);
        let expected = format!("error: cannot access config file: {}", none.display());
        assert!(missing.stderr.contains(&expected), "{}", missing.stderr);
    }
}

/// A second server on the same port says so and ends; the first one serves on.
fn occupied_port(server: Make) {
    let mut scene = Scene::new(server);
    let fixture = Fixture::new();
    let second = Server::launch(server, &scene.world, &fixture, &ServerOptions::default());
    let second = second.process.finish();
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(
        second.stderr.contains("Could not listen to any TCP"),
        "{}",
        second.stderr
    );
    assert!(!fixture.path("occtl.sock").exists());
    assert!(!fixture.path("ocserv.pid").exists());
    scene.is_undisturbed();
}

#[test]
fn the_real_server_on_an_occupied_port() {
    occupied_port(Make::Real);
}

#[test]
fn our_server_on_an_occupied_port() {
    occupied_port(Make::Culvert);
}

/// A command in a mount namespace of its own in which there is no TUN device.
fn without_tun(command: &Command) -> Command {
    let arguments: Vec<_> = command.get_args().collect();
    // `ip netns exec NAME PROGRAM ...`
    let (place, program) = arguments.split_at(3);
    let mut hidden = Command::new(command.get_program());
    hidden
        .args(place)
        .args(["unshare", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /dev/net && exec \"$@\"")
        .arg("sh")
        .args(program);
    hidden
}

/// The login works, the tunnel is refused with one line in the log, the next login works, too.
#[test]
fn our_server_without_a_tun_device() {
    let world = World::new();
    let fixture = Fixture::new();
    let config = fixture.write_file("ocserv.conf", &fixture.ocserv_conf(&[]));
    let mut command = world.server.command(Make::Culvert.program("ocserv"));
    command.args(["-f", "-d", "3", "--log-stderr", "-c"]).arg(config);
    let mut server = Process::start(without_tun(&command), fixture.dir(), "ocserv", None);
    server.wait_for("listening (TCP) on [::]:443");
    for client in [Make::Real, Make::Culvert] {
        let refused = Client::run(client, &world, &fixture, &ClientOptions::default());
        assert_eq!(refused.code, 1, "{}{}", refused.stdout, server.output());
        let said = refused.stdout + &refused.stderr;
        assert!(
            said.contains("VPN service unavailable; reason: Server error"),
            "{said}{}",
            server.output()
        );
        assert_eq!(world.client.interfaces(), ["lo", "eth0"]);
    }
    server.wait_for("Failed to open tun device: No such file or directory");
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        ..ClientOptions::default()
    };
    let login = Client::run(Make::Real, &world, &fixture, &options);
    assert_eq!(login.code, 0, "{}{}", login.stderr, server.output());
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0, "{}", server.output());
}

/// The client says why, logs out and ends.
fn client_without_a_tun_device(client: Make) {
    let mut scene = Scene::new(Make::Real);
    let options = ClientOptions {
        user: "bob",
        name: "without",
        // vpnc-script would make the device file.
        script: false,
        arguments: &["--interface", "tunnone", "--script", "/bin/true"],
        ..ClientOptions::default()
    };
    let command = Client::command(client, &scene.world, &scene.fixture, &options);
    let input = format!("{}\n", options.input);
    let process = Process::start(
        without_tun(&command),
        scene.fixture.dir(),
        "without",
        Some(&input),
    );
    let failed = process.finish();
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    assert!(
        failed.stderr.contains("Failed to open tun device"),
        "{}",
        failed.stderr
    );
    assert!(
        failed.stderr.contains("Set up tun device failed"),
        "{}",
        failed.stderr
    );
    scene.is_undisturbed();
}

#[test]
fn real_client_without_a_tun_device() {
    client_without_a_tun_device(Make::Real);
}

#[test]
fn our_client_without_a_tun_device() {
    client_without_a_tun_device(Make::Culvert);
}

/// A configuration that breaks while the server runs: it says so and goes on with the old one.
#[test]
fn our_server_survives_a_reload_of_a_broken_configuration() {
    let mut scene = Scene::new(Make::Culvert);
    let broken = scene.fixture.ocserv_conf(&[]) + "rekey-method = sometimes\n";
    scene.fixture.write_file("ocserv.conf", &broken);
    scene.server.process.signal("HUP");
    scene.server.process.wait_for("unknown rekey method 'sometimes'");
    let (code, _) = scene.server.occtl(&["reload"]);
    assert_eq!(code, 0);
    wait::until("the second complaint", || {
        let log = scene.server.log();
        (log.matches("unknown rekey method 'sometimes'").count() >= 2).then_some(())
    });
    probe::ping(
        &scene.world.client,
        culvert_lab::fixture::INNER_SERVER_V4.parse().unwrap(),
    );
    scene.is_undisturbed();
}
