//! The program as scripts use it.

#![allow(clippy::expect_used)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use culvert_password_file::{Credential, PasswordFile};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("temporary directory"),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("passwd")
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(&self.file(), arguments, input)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("readable")
    }

    fn accounts(&self) -> PasswordFile {
        PasswordFile::parse(self.text().as_bytes())
    }
}

fn run(file: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ocpasswd"))
        .arg("-c")
        .arg(file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ocpasswd runs");
    // it may end without reading
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn users_are_added_changed_locked_and_deleted() {
    let place = Place::new();
    assert_eq!(
        code(&place.run(&["-g", "a1,b2", "alice"], b"test\ntest\n")),
        Some(0)
    );
    assert_eq!(
        std::fs::metadata(place.file())
            .expect("present")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    assert_eq!(code(&place.run(&["bob"], b"one line")), Some(0));
    let accounts = place.accounts();
    assert!(accounts.verify("alice", b"test") && accounts.verify("bob", b"one line"));
    assert_eq!(accounts.account("alice").expect("added").groups(), ["a1", "b2"]);

    assert_eq!(code(&place.run(&["alice"], b"new\r\n")), Some(0));
    let accounts = place.accounts();
    assert!(
        accounts.verify("alice", b"new\r") && accounts.account("alice").expect("kept").groups().is_empty()
    );

    assert_eq!(code(&place.run(&["--lock", "alice"], b"")), Some(0));
    assert_eq!(
        place.accounts().account("alice").expect("kept").credential(),
        Credential::Locked
    );
    assert_eq!(code(&place.run(&["-u", "alice"], b"")), Some(0));
    assert!(place.accounts().verify("alice", b"new\r"));
    assert_eq!(code(&place.run(&["-d", "alice"], b"")), Some(0));
    assert!(place.accounts().account("alice").is_none() && place.accounts().account("bob").is_some());
    let before = place.text();
    assert_eq!(
        code(&place.run(&["-d", "nobody"], b"")),
        Some(0),
        "unknown users are no error"
    );
    assert_eq!(place.text(), before);
}

#[test]
fn ocservs_own_tool_and_ours_write_the_same_form() {
    let place = Place::new();
    place.run(&["test"], b"pw\n");
    let text = place.text();
    let hash = text
        .strip_prefix("test:*:$5$")
        .expect("SHA-256 crypt without groups");
    let (salt, hash) = hash.split_once('$').expect("salt and hash");
    assert!(salt.len() == 16 && hash.len() == 44 && hash.ends_with('\n'));
}

#[test]
fn wrong_input_changes_nothing() {
    let place = Place::new();
    place.run(&["bob"], b"x\n");
    let before = place.text();
    for (arguments, input, message) in [
        (&["bob"][..], &b""[..], "Please specify a password"),
        (&["bob"], b"\n", "Please specify a password"),
        (&["a:b"], b"x\n", "Invalid username"),
        (&["-z", "bob"], b"x\n", "invalid option -- 'z'"),
        (
            &["-c", "y", "bob"],
            b"x\n",
            "-c option cannot be specified multiple time",
        ),
        (&[], b"", "Usage:"),
        (&["-d", "-u", "bob"], b"", "Usage:"),
    ] {
        let output = place.run(arguments, input);
        assert_eq!(code(&output), Some(1), "{arguments:?}");
        assert!(err(&output).contains(message), "{arguments:?}: {}", err(&output));
        assert_eq!(place.text(), before);
    }
    let locked = PathBuf::from(format!("{}.tmp", place.file().display()));
    std::fs::write(&locked, "").expect("writable");
    let output = place.run(&["bob"], b"y\n");
    assert!(
        code(&output) == Some(1) && err(&output).ends_with("is locked.\n"),
        "{}",
        err(&output)
    );
    assert_eq!(place.text(), before);
    let output = run(Path::new("/no/such/file"), &["bob"], b"y\n");
    assert_eq!(err(&output), "Cannot open '/no/such/file.tmp' for writing.\n");
    for (option, code_wanted) in [("-h", 0), ("-v", 0)] {
        let output = place.run(&[option], b"");
        assert!(code(&output) == Some(code_wanted) && output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn concurrent_changes_lose_nothing() {
    let place = Place::new();
    std::fs::write(place.file(), "# kept\n").expect("writable");
    let names: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let place = &place;
            scope.spawn(move || {
                // one at a time gets through; the others are told that the file is locked
                while code(&place.run(&[name], b"pw\n")) != Some(0) {
                    std::thread::yield_now();
                }
            });
        }
    });
    let accounts = place.accounts();
    assert!(names.iter().all(|name| accounts.account(name).is_some()));
    assert!(place.text().starts_with("# kept\n"));
    assert_eq!(
        std::fs::read_dir(place.directory.path())
            .expect("readable")
            .count(),
        1,
        "nothing is left behind"
    );
}
