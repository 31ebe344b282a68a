//! Wrong passwords until the address is banned, as the client, the log and `occtl` see it.

use culvert_lab::net::STRANGER_V4 as STRANGER;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, wait};
use serde_json::Value;

use crate::inner_server;

fn bans_after_wrong_passwords(client: Make) {
    let world = World::new();
    world.move_away();
    let fixture = Fixture::new();
    let overrides = [
        ("max-ban-score", "40"),
        ("ban-points-wrong-password", "20"),
        ("ban-points-connection", "1"),
        ("ban-time", "600"),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let mut tunnel = Client::connect(client, &world, &fixture);
    probe::ping(&world.client, inner_server());

    let login = |input: &str, name: &str| {
        let options = ClientOptions {
            arguments: &["--authenticate", "--non-inter"],
            input,
            name,
            ..ClientOptions::default()
        };
        Client::run(client, &world, &fixture, &options)
    };
    let json = |words: &[&str]| {
        let mut all = vec!["-j"];
        all.extend(words);
        let (code, text) = server.occtl(&all);
        assert_eq!(code, 0, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    for attempt in ["first", "second"] {
        assert_eq!(json(&["show", "ip", "bans"]).as_array().unwrap().len(), 0);
        let wrong = login("wrong", attempt);
        assert_ne!(wrong.code, 0);
        assert!(
            (wrong.stdout.clone() + &wrong.stderr).contains("Login failed"),
            "{}{}",
            wrong.stdout,
            wrong.stderr
        );
    }
    // The client has its answer before the points are counted.
    let bans = wait::until("the ban", || {
        let bans = json(&["show", "ip", "bans"]);
        (bans[0]["IP"] == STRANGER).then_some(bans)
    });
    assert!(bans[0]["Score"].as_u64().unwrap() >= 40, "{bans}");
    assert_eq!(json(&["show", "ip", "ban", "points"])[0]["IP"], STRANGER);
    assert_eq!(json(&["show", "status"])["IPs in ban list"], 1);
    let (_, table) = server.occtl(&["show", "ip", "bans"]);
    assert!(table.contains(STRANGER), "{table}");
    server.wait_for_log(&format!("added IP '{STRANGER}' (with score "), 1);

    // The right password does not help: the connection is closed before a byte is said.
    let banned = login(culvert_lab::PASSWORD, "banned");
    assert_eq!(banned.code, 1, "{}{}", banned.stdout, banned.stderr);
    let text = banned.stdout + &banned.stderr;
    assert!(
        text.contains("SSL connection failure") && !text.contains("COOKIE"),
        "{text}"
    );
    server.wait_for_log(&format!("rejected connection from banned IP: {STRANGER}"), 1);
    // Whoever is in, stays.
    probe::ping(&world.client, inner_server());
    assert!(tunnel.process.is_running());

    let answer = server.occtl(&["unban", "ip", STRANGER]);
    assert_eq!(answer, (0, format!("IP '{STRANGER}' was unbanned\n")));
    assert_eq!(json(&["show", "ip", "bans"]).as_array().unwrap().len(), 0);
    let pardoned = login(culvert_lab::PASSWORD, "pardoned");
    assert_eq!(pardoned.code, 0, "{}{}", pardoned.stdout, pardoned.stderr);
    assert!(pardoned.stdout.contains("COOKIE="), "{}", pardoned.stdout);
    let answer = server.occtl(&["unban", "ip", "203.0.113.1"]);
    assert_eq!(answer, (1, "could not unban IP '203.0.113.1'\n".to_owned()));
}

#[test]
fn our_server_bans_the_real_client() {
    bans_after_wrong_passwords(Make::Real);
}

#[test]
fn our_server_bans_our_client() {
    bans_after_wrong_passwords(Make::Culvert);
}
