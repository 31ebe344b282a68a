//! Without `-f`: a daemon with a pid file and the system log.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use culvert_lab::process::{kill, title};
use culvert_lab::{Client, Fixture, Make, Server, ServerOptions, World, probe, wait};

use crate::inner_server;

/// A system log of one's own: whoever runs [`Self::command`] finds it at `/dev/log`. It is read all the
/// time: who writes to it waits while its queue of ten lines is full.
struct SystemLog {
    lines: Receiver<String>,
    seen: Vec<String>,
    enter: PathBuf,
}

impl SystemLog {
    fn new(fixture: &Fixture) -> Self {
        let dev = fixture.path("dev");
        fs::create_dir(&dev).unwrap();
        let socket = UnixDatagram::bind(dev.join("log")).unwrap();
        let (sender, lines) = channel();
        // Ends with the first line that nobody is there for any more, or with the program.
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(length) = socket.recv(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let dev = dev.display();
        let enter = format!(
            "for device in null zero full random urandom tty; do\n\
             : >{dev}/$device; mount --bind /dev/$device {dev}/$device\n\
             done\n\
             mkdir {dev}/net; : >{dev}/net/tun; mount --bind /dev/net/tun {dev}/net/tun\n\
             mount --rbind {dev} /dev\n\
             exec \"$@\""
        );
        Self {
            lines,
            seen: Vec::new(),
            enter: fixture.write_script("enter", &enter),
        }
    }

    /// A program in a mount namespace that has this log.
    fn command(&self, world: &World, program: &Path) -> Command {
        let mut command = world.server.command("unshare");
        command.arg("-m").arg(&self.enter).arg(program);
        command
    }

    /// Waits for a line that contains all of `parts`.
    fn wait_for(&mut self, parts: &[&str]) -> String {
        wait::until(&format!("a line with {parts:?}"), || {
            self.seen.extend(self.lines.try_iter());
            let wanted = |line: &&String| parts.iter().all(|part| line.contains(part));
            self.seen.iter().find(wanted).cloned()
        })
    }
}

/// Field of `/proc/PID/stat`, counted from the state, which is 0.
fn stat(pid: u32, field: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(field).map(str::to_owned)
}

fn is_running(pid: u32) -> bool {
    stat(pid, 0).is_some_and(|state| state != "Z")
}

#[test]
fn our_server_as_a_daemon() {
    let world = World::new();
    let fixture = Fixture::new();
    let mut log = SystemLog::new(&fixture);
    let config = fixture.write_file(
        "ocserv.conf",
        &fixture.ocserv_conf(&[("syslog-facility", "local3")]),
    );
    let mut command = log.command(&world, &Make::Culvert.program("ocserv"));
    let started = command.arg("-c").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(started.status.success(), "{said}");
    // The starter has left, so the server serves already.
    let pid_file = fixture.path("ocserv.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let pid: u32 = text
        .parse()
        .unwrap_or_else(|_| panic!("the pid file says '{text}'"));
    let daemon = Daemon(pid);
    assert_eq!(title(pid), "ocserv-main");
    assert_eq!(stat(pid, 3), Some(pid.to_string()), "no session of its own");
    assert_eq!(stat(pid, 4).as_deref(), Some("0"), "it has a terminal");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    for descriptor in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"), "descriptor {descriptor}");
    }
    // Facility local3 is 19, priority info is 6.
    let line = log.wait_for(&["main: initialized ocserv"]);
    assert!(
        line.starts_with("<158>") && line.contains(&format!("ocserv[{pid}]: ")),
        "{line}"
    );
    log.wait_for(&["listening (TCP) on"]);

    let mut client = Client::connect(Make::Real, &world, &fixture);
    probe::ping(&world.client, inner_server());
    log.wait_for(&["<158>", "main[alice]:192.0.2.2:", "new user session"]);

    kill(pid, "HUP");
    log.wait_for(&["main: reloading configuration"]);
    probe::ping(&world.client, inner_server());

    kill(fs::read_to_string(&pid_file).unwrap().parse().unwrap(), "TERM");
    assert_eq!(client.process.exit_code(), 1, "{}", client.process.output());
    log.wait_for(&[
        "main[alice]:192.0.2.2:",
        "user disconnected (reason: server disconnected",
    ]);
    log.wait_for(&["main: exiting"]);
    wait::until("the end of the daemon", || (!is_running(pid)).then_some(()));
    drop(daemon);
    assert!(!pid_file.exists() && !fixture.path("occtl.sock").exists());
    assert_eq!(world.server.interfaces(), ["lo", "eth0"]);
}

/// A failure to start is told to the starter: on its standard error and by its exit code.
#[test]
fn our_server_tells_why_it_is_no_daemon() {
    let world = World::new();
    let fixture = Fixture::new();
    let wrong = fixture.ocserv_conf(&[("server-key", "/nonexistent/key.pem")]);
    let config = fixture.write_file("ocserv.conf", &wrong);
    let mut command = world.server.command(Make::Culvert.program("ocserv"));
    let started = command.arg("-c").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(1), "{said}");
    assert!(said.contains("/nonexistent/key.pem"), "{said}");
    assert!(!fixture.path("ocserv.pid").exists());
}

/// Ends a process that is not our child when a test fails.
struct Daemon(u32);

impl Drop for Daemon {
    fn drop(&mut self) {
        if is_running(self.0) {
            kill(self.0, "TERM");
        }
    }
}

/// Under systemd each line says how important it is, as its journal wants it.
#[test]
fn lines_have_priorities_for_the_journal() {
    let (world, fixture) = (World::new(), Fixture::new());
    let enter = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec \"$@\"";
    let enter = fixture.write_script("journal", enter).display().to_string();
    let options = ServerOptions {
        under: &[&enter],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let _client = Client::connect(Make::Real, &world, &fixture);
    probe::ping(&world.client, inner_server());
    let log = server.process.stderr();
    for line in [
        "<6>main: initialized ocserv",
        "<7>sec-mod: ",
        "<6>main[alice]:",
        "<7>worker",
    ] {
        assert!(log.lines().any(|other| other.starts_with(line)), "{line}: {log}");
    }
    let begun = log.split_once("<6>main: initialized").map(|(_, rest)| rest);
    let plain = begun.unwrap().lines().skip(1).find(|line| !line.starts_with('<'));
    assert_eq!(plain, None, "{log}");
}
