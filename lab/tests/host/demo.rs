//! `make demo` leaves nothing behind, also when it is interrupted: no namespace, process or file.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use culvert_lab::process::run;
use culvert_lab::{Process, wait};

/// When Ctrl-C is pressed.
#[derive(Clone, Copy)]
enum Moment {
    Never,
    /// The demo has said this.
    Said(&'static str),
    /// A transfer is under way, over a path that is too narrow for it to end soon.
    Transfer,
}

/// Runs the demo, presses Ctrl-C, and looks around.
fn demo(moment: Moment) {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    // A job of a shell: the terminal sends SIGINT to all of it.
    command.process_group(0).env("TMPDIR", &temporary);
    let mut demo = Process::start(command, folder.path(), "demo", None);
    let pid = demo.pid();
    match moment {
        Moment::Said(words) => demo.wait_for(words),
        Moment::Transfer => {
            demo.wait_for("== The client logs in");
            let narrow = "add table inet narrow; add chain inet narrow out { type filter hook output priority 0; }; \
                          add rule inet narrow out udp dport 443 limit rate over 2 mbytes/second drop";
            run("ip", &["netns", "exec", &format!("cv{pid}x0c"), "nft", narrow]);
            wait::until("a transfer", || begun(&temporary, "sender.out").then_some(()));
        }
        Moment::Never => {}
    }
    match moment {
        Moment::Said(_) | Moment::Transfer => {
            run("kill", &["-INT", "--", &format!("-{pid}")]);
            assert_eq!(demo.exit_code(), 130, "{}", demo.output());
            let said = demo.stdout();
            assert!(
                said.ends_with("interrupted; everything is removed again\n"),
                "{}",
                demo.output()
            );
        }
        Moment::Never => {
            demo.wait_for_within(wait::PATIENCE * 2, "everything is removed again");
            assert_eq!(demo.exit_code(), 0, "{}", demo.output());
            for word in [
                "alice",
                "hashes equal",
                ", 0% packet loss",
                "Established DTLS connection",
            ] {
                assert!(demo.stdout().contains(word), "no {word}: {}", demo.output());
            }
        }
    }
    let namespaces = run("ip", &["netns", "list"]);
    assert!(!namespaces.contains(&format!("cv{pid}x")), "{namespaces}");
    let left: Vec<_> = fs::read_dir(&temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let mark = temporary.display().to_string();
    wait::until("the end of every process of the demo", || {
        processes_with(&mark).is_empty().then_some(())
    });
}

/// True when the demo has this file.
fn begun(temporary: &Path, name: &str) -> bool {
    let folders = fs::read_dir(temporary).unwrap().flatten();
    folders
        .map(|folder| folder.path().join(name))
        .any(|file| file.exists())
}

/// Processes whose command line or environment contains `mark`.
fn processes_with(mark: &str) -> Vec<String> {
    let contains = |content: std::io::Result<Vec<u8>>| {
        content.is_ok_and(|content| String::from_utf8_lossy(&content).contains(mark))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| contains(fs::read(path.join("cmdline"))) || contains(fs::read(path.join("environ"))))
        .map(|path| path.display().to_string())
        .collect()
}

#[test]
fn to_the_end() {
    demo(Moment::Never);
}

#[test]
fn interrupted_while_the_server_starts() {
    demo(Moment::Said("== The server"));
}

#[test]
fn interrupted_while_the_client_logs_in() {
    demo(Moment::Said("== The client logs in"));
}

#[test]
fn interrupted_during_a_transfer() {
    demo(Moment::Transfer);
}
