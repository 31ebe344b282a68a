//! The captured command lines of the reference that reach the network, and the exit codes and
//! streams of the others, with the program itself.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openconnect"))
        .args(arguments)
        .env_remove("https_proxy")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn same_lines_on_the_same_streams_as_the_reference() {
    let vectors = include_str!("../../../apps/client/tests/vectors/cli-errors.txt");
    let mut checked = 0;
    for case in vectors.split("\n$ openconnect ").skip(1) {
        let command = case.lines().next().unwrap();
        let reaches_network =
            case.contains("Failed to complete authentication") || case.contains("server URL");
        if !reaches_network {
            continue;
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = run(&words);
        let wanted =
            |mark: &str| -> Vec<&str> { case.lines().filter_map(|line| line.strip_prefix(mark)).collect() };
        // What the resolver says depends on the machine.
        let stable = |line: &str| match line.strip_prefix("getaddrinfo failed for host ") {
            Some(rest) => rest.split_once("': ").unwrap_or_default().0.to_owned(),
            None => line.to_owned(),
        };
        let stable_all = |lines: Vec<&str>| -> Vec<String> { lines.into_iter().map(stable).collect() };
        let ours = |bytes: &[u8]| -> Vec<String> { lines(bytes).iter().map(|line| stable(line)).collect() };
        assert_eq!(ours(&output.stderr), stable_all(wanted("E: ")), "{command}");
        assert_eq!(ours(&output.stdout), stable_all(wanted("O: ")), "{command}");
        assert_eq!(output.status.code(), Some(1), "{command}");
        checked += 1;
    }
    assert!(checked >= 9, "only {checked} cases were read");
}

#[test]
fn help_and_version() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(1));
    assert!(help.stderr.is_empty());
    assert_eq!(lines(&help.stdout)[0], "Usage:  openconnect [options] <server>");
    let version = run(&["-V"]);
    assert_eq!(version.status.code(), Some(0));
    let text = lines(&version.stdout);
    assert_eq!(text.len(), 4);
    assert!(text[0].starts_with("OpenConnect version v"), "{text:?}");
    assert!(
        text[2].starts_with("Supported protocols: anyconnect (default)"),
        "{text:?}"
    );
    let wrong = run(&["--bogus"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(lines(&wrong.stderr)[0].ends_with(": unrecognized option '--bogus'"));
    assert_eq!(wrong.stdout, help.stdout);
}

#[test]
fn a_cookie_is_printed_without_network_traffic() {
    let output = run(&["--cookieonly", "--cookie", "abc=", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"abc=\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn completion() {
    let complete = |word: &str, position: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openconnect"));
        command
            .args(["--autocomplete", word, ""])
            .env_remove("COMP_CWORD");
        if let Some(position) = position {
            command.env("COMP_CWORD", position);
        }
        command.output().unwrap()
    };
    let output = complete("--passwd", Some("1"));
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"--passwd-on-stdin\n".as_slice())
    );
    assert_ne!(complete("x", None).status.code(), Some(0));
}

/// Secrets given as arguments are not left where every user sees them.
#[test]
fn secrets_vanish_from_the_process_list() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_openconnect"))
        .args(["--cookie", "topsecret", &server])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It has connected, so it is past its start.
    let _connection = listener.accept().unwrap();
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("--cookie") && !line.contains("topsecret"), "{line}");
}

/// A protocol that is not there is named in one line, whatever it was called.
#[test]
fn protocols_of_other_versions() {
    let warning = "WARNING: --juniper is deprecated, use --protocol=nc instead.\n";
    for (arguments, before) in [(["--protocol=nc", "h"], ""), (["--juniper", "h"], warning)] {
        let output = run(&arguments);
        let text = format!("{before}--protocol=nc is not available in this version\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), text);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    }
}
