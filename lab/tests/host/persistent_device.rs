//! A TUN device that somebody else made stays, as it was.

use culvert_lab::client::DEVICE;
use culvert_lab::process::kill;
use culvert_lab::{Make, Process, Resolved, probe, wait};

use crate::Scene;

/// Everything about the device that the client may change.
fn state(scene: &Scene) -> (String, String, (String, String)) {
    let host = &scene.world.client;
    let link = host.ip(&format!("-o link show {DEVICE}"));
    // Flags and MTU. The queueing discipline is another after the first use.
    let (link, _) = link.split_once(" qdisc ").unwrap();
    (
        link.to_owned(),
        host.ip(&format!("-o address show {DEVICE} scope global")),
        scene.network(),
    )
}

fn stays_as_it_was(end: impl Fn(&mut Process)) {
    let scene = Scene::new(Make::Real, &[]);
    scene
        .world
        .client
        .ip(&format!("tuntap add dev {DEVICE} mode tun"));
    scene.world.client.ip(&format!("link set {DEVICE} mtu 1450"));
    let resolved = Resolved::start(&scene.world.client, &scene.fixture);
    let before = state(&scene);
    let mut client = scene.connect(Some(&resolved), &[]);
    probe::ping(
        &scene.world.client,
        culvert_lab::fixture::INNER_SERVER_V4.parse().unwrap(),
    );
    wait::until("the tunnel's name server", || {
        resolved
            .ask(&["dns", DEVICE])
            .filter(|dns| dns.contains("10.99.1.1"))
    });
    end(&mut client);
    wait::until("the device as it was", || {
        let names = resolved.ask(&["dns", DEVICE])? + &resolved.ask(&["domain", DEVICE])?;
        let forgotten = !names.contains("10.99.1.1") && !names.contains("corp.test");
        (forgotten && state(&scene) == before).then_some(())
    });
}

#[test]
fn stays_as_it_was_after_sigint() {
    stays_as_it_was(|client| {
        client.signal("INT");
        assert_eq!(client.exit_code(), 0, "{}", client.output());
    });
}

#[test]
fn stays_as_it_was_after_sigkill() {
    stays_as_it_was(|client| {
        kill(client.pid(), "9");
        client.wait();
    });
}
