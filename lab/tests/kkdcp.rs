//! Tickets for clients that reach only the VPN server: MIT's `kinit` and `kvno` through its proxy to
//! the KDC, by both transports, and all that a proxy for strangers has to refuse.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::kerberos::{REALM, write_config};
use culvert_lab::net::{SERVER_V4, STRANGER_V4};
use culvert_lab::{
    Client, ClientOptions, Fixture, Make, Process, Raw, Realm, Server, ServerOptions, USER, World, wait,
};

/// A realm whose KDC the client host does not reach itself.
struct Scene {
    server: Server,
    realm: Realm,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// A KDC and a server with these further lines.
    fn new(kdc: &str, options: &[(&str, &str)]) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let realm = Realm::start(&world, &fixture, kdc);
        world
            .client
            .write_etc("hosts", &format!("{SERVER_V4} {SERVER_NAME}\n"));
        world.client.nft(
            "add table inet lab; add chain inet lab out { type filter hook output priority 0; }; \
             add rule inet lab out meta l4proto { tcp, udp } th dport 88 reject",
        );
        let mut overrides = vec![
            ("kkdcp", format!("\"/KdcProxy {REALM} tcp@{SERVER_V4}:88\"")),
            ("kkdcp", format!("\"/datagrams {REALM} udp@{SERVER_V4}:88\"")),
            ("kkdcp", format!("\"/dead {REALM} tcp@{SERVER_V4}:89\"")),
            ("kkdcp", format!("\"/silent {REALM} udp@{SERVER_V4}:90\"")),
            ("kkdcp", format!("\"/two OTHER.TEST tcp@{SERVER_V4}:89\"")),
            ("kkdcp", format!("\"/two {REALM} tcp@{SERVER_V4}:88\"")),
        ];
        overrides.extend(options.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let overrides: Vec<(&str, &str)> = overrides
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(Make::Culvert, &world, &fixture, &options),
            realm,
            fixture,
            world,
        }
    }

    /// Gets a ticket for alice through this path of the server, and says how that ended.
    fn kinit(&self, path: &str) -> (i32, String) {
        let config = format!("{path}.conf");
        let kdc = format!(
            "kdc = https://{SERVER_NAME}/{path}\n  http_anchors = FILE:{}",
            self.fixture.path("ca.pem").display()
        );
        write_config(&self.fixture, &config, &kdc, "");
        let done = self
            .realm
            .kinit(&self.world.client, &self.fixture, (&config, path), USER);
        (done.code, done.stdout + &done.stderr)
    }

    fn succeeds(&self, path: &str) {
        let (code, text) = self.kinit(path);
        assert_eq!(code, 0, "{path}: {text}\n{}", self.server.log());
    }

    fn fails(&self, path: &str) {
        let (code, text) = self.kinit(path);
        assert_eq!(code, 1, "{path}: {text}");
        assert!(text.contains("Cannot contact any KDC"), "{path}: {text}");
    }

    /// With the ticket from there, one for the VPN server.
    fn asks_for_service(&self, path: &str) {
        let mut command = self.world.client.command("kvno");
        command.arg(format!("HTTP/{SERVER_NAME}"));
        let mut command = self.realm.with_tickets(command, path);
        command.env("KRB5_CONFIG", self.fixture.path(&format!("{path}.conf")));
        let done = Process::start(command, self.fixture.dir(), "kvno", None).finish();
        assert_eq!(done.code, 0, "{path}: {}\n{}", done.stderr, self.server.log());
        assert!(
            done.stdout.contains("kvno = 2") || done.stdout.contains("kvno = 1"),
            "{}",
            done.stdout
        );
    }

    /// Says this and gives the whole answer.
    fn raw(&self, name: &str, request: &str) -> String {
        let mut raw = Raw::connect(&self.world, &self.fixture, name);
        raw.send(request.as_bytes());
        raw.closed()
    }
}

#[test]
fn tickets_through_the_server() {
    let scene = Scene::new("", &[]);
    let direct = scene
        .realm
        .kinit(&scene.world.client, &scene.fixture, ("krb5.conf", "direct"), USER);
    assert_eq!(direct.code, 1, "{}", direct.stderr);
    for path in ["KdcProxy", "datagrams", "two"] {
        scene.succeeds(path);
        scene.asks_for_service(path);
    }
    for path in ["dead", "silent", "elsewhere"] {
        scene.fails(path);
    }
    for kdc in ["tcp@192.0.2.1:89", "udp@192.0.2.1:90"] {
        let line = format!("kkdcp: no answer from {kdc} of {REALM}: Connection refused");
        scene.server.wait_for_log(&line, 1);
    }
}

/// A KDC that is stalled and then killed with requests under way: a line in the log, an end for who asks,
/// and nothing for others.
#[test]
fn a_stalled_and_a_killed_kdc() {
    let mut scene = Scene::new("", &[]);
    scene.succeeds("KdcProxy");
    scene.realm.kdc.signal("STOP");
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| scene.fails("KdcProxy"));
        // One request of this source hangs, and others of it go on.
        wait::until("the request", || {
            let sockets = scene.world.server.run("ss", &["-Htn", "dport", "=", ":88"]);
            sockets.contains("ESTAB").then_some(())
        });
        let options = ClientOptions {
            arguments: &["--cookieonly"],
            ..ClientOptions::default()
        };
        let login = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
        assert_eq!(login.code, 0, "{}", login.stderr);
        assert!(!stalled.is_finished());
        let line = format!("kkdcp: no answer from tcp@{SERVER_V4}:88 of {REALM}: timed out");
        scene.server.wait_for_log(&line, 1);
        scene.realm.kdc.signal("KILL");
    });
    scene.realm.kdc.wait();
    scene.fails("KdcProxy");
    let line = format!("kkdcp: no answer from tcp@{SERVER_V4}:88 of {REALM}: Connection refused");
    scene.server.wait_for_log(&line, 1);
}

/// The KDC answers that a datagram is too small: the broker asks again by TCP.
#[test]
fn answers_too_large_for_a_datagram() {
    let scene = Scene::new(" kdc_max_dgram_reply_size = 300\n", &[]);
    scene.succeeds("datagrams");
    scene.asks_for_service("datagrams");
}

#[test]
fn junk_for_the_proxy() {
    let scene = Scene::new("", &[]);
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {SERVER_NAME}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    assert_eq!(
        scene.raw("junk", &post("/KdcProxy", "junk")),
        "HTTP/1.1 502 kkdcp: DER decoding error\r\n\r\n"
    );
    assert_eq!(scene.raw("empty", &post("/KdcProxy", "")), "");
    let get = format!("GET /KdcProxy HTTP/1.1\r\nHost: {SERVER_NAME}\r\n\r\n");
    let found = scene.raw("get", &get);
    assert!(found.starts_with("HTTP/1.1 404 "), "{found}");
    let large = format!("POST /KdcProxy HTTP/1.1\r\nHost: {SERVER_NAME}\r\nContent-Length: 300000\r\n\r\n");
    assert_eq!(scene.raw("large", &large), "");
    scene.succeeds("KdcProxy");
}

#[test]
fn requests_cost_points() {
    let scene = Scene::new(
        "",
        &[
            ("max-ban-score", "4"),
            ("ban-points-kkdcp", "2"),
            ("ban-points-connection", "0"),
        ],
    );
    // Whoever is near is never banned.
    for _ in 0..3 {
        scene.succeeds("KdcProxy");
    }
    scene.world.move_away();
    scene.succeeds("KdcProxy");
    // The ban may be there before the answer.
    let _either_way = scene.kinit("KdcProxy");
    wait::until("the ban", || {
        let (_, bans) = scene.server.occtl(&["show", "ip", "bans"]);
        bans.contains(STRANGER_V4).then_some(())
    });
    scene.fails("KdcProxy");
}
