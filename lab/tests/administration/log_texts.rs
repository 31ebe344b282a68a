//! What the servers' logs say, side by side: the lines that fail2ban and monitoring look for.

use std::fs;

use culvert_lab::{
    Client, ClientOptions, Fixture, Make, PASSWORD, Server, ServerOptions, World, probe, wait,
};

use crate::inner_server;

/// Parts of the real server's lines that ours does not have (`docs/differences.md`).
const ITS_OWN: [&str; 12] = [
    "error receiving auth reply message",
    "issue cookie",
    "configured link MTU is",
    "peer's link MTU is",
    "Link MTU is",
    "X-DTLS-App-ID: ",
    "DTLS ciphersuite: ",
    "setting up DTLS-PSK connection",
    "sent periodic stats",
    "plain-auth: error authenticating user",
    "could not accept group",
    "error connecting to sec-mod socket",
];

/// A second client beside the first one.
const ASIDE: [&str; 7] = [
    "--interface",
    "tunaside",
    "--script",
    "/bin/true",
    "--no-dtls",
    "--authgroup",
    "admins",
];
/// What is different for its group.
const GROUP: &str = "max-same-clients = 1\nsession-timeout = 6\n";

/// What a server has logged of logins, tunnels and orders.
fn logged(make: Make) -> String {
    let (world, fixture) = (World::new(), Fixture::new());
    let groups = fixture.path("groups");
    fs::create_dir(&groups).unwrap();
    fs::write(groups.join("admins"), GROUP).unwrap();
    let groups = groups.display().to_string();
    let overrides = [
        ("sec-mod-scale", "1"),
        ("select-group", "staff"),
        ("select-group", "admins"),
        ("config-per-group", &groups),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        arguments: &["-d", "2"],
        ..ServerOptions::default()
    };
    let mut server = Server::start_with(make, &world, &fixture, &options);
    let wait_for = |text: &str, times: usize| {
        wait::until(&format!("{text}\n{}", server.log()), || {
            (server.log().matches(text).count() >= times).then_some(())
        });
    };
    let run = |arguments: &[&str], user: &str, input: &str| {
        let options = ClientOptions {
            arguments,
            user,
            input,
            ..ClientOptions::default()
        };
        Client::run(Make::Real, &world, &fixture, &options)
    };
    for reason in ["user disconnected", "server disconnected", "unspecified error"] {
        let options = ClientOptions {
            arguments: &["--authgroup", "staff"],
            name: reason,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(Make::Real, &world, &fixture, &options);
        client.process.wait_for("Established DTLS connection");
        probe::ping(&world.client, inner_server());
        if reason == "user disconnected" {
            let beyond = run(&ASIDE, "alice", PASSWORD);
            assert_eq!(beyond.code, 2, "{}{}", beyond.stdout, beyond.stderr);
            wait_for("user tried to connect more than 1 times", 1);
        }
        match reason {
            "user disconnected" => client.process.signal("INT"),
            "server disconnected" => assert_eq!(server.occtl(&["disconnect", "user", "alice"]).0, 0),
            _ => client.process.signal("KILL"),
        }
        client.process.wait();
        wait_for(&format!("reason: {reason}"), 1);
    }
    // The real server looks at the clock every ten seconds.
    let options = ClientOptions {
        arguments: &ASIDE,
        name: "session timeout",
        ..ClientOptions::default()
    };
    let mut late = Client::launch(Make::Real, &world, &fixture, &options);

    for (user, group, input) in [
        ("alice", "staff", "wrong 1\nwrong 2\nwrong 3"),
        ("nobody", "staff", "wrong 1\nwrong 2\nwrong 3"),
        ("bob", "admins", PASSWORD),
    ] {
        let login = run(&["--authgroup", group], user, input);
        assert_eq!(login.code, 1, "{}{}", login.stdout, login.stderr);
        wait_for(&format!("failed authentication for '{user}'"), 1);
    }
    let stale = format!("--cookie=webvpn={}=", "A".repeat(43));
    let stale = run(&[&stale], "alice", "");
    assert_eq!(stale.code, 2, "{}{}", stale.stdout, stale.stderr);
    wait_for("failed cookie authentication attempt", 2);

    for text in ["session timeout reached for process (", "reason: session timeout"] {
        wait_for(text, 1);
    }
    late.process.wait();

    server.process.signal("HUP");
    wait_for("reading supplemental config from files", 2);
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
    server.log()
}

/// A line of the log without what differs from run to run.
fn masked(line: &str) -> Option<String> {
    let of_process = line.strip_prefix("ocserv[");
    let line = match of_process.and_then(|rest| rest.split_once("]: ")) {
        Some((_, message)) => message,
        // Ours says only the message on standard error.
        None => line,
    };
    let parts = ["main", "worker", "sec-mod", "user '"];
    if !parts.iter().any(|part| line.starts_with(part)) {
        return None;
    }
    // Where its socket is.
    let line = line.split(" (socket: ").next().unwrap_or(line);
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        let word = match words.last() {
            Some(&("(session:" | "rx:" | "tx:" | "ocserv" | "process")) => "...",
            None if word.starts_with("main") => word.rsplit_once(':').map_or(word, |(name, _)| name),
            _ => word,
        };
        // Where in its source it is said.
        if !word.contains(".c:") {
            words.push(word);
        }
    }
    Some(words.join(" "))
}

#[test]
fn our_server_logs_what_the_real_one_logs() {
    let (real, ours) = std::thread::scope(|scope| {
        let real = scope.spawn(|| logged(Make::Real));
        let ours = logged(Make::Culvert);
        (real.join().unwrap(), ours)
    });
    let lines = |log: &str| -> Vec<String> { log.lines().filter_map(masked).collect() };
    let (real_lines, our_lines) = (lines(&real), lines(&ours));
    let wanted = real_lines
        .iter()
        .filter(|line| !ITS_OWN.iter().any(|part| line.contains(part)));
    // Some of the real server's lines do not say which part speaks.
    let times = |line: &str, lines: &[String]| lines.iter().filter(|other| other.ends_with(line)).count();
    let different: Vec<_> = wanted
        .clone()
        .map(|line| (times(line, &real_lines), times(line, &our_lines), line))
        .filter(|(real, ours, _)| real != ours)
        .collect();
    assert!(
        different.is_empty(),
        "{different:#?}\n--- real\n{real}\n--- ours\n{ours}"
    );
    assert!(wanted.count() > 30, "{real}");
}
