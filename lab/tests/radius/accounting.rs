//! Settings of the session from the login, and what is accounted of it.

use culvert_lab::{Make, wait};
use serde_json::Value;

use crate::Scene;
use crate::freeradius::Record;

fn user(scene: &Scene) -> Value {
    let (code, text) = scene.server.occtl(&["-j", "show", "users"]);
    assert_eq!(code, 0, "{text}");
    let users: Value = serde_json::from_str(&text).unwrap();
    users[0].clone()
}

/// A session with all settings, from its Start to the Stop after the client's farewell.
fn session(server: Make, client: Make) {
    let scene = Scene::new(server, "", true, &[("stats-report-time", "600")]);
    let client = scene.connect(client, "full");
    wait::until("the session in occtl", || {
        (user(&scene)["IPv4"] == "10.77.5.5").then_some(())
    });
    let shown = user(&scene);
    assert_eq!(shown["Groupname"], "grp1");
    assert_eq!(shown["IPv6"], "2001:db8::77");
    let list = |name: &str| shown[name].to_string();
    // The real server forgets the IPv4 ones for it.
    assert!(list("DNS").contains("2001:db8::53"), "{shown}");
    assert!(list("Routes").contains("10.55.0.0/"), "{shown}");
    if server == Make::Culvert {
        assert!(list("Routes").contains("2001:db8:55::/64"), "{shown}");
        assert!(list("DNS").contains("192.0.2.53"), "{shown}");
    }

    let start = scene.records("Start", 1).remove(0);
    assert_eq!(start.get("User-Name"), "full");
    assert_eq!(start.get("NAS-Identifier"), "mynas");
    assert_eq!(start.get("NAS-IP-Address"), "192.0.2.1");
    assert_eq!(start.get("Calling-Station-Id"), "192.0.2.2");
    let id = start.get("Acct-Session-Id").to_owned();
    if server == Make::Culvert {
        assert_eq!(start.get("Framed-IP-Address"), "10.77.5.5");
        assert_eq!(start.get("Framed-IPv6-Address"), "2001:db8::77");
        assert_eq!(start.get("Called-Station-Id"), "default");
        // An idle session is told of, too.
        let updates = scene.records("Interim-Update", 2);
        assert!(updates.iter().all(|update| update.get("Acct-Session-Id") == id));
    }
    client.process.signal("INT");
    drop(client);
    let stop = scene.records("Stop", 1).remove(0);
    assert_eq!(stop.get("Acct-Session-Id"), id);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "User-Request");
    assert_eq!(stop.get("Framed-IP-Address"), "10.77.5.5");
    for name in ["Acct-Input-Octets", "Acct-Output-Octets", "Acct-Input-Gigawords"] {
        stop.number(name);
    }
    assert_eq!(of(&scene, "Start").len(), 1);
}

fn of(scene: &Scene, kind: &str) -> Vec<Record> {
    let mut records = scene.radius.records();
    records.retain(|record| record.value("Acct-Status-Type") == Some(kind));
    records
}

#[test]
fn session_of_the_real_client() {
    session(Make::Culvert, Make::Real);
}

#[test]
fn session_of_our_client() {
    session(Make::Culvert, Make::Culvert);
}

#[test]
fn session_with_the_real_server() {
    session(Make::Real, Make::Real);
}

/// A route that is none ends the session's login where settings count.
#[test]
fn malformed_settings_let_nobody_in() {
    let mut scene = Scene::new(Make::Culvert, "", true, &[]);
    scene.refuses(Make::Real, "odd", "good", &[]);
    scene
        .server
        .process
        .wait_for("the settings of user 'odd': attribute 22 is malformed");
}

/// Exactly one Stop for each Start: after a worker's crash, the administrator's word, the server's
/// stop, and the broker's crash.
#[test]
fn one_stop_for_each_start() {
    let options = [("cookie-timeout", "1"), ("sec-mod-db-cleanup-time", "1")];
    let mut scene = Scene::new(Make::Culvert, "", false, &options);
    scene.records("Accounting-On", 1);

    // Its worker is killed and the client cannot come back: the cookie expires.
    let client = scene.connect(Make::Real, "plain");
    scene.records("Start", 1);
    client.process.signal("STOP");
    for worker in scene.server.workers() {
        culvert_lab::process::kill(worker, "KILL");
    }
    let stop = scene.records("Stop", 1).remove(0);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "User-Error");
    client.process.signal("KILL");
    drop(client);

    let client = scene.connect(Make::Real, "plain");
    scene.records("Start", 2);
    assert_eq!(scene.server.occtl(&["terminate", "user", "plain"]).0, 0);
    let stop = scene.records("Stop", 2).remove(1);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "Admin-Reset");
    drop(client);

    // A stop of the server while nobody takes records: the next one sends them.
    let client = scene.connect(Make::Real, "plain");
    scene.records("Start", 3);
    scene.server.process.signal("TERM");
    assert!(scene.server.process.wait().success());
    let stop = scene.records("Stop", 3).remove(2);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "Admin-Reset");
    scene.records("Accounting-Off", 1);
    drop(client);

    scene.start_again();
    let client = scene.connect(Make::Real, "plain");
    scene.records("Start", 4);
    let broker = culvert_lab::process::children(scene.server.process.pid())
        .into_iter()
        .find(|pid| culvert_lab::process::title(*pid).contains("ocserv-sm"));
    culvert_lab::process::kill(broker.unwrap(), "KILL");
    assert!(!scene.server.process.wait().success());
    drop(client);
    scene.start_again();
    let stop = scene.records("Stop", 4).remove(3);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "NAS-Reboot");

    // Each Stop belongs to one Start, and there are no more of them.
    scene.server.process.signal("TERM");
    scene.server.process.wait();
    let ids = |kind| {
        let records = of(&scene, kind);
        let mut ids: Vec<String> = records
            .iter()
            .map(|r| r.get("Acct-Session-Id").to_owned())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("Start"), ids("Stop"));
    assert_eq!(ids("Start").len(), 4);
}

/// Servers that are silent for a while delay nobody, and get everything later.
#[test]
fn records_wait_for_their_server() {
    let scene = Scene::new(Make::Culvert, "", false, &[]);
    scene.records("Accounting-On", 1);
    scene.accepts(Make::Real, "plain", "good", &[]);
    let login = scene.log_in(Make::Real, "plain", "good", &[]).stdout;
    let cookie = login.split('\'').nth(1).unwrap().to_owned();
    scene.radius.process.signal("STOP");
    let arguments = ["--cookie", &cookie, "--script", "/bin/true", "--no-dtls"];
    let options = culvert_lab::ClientOptions {
        arguments: &arguments,
        script: false,
        name: "tunnel",
        ..culvert_lab::ClientOptions::default()
    };
    let mut client = culvert_lab::Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    client.process.wait_for("Configured as");
    client.process.signal("INT");
    client.process.wait();
    wait::until("the silent server's mention", || {
        scene
            .server
            .log()
            .contains("accounting: no server has taken")
            .then_some(())
    });
    scene.radius.process.signal("CONT");
    let stop = scene.records("Stop", 1).remove(0);
    assert!(stop.number("Acct-Delay-Time") >= 1, "{stop:?}");
    let records = scene.radius.records();
    let kinds: Vec<&str> = records
        .iter()
        .filter_map(|r| r.value("Acct-Status-Type"))
        .collect();
    let place = |kind| kinds.iter().position(|other| *other == kind);
    assert!(
        place("Start").is_some() && place("Start") < place("Stop"),
        "{kinds:?}"
    );
}
