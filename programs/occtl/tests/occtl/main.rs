//! The program against a server that says what the tests want, compared byte for byte with what
//! ocserv 1.1.6's occtl printed (its times, units and the fields of 1.5 aside).

#![allow(clippy::expect_used)]

mod actions;
mod lists;
mod program;
mod schema;
mod sessions;
mod status;
mod users;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use culvert_control::frame::{FrameBuffer, REPLY_MAX, REQUEST_MAX, encode};
use culvert_control::messages::*;
use culvert_vocab::SafeId;

const VECTORS: &str = include_str!("../../../../apps/control/tests/vectors/occtl-1.1.6-outputs.txt");

/// The captured output of one command.
fn captured(title: &str) -> &'static str {
    let text = VECTORS.split_once(&format!("=== {title}\n")).expect("captured").1;
    text.split("=== ").next().expect("text")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// A server for one connection: checks nothing, answers what it was given.
struct Server {
    directory: tempfile::TempDir,
    requests: Receiver<Request>,
}

impl Server {
    /// Answers the n-th connection with the n-th list of replies.
    fn answering(answers: Vec<Vec<Reply>>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let listener = UnixListener::bind(directory.path().join("socket")).expect("bindable");
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for replies in answers {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                if let Some(request) = read_request(&stream) {
                    // the test may have ended
                    let _ = sender.send(request);
                }
                for reply in replies {
                    let frame = encode(&reply, REPLY_MAX).expect("short");
                    if (&stream).write_all(&frame).is_err() {
                        break;
                    }
                }
            }
        });
        Self { directory, requests }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn occtl(&self, line: &str) -> Output {
        occtl(&self.socket(), line)
    }
}

fn read_request(mut stream: &UnixStream) -> Option<Request> {
    let mut buffer = FrameBuffer::new(REQUEST_MAX);
    let mut bytes = [0; 1024];
    loop {
        if let Some(request) = buffer.next_message().expect("a request") {
            return Some(request);
        }
        let length = stream.read(&mut bytes).ok().filter(|&length| length > 0)?;
        buffer.extend(&bytes[..length]);
    }
}

fn occtl(socket: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_occtl"))
        .arg("-s")
        .arg(socket)
        .args(line.split_whitespace())
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .expect("occtl runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn safe_id(text: &str) -> SafeId {
    serde_json::from_value(text.into()).expect("a string")
}

/// Puts the date of the capture in place of ours, and ocserv 1.1.6's units.
fn as_captured(text: &str, at: u64) -> String {
    let ours = chrono::DateTime::from_timestamp(at.cast_signed(), 0).expect("a time");
    let dates = text.replace(&ours.format("%Y-%m-%d %H:%M").to_string(), "2026-11-21 18:27");
    dates
        .replace("bytes/s\"", "bytes/sec\"")
        .replace("bytes/s ", "bytes/sec ")
        .replace("bytes/s\n", "bytes/sec\n")
        .replace("Last connected at", "Connected at")
}

/// Without the lines that occtl 1.5 added.
fn without_new_lines(text: &str) -> String {
    let new = ["Session started at", "raw_connected_at", "raw_session_started_at"];
    text.split_inclusive('\n')
        .filter(|line| !new.iter().any(|name| line.contains(name)))
        .collect()
}

/// The user `test` of the capture, connected 19 s ago.
fn test_user(at: u64) -> Connection {
    Connection {
        id: 6656,
        username: Some("test".into()),
        state: AuthState::Authenticated,
        vhost: "default".into(),
        device: Some("vpns0".into()),
        mtu: Some(1434),
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        local_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 190),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        ipv6: Some(TunnelAddresses {
            client: "fd99::1950:2c2b:bd9d:6cef".parse().expect("an address"),
            server: "fd99::1".parse::<Ipv6Addr>().expect("an address"),
        }),
        user_agent: Some("Open AnyConnect VPN Agent v9.01-3".into()),
        traffic: Some(Traffic { rx: 0, tx: 600 }),
        dpd: 60,
        keepalive: 3600,
        hostname: Some("myhost".into()),
        connected_at: at,
        session_started_at: at,
        session: Some(safe_id("11N3AjaHY+OwHTXpS4GcLP8w8R4=")),
        tls_ciphersuite: Some("(TLS1.3)-(ECDHE-SECP256R1)-(RSA-PSS-RSAE-SHA256)-(AES-256-GCM)".into()),
        dtls_cipher: Some("(DTLS1.2)-(PSK)-(AES-256-GCM)".into()),
        dns: vec!["8.8.8.8".into()],
        routes: vec!["10.10.0.0/255.255.0.0".into()],
        ..Connection::default()
    }
}

/// The user `alice` of the capture, connected a second ago.
fn alice(at: u64) -> Connection {
    Connection {
        id: 9813,
        username: Some("alice".into()),
        groupname: Some("group1".into()),
        device: Some("vpns1".into()),
        mtu: Some(1472),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 50),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        ipv6: Some(TunnelAddresses {
            client: "fd99::9a7c:c09f:b76e:58ef".parse().expect("an address"),
            server: "fd99::1".parse().expect("an address"),
        }),
        traffic: Some(Traffic { rx: 0, tx: 368 }),
        hostname: Some("vm".into()),
        session: Some(safe_id("ZjgEVwFmPGhPZaM3qtX19plgzM4=")),
        dtls_cipher: None,
        ..test_user(at)
    }
}

fn users(connections: &[Connection]) -> Vec<Reply> {
    let users = connections.iter().cloned().map(Box::new).map(Reply::User);
    users.chain([Reply::End]).collect()
}

/// Runs `check` until no second passes in between, so that ages are exact.
fn within_one_second(check: impl Fn(u64) -> (String, String)) {
    for _ in 0..50 {
        let start = now();
        let (ours, theirs) = check(start);
        if now() == start {
            assert_eq!(ours, theirs);
            return;
        }
    }
    panic!("the machine is too slow for this test");
}
