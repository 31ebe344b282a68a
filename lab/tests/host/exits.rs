//! Nothing of a tunnel stays on the client's host, however it ends; and a reconnect changes nothing.

use std::fs;

use culvert_lab::fixture::USER;
use culvert_lab::process::kill;
use culvert_lab::{Fixture, Make, Process, wait};

use crate::Scene;

/// How a tunnel ends, and the exit code.
enum End {
    Signal(&'static str, i32),
    /// SIGKILL; the guard restores the network.
    Killed,
    /// The guard is killed, too: the next client restores it.
    KilledWithGuard,
    /// The server ends it by itself, because of a line in the user's configuration.
    UserLine(&'static str),
    /// `occtl disconnect user`
    Disconnected,
    /// The server cannot be reached any more.
    Unreachable,
}

/// The guard of a client, by the journal that its environment names.
fn guard_of(client: u32) -> u32 {
    let wanted = format!("CULVERT_NETCFG_GUARD=/run/culvert/netcfg-{client}-");
    let is_guard = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|octet| *octet == 0)
            .any(|variable| variable.starts_with(wanted.as_bytes()))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(is_guard).expect("a guard")
}

fn connections(client: &Process) -> usize {
    let said = client.stdout();
    said.matches("CSTP connected.").count()
}

#[test]
fn nothing_stays_after_any_end() {
    // The configurations of single users are there before the server.
    let users = Fixture::new();
    fs::create_dir(users.path("users")).unwrap();
    let users = users.path("users");
    let user_files = users.display().to_string();
    let scene = Scene::new(
        Make::Culvert,
        &[
            ("config-per-user", &user_files),
            ("route", "default"),
            ("no-route", "198.51.100.0/24"),
            ("cookie-timeout", "3"),
        ],
    );
    scene.world.client.ip("route add 198.51.100.0/24 via 192.0.2.1");
    let before = scene.everything();
    for end in [
        End::Signal("INT", 0),
        End::Signal("TERM", 0),
        End::Signal("HUP", 0),
        End::Killed,
        End::KilledWithGuard,
        End::UserLine("session-timeout = 2"),
        End::UserLine("idle-timeout = 2"),
        End::Disconnected,
        End::Unreachable,
    ] {
        if let End::UserLine(line) = end {
            fs::write(users.join(USER), format!("{line}\n")).unwrap();
        }
        let mut client = scene.connect(None, &["--reconnect-timeout", "1"]);
        let up = match end {
            // Its time may be over before anybody has looked.
            End::UserLine(_) => String::new(),
            _ => {
                scene.is_configured(&client);
                scene.everything()
            }
        };
        let _ = fs::remove_file(users.join(USER));
        assert!(up != before, "{up}");
        match end {
            End::Signal(signal, code) => {
                client.signal(signal);
                assert_eq!(client.exit_code(), code, "{}", client.output());
            }
            End::Killed => {
                kill(client.pid(), "9");
                client.wait();
                wait::until("the guard's work", || {
                    (scene.everything() == before).then_some(())
                });
            }
            End::KilledWithGuard => {
                kill(guard_of(client.pid()), "9");
                kill(client.pid(), "9");
                client.wait();
                assert!(scene.everything() != before);
                // The next one begins with the network as it was.
                continue;
            }
            End::UserLine(_) => assert_eq!(client.exit_code(), 1, "{}", client.output()),
            End::Disconnected => {
                let (code, text) = scene.server.occtl(&["disconnect", "user", USER]);
                assert_eq!(code, 0, "{text}");
                assert_eq!(client.exit_code(), 1, "{}", client.output());
            }
            End::Unreachable => {
                // A reconnect changes nothing, neither does a failed one.
                client.signal("USR2");
                wait::until("a new connection", || (connections(&client) == 2).then_some(()));
                client.signal("USR1");
                client.wait_for("RX: ");
                assert_eq!(scene.everything(), up);
                scene.world.server.nft(
                    "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; \
                     add rule inet lab in tcp dport 443 reject with tcp reset",
                );
                client.signal("USR2");
                assert_eq!(client.exit_code(), 1, "{}", client.output());
                assert!(
                    client.output().contains("Reconnect failed"),
                    "{}",
                    client.output()
                );
            }
        }
        assert_eq!(scene.everything(), before, "{}", client.output());
    }
}
