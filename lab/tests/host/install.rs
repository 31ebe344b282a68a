//! `make install` and `make uninstall` into an empty folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use culvert_lab::built;
use culvert_lab::process::run;

const PROGRAMS: [&str; 4] = [
    "usr/bin/occtl",
    "usr/bin/ocpasswd",
    "usr/sbin/ocserv",
    "usr/sbin/openconnect",
];

/// `make` with the programs in this folder.
fn make_from(programs: &Path, goal: &str, destination: &Path) -> Output {
    let mut command = Command::new("make");
    command
        .args([
            "--silent",
            "--directory",
            concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
        ])
        .arg("PREFIX=/usr")
        .arg(format!("CULVERT_BIN_DIR={}", programs.display()))
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(goal)
        // Those of the make that runs the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    command.output().unwrap()
}

fn make(goal: &str, destination: &Path) {
    let programs = built("openconnect");
    let output = make_from(programs.parent().unwrap(), goal, destination);
    assert!(
        output.status.success(),
        "{goal}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Files below `folder`, relative to it, sorted, with their modes.
fn files(folder: &Path) -> Vec<(String, u32)> {
    let list = run("find", &[&folder.display().to_string(), "-not", "-type", "d"]);
    let mut files: Vec<(String, u32)> = list
        .lines()
        .map(|path| {
            let mode = fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
            let relative = Path::new(path).strip_prefix(folder).unwrap();
            (relative.display().to_string(), mode)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_installed_works_and_is_uninstalled() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // Somebody else's.
    fs::create_dir_all(root.join("usr/sbin")).unwrap();
    fs::write(root.join("usr/sbin/other"), "").unwrap();
    let before = files(root);
    let unbuilt = make_from(root, "install", root);
    let said = String::from_utf8_lossy(&unbuilt.stderr).into_owned();
    assert!(
        !unbuilt.status.success() && said.contains("is not built: run 'make' first"),
        "{said}"
    );
    assert_eq!(files(root), before);

    make("install", root);
    let installed = files(root);
    for program in PROGRAMS {
        assert!(installed.contains(&(program.to_owned(), 0o755)), "{installed:?}");
        // Panics unless it runs.
        run(&root.join(program).display().to_string(), &["--version"]);
    }
    for name in ["openconnect", "ocserv", "occtl", "ocpasswd"] {
        let page = (format!("usr/share/man/man8/{name}.8"), 0o644);
        assert!(installed.contains(&page), "{installed:?}");
    }
    for file in [
        "etc/pam.d/ocserv",
        "usr/lib/systemd/system/ocserv.service",
        "usr/lib/systemd/system/ocserv.socket",
        "usr/lib/sysusers.d/ocserv.conf",
        "usr/lib/tmpfiles.d/ocserv.conf",
        "usr/share/doc/culvert/sample.ocserv.conf",
        "usr/share/bash-completion/completions/openconnect",
        "usr/share/zsh/site-functions/_openconnect",
    ] {
        assert!(
            installed.contains(&(file.to_owned(), 0o644)),
            "{file}: {installed:?}"
        );
    }

    // A second time is an upgrade.
    make("install", root);
    assert_eq!(files(root), installed);
    suits_systemd(root);
    make("uninstall", root);
    // What is the administrator's stays.
    let left = |(file, _): &(String, u32)| !file.starts_with("etc/");
    let after: Vec<_> = files(root).into_iter().filter(left).collect();
    assert_eq!(after, before);
    make("uninstall", root);
}

/// systemd's own programs have nothing to say against the files for it, and make what they ask for.
fn suits_systemd(root: &Path) {
    let share = root.join("usr/lib");
    let path = |name: &str| share.join(name).display().to_string();
    let service = fs::read_to_string(path("systemd/system/ocserv.service")).unwrap();
    assert!(
        service.contains("\nExecStart=/usr/sbin/ocserv --foreground ") && !service.contains('@'),
        "{service}"
    );
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").args(["--man=no", "--recursive-errors=no"]);
    verify.args(["ocserv.service", "ocserv.socket"].map(|unit| path(&format!("systemd/system/{unit}"))));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("ocserv"), "{said}");
    fs::create_dir_all(root.join("etc")).unwrap();
    let below = format!("--root={}", root.display());
    run("systemd-sysusers", &[&below, "ocserv.conf"]);
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(users.contains(":/var/lib/ocserv:"), "{users}");
    run("systemd-tmpfiles", &[&below, "--create", "ocserv.conf"]);
    let jail = fs::metadata(root.join("var/lib/ocserv")).unwrap();
    assert_eq!(jail.permissions().mode() & 0o7777, 0o711);
}
