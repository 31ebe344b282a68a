//! What a server notes of its sessions: `use-utmp`, `stats-report-time`.

use std::fs;
use std::time::Duration;

use culvert_lab::{Client, Fixture, Make, Server, ServerOptions, World, probe, wait};
use serde_json::Value;

use crate::{Scene, inner_server};

/// Octets of one record of utmp.
const RECORD: usize = 384;
const USER_PROCESS: u8 = 7;
const DEAD_PROCESS: u8 = 8;

/// Type, line, user and host of the records in a file.
fn records(path: &str) -> Vec<(u8, String, String, String)> {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len() % RECORD, 0, "{path}");
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|octet| *octet == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let parse = |record: &[u8]| {
        (
            record[0],
            text(&record[8..40]),
            text(&record[44..76]),
            text(&record[76..332]),
        )
    };
    bytes.chunks(RECORD).map(parse).collect()
}

#[test]
fn sessions_are_noted_in_utmp_and_wtmp() {
    let (world, fixture) = (World::new(), Fixture::new());
    // The host's own records are none of our business.
    let enter =
        "mount -t tmpfs none /run; mount -t tmpfs none /var/log; : >/run/utmp; : >/var/log/wtmp; exec \"$@\"";
    let enter = fixture.write_script("enter", enter).display().to_string();
    let options = ServerOptions {
        overrides: &[("use-utmp", "true")],
        under: &[&enter],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let root = format!("/proc/{}/root", server.process.pid());
    let (utmp, wtmp) = (format!("{root}/run/utmp"), format!("{root}/var/log/wtmp"));
    let mut client = Client::connect(Make::Real, &world, &fixture);
    let entry =
        |kind: u8, user: &str, host: &str| (kind, "vpns0".to_owned(), user.to_owned(), host.to_owned());
    let login = entry(USER_PROCESS, "alice", "192.0.2.2");
    wait::until(&server.log(), || {
        (records(&utmp) == std::slice::from_ref(&login)).then_some(())
    });
    probe::ping(&world.client, inner_server());
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    let logout = entry(DEAD_PROCESS, "", "");
    wait::until(&server.log(), || {
        (records(&utmp) == std::slice::from_ref(&logout)).then_some(())
    });
    let both = [login, logout];
    wait::until("both records", || (records(&wtmp) == both).then_some(()));
}

/// Figures of a session are at most that old.
#[test]
fn statistics_are_reported_as_often_as_wanted() {
    let scene = Scene::new(Make::Culvert, &[("stats-report-time", "1")]);
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    let limit = Duration::from_secs(15);
    wait::until_within(limit, &scene.server.log(), || {
        let (_, text) = scene.server.occtl(&["-j", "show", "users"]);
        let users: Value = serde_json::from_str(&text).unwrap();
        let received: u64 = users[0]["RX"].as_str()?.parse().ok()?;
        (received > 0).then_some(())
    });
}
