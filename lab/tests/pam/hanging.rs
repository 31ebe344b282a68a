//! Logins that hang in a module, or die in it.

use std::time::Duration;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Make, PASSWORD, Process, Raw, ServerOptions, process, wait};

use super::{Scene, UNIX};

/// Logins that hang at the same time.
const HUNG: usize = 50;
/// Where they come from: one source has places for 32.
const SOURCES: [&str; 2] = ["192.0.2.101", "192.0.2.102"];
/// Handshakes that are measured.
const HANDSHAKES: usize = 25;
/// A module that hangs for one user.
const SLEEPY: &str = "test \"$PAM_USER\" != sleepy || exec tail --pid=$PPID -f /dev/null";

impl Scene {
    /// A login whose password has been sent from this address.
    fn begin(&self, user: &str, name: &str, source: &str) -> Raw {
        let mut raw = Raw::connect_with(&self.world, &self.fixture, name, &["-bind", source]);
        let body = format!("username={user}&password={PASSWORD}");
        let length = body.len();
        let request =
            format!("POST /auth HTTP/1.1\r\nHost: vpn.test\r\nContent-Length: {length}\r\n\r\n{body}");
        raw.send(request.as_bytes());
        raw
    }
}

/// How long handshakes of a client take that has nothing of ours, with a connection for each.
fn handshakes(scene: &Scene) -> Vec<Duration> {
    let mut command = scene.world.client.command("curl");
    command
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{time_connect} %{time_appconnect}\\n",
        ])
        .args(["--http1.0", "--cacert"])
        .arg(scene.fixture.path("ca.pem"))
        .args(["--resolve", &format!("{SERVER_NAME}:443:{SERVER_V4}")])
        .arg(format!("https://{SERVER_NAME}/?[1-{HANDSHAKES}]"));
    let done = Process::start(command, scene.fixture.dir(), "curl", None).finish();
    let times = done.stdout.lines().filter_map(|line| {
        let (connected, secured) = line.split_once(' ')?;
        let seconds = |text: &str| text.parse::<f64>().ok();
        Some(Duration::from_secs_f64(
            (seconds(secured)? - seconds(connected)?).max(0.0),
        ))
    });
    let times: Vec<_> = times.collect();
    assert_eq!(times.len(), HANDSHAKES, "{}{}", done.stdout, done.stderr);
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Logins that hang in a module hurt nobody, and end with their connections or their helpers.
#[test]
fn logins_that_hang() {
    let scene = Scene::plain(&format!("auth required pam_exec.so @/sleep\n{UNIX}"));
    scene.fixture.write_script("sleep", SLEEPY);
    for source in SOURCES {
        scene
            .world
            .client
            .ip(&format!("address add {source}/24 dev eth0"));
    }
    let alone = median(handshakes(&scene));
    let mut hung: Vec<Raw> = (0..HUNG)
        .zip(SOURCES.iter().cycle())
        .map(|(number, source)| scene.begin("sleepy", &format!("hung-{number}"), source))
        .collect();
    scene.wait_for_helpers(HUNG);
    let before = scene.helpers();
    let while_they_hang = median(handshakes(&scene));
    println!(
        "median of other clients' handshakes: {alone:?} before, {while_they_hang:?} while {HUNG} logins hang"
    );
    // Whoever waited for one of them would wait for seconds.
    let bound = 5 * alone + Duration::from_secs(1);
    assert!(while_they_hang < bound, "{alone:?}, then {while_they_hang:?}");
    // None of these could end before the others if it waited for one of them.
    for client in [Make::Real, Make::Culvert] {
        scene.accepts(client, "alice", PASSWORD, &[]);
        scene.refuses(client, "alice", "wrong", &[]);
    }
    // Those of these logins end a moment later; all others still hang.
    wait::until("the helpers that hang", || {
        (scene.helpers() == before).then_some(())
    });
    let after = before;

    // Killed helpers: the user is refused, the administrator learns of it.
    for pid in after.iter().take(2) {
        process::kill(*pid, "KILL");
    }
    scene.wait_for_log("pam helper for user 'sleepy' ended by signal 9", 2);
    wait::until("two refusals", || {
        let refused = hung.iter().filter(|raw| raw.answer().starts_with("HTTP/1.1 401"));
        (refused.count() == 2).then_some(())
    });
    // Clients that go away take their helpers with them.
    hung.retain(|raw| raw.answer().is_empty());
    hung.truncate(HUNG / 2);
    scene.wait_for_helpers(HUNG / 2);
    // And so does the broker, also when nobody could tell them.
    let broker = process::children(scene.server.process.pid())
        .into_iter()
        .find(|pid| process::title(*pid).contains("ocserv-sm"));
    process::kill(broker.unwrap(), "KILL");
    wait::until("the end of the helpers", || {
        let left = after
            .iter()
            .filter(|pid| process::title(**pid).contains("ocserv-helper"));
        (left.count() == 0).then_some(())
    });
}

/// A login whose time is over in a module: the user is told, the log says it, and the module is gone.
#[test]
fn a_login_that_takes_too_long() {
    let options = ServerOptions {
        overrides: &[("auth-timeout", "3")],
        ..ServerOptions::default()
    };
    let stack = format!("auth required pam_exec.so @/sleep\n{UNIX}");
    let scene = Scene::new(Make::Culvert, &stack, &options);
    scene.fixture.write_script("sleep", SLEEPY);
    for (client, count) in [(Make::Real, 1), (Make::Culvert, 2)] {
        let told = scene.refuses(client, "sleepy", PASSWORD, &[]);
        assert!(told.contains(" 401 "), "{told}");
        // Worker and broker look at clocks of their own.
        let either = [
            "the login was not decided by auth-timeout",
            "gives no answer in time",
        ];
        wait::until("a line in the log", || {
            let log = scene.server.log();
            let said: usize = either.iter().map(|text| log.matches(text).count()).sum();
            (said >= count).then_some(())
        });
        scene.wait_for_helpers(0);
    }
    scene.accepts(Make::Real, "alice", PASSWORD, &[]);
}
