//! The program against a server that says what the tests want, compared byte for byte with what
//! ocserv 1.1.6's occtl printed (its times, units and the fields of 1.5 aside).

#![allow(clippy::expect_used)]

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

const VECTORS: &str = include_str!("../../../apps/control/tests/vectors/occtl-1.1.6-outputs.txt");

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
    for _ in 0..5 {
        let start = now();
        let (ours, theirs) = check(start);
        if now() == start {
            assert_eq!(ours, theirs);
            return;
        }
    }
    panic!("the machine is too slow for this test");
}

#[test]
fn show_users() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[alice(now - 1), test_user(now - 19)])]);
        (
            out(&server.occtl("show users")),
            captured("occtl show users").to_owned(),
        )
    });
}

#[test]
fn show_users_json() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[alice(now - 1), test_user(now - 19)])]);
        let ours = out(&server.occtl("-j show users"));
        // both users are of the same minute in the capture
        let ours = as_captured(&as_captured(&ours, now - 1), now - 19);
        (
            without_new_lines(&ours),
            captured("occtl -j show users").to_owned(),
        )
    });
}

#[test]
fn show_user() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[test_user(now - 19)])]);
        let ours = as_captured(&out(&server.occtl("show user test")), now - 19);
        assert_eq!(server.requests.recv(), Ok(Request::User("test".into())));
        (
            without_new_lines(&ours),
            captured("occtl show user test").to_owned(),
        )
    });
}

#[test]
fn show_user_with_limits_and_lists() {
    let connection = Connection {
        rx_limit: Some(40_000),
        tx_limit: Some(2_500_000),
        dns: vec!["10.20.0.53".into(), "fd55::53".into()],
        default_route: true,
        routes: vec![],
        restricted_to_ports: vec!["tcp(443)".into(), "icmp()".into()],
        cstp_compression: Some("lzs".into()),
        ..test_user(now())
    };
    let server = Server::answering(vec![
        users(std::slice::from_ref(&connection)),
        users(&[connection]),
    ]);
    let text = out(&server.occtl("show id 6656"));
    for line in [
        "\tLimit RX: 40.0 kB/s   Limit TX: 2.5 MB/s\n",
        "\tCSTP compression: lzs\n",
        "\n\tDNS: 10.20.0.53\n\t\tfd55::53\n\tRoutes: defaultroute\n",
        "\tRestricted to ports: tcp(443), icmp()\n",
    ] {
        assert!(text.contains(line), "{line:?} not in {text}");
    }
    let json = out(&server.occtl("-j show id 6656"));
    let parsed: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
    assert_eq!(parsed[0]["Routes"], "defaultroute");
    assert_eq!(parsed[0]["Restricted to ports"][0], "tcp(443)");
    assert_eq!(json.matches("\"Routes\"").count(), 1);
    assert_eq!(server.requests.recv(), Ok(Request::Id(6656)));
}

#[test]
fn show_status() {
    let status = |now: u64| Status {
        server_pid: 32346,
        secmod_pid: 32348,
        secmod_instances: 1,
        up_since: now - 44,
        active_sessions: 2,
        total_sessions: 1,
        latency: Some(Latency::default()),
        secmod_client_entries: 3,
        period: PeriodStats {
            last_reset: Some(now - 44),
            sessions_handled: 1,
            closed_by_error: 1,
            min_mtu: 1434,
            max_mtu: 1434,
            ..PeriodStats::default()
        },
        ..Status::default()
    };
    let answer = |now| vec![vec![Reply::Status(Box::new(status(now)))]];
    within_one_second(|now| {
        let ours = out(&Server::answering(answer(now)).occtl("show status"));
        (
            as_captured(&ours, now - 44),
            captured("occtl show status").to_owned(),
        )
    });
    within_one_second(|now| {
        let ours = out(&Server::answering(answer(now)).occtl("-j show status"));
        let ours = ours.replace(&(now - 44).to_string(), "1795285635");
        (
            as_captured(&ours, now - 44),
            captured("occtl -j show status").to_owned(),
        )
    });
    let debug = out(&Server::answering(answer(now())).occtl("--debug show status"));
    assert!(
        debug.contains("\tSec-mod client entries: 3\n\tTLS DB entries: 0\n"),
        "{debug}"
    );
}

fn session(id: &str, user: &str, created: u64) -> Session {
    Session {
        id: safe_id(id),
        created,
        expires: None,
        state: AuthState::Authenticated,
        username: Some(user.into()),
        groupname: (user == "alice").then(|| "group1".into()),
        vhost: "default".into(),
        user_agent: Some("Open AnyConnect VPN Agent v9.01-3".into()),
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        location: None,
        in_use: true,
        is_open: true,
        tls_auth_ok: false,
    }
}

fn sessions(list: &[Session]) -> Vec<Reply> {
    let sessions = list.iter().cloned().map(Box::new).map(Reply::Session);
    sessions.chain([Reply::End]).collect()
}

#[test]
fn show_sessions() {
    let list = |now: u64| {
        sessions(&[
            session("11N3AjaHY+OwHTXpS4GcLP8w8R4=", "test", now - 40),
            session("ZjgEVwFmPGhPZaM3qtX19plgzM4=", "alice", now - 2),
        ])
    };
    within_one_second(|now| {
        let server = Server::answering(vec![list(now)]);
        let ours = out(&server.occtl("show sessions valid"));
        assert_eq!(server.requests.recv(), Ok(Request::Sessions { valid_only: true }));
        (ours, captured("occtl show sessions valid").to_owned())
    });
    within_one_second(|now| {
        let ours = out(&Server::answering(vec![list(now)]).occtl("-j show cookies all"));
        let ours = as_captured(&as_captured(&ours, now - 2), now - 40);
        // 1.1.6 has a comma after the last member
        (
            ours,
            captured("occtl -j show sessions all").replace("\"in_use\":  1,", "\"in_use\":  1"),
        )
    });
}

#[test]
fn show_session() {
    let created = now();
    let one = Session {
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2))),
        ..session("NQE1cFmQNmeRzuQzgQS4+XsBCn0=", "alice", created)
    };
    let server = Server::answering(vec![
        sessions(std::slice::from_ref(&one)),
        sessions(&[]),
        sessions(&[]),
    ]);
    let found = server.occtl("show session NQE1cF");
    let captured = captured("occtl show session NQE1cF").replace("18:58", "18:27");
    assert_eq!(as_captured(&out(&found), created), captured);
    let missing = server.occtl("show session zzz");
    assert_eq!(
        (out(&missing).as_str(), missing.status.code()),
        ("Session ID not found or expired\n", Some(0))
    );
    assert_eq!(out(&server.occtl("-j show session zzz")), "[\n]\n");
}

#[test]
fn bans_and_points() {
    let bans = |until| {
        let banned = Ban {
            ip: "198.51.100.2".parse().expect("an address"),
            score: 48,
            banned_until: Some(until),
        };
        let points = Ban {
            ip: "2001:db8::".parse().expect("an address"),
            score: 3,
            banned_until: None,
        };
        vec![Reply::Ban(banned), Reply::Ban(points), Reply::End]
    };
    within_one_second(|now| {
        let ours = out(&Server::answering(vec![bans(now)]).occtl("show ip bans"));
        // the first capture is of an empty list
        let (_, captured) = VECTORS.rsplit_once("=== occtl show ip bans\n").expect("captured");
        let captured = captured.split("=== ").next().expect("text");
        (as_captured(&ours, now), captured.replace("18:59", "18:27"))
    });
    let server = Server::answering(vec![bans(now()), bans(now()), bans(now() + 100)]);
    assert_eq!(
        out(&server.occtl("show ip ban points")),
        "            IP          score\n  198.51.100.2             48\n    2001:db8::              3\n"
    );
    let points = serde_json::from_str::<serde_json::Value>(&out(&server.occtl("-j show ip ban points")));
    assert_eq!(points.expect("valid JSON").as_array().map(Vec::len), Some(2));
    let banned = serde_json::from_str::<serde_json::Value>(&out(&server.occtl("-j show ip bans")));
    assert_eq!(banned.expect("valid JSON")[0]["Score"], 48);
}

#[test]
fn iroutes() {
    let alice = Connection {
        id: 3556,
        device: Some("vpns0".into()),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 77),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        iroutes: vec!["172.16.5.0/255.255.255.0".into(), "fd55::/64".into()],
        ..alice(now())
    };
    let server = Server::answering(vec![users(std::slice::from_ref(&alice)), users(&[alice])]);
    assert_eq!(
        out(&server.occtl("show iroutes")),
        captured("occtl show iroutes   (one user with two iroutes)")
    );
    let json: serde_json::Value =
        serde_json::from_str(&out(&server.occtl("-j show iroutes"))).expect("valid JSON");
    assert_eq!(json[0]["iRoutes"][1], "fd55::/64");
}

#[test]
fn empty_lists() {
    for (line, request) in [
        ("show users", Request::Users),
        ("show ip bans", Request::Bans),
        ("show ip ban points", Request::Bans),
        ("show sessions all", Request::Sessions { valid_only: false }),
        ("show iroutes", Request::Users),
    ] {
        let server = Server::answering(vec![vec![Reply::End], vec![Reply::End]]);
        let text = server.occtl(line);
        assert_eq!((out(&text).as_str(), text.status.code()), ("", Some(0)), "{line}");
        assert_eq!(server.requests.recv(), Ok(request));
        assert_eq!(out(&server.occtl(&format!("-j {line}"))), "[\n]\n", "{line}");
    }
}

#[test]
fn actions_say_what_they_did_and_exit_accordingly() {
    for (line, request, yes, no) in [
        (
            "disconnect user alice",
            Request::DisconnectUser("alice".into()),
            "user 'alice' was disconnected",
            "could not disconnect user 'alice'",
        ),
        (
            "disconnect id 999",
            Request::DisconnectId(999),
            "connection ID '999' was disconnected",
            "could not disconnect ID '999'",
        ),
        (
            "terminate user alice",
            Request::TerminateUser("alice".into()),
            "user 'alice' was terminated (session invalidated)",
            "could not terminate user 'alice'",
        ),
        (
            "terminate id 5",
            Request::TerminateId(5),
            "connection ID '5' was terminated (session invalidated)",
            "could not terminate ID '5'",
        ),
        (
            "unban ip 1.2.3.4",
            Request::Unban("1.2.3.4".parse().expect("an address")),
            "IP '1.2.3.4' was unbanned",
            "could not unban IP '1.2.3.4'",
        ),
        (
            "reload",
            Request::Reload,
            "Server scheduled to reload",
            "Error scheduling reload",
        ),
        (
            "stop now",
            Request::Stop,
            "Server scheduled to stop",
            "Error scheduling server stop",
        ),
    ] {
        let server = Server::answering(vec![vec![Reply::Done(true)], vec![Reply::Done(false)]]);
        let done = server.occtl(line);
        assert_eq!((out(&done), done.status.code()), (format!("{yes}\n"), Some(0)));
        assert_eq!(server.requests.recv(), Ok(request));
        // -j changes nothing for actions
        let refused = server.occtl(&format!("-j {line}"));
        assert_eq!(
            (out(&refused), refused.status.code()),
            (format!("{no}\n"), Some(1))
        );
    }
}

#[test]
fn terminating_sessions() {
    let mut free = session("11N3AjaHY+OwHTXpS4GcLP8w8R4=", "test", 0);
    free.in_use = false;
    let busy = session("11NxxxaHY+OwHTXpS4GcLP8w8R4=", "alice", 0);
    let both = sessions(&[free, busy]);
    let server = Server::answering(vec![
        both.clone(),
        vec![Reply::Done(true)],
        both.clone(),
        vec![Reply::Done(true)],
        both.clone(),
        both,
    ]);
    let ended = server.occtl("terminate session 11N3");
    assert_eq!(
        (out(&ended).as_str(), ended.status.code()),
        ("session '11N3Aj' was terminated\n", Some(0))
    );
    assert_eq!(
        server.requests.recv(),
        Ok(Request::Sessions { valid_only: false })
    );
    let wanted = Request::TerminateSession(safe_id("11N3AjaHY+OwHTXpS4GcLP8w8R4="));
    assert_eq!(server.requests.recv(), Ok(wanted));
    let active = server.occtl("terminate session 11Nxxx");
    assert_eq!(
        err(&active),
        "warning: session '11Nxxx' (user: alice) has an active connection; the connection will not be dropped\n"
    );
    let ambiguous = server.occtl("terminate session 11N");
    assert_eq!(ambiguous.status.code(), Some(1));
    assert_eq!(
        out(&ambiguous),
        "ambiguous session ID '11N' matches 2 sessions:\n  11N3AjaHY+OwHTXpS4GcLP8w8R4=  user: test\n  \
         11NxxxaHY+OwHTXpS4GcLP8w8R4=  user: alice\nuse the full session ID to terminate a specific session\n"
    );
    let none = server.occtl("terminate session zzz");
    assert_eq!(
        (out(&none).as_str(), none.status.code()),
        ("no session matching 'zzz' was found\n", Some(1))
    );
    let long = server.occtl("terminate session 12345678901234567890123456789");
    assert_eq!(out(&long), "invalid session ID '12345678901234567890123456789'\n");
}

#[test]
fn users_that_are_not_there() {
    let server = Server::answering(vec![vec![Reply::End], vec![Reply::End]]);
    let text = server.occtl("show user nosuch");
    assert_eq!(
        (out(&text).as_str(), text.status.code()),
        (captured("occtl show user nosuch"), Some(2))
    );
    let json = server.occtl("-j show id 999999");
    assert_eq!((out(&json).as_str(), json.status.code()), ("[\n]\n", Some(2)));
}

#[test]
fn commands_that_need_no_server() {
    let nowhere = Path::new("/no/such/socket");
    for (line, code, text, error) in [
        (
            "foo",
            1,
            "",
            "unknown command: foo\nuse help or '?' to get a list of the available commands\n",
        ),
        ("unban ip foo", 1, "", "Cannot parse IP: foo"),
        ("reset", 0, "", ""),
        ("show cookies", 1, captured("occtl show cookies"), ""),
        ("show", 1, captured("occtl show"), ""),
    ] {
        let output = occtl(nowhere, line);
        assert_eq!(
            (output.status.code(), out(&output).as_str(), err(&output).as_str()),
            (Some(code), text, error)
        );
    }
    for line in ["show user", "show id 0", "show id abc", "disconnect user ?"] {
        let output = occtl(nowhere, line);
        assert!(
            output.status.code() == Some(1) && out(&output).contains(" show cookies valid\t"),
            "{line}"
        );
    }
    assert_eq!(occtl(nowhere, "-j").status.code(), Some(1));
    let version = occtl(nowhere, "--version");
    assert!(
        version.status.success() && version.stdout.is_empty() && err(&version).contains("For help type ?")
    );
    let help = occtl(nowhere, "--help");
    assert!(help.status.success() && out(&help).contains("\nAvailable Commands\n disconnect user [NAME]\t"));
}

#[test]
fn servers_that_do_not_answer() {
    let output = occtl(Path::new("/no/such/socket"), "show users");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error connecting to ocserv socket '/no/such/socket': No such file or directory\n"
    );
    // refused by the server: it closes the connection
    let server = Server::answering(vec![vec![], vec![], vec![]]);
    let output = server.occtl("show users");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "could not send message; possibly insufficient permissions or server is offline.\n"
    );
    let output = server.occtl("show status");
    assert_eq!(
        (output.status.code(), out(&output).as_str()),
        (Some(1), "\tStatus: offline\n")
    );
    let output = server.occtl("-j show status");
    assert_eq!(out(&output), "  {\n    \"Status\":  \"offline\"\n  }\n");
}

#[test]
fn hostile_names_stay_text_and_valid_json() {
    let hostile = Connection {
        username: Some("a\"b\\c\u{1b}[31m\né".into()),
        hostname: Some("\u{7}\",\"x\":\"".into()),
        dns: vec!["\"], [\"".into()],
        ..test_user(now())
    };
    let server = Server::answering(vec![users(std::slice::from_ref(&hostile)); 3]);
    for line in ["show users", "show user x"] {
        let text = out(&server.occtl(line));
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
            "{text:?}"
        );
        assert!(text.contains("a\"b\\c[31mé"), "{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&out(&server.occtl("-j show users"))).expect("valid JSON");
    assert_eq!(json[0]["Username"].as_str(), hostile.username.as_deref());
    assert_eq!(json[0]["Hostname"].as_str(), hostile.hostname.as_deref());
    assert_eq!(
        json[0]["DNS"][0].as_str(),
        hostile.dns.first().map(String::as_str)
    );
}

#[test]
fn events_are_printed_until_the_server_ends() {
    let connection = Connection {
        id: 3556,
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2))),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 77),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        ..alice(now())
    };
    let event = |kind| {
        Reply::Event(Box::new(Event {
            kind,
            connection: connection.clone(),
        }))
    };
    let ended = EventKind::Disconnect {
        reason: DisconnectReason::Server,
        duration: 3,
    };
    let replies = vec![Reply::End, event(EventKind::Connect), event(ended)];
    let server = Server::answering(vec![replies.clone(), replies]);
    let output = server.occtl("show events");
    assert_ne!(output.status.code(), Some(0), "the server ended first");
    let captured = captured("occtl show events   (text; connect then administrative disconnect)");
    let first_four: Vec<&str> = captured.lines().take(5).collect();
    assert_eq!(out(&output).lines().collect::<Vec<_>>(), first_four);
    assert!(err(&output).starts_with("events: "), "{}", err(&output));

    let json = out(&server.occtl("-j show events"));
    let (_, events) = json
        .split_once("Press 'q' or CTRL+C to quit\n\n")
        .expect("the hint");
    let mut events = serde_json::Deserializer::from_str(events).into_iter::<serde_json::Value>();
    let connect = events.next().expect("an event").expect("valid JSON");
    assert_eq!(
        (connect[0]["Event"].as_str(), connect[0]["ID"].as_u64()),
        (Some("connect"), Some(3556))
    );
    let disconnect = events.next().expect("an event").expect("valid JSON");
    assert_eq!(disconnect[0]["Reason"], "server disconnected");
}

#[test]
fn interactive_sessions_go_on_after_errors_and_end_with_the_input() {
    let server = Server::answering(vec![vec![Reply::Done(true)]]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_occtl"))
        .arg("-s")
        .arg(server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("occtl runs");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(b"foo\n\n  reload  \nshow us?\n")
        .expect("writable");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let text = out(&output);
    assert!(
        text.contains("Server scheduled to reload\n") && text.contains(" show users\tPrints"),
        "{text}"
    );
    assert!(err(&output).contains("unknown command: foo\n"));
}
