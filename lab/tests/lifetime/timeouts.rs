//! `idle-timeout`, `mobile-idle-timeout`, `session-timeout`.

use std::time::{Duration, Instant};

use culvert_lab::{Client, Make, Process};

use crate::{Scene, terminated, tunnels};

/// Sends a datagram of the user into the tunnel every 200 ms.
fn user_data(scene: &Scene, datagrams: u32) {
    let script = format!("for i in $(seq {datagrams}); do echo . >/dev/udp/10.99.1.1/9; sleep 0.2; done");
    scene.world.client.run("bash", &["-c", &script]);
}

/// Pings every 200 ms until it is dropped. They are no user data.
fn pings(scene: &Scene) -> Process {
    let mut command = scene.world.client.command("ping");
    command.args(["-n", "-i", "0.2", "10.99.1.1"]);
    Process::start(command, scene.fixture.dir(), "ping", None)
}

fn ends_when_idle(client: Make, arguments: &[&str]) {
    let scene = Scene::new(
        Make::Culvert,
        &[("idle-timeout", "5"), ("mobile-idle-timeout", "5")],
    );
    let mut client = scene.connect(client, arguments);
    let _no_user_data = pings(&scene);
    user_data(&scene, 35);
    assert!(client.process.is_running(), "{}", scene.logs(&client));
    terminated(&mut client);
    scene.ended(&client, "idle timeout");
    let status = scene.status();
    assert_eq!(status["Timed out (idle) sessions"], 1, "{status}");
    assert_eq!(scene.cookies(), 1, "an idle session may come back");
}

#[test]
fn real_client_ends_when_idle() {
    ends_when_idle(Make::Real, &[]);
}

#[test]
fn our_client_ends_when_idle() {
    ends_when_idle(Make::Culvert, &["--no-dtls"]);
}

/// Mobile clients have their own limit.
#[test]
fn mobile_clients_have_their_own_idle_timeout() {
    let scene = Scene::new(
        Make::Culvert,
        &[("idle-timeout", "2"), ("mobile-idle-timeout", "6")],
    );
    let begun = Instant::now();
    let mut client = scene.connect(Make::Real, &["--os", "android"]);
    terminated(&mut client);
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "{}",
        scene.logs(&client)
    );
    scene.ended(&client, "idle timeout");
}

/// The time counts from the login: a new connection does not start it again.
fn ends_when_its_time_is_up(make: Make) {
    let limit = Duration::from_secs(10);
    let scene = Scene::new(Make::Culvert, &[("session-timeout", "10"), ("dpd", "60")]);
    let options = culvert_lab::ClientOptions {
        arguments: &["--cookieonly"],
        ..culvert_lab::ClientOptions::default()
    };
    let login = Client::run(make, &scene.world, &scene.fixture, &options);
    let logged_in = Instant::now();
    let cookie = login.stdout.trim().to_owned();
    let mut client = scene.connect(make, &["--cookie", &cookie]);
    std::thread::sleep((limit / 2).saturating_sub(logged_in.elapsed()));
    client.process.signal("USR2");
    let again = Instant::now();
    terminated(&mut client);
    assert_eq!(tunnels(&client), 2, "{}", scene.logs(&client));
    assert!(again.elapsed() < limit, "{}", scene.logs(&client));
    scene.ended(&client, "session timeout");
    assert_eq!(scene.cookies(), 0, "the session is over for good");
    let options = culvert_lab::ClientOptions {
        arguments: &["--cookie", &cookie],
        ..options
    };
    let refused = Client::run(make, &scene.world, &scene.fixture, &options);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("401"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert_eq!(scene.status()["Timed out sessions"], 1);
}

#[test]
fn real_client_ends_when_its_time_is_up() {
    ends_when_its_time_is_up(Make::Real);
}

#[test]
fn our_client_ends_when_its_time_is_up() {
    ends_when_its_time_is_up(Make::Culvert);
}
