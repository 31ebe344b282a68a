//! `make install` and `make uninstall` into an empty folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use culvert_lab::built;
use culvert_lab::process::run;

const PROGRAMS: [&str; 4] = [
    "usr/bin/occtl",
    "usr/bin/ocpasswd",
    "usr/sbin/ocserv",
    "usr/sbin/openconnect",
];

fn make(goal: &str, destination: &Path) {
    let programs = built("openconnect");
    let mut command = Command::new("make");
    // The programs are built already, by whoever runs the tests.
    command
        .args([
            "--silent",
            "--directory",
            concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
        ])
        .args(["CARGO=true", "PREFIX=/usr"])
        .arg(format!(
            "CULVERT_BIN_DIR={}",
            programs.parent().unwrap().display()
        ))
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(goal)
        // Those of the make that runs the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    let output = command.output().unwrap();
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
    let sample = root.join("usr/share/doc/culvert/sample.ocserv.conf");
    assert!(sample.exists(), "{installed:?}");

    // A second time is an upgrade.
    make("install", root);
    assert_eq!(files(root), installed);
    make("uninstall", root);
    assert_eq!(files(root), before);
    make("uninstall", root);
}
