//! `rx-data-per-sec` and `tx-data-per-sec`.

use std::time::Instant;

use culvert_lab::Make;

use crate::Scene;

/// Octets of one ping with its headers.
const PING: u32 = 1028;
/// Pings that a limit of [`LIMIT`] lets through in a second.
const PER_SECOND: u32 = 60_000 / PING;
const LIMIT: &str = "60000";
/// How long pings are sent.
const SECONDS: u32 = 3;

/// How many pings are answered while they are sent as fast as possible, and in how many seconds.
fn answered(scene: &Scene) -> (u32, u32) {
    let seconds = SECONDS.to_string();
    let begun = Instant::now();
    let mut command = scene.world.client.command("ping");
    command.args(["-n", "-f", "-q", "-w", &seconds, "-s", "1000", "10.99.1.1"]);
    let text = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
    let received = text.split(" received").next().unwrap().rsplit(' ').next();
    let received = received.unwrap().parse().unwrap_or_else(|_| panic!("{text}"));
    (received, begun.elapsed().as_secs_f64().ceil() as u32)
}

fn is_limited(option: &str, shown: &str, arguments: &[&str]) {
    let scene = Scene::new(Make::Culvert, &[(option, LIMIT)]);
    let client = scene.connect(Make::Real, arguments);
    scene.ping();
    let (answered, seconds) = answered(&scene);
    // A second's worth may have been saved up.
    let (least, most) = (SECONDS * PER_SECOND / 2, (seconds + 1) * PER_SECOND * 5 / 4);
    assert!(
        (least..=most).contains(&answered),
        "{option}: {answered} in {seconds} s\n{}",
        scene.logs(&client)
    );
    let (_, user) = scene.server.occtl(&["show", "user", "alice"]);
    assert!(user.contains(shown), "no {shown}: {user}");
}

#[test]
fn packets_from_clients_are_limited() {
    is_limited("rx-data-per-sec", "Limit RX: 60.0 kB/s", &[]);
    is_limited("rx-data-per-sec", "Limit RX: 60.0 kB/s", &["--no-dtls"]);
}

#[test]
fn packets_to_clients_are_limited() {
    is_limited("tx-data-per-sec", "Limit TX: 60.0 kB/s", &[]);
    is_limited("tx-data-per-sec", "Limit TX: 60.0 kB/s", &["--no-dtls"]);
}

/// Limits below 1000 are none.
#[test]
fn tiny_limits_are_no_limits() {
    let scene = Scene::new(
        Make::Culvert,
        &[("rx-data-per-sec", "999"), ("tx-data-per-sec", "999")],
    );
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    assert!(answered(&scene).0 > 10 * PER_SECOND);
}
