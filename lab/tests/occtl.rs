//! `occtl` against a server with one client, text and JSON; the same for both makes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use culvert_lab::{Client, Fixture, Make, Server, World, wait};
use serde_json::Value;

/// Keys that programs of administrators read in `show users`, `show user` and `show id`.
const USER_KEYS: [&str; 26] = [
    "ID",
    "Username",
    "Groupname",
    "State",
    "vhost",
    "Device",
    "MTU",
    "Remote IP",
    "Location",
    "Local Device IP",
    "IPv4",
    "P-t-P IPv4",
    "IPv6",
    "P-t-P IPv6",
    "User-Agent",
    "RX",
    "TX",
    "_RX",
    "_TX",
    "Average RX",
    "Average TX",
    "DPD",
    "KeepAlive",
    "Hostname",
    "TLS ciphersuite",
    "DTLS cipher",
];
/// Keys of `show status`.
const STATUS_KEYS: [&str; 18] = [
    "Status",
    "Server PID",
    "Sec-mod PID",
    "Up since",
    "_Up since",
    "raw_up_since",
    "uptime",
    "Active sessions",
    "Total sessions",
    "Total authentication failures",
    "IPs in ban list",
    "Last stats reset",
    "_Last stats reset",
    "raw_last_stats_reset",
    "Sessions handled",
    "Authentication failures",
    "RX",
    "raw_rx",
];

fn json(server: &Server, arguments: &[&str]) -> Value {
    let mut all = vec!["-j"];
    all.extend(arguments);
    let (code, text) = server.occtl(&all);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

fn has_keys(object: &Value, keys: &[&str]) {
    let present: BTreeSet<&str> = object
        .as_object()
        .unwrap_or_else(|| panic!("no object: {object}"))
        .keys()
        .map(String::as_str)
        .collect();
    let missing: Vec<_> = keys.iter().filter(|key| !present.contains(**key)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {object:#}");
}

fn session(make: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let mut server = Server::start(make, &world, &fixture);
    let (code, text) = server.occtl(&["show", "users"]);
    assert_eq!((code, text.as_str()), (0, ""));

    let mut client = Client::connect(Make::Real, &world, &fixture);
    client.process.wait_for("Established DTLS connection");
    let address = Client::inner_v4(&world).to_string();
    let users = wait::until("the session", || {
        let users = json(&server, &["show", "users"]);
        (users[0]["State"] == "connected" && users[0]["DTLS cipher"].is_string()).then_some(users)
    });
    assert_eq!(users.as_array().unwrap().len(), 1, "{users}");
    has_keys(&users[0], &USER_KEYS);
    assert_eq!(users[0]["Username"], "alice");
    assert_eq!(users[0]["Groupname"], "staff");
    assert_eq!(users[0]["IPv4"], address.as_str());
    assert_eq!(users[0]["Remote IP"], "192.0.2.2");
    assert_eq!(users[0]["DTLS cipher"], "(DTLS1.2)-(PSK)-(AES-256-GCM)");
    let id = users[0]["ID"].as_i64().unwrap().to_string();

    for words in [["show", "user", "alice"], ["show", "id", &id]] {
        let detail = json(&server, &words);
        has_keys(&detail[0], &USER_KEYS);
        assert_eq!(detail[0]["ID"], users[0]["ID"]);
        let (code, text) = server.occtl(&words);
        assert_eq!(code, 0, "{text}");
        for line in [
            format!("\tID: {id}\n"),
            "\tUsername: alice   Groupname: staff\n".to_owned(),
            "\tState: connected\n".to_owned(),
            format!("\tIPv4: {address}   P-t-P IPv4: 10.99.1.1\n"),
            "\tDTLS cipher: (DTLS1.2)-(PSK)-(AES-256-GCM)\n".to_owned(),
        ] {
            assert!(text.contains(&line), "no {line:?} in {text}");
        }
    }
    let (code, text) = server.occtl(&["show", "users"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!((code, lines.len()), (0, 2), "{text}");
    assert_eq!(
        lines[0],
        [
            "id",
            "user",
            "vhost",
            "ip",
            "vpn-ip",
            "device",
            "since",
            "dtls-cipher",
            "status"
        ]
    );
    assert_eq!(
        lines[1][..5],
        [&id, "alice", "default", "192.0.2.2", &address],
        "{text}"
    );

    let status = json(&server, &["show", "status"]);
    has_keys(&status, &STATUS_KEYS);
    assert_eq!(status["Status"], "online");
    assert_eq!(status["Server PID"], server.process.pid());
    assert_eq!(status["Active sessions"], 1, "{status}");
    let (code, text) = server.occtl(&["show", "status"]);
    assert!(
        code == 0 && text.contains("General info:") && text.contains("Status: online"),
        "{text}"
    );

    refusals(&server);
    let (code, text) = server.occtl(&["reload"]);
    assert_eq!((code, text.as_str()), (0, "Server scheduled to reload\n"));
    let (code, text) = server.occtl(&["disconnect", "user", "alice"]);
    assert_eq!((code, text.as_str()), (0, "user 'alice' was disconnected\n"));
    assert_ne!(client.process.exit_code(), 0, "{}", client.process.output());
    server.wait_until_alone();

    let (code, text) = server.occtl(&["stop", "now"]);
    assert_eq!((code, text.as_str()), (0, "Server scheduled to stop\n"));
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
    assert_eq!(server.occtl(&["show", "users"]).0, 1);
}

fn refusals(server: &Server) {
    for (words, code, text) in [
        (vec!["show", "user", "nobody"], 2, "user or ID not found\n"),
        (
            vec!["disconnect", "user", "nobody"],
            1,
            "could not disconnect user 'nobody'\n",
        ),
        (
            vec!["disconnect", "id", "999999"],
            1,
            "could not disconnect ID '999999'\n",
        ),
        (vec!["frobnicate"], 1, ""),
    ] {
        let got = server.occtl(&words);
        assert_eq!((got.0, got.1.as_str()), (code, text), "{words:?}");
    }
}

/// A program on a terminal, and what it has shown there.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: PathBuf,
}

impl Terminal {
    fn start(command: &str, screen: PathBuf) -> Self {
        let mut script = Command::new("script");
        script.args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            command,
            "/dev/null",
        ]);
        let mut child = script
            .env("TERM", "vt100")
            .stdin(Stdio::piped())
            .stdout(File::create(&screen).unwrap())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take().unwrap();
        Self {
            child,
            keyboard,
            screen,
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.screen).unwrap()).into_owned()
    }

    /// How often the program has begun to read a line: what is typed before is lost.
    fn prompts(&self) -> usize {
        self.shown().matches("\u{1b}[?2004h").count()
    }

    /// Types and waits until `text` has been shown that many times.
    fn types(&mut self, keys: &str, text: &str, times: usize) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        let enough = wait::poll_within(wait::PATIENCE, || {
            (self.shown().matches(text).count() >= times).then_some(())
        });
        assert!(
            enough.is_some(),
            "{keys:?}: no {text:?} ({times}) in {}",
            self.shown()
        );
    }

    /// The same with a line, or the end of one: waits for the next prompt, too.
    fn enters(&mut self, keys: &str, text: &str, times: usize) {
        let before = self.prompts();
        self.types(keys, text, times);
        wait::until("the next prompt", || (self.prompts() > before).then_some(()));
    }
}

/// Tab completes commands, and names that a listing has shown; the arrow brings back what was typed.
#[test]
fn on_a_terminal_it_completes_and_remembers() {
    let (world, fixture) = (World::new(), Fixture::new());
    let server = Server::start(Make::Culvert, &world, &fixture);
    let mut client = Client::connect(Make::Real, &world, &fixture);
    let command = format!(
        "ip netns exec {} {} -n -s {}",
        world.server.name(),
        Make::Culvert.program("occtl").display(),
        fixture.path("occtl.sock").display()
    );
    let mut terminal = Terminal::start(&command, fixture.path("screen"));
    wait::until("a prompt", || (terminal.prompts() == 1).then_some(()));
    terminal.enters("show stat\t\r", "Status: online", 1);
    terminal.enters("\u{1b}[A\r", "Status: online", 2);
    terminal.enters("show users\r", "alice", 1);
    terminal.types("show us\t\t", "show users  show user ", 1);
    // Ctrl-C forgets the line and nothing else.
    terminal.enters("\u{3}", "", 0);
    terminal.enters("frobnicate\r", "unknown command: frobnicate", 1);
    terminal.enters("disconnect user al\t\r", "user 'alice' was disconnected", 1);
    assert_ne!(client.process.exit_code(), 0, "{}", client.process.output());
    terminal.types("exit\r", "", 0);
    let end = wait::poll_within(wait::PATIENCE, || terminal.child.try_wait().unwrap());
    assert_eq!(end.and_then(|status| status.code()), Some(0));
    drop(server);
}

#[test]
fn occtl_and_the_real_server() {
    session(Make::Real);
}

#[test]
fn occtl_and_our_server() {
    session(Make::Culvert);
}
