//! `scripts/setup` and the Makefile where something is missing or in the way.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use culvert_lab::process::{run, write_script};

use crate::root;

/// Runs it with these programs (name, shell script) before those of the system.
fn with_programs(mut command: Command, programs: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        write_script(&folder.path().join(name), script);
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).current_dir("/").output().unwrap()
}

fn setup(goal: &str, programs: &[(&str, &str)]) -> Output {
    let mut command = Command::new(root().join("scripts/setup"));
    command.arg(goal);
    with_programs(command, programs)
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(why), "{said}");
}

#[test]
fn what_is_missing_is_said() {
    refused(&setup("demos", &[]), "unknown goal 'demos'");
    // Debian 12's own.
    let old = setup("build", &[("rustc", "echo 'rustc 1.63.0'")]);
    refused(&old, "needs Rust 1.90 or later (https://rustup.rs); ");
    refused(&old, "/rustc is 1.63.0");
    let none = setup("build", &[("rustc", "echo 'no default toolchain' >&2; exit 1")]);
    refused(&none, "rustc is unusable");
    let new = setup("build", &[("rustc", "echo 'rustc 1.100.0-nightly (x y)'")]);
    assert!(new.status.success() && new.stderr.is_empty(), "{new:?}");
    let user = setup("demo", &[("id", "echo 1000")]);
    refused(&user, "run it as root (make && sudo env PATH=");
    let user = setup("demo", &[("id", "echo 1000"), ("dpkg-query", "exit 1")]);
    refused(
        &user,
        "apt-get install -y --no-install-recommends iproute2 iputils-ping procps\n",
    );
}

/// What keeps Debian's server from being started is there while packages are installed, and gone afterwards
/// whatever becomes of apt-get; that of the administrator stays.
#[test]
fn services_start_again_after_an_installation() {
    let setup = |before: &str, apt_get: &str| {
        let script = format!(
            "mount -t tmpfs none /usr/sbin; cd /usr/sbin; {before}
            {}/scripts/setup demo; code=$?; test ! -e policy-rc.d || cat policy-rc.d; exit $code",
            root().display()
        );
        // A shell cannot trap what was ignored when it began, as SIGINT is in the background of another one.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "unshare", "--mount", "sh", "-c", &script]);
        with_programs(command, &[("dpkg-query", "exit 1"), ("apt-get", apt_get)])
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let fails = "[ \"$1\" = update ] || { test -x /usr/sbin/policy-rc.d && echo there; exit 100; }";
    let failed = setup("", fails);
    refused(&failed, "apt-get could not install iproute2");
    assert!(said(&failed).ends_with("there\n"), "{failed:?}");
    // Ctrl-C.
    let interrupted = setup("", "[ \"$1\" = update ] || kill -INT $PPID; exit 130");
    assert_eq!(interrupted.status.code(), Some(130), "{interrupted:?}");
    assert!(!said(&interrupted).contains("exit 101"), "{interrupted:?}");
    // Of a run that was killed, and of the administrator.
    let old = "echo \"# made by culvert's scripts/setup\" >policy-rc.d;";
    assert!(said(&setup(old, fails)).ends_with("there\n"));
    let own = setup("echo '#!/bin/sh' >policy-rc.d; chmod +x policy-rc.d;", fails);
    assert!(said(&own).ends_with("there\n#!/bin/sh\n"), "{own:?}");
}

#[test]
fn namespaces_of_a_killed_run_are_removed() {
    let id = std::process::id();
    // No process has such a number; and this one is alive.
    let (dead, alive) = (format!("cv9{id:09}x0c"), format!("cv{id}x0s"));
    let etc = Path::new("/etc/netns");
    for name in [&dead, &alive] {
        fs::create_dir_all(etc.join(name)).unwrap();
        run("ip", &["netns", "add", name]);
    }
    let output = setup("demo", &[]);
    let left = run("ip", &["netns", "list"]);
    run("ip", &["netns", "delete", &alive]);
    fs::remove_dir(etc.join(&alive)).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!left.contains(&dead) && left.contains(&alive), "{left}");
    assert!(!etc.join(&dead).exists());
}

#[test]
fn blanks_in_paths_are_refused() {
    let output = Command::new("make")
        .args(["--dry-run", "uninstall", "DESTDIR=/tmp/a b"])
        .current_dir(root())
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .unwrap();
    refused(&output, "DESTDIR has blanks in it: '/tmp/a b'");
    assert!(output.stdout.is_empty());
}
