//! `ping-leases`: addresses that somebody has are left alone.

use culvert_lab::{Client, Make};

use crate::Scene;

/// The address that alice gets by her name.
const USUAL: &str = "10.99.1.50";

#[test]
fn an_address_that_answers_is_not_leased() {
    let scene = Scene::new(Make::Culvert, &[("ping-leases", "true")]);
    let mut first = scene.connect(Make::Real, &[]);
    scene.ping();
    assert_eq!(Client::inner_v4(&scene.world).to_string(), USUAL, "nobody has it");
    first.process.signal("INT");
    assert_eq!(first.process.exit_code(), 0, "{}", scene.logs(&first));
    scene.server.wait_until_alone();

    scene.world.server.ip(&format!("address add {USUAL}/32 dev lo"));
    let mut second = scene.connect(Make::Real, &[]);
    scene.ping();
    let other = Client::inner_v4(&scene.world).to_string();
    assert_ne!(other, USUAL, "{}", scene.logs(&second));
    let line = format!("somebody else has the address {USUAL}");
    assert!(scene.server.log().contains(&line), "{}", scene.logs(&second));

    // A reconnect keeps its address, though it answers now.
    second.process.signal("USR2");
    second.process.wait_for("User requested reconnect");
    culvert_lab::wait::until(&scene.logs(&second), || {
        let times = second
            .process
            .stdout()
            .matches("Got CONNECT response: HTTP/1.1 200")
            .count();
        (times == 2).then_some(())
    });
    scene.ping();
    assert_eq!(
        Client::inner_v4(&scene.world).to_string(),
        other,
        "{}",
        scene.logs(&second)
    );
}
