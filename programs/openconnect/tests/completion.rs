//! The completion script of bash, as bash runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// What bash offers for the last of these words, in this folder.
fn offered(folder: &Path, words: &[&str]) -> Vec<String> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../packaging/completions/openconnect.bash"
    );
    let program = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _openconnect
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-c", program, "bash", script, env!("CARGO_BIN_EXE_openconnect")])
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn options_values_and_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mine.pem", "mine.txt", "other.crt"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("more")).unwrap();
    let offered = |words: &[&str]| offered(folder.path(), words);
    assert_eq!(offered(&["--no-d"]), ["--no-deflate", "--no-dtls"]);
    assert_eq!(offered(&["--os", "li"]), ["linux", "linux-64"]);
    assert_eq!(offered(&["--os", "="]).len(), 6);
    assert_eq!(offered(&["-c", "m"]), ["mine.pem", "more"]);
    assert_eq!(offered(&["--certificate", "=", "oth"]), ["other.crt"]);
    assert_eq!(offered(&["--pid-file", "mine"]), ["mine.pem", "mine.txt"]);
    assert_eq!(offered(&["-U", "roo"]), ["root"]);
    assert!(offered(&["--script", "mine"]).is_empty());
}
