//! The client as a process: background, privileges, signals.

use std::fs;
use std::path::Path;

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::USER;
use culvert_lab::process::kill;
use culvert_lab::{Client, ClientOptions, Make, PASSWORD, Process, probe, wait};

use crate::Scene;

/// A process that is not our child; ended at the end of the test at the latest.
struct Stranger(u32);

impl Stranger {
    fn is_running(&self) -> bool {
        // The laboratory may be the reaper of its machine, so a zombie counts as gone.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.is_running() {
            kill(self.0, "9");
        }
    }
}

/// The first process says who goes on, and leaves; the other one heeds signals, and the pid file
/// lives as long as the tunnel.
fn background(client: Make, server: Make, signal: &str, farewell: &str) {
    let scene = Scene::new(server, &[]);
    let pid_file = scene.fixture.path("client.pid");
    let options = ClientOptions {
        arguments: &["--background", "--pid-file", &pid_file.display().to_string()],
        ..ClientOptions::default()
    };
    let parent = Client::run(client, &scene.world, &scene.fixture, &options);
    assert_eq!(parent.code, 0, "{}{}", parent.stdout, parent.stderr);
    let text = fs::read_to_string(&pid_file).unwrap();
    let child = Stranger(text.strip_suffix('\n').expect("a line").parse().unwrap());
    let word = format!("Continuing in background; pid {}", child.0);
    assert!(parent.stdout.contains(&word), "{}", parent.stdout);
    scene.ping();
    let address = Client::inner_v4(&scene.world);

    // The child goes on writing to the outputs of its parent.
    let said = || fs::read_to_string(scene.fixture.path("openconnect.out")).unwrap();
    kill(child.0, "USR1");
    wait::until("statistics", || said().contains("RX: ").then_some(()));
    kill(child.0, "USR2");
    wait::until("a new connection", || {
        let connections = said().matches("Got CONNECT response: HTTP/1.1 200").count();
        (connections == 2).then_some(())
    });
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", said());
    assert!(pid_file.exists() && child.is_running());

    kill(child.0, signal);
    wait::until("the end of the client", || (!child.is_running()).then_some(()));
    assert!(said().contains(farewell), "{}", said());
    assert!(!pid_file.exists());
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
    // Only SIGHUP leaves the session to a later run.
    let bye = said().contains("Send BYE packet");
    assert_eq!(bye, signal != "HUP", "{}", said());
}

const CANCELLED: &str = "User cancelled (SIGINT/SIGTERM); exiting.";
const DETACHED: &str = "User detached from session (SIGHUP); exiting.";

#[test]
fn real_client_in_the_background_until_sigterm() {
    background(Make::Real, Make::Culvert, "TERM", CANCELLED);
}

#[test]
fn real_client_in_the_background_until_sighup() {
    background(Make::Real, Make::Culvert, "HUP", DETACHED);
}

#[test]
fn our_client_in_the_background_until_sigterm() {
    background(Make::Culvert, Make::Real, "TERM", CANCELLED);
}

#[test]
fn our_client_in_the_background_until_sighup() {
    background(Make::Culvert, Make::Real, "HUP", DETACHED);
}

#[test]
fn our_client_in_the_background_until_sigint() {
    background(Make::Culvert, Make::Culvert, "INT", CANCELLED);
}

/// `--script-tun`: a program in the place of the device.
fn script_tun(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let ca = crate::ca(&scene);
    let environment = scene.fixture.path("environment");
    let script = format!(
        "exec bash -c 'env >{0}.part; mv {0}.part {0}; exec {1} <&$VPNFD'",
        environment.display(),
        env!("CARGO_BIN_EXE_reflect")
    );
    let script = scene
        .fixture
        .write_script("tunnel", &script)
        .display()
        .to_string();
    let arguments = [
        "--cafile",
        &ca,
        "--user",
        USER,
        "--passwd-on-stdin",
        "--script-tun",
        "--script",
        &script,
    ];
    let command = Client::bare(client, &scene.world, &arguments);
    let input = format!("{PASSWORD}\n");
    let mut process = Process::start(command, scene.fixture.dir(), "client", Some(&input));
    process.wait_for("Configured as");
    let variables = wait::until("the program", || fs::read_to_string(&environment).ok());
    assert!(variables.contains("VPNFD="), "{variables}");
    let value = |name: &str| {
        let line = variables
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in\n{variables}"))
            .to_owned()
    };
    let address = value("INTERNAL_IP4_ADDRESS");
    assert_eq!(value("CISCO_DEF_DOMAIN"), "corp.test");
    assert!(
        !variables.contains("\nTUNDEV=") && !variables.contains("\nreason="),
        "{variables}"
    );
    probe::ping(&scene.world.server, address.parse().unwrap());
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
    process.signal("INT");
    assert_eq!(process.exit_code(), 0, "{}", process.output());
}

#[test]
fn real_client_with_a_program_in_place_of_the_device() {
    script_tun(Make::Real, Make::Culvert);
}

#[test]
fn our_client_with_a_program_in_place_of_the_device() {
    script_tun(Make::Culvert, Make::Real);
}

/// `--setuid`: the tunnel runs without privileges, and our own set-up is undone all the same.
#[test]
fn our_client_as_another_user() {
    let scene = Scene::new(Make::Real, &[]);
    let before = (
        scene.world.client.routes(),
        fs::read_to_string(scene.world.client.resolv_conf()).unwrap(),
    );
    let options = ClientOptions {
        arguments: &["--setuid", "nobody"],
        script: false,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    scene.ping();
    let path = format!("/proc/{}/status", client.process.pid());
    wait::until("the loss of privileges", || {
        let status = fs::read_to_string(&path).unwrap();
        (status.contains("Uid:\t65534\t65534\t65534\t65534\n")
            && status.contains("CapEff:\t0000000000000000\n"))
        .then_some(())
    });
    scene.ping();
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
    wait::until("the old routes and names", || {
        let after = (
            scene.world.client.routes(),
            fs::read_to_string(scene.world.client.resolv_conf()).unwrap(),
        );
        (after == before).then_some(())
    });
}

/// USR1 prints statistics, USR2 makes a new connection, HUP leaves and keeps the cookie.
fn signals(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        ..ClientOptions::default()
    };
    let login = Client::run(client, &scene.world, &scene.fixture, &options);
    let (ca, cookie) = (crate::ca(&scene), login.stdout.trim());
    let script = "/usr/share/vpnc-scripts/vpnc-script";
    let arguments = ["--cafile", &ca, "--cookie", cookie, "--script", script];
    let start = |name: &str| {
        let command = Client::bare(client, &scene.world, &arguments);
        let mut process = Process::start(command, scene.fixture.dir(), name, None);
        process.wait_for("Configured as");
        process
    };
    let mut first = start("first");
    scene.ping();
    let address = Client::inner_v4(&scene.world);

    first.signal("USR1");
    first.wait_for("SSL ciphersuite: (TLS1.3)");
    let text = first.stdout();
    assert!(text.contains("RX: ") && text.contains(" packets ("), "{text}");

    first.signal("USR2");
    wait::until("a new connection", || {
        (first
            .stdout()
            .matches("Got CONNECT response: HTTP/1.1 200")
            .count()
            == 2)
            .then_some(())
    });
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", first.output());
    reconnects_on_demand(&scene, &mut first);

    first.signal("HUP");
    assert_eq!(first.exit_code(), 0, "{}", first.output());
    assert!(
        first
            .stdout()
            .contains("User detached from session (SIGHUP); exiting."),
        "{}",
        first.output()
    );
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);

    let mut second = start("second");
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", scene.server.log());
    second.signal("TERM");
    assert_eq!(second.exit_code(), 0, "{}", second.output());
    assert!(!Path::new("/sys/class/net").join(DEVICE).exists());
}

/// USR2 while the server cannot be reached begins the attempts again, with all of their time.
fn reconnects_on_demand(scene: &Scene, process: &mut Process) {
    scene.world.server.nft(
        "add table inet away; add chain inet away in { type filter hook input priority 0; }; \
         add rule inet away in tcp dport 443 reject with tcp reset",
    );
    for attempts in 1..=2 {
        process.signal("USR2");
        wait::until("a first pause", || {
            let text = process.stdout();
            (text.matches("sleep 10s, remaining timeout 300s").count() == attempts).then_some(())
        });
    }
    scene.world.server.nft("delete table inet away");
    process.signal("USR2");
    wait::until("another connection", || {
        let text = process.stdout();
        (text.matches("Got CONNECT response: HTTP/1.1 200").count() == 3).then_some(())
    });
    let text = process.stdout();
    assert!(!text.contains("sleep 20s"), "{text}");
    assert_eq!(text.matches("User requested reconnect").count(), 4, "{text}");
    scene.ping();
}

#[test]
fn signals_to_our_client_of_the_real_server() {
    signals(Make::Culvert, Make::Real);
}

#[test]
fn signals_to_the_real_client_of_our_server() {
    signals(Make::Real, Make::Culvert);
}

#[test]
fn signals_to_our_client_of_our_server() {
    signals(Make::Culvert, Make::Culvert);
}
