//! What a server does by the clock and how much it says of it: `log-level`, `server-stats-reset-time`,
//! `ban-reset-time`, `cookie-timeout` with `sec-mod-db-cleanup-time`, `socket-file`, `debug-no-secmod-stats`.

use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, wait};
use serde_json::Value;

use crate::Scene;

/// A login without a tunnel; gives the cookie.
fn cookie(world: &World, fixture: &Fixture) -> String {
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        name: "login",
        ..ClientOptions::default()
    };
    let login = Client::run(Make::Real, world, fixture, &options);
    assert_eq!(login.code, 0, "{}{}", login.stdout, login.stderr);
    login.stdout.trim().to_owned()
}

/// True when the server still knows the cookie: openconnect ends with 2 when it does not.
fn is_known(world: &World, fixture: &Fixture, cookie: &str) -> bool {
    let (config, script) = (fixture.path("once"), "/bin/true");
    let options = ClientOptions {
        arguments: &[
            "--cookie",
            cookie,
            "--script",
            script,
            "--pid-file",
            config.to_str().unwrap(),
        ],
        script: false,
        name: "cookie",
        ..ClientOptions::default()
    };
    let mut client = Client::launch(Make::Real, world, fixture, &options);
    let known = wait::until("an answer to the cookie", || {
        if !client.process.is_running() {
            return Some(false);
        }
        client.process.stdout().contains("Configured as").then_some(true)
    });
    if known {
        // A connection that is lost, not a goodbye: the cookie stays good.
        client.process.signal("KILL");
    }
    client.process.wait();
    known
}

pub(crate) fn json(server: &Server, words: &[&str]) -> Value {
    let (_, text) = server.occtl(&[&["-j"], words].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

#[test]
fn the_log_says_as_much_as_log_level_wants() {
    let said = |level: &str| {
        let (world, fixture) = (World::new(), Fixture::new());
        // Without `-d`, which the laboratory's servers are started with and which counts more.
        let plain = fixture.write_script("plain", "exec \"$1\" -f --log-stderr -c \"$7\"");
        let options = ServerOptions {
            overrides: &[("log-level", level)],
            under: &[plain.to_str().unwrap()],
            ..ServerOptions::default()
        };
        let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        let cookie = cookie(&world, &fixture);
        assert!(is_known(&world, &fixture, &cookie));
        server.wait_for_workers(0);
        server.log()
    };
    let (quiet, usual, talkative, headers) = (said("1"), said("2"), said("3"), said("4"));
    let info = "auth complete for user 'alice'";
    assert!(!quiet.contains(info) && usual.contains(info), "{quiet}{usual}");
    let lines = |text: &str| text.lines().count();
    assert!(lines(&usual) < lines(&talkative), "{usual}---{talkative}");
    let header = "HTTP header: User-Agent: Open AnyConnect VPN Agent";
    assert!(
        !talkative.contains(header) && headers.contains(header),
        "{headers}"
    );
    let cookie = "HTTP header: Cookie: ";
    let hidden = headers.lines().filter(|line| line.contains(cookie));
    assert!(
        hidden.clone().count() > 0 && hidden.clone().all(|line| line.ends_with("(hidden)")),
        "{headers}"
    );
}

#[test]
fn statistics_begin_anew_after_server_stats_reset_time() {
    let scene = Scene::new(Make::Culvert, &[("server-stats-reset-time", "2")]);
    let mut client = scene.connect(Make::Real, &[]);
    client.process.signal("INT");
    client.process.wait();
    let status = || json(&scene.server, &["show", "status"]);
    let begun = status()["raw_up_since"].as_u64().unwrap();
    wait::until(&scene.server.log(), || {
        (status()["Total sessions"] == 1).then_some(())
    });
    let anew = wait::until(&scene.server.log(), || {
        // Maintenance, which would come twice a minute.
        scene.server.process.signal("USR2");
        let status = status();
        (status["Sessions handled"] == 0).then_some(status)
    });
    assert_eq!(anew["Total sessions"], 1, "{anew}");
    assert!(
        anew["raw_last_stats_reset"].as_u64().unwrap() >= begun + 2,
        "{anew}"
    );
}

/// Wrong passwords add up only within the time.
#[test]
fn points_are_forgotten_after_ban_reset_time() {
    let scene = Scene::new(
        Make::Culvert,
        &[
            ("max-ban-score", "1000"),
            ("ban-reset-time", "3"),
            ("ban-time", "1"),
        ],
    );
    let wrong = ClientOptions {
        arguments: &["--authenticate", "--non-inter"],
        input: "wrong",
        ..ClientOptions::default()
    };
    let refused = Client::run(Make::Real, &scene.world, &scene.fixture, &wrong);
    assert_ne!(refused.code, 0);
    let points = || json(&scene.server, &["show", "ip", "ban", "points"]);
    // The client has its answer before the points are counted.
    let score = wait::until(&scene.server.log(), || {
        points()[0]["Score"].as_u64().filter(|score| *score >= 10)
    });
    wait::until("no points", || {
        scene.server.process.signal("USR2");
        points().as_array().unwrap().is_empty().then_some(())
    });
    Client::run(Make::Real, &scene.world, &scene.fixture, &wrong);
    wait::until("as many points as the first time", || {
        (points()[0]["Score"] == score).then_some(())
    });
}

/// A session whose cookie has run out is forgotten at the next cleaning; it is no good before that, too.
#[test]
fn sessions_are_removed_every_sec_mod_db_cleanup_time() {
    for (interval, left) in [("1", 0), ("600", 1)] {
        let scene = Scene::new(
            Make::Culvert,
            &[("cookie-timeout", "1"), ("sec-mod-db-cleanup-time", interval)],
        );
        let cookie = cookie(&scene.world, &scene.fixture);
        wait::until("the end of the cookie", || {
            let sessions = json(&scene.server, &["show", "sessions", "valid"]);
            sessions.as_array().unwrap().is_empty().then_some(())
        });
        let entries =
            || json(&scene.server, &["--debug", "show", "status"])["Sec-mod client entries"].clone();
        wait::until("the sessions that are left", || (entries() == left).then_some(()));
        assert!(!is_known(&scene.world, &scene.fixture, &cookie));
    }
}

/// Sessions are kept beside the socket file: a server that is started again with the same one knows
/// them, another does not.
#[test]
fn sessions_belong_to_the_socket_file() {
    let (world, fixture) = (World::new(), Fixture::new());
    let start = |name: &str| {
        let path = fixture.path(name).display().to_string();
        let options = ServerOptions {
            overrides: &[("socket-file", &path)],
            ..ServerOptions::default()
        };
        Server::start_with(Make::Culvert, &world, &fixture, &options)
    };
    let mut server = start("one.sock");
    let cookie = cookie(&world, &fixture);
    for (name, known) in [("two.sock", false), ("one.sock", true)] {
        server.process.signal("TERM");
        assert_eq!(server.process.exit_code(), 0, "{}", server.log());
        server = start(name);
        assert_eq!(
            is_known(&world, &fixture, &cookie),
            known,
            "{name}: {}",
            server.log()
        );
    }
}

/// With this test hook of ocserv a session still ends by what the main process says.
#[test]
fn a_disconnected_user_is_out_with_debug_no_secmod_stats() {
    let scene = Scene::new(Make::Culvert, &[("debug-no-secmod-stats", "true")]);
    let cookie = cookie(&scene.world, &scene.fixture);
    assert!(is_known(&scene.world, &scene.fixture, &cookie));
    let mut client = scene.connect(Make::Real, &["--cookie", &cookie]);
    let (code, text) = scene.server.occtl(&["disconnect", "user", "alice"]);
    assert_eq!(code, 0, "{text}");
    client.process.wait();
    assert!(!is_known(&scene.world, &scene.fixture, &cookie));
}
