//! Who gets in, with which group, how often and for how long.

use culvert_lab::{Client, ClientOptions, Fixture, Make, Raw, World, wait};
use serde_json::Value;

use crate::Scene;

/// A login without a tunnel; gives the cookie.
fn cookie(scene: &Scene) -> String {
    let login = run(scene, &["--cookieonly"]);
    assert_eq!(login.code, 0, "{}{}", login.stdout, login.stderr);
    login.stdout.trim().to_owned()
}

fn run(scene: &Scene, arguments: &[&str]) -> culvert_lab::Finished {
    let options = ClientOptions {
        arguments,
        name: "login",
        ..ClientOptions::default()
    };
    Client::run(Make::Real, &scene.world, &scene.fixture, &options)
}

/// A second client beside the first one; it gets an address that nobody uses.
const ASIDE: [&str; 4] = ["--interface", "tunaside", "--script", "/bin/true"];

fn refused(scene: &Scene, arguments: &[&str]) {
    let refused = run(scene, arguments);
    let text = refused.stdout + &refused.stderr;
    assert!(
        refused.code == 2 && text.contains("401"),
        "{}: {text}\n{}",
        refused.code,
        scene.server.log()
    );
}

fn users(scene: &Scene) -> Value {
    let (code, text) = scene.server.occtl(&["-j", "show", "users"]);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn silent_connections_end_with_auth_timeout() {
    let scene = Scene::new(Make::Culvert, &[("auth-timeout", "2")]);
    let silent = Raw::connect(&scene.world, &scene.fixture, "silent");
    assert_eq!(silent.closed(), "");
    let late = "the client has not logged in by auth-timeout";
    wait::until(late, || scene.server.log().contains(late).then_some(()));
    scene.server.wait_for_workers(0);
}

#[test]
fn no_more_clients_than_max_clients() {
    let scene = Scene::new(Make::Culvert, &[("max-clients", "1")]);
    let mut client = scene.connect(Make::Real, &[]);
    scene.ping();
    let second = run(&scene, &["--cookieonly"]);
    assert_eq!(second.code, 1, "{}{}", second.stdout, second.stderr);
    assert!(
        scene
            .server
            .log()
            .contains("reached maximum client limit (active: 1)"),
        "{}",
        scene.server.log()
    );
    client.process.signal("INT");
    client.process.wait();
    scene.server.wait_for_workers(0);
    cookie(&scene);
}

#[test]
fn no_more_sessions_of_a_user_than_max_same_clients() {
    let scene = Scene::new(Make::Culvert, &[("max-same-clients", "1")]);
    let client = scene.connect(Make::Real, &[]);
    scene.ping();
    refused(&scene, &ASIDE);
    // A reconnect is the same client.
    client.process.signal("USR2");
    wait::until(&scene.logs(&client), || {
        let times = client
            .process
            .stdout()
            .matches("Got CONNECT response: HTTP/1.1 200")
            .count();
        (times == 2).then_some(())
    });
    scene.ping();
}

/// The user whom the password file calls `alice`.
#[test]
fn names_are_spelled_in_small_letters_with_username_case() {
    for (option, known) in [("lower", true), ("keep", false)] {
        let scene = Scene::new(Make::Culvert, &[("username-case", option)]);
        let arguments = ["--user", "Alice"];
        if known {
            let _client = scene.connect(Make::Real, &arguments);
            scene.ping();
            assert_eq!(users(&scene)[0]["Username"], "alice");
        } else {
            assert_ne!(run(&scene, &arguments).code, 0);
            let log = scene.server.log();
            assert!(
                log.contains("failed authentication attempt for user 'Alice'"),
                "{log}"
            );
        }
    }
}

#[test]
fn cookies_stay_where_they_were_given_with_deny_roaming() {
    for (option, stays) in [("true", true), ("false", false)] {
        let scene = Scene::new(Make::Culvert, &[("deny-roaming", option)]);
        let cookie = cookie(&scene);
        scene.world.roam("192.0.2.77");
        let arguments = [&["--cookie", &cookie][..], &ASIDE].concat();
        if stays {
            refused(&scene, &arguments);
        } else {
            let options = ClientOptions {
                arguments: &arguments,
                ..ClientOptions::default()
            };
            let mut client = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
            client.process.wait_for("Configured as");
        }
    }
}

#[test]
fn cookies_end_with_cookie_timeout() {
    let scene = Scene::new(Make::Culvert, &[("cookie-timeout", "2")]);
    let cookie = cookie(&scene);
    // The server adds a few seconds for clients that are just coming back.
    wait::until("the end of the session", || {
        let (_, text) = scene.server.occtl(&["-j", "show", "sessions", "valid"]);
        let sessions: Value = serde_json::from_str(&text).unwrap();
        sessions.as_array().unwrap().is_empty().then_some(())
    });
    refused(&scene, &[&["--cookie", &cookie][..], &ASIDE].concat());
}

#[test]
fn persistent_cookies_survive_a_logout() {
    for (option, survives) in [("true", true), ("false", false)] {
        let scene = Scene::new(Make::Culvert, &[("persistent-cookies", option)]);
        let cookie = cookie(&scene);
        let arguments = [&["--cookie", &cookie][..], &ASIDE].concat();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let connect = || {
            let mut client = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
            client.process.wait_for("Configured as");
            client.process.signal("INT");
            assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
            scene.server.wait_for_workers(0);
        };
        connect();
        if survives {
            connect();
        } else {
            refused(&scene, &arguments);
        }
    }
}

/// The group that a client has with these arguments.
fn group(scene: &Scene, arguments: &[&str]) -> Value {
    let options = ClientOptions {
        arguments: &[&ASIDE[..], arguments].concat(),
        ..ClientOptions::default()
    };
    let mut client = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    client.process.wait_for("Configured as");
    let group = wait::until("the session", || {
        let users = users(scene);
        (users[0]["State"] == "connected").then(|| users[0]["Groupname"].clone())
    });
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    scene.server.wait_for_workers(0);
    group
}

#[test]
fn groups_are_offered_and_chosen() {
    let scene = Scene::new(
        Make::Culvert,
        &[
            ("select-group", "admins[The administrators]"),
            ("select-group", "staff"),
            ("default-select-group", "whatever suits"),
            ("pre-login-banner", "Mind the gap"),
        ],
    );
    assert_eq!(group(&scene, &["--authgroup", "The administrators"]), "admins");
    assert_eq!(group(&scene, &["--authgroup", "staff"]), "staff");
    assert_eq!(
        group(&scene, &["--authgroup", "whatever suits"]),
        "staff",
        "the first of the user's"
    );
    let unknown = run(&scene, &["--authgroup", "pirates", "--non-inter"]);
    let text = unknown.stdout + &unknown.stderr;
    assert_ne!(unknown.code, 0);
    assert!(
        text.contains("Mind the gap") && text.contains("[whatever suits|The administrators|staff]"),
        "{text}"
    );
}

#[test]
fn groups_come_from_the_password_file_with_auto_select_group() {
    let scene = Scene::new(Make::Culvert, &[("auto-select-group", "true")]);
    let unknown = run(&scene, &["--authgroup", "pirates", "--non-inter"]);
    let text = unknown.stdout + &unknown.stderr;
    assert!(
        text.contains("staff|admins") || text.contains("admins|staff"),
        "{text}"
    );
    assert_eq!(group(&scene, &["--authgroup", "admins"]), "admins");
}

#[test]
fn the_address_chooses_the_group_with_select_group_by_url() {
    let scene = Scene::new(
        Make::Culvert,
        &[
            ("select-group", "admins"),
            ("select-group", "staff"),
            ("select-group-by-url", "true"),
        ],
    );
    assert_eq!(group(&scene, &["--usergroup", "admins"]), "admins");
}

/// The profile is announced with its hash and served to clients that are logged in.
#[test]
fn the_user_profile_is_announced() {
    let (world, fixture) = (World::new(), Fixture::new());
    let profile = fixture
        .write_file("profile.xml", "<AnyConnectProfile/>")
        .display()
        .to_string();
    let scene = Scene::with(Make::Culvert, world, fixture, &[("user-profile", &profile)]);
    let login = run(&scene, &["--cookieonly", "--dump-http-traffic"]);
    let text = login.stdout + &login.stderr;
    assert!(
        text.contains("/profiles/profile.xml") || text.contains("profile.xml"),
        "{text}"
    );
    // printf '<AnyConnectProfile/>' | sha1sum
    let hash = culvert_lab::process::run("sha1sum", &[&profile]);
    let hash = hash.split(' ').next().unwrap().to_uppercase();
    assert!(text.to_uppercase().contains(&hash), "{hash}: {text}");
}
