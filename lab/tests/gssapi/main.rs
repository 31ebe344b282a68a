//! Logins with Kerberos tickets against MIT's KDC: SPNEGO over HTTP, both clients with both
//! servers, and everything that can be wrong with a ticket.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod channels;

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use culvert_lab::fixture::{INNER_SERVER_V4, SERVER_NAME};
use culvert_lab::kerberos::REALM;
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, PASSWORD, Process, Raw, Realm, Server, ServerOptions,
    USER, World, probe, process, proxy, wait,
};

/// Cache of a user with a ticket.
const TICKETS: &str = "tickets";
/// Cache of one without.
const NONE: &str = "no-tickets";

/// A realm, and a server in it.
struct Scene {
    server: Server,
    realm: Realm,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// A server with these sub-options of `gssapi` and these further options; `DIR` is the folder of
    /// the fixture. Alice has a ticket.
    fn new(server: Make, gssapi: &str, options: &[(&'static str, &str)]) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let realm = Realm::start(&world, &fixture, "");
        let done = realm.kinit(&world.client, &fixture, ("krb5.conf", TICKETS), USER);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let server = start(server, &world, &fixture, gssapi, options);
        Self {
            server,
            realm,
            fixture,
            world,
        }
    }

    fn client(&self, client: Make, cache: &str, input: &str, arguments: &[&str]) -> Process {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        let command = Client::command(client, &self.world, &self.fixture, &options);
        let command = self.realm.with_tickets(command, cache);
        let input = format!("{input}\n");
        Process::start(command, self.fixture.dir(), "openconnect", Some(&input))
    }

    /// A login without a tunnel.
    fn log_in(&self, client: Make, cache: &str, input: &str) -> Finished {
        self.client(client, cache, input, &["--authenticate", "--non-inter"])
            .finish()
    }

    fn accepts(&self, client: Make, cache: &str, input: &str) -> Finished {
        let login = self.log_in(client, cache, input);
        assert_eq!(
            login.code,
            0,
            "{client:?} {}\n{}",
            login.stderr,
            self.server.log()
        );
        assert!(login.stdout.contains("COOKIE="), "{}", login.stdout);
        login
    }

    fn refuses(&self, client: Make, cache: &str, input: &str) -> Finished {
        let login = self.log_in(client, cache, input);
        assert_ne!(login.code, 0, "{client:?} {}", self.server.log());
        assert!(!login.stdout.contains("COOKIE="), "{}", login.stdout);
        login
    }
}

fn start(
    make: Make,
    world: &World,
    fixture: &Fixture,
    gssapi: &str,
    options: &[(&'static str, &str)],
) -> Server {
    let dir = fixture.dir().display().to_string();
    let mut overrides = vec![("auth", format!("gssapi[{}]", gssapi.replace("DIR", &dir)))];
    let further = options.iter().filter(|(name, _)| *name != "auth");
    for (name, value) in further {
        overrides.push((*name, value.replace("DIR", &dir)));
    }
    if let Some((_, method)) = options.iter().find(|(name, _)| *name == "auth") {
        overrides[0] = ("auth", method.replace("DIR", &dir));
        overrides.push(("enable-auth", format!("gssapi[{}]", gssapi.replace("DIR", &dir))));
    }
    let overrides: Vec<(&str, &str)> = overrides
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let config = format!("KRB5_CONFIG={dir}/krb5.conf");
    let options = ServerOptions {
        overrides: &overrides,
        under: &["env", &config],
        ..ServerOptions::default()
    };
    Server::start_with(make, world, fixture, &options)
}

/// The keytab of the VPN server.
const KEYTAB: &str = "keytab=DIR/vpn.test.keytab";
/// Passwords, beside tickets.
const PASSWORDS: (&str, &str) = ("auth", "plain[passwd=DIR/ocpasswd]");

fn tickets(client: Make, server: Make) {
    let scene = Scene::new(server, KEYTAB, &[]);
    let mut client_process = scene.client(client, TICKETS, "", &[]);
    client_process.wait_for("Configured as");
    probe::ping(&scene.world.client, INNER_SERVER_V4.parse().unwrap());
    let (_, users) = scene.server.occtl(&["show", "users"]);
    assert!(users.contains(USER), "{users}");
    client_process.signal("INT");
    assert_eq!(client_process.exit_code(), 0, "{}", client_process.output());

    let refused = scene.refuses(client, NONE, "");
    if client == Make::Culvert {
        assert!(refused.stderr.contains("GSSAPI: "), "{}", refused.stderr);
        let exhausted = "No more authentication methods to try";
        assert!(refused.stderr.contains(exhausted), "{}", refused.stderr);
    }
}

#[test]
fn tickets_of_the_real_client() {
    tickets(Make::Real, Make::Culvert);
}

#[test]
fn tickets_of_our_client() {
    tickets(Make::Culvert, Make::Culvert);
}

#[test]
fn tickets_of_our_client_at_the_real_server() {
    tickets(Make::Culvert, Make::Real);
}

/// Whoever has no ticket, or none that is good, gets the form.
#[test]
fn passwords_beside_tickets() {
    let mut scene = Scene::new(
        Make::Culvert,
        &format!("{KEYTAB},tgt-freshness-time=8"),
        &[PASSWORDS],
    );
    let began = Instant::now();
    for client in [Make::Real, Make::Culvert] {
        scene.accepts(client, NONE, PASSWORD);
        scene.refuses(client, NONE, "wrong");
    }
    // Alice's ticket gets too old.
    sleep(Duration::from_secs(10).saturating_sub(began.elapsed()));
    for client in [Make::Real, Make::Culvert] {
        scene.accepts(client, TICKETS, PASSWORD);
    }
    let stale = format!("{USER}@{REALM}: the ticket is too old (tgt-freshness-time)");
    scene.server.wait_for_log(&stale, 1);
    scene.refuses(Make::Culvert, TICKETS, "wrong");
    // A new one is good again, without any password.
    let (world, fixture) = (&scene.world, &scene.fixture);
    let done = scene
        .realm
        .kinit(&world.client, fixture, ("krb5.conf", TICKETS), USER);
    assert_eq!(done.code, 0, "{}", done.stderr);
    scene.accepts(Make::Culvert, TICKETS, "wrong");

    // The KDC stops to work, then dies: the client has no ticket for the service yet.
    let done = scene
        .realm
        .kinit(&world.client, fixture, ("krb5.conf", TICKETS), USER);
    assert_eq!(done.code, 0, "{}", done.stderr);
    // It says nothing: who has asked it waits, nobody else does.
    scene.realm.kdc.signal("STOP");
    let mut waiting = scene.client(
        Make::Culvert,
        TICKETS,
        PASSWORD,
        &["--authenticate", "--non-inter"],
    );
    waiting.wait_for("Connected to HTTPS");
    scene.accepts(Make::Real, NONE, PASSWORD);
    assert!(waiting.is_running(), "{}", waiting.output());
    scene.realm.kdc.signal("KILL");
    scene.realm.kdc.wait();
    let login = waiting.finish();
    assert_eq!(login.code, 0, "{}", login.stderr);
    assert!(
        login
            .stderr
            .contains("GSSAPI: no ticket for the service: Cannot contact any KDC"),
        "{}",
        login.stderr
    );
}

/// The server's own keys, and users that it does not know.
#[test]
fn keys_and_users() {
    let scene = Scene::new(Make::Culvert, KEYTAB, &[]);
    let Scene {
        world,
        fixture,
        realm,
        server,
    } = &scene;
    // A principal that stands for nobody on this host.
    realm.administer(
        world,
        fixture,
        &format!("addprinc -pw \"{PASSWORD}\" {USER}/admin"),
    );
    let done = realm.kinit(
        &world.client,
        fixture,
        ("krb5.conf", "admin"),
        &format!("{USER}/admin"),
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    scene.refuses(Make::Culvert, "admin", "");
    server.wait_for_log("no local user: ", 1);

    // The KDC gets a new key for the server, whose keytab has the old one.
    realm.administer(world, fixture, &format!("cpw -randkey HTTP/{SERVER_NAME}"));
    scene.refuses(Make::Culvert, TICKETS, "");
    server.wait_for_log("the client's ticket is not accepted: ", 1);
    let keytab = fixture.path("vpn.test.keytab");
    let add = format!("ktadd -k {} HTTP/{SERVER_NAME}", keytab.display());
    realm.administer(world, fixture, &add);
    let done = realm.kinit(&world.client, fixture, ("krb5.conf", TICKETS), USER);
    assert_eq!(done.code, 0, "{}", done.stderr);
    scene.accepts(Make::Culvert, TICKETS, "");

    // No keytab any more; the log says it, the client learns nothing.
    std::fs::remove_file(&keytab).unwrap();
    scene.refuses(Make::Culvert, TICKETS, "");
    server.wait_for_log("vpn.test.keytab': No such file", 1);
}

/// Principals are users as they are, where the configuration says so. A server without its keytab
/// does not start.
#[test]
fn principals_without_a_map() {
    let scene = Scene::new(
        Make::Culvert,
        &format!("{KEYTAB},require-local-user-map=false"),
        &[],
    );
    let mut client = scene.client(Make::Culvert, TICKETS, "", &[]);
    client.wait_for("Configured as");
    let (_, users) = scene.server.occtl(&["-j", "show", "users"]);
    assert!(users.contains(&format!("\"{USER}@{REALM}\"")), "{users}");

    let other = Fixture::new();
    std::fs::write(other.path("none"), "no keytab").unwrap();
    let auth = format!("gssapi[keytab={}]", other.path("none").display());
    let options = ServerOptions {
        overrides: &[("auth", &auth)],
        ..ServerOptions::default()
    };
    let mut refused = Server::launch(Make::Culvert, &scene.world, &other, &options);
    assert_ne!(refused.process.exit_code(), 0);
    assert!(refused.log().contains("this is no keytab"), "{}", refused.log());
}

/// Begins a login, with this value of `Authorization` if it is not empty.
fn say(raw: &mut Raw, authorization: &str) {
    let body = "<config-auth type=\"init\"/>";
    let authorization = match authorization {
        "" => String::new(),
        value => format!("Authorization: {value}\r\n"),
    };
    raw.send(
        format!(
            "POST / HTTP/1.1\r\nHost: {SERVER_NAME}\r\nX-Support-HTTP-Auth: true\r\n{authorization}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
}

/// What no client would send, and a helper that dies in the middle of it.
#[test]
fn tokens_of_strangers() {
    let scene = Scene::new(Make::Culvert, KEYTAB, &[PASSWORDS]);
    let connect = |name: &str| Raw::connect(&scene.world, &scene.fixture, name);
    let mut offered = connect("offered");
    say(&mut offered, "");
    offered.wait_for("\r\n\r\n", 1);
    let challenge = "HTTP/1.1 401 Unauthorized\r\nX-HTTP-Auth-Support: fallback\r\n\
                     WWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(offered.answer(), challenge);
    // A token of NTLM, no token, no base64: the form.
    for token in [
        "Negotiate TlRMTVNTUAABAAAABYIIAAAAAAAAAAAAAAAAAAAAAAA=",
        "Negotiate YII=",
        "Negotiate !!!",
    ] {
        let mut raw = connect(token);
        say(&mut raw, token);
        raw.wait_for("<auth id=\"main\">", 1);
        assert!(raw.answer().starts_with("HTTP/1.1 200 "), "{}", raw.answer());
    }

    // A client that wants to agree about the mechanism first: the answer waits for its ticket.
    let mut open = connect("open");
    say(&mut open, "Negotiate YBsGBisGAQUFAqARMA+gDTALBgkqhkiG9xIBAgI=");
    open.wait_for("WWW-Authenticate: Negotiate o", 1);
    let helper = wait::until("the helper", || helper(&scene.server));
    // It reads what strangers send, so it is nobody, with nothing but its channel and the keytab.
    let status = std::fs::read_to_string(format!("/proc/{helper}/status")).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534\n",
        "CapEff:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
    ] {
        assert!(status.contains(line), "{status}");
    }
    process::kill(helper, "KILL");
    say(&mut open, "Negotiate YII=");
    open.wait_for("<auth id=\"main\">", 1);
    let ended = "gssapi helper for user '(no name)' ended by signal 9";
    scene.server.wait_for_log(ended, 1);
    // Nobody else has noticed.
    scene.accepts(Make::Culvert, TICKETS, "");
}

/// `ocserv test-auth` takes a token, which any client can make for the name of the server.
#[test]
fn a_login_without_a_server() {
    let scene = Scene::new(Make::Culvert, KEYTAB, &[]);
    let path = |name: &str| scene.fixture.path(name).display().to_string();
    let mut other = scene.world.server.command("openssl");
    other
        .args(["s_server", "-quiet", "-www", "-accept", "8443", "-cert"])
        .args([&path("server-cert.pem"), "-key", &path("server-key.pem")]);
    let _other = proxy::start(&scene.world, &scene.fixture, other, 8443);
    let mut curl = scene.world.client.command("curl");
    curl.args(["-sv", "--negotiate", "-u", ":", "--cacert", &path("ca.pem")])
        .args(["--resolve", "vpn.test:8443:192.0.2.1", "https://vpn.test:8443/"]);
    let curl = scene.realm.with_tickets(curl, TICKETS);
    let said = Process::start(curl, scene.fixture.dir(), "curl", None)
        .finish()
        .stderr;
    let sent = said
        .lines()
        .find_map(|line| line.strip_prefix("> Authorization: Negotiate "));
    let token = sent.expect("curl sends a token").trim();

    let test_auth = |token: &str| {
        let mut command = scene.world.server.command(Make::Culvert.program("ocserv"));
        command
            .args([
                "test-auth",
                "-c",
                &path("ocserv.conf"),
                "--http=negotiate",
                "anybody",
            ])
            .env("KRB5_CONFIG", path("krb5.conf"));
        Process::start(command, scene.fixture.dir(), "test-auth", Some(token)).finish()
    };
    for (token, code, said) in [
        (token, 0, "accepted as 'alice'"),
        (token, 1, "Request is a replay"),
        ("YII=", 1, "refused: the client's ticket is not accepted: "),
        ("", 1, "no answer: given up"),
    ] {
        let tried = test_auth(token);
        assert_eq!(tried.code, code, "{}{}", tried.stdout, tried.stderr);
        for text in ["lines: auth = gssapi", "a token of the client is wanted", said] {
            assert!(
                tried.stdout.contains(text),
                "{text}: {}{}",
                tried.stdout,
                tried.stderr
            );
        }
    }
}

/// The helper process of a login.
fn helper(server: &Server) -> Option<u32> {
    let mut found = process::children(server.process.pid());
    let mut position = 0;
    while let Some(pid) = found.get(position).copied() {
        if process::title(pid).contains("ocserv-helper") {
            return Some(pid);
        }
        found.extend(process::children(pid));
        position += 1;
    }
    None
}

/// curl has nothing of ours. What it has said is good only once.
#[test]
fn tickets_of_curl() {
    let scene = Scene::new(Make::Culvert, KEYTAB, &[]);
    let curl = |cache: &str, name: &str| {
        let mut command: Command = scene.world.client.command("curl");
        command
            .args([
                "-sv",
                "--negotiate",
                "-u",
                ":",
                "-X",
                "POST",
                "-H",
                "X-Support-HTTP-Auth: true",
            ])
            .args(["--data", "<config-auth type=\"init\"/>", "-w", "%{http_code}"])
            .args(["--insecure", "--resolve", &format!("{name}:443:192.0.2.1")])
            .arg(format!("https://{name}/"));
        let command = scene.realm.with_tickets(command, cache);
        Process::start(command, scene.fixture.dir(), "curl", None).finish()
    };
    assert_eq!(curl(NONE, SERVER_NAME).stdout, "401");
    // The ticket is for a service of another name.
    assert_eq!(curl(TICKETS, "proxy.test").stdout, "401");
    let why = "the client's ticket is not accepted: ";
    scene.server.wait_for_log(why, 1);
    let accepted = curl(TICKETS, SERVER_NAME);
    assert!(
        accepted.stdout.contains("auth id=\"success\"") && accepted.stdout.ends_with("200"),
        "{}",
        accepted.stdout
    );
    let ticket = accepted
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("> Authorization: "));
    let mut thief = Raw::connect(&scene.world, &scene.fixture, "thief");
    say(&mut thief, ticket.unwrap().trim());
    assert!(thief.closed().starts_with("HTTP/1.1 401 "));
    scene.server.wait_for_log("Request is a replay", 1);
}
