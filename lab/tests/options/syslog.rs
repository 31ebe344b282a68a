//! `--syslog`: messages go to the system log once the tunnel is up.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use culvert_lab::{Client, ClientOptions, Make, Process, wait};

use crate::Scene;

/// Runs the program with a `/dev` of its own in which `/dev/log` is the socket `$1`.
const OWN_DEV: &str = "set -e
socket=$1; shift
mount -t tmpfs -o mode=755 none /mnt
for node in null zero random urandom; do : >/mnt/$node; mount --bind /dev/$node /mnt/$node; done
mkdir /mnt/net; mount --bind /dev/net /mnt/net
ln -s $socket /mnt/log
mount --move /mnt /dev
exec \"$@\"";

/// Collects the lines that arrive until `done` says that there are enough.
fn receive(log: &UnixDatagram, lines: &mut Vec<String>, done: impl Fn(&[String]) -> bool) {
    wait::until("lines in the system log", || {
        let mut line = [0; 4096];
        while let Ok(length) = log.recv(&mut line) {
            lines.push(String::from_utf8_lossy(&line[..length]).into_owned());
        }
        done(lines).then_some(())
    });
}

fn messages_go_to_syslog(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let path = scene.fixture.path("log");
    let log = UnixDatagram::bind(&path).unwrap();
    log.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let options = ClientOptions {
        arguments: &["--syslog", "--no-dtls"],
        ..ClientOptions::default()
    };
    let ordinary = Client::command(client, &scene.world, &scene.fixture, &options);
    let arguments: Vec<_> = ordinary.get_args().collect();
    // `ip netns exec NAME PROGRAM ...`
    let (place, program) = arguments.split_at(3);
    let mut command = std::process::Command::new(ordinary.get_program());
    command
        .args(place)
        .args(["unshare", "--mount", "sh", "-c", OWN_DEV, "own-dev"])
        .arg(&path)
        .args(program);
    let input = format!("{}\n", options.input);
    let mut process = Process::start(command, scene.fixture.dir(), "client", Some(&input));
    process.wait_for("Configured as");
    scene.ping();

    // What comes after the line "Configured as": a reconnect, and the end.
    let mut lines = Vec::new();
    process.signal("USR2");
    receive(&log, &mut lines, |lines| {
        lines
            .iter()
            .any(|line| line.contains("Got CONNECT response: HTTP/1.1 200"))
    });
    scene.ping();
    process.signal("INT");
    assert_eq!(process.exit_code(), 0, "{}", process.output());
    receive(&log, &mut lines, |lines| {
        lines
            .iter()
            .any(|line| line.contains("User cancelled (SIGINT/SIGTERM); exiting."))
    });
    // Facility daemon (3), priority info (6); the program's name and pid.
    let tag = format!("openconnect[{}]: ", process.pid());
    assert!(
        lines.iter().all(|line| line.contains(&tag)) && lines.iter().any(|line| line.starts_with("<30>")),
        "{lines:?}"
    );
    for word in ["User cancelled", "Send BYE packet"] {
        assert!(!process.output().contains(word), "{}", process.output());
    }
}

#[test]
fn messages_of_the_real_client_go_to_syslog() {
    messages_go_to_syslog(Make::Real, Make::Culvert);
}

#[test]
fn messages_of_our_client_go_to_syslog() {
    messages_go_to_syslog(Make::Culvert, Make::Real);
}
