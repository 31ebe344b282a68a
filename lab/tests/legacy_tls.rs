//! Old gateways: TLS that rustls refuses goes over OpenSSL, with a warning, and tunnels carry packets
//! all the same. The gateways are the real ocserv with old priorities and `openssl s_server`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::path::Path;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{
    Client, ClientOptions, Fixture, Make, Process, Server, ServerOptions, SslServer, World, probe, wait,
};

/// Server and authority with RSA keys: static RSA needs them.
fn fixture_with_rsa() -> Fixture {
    let fixture = Fixture::new();
    let rsa = "-newkey rsa:2048 -nodes -sha256";
    fixture.openssl(&format!(
        "req -x509 {rsa} -keyout ca.key -out ca.pem -subj /CN=Authority -days 30"
    ));
    fixture.openssl(&format!(
        "req {rsa} -keyout server-key.pem -out server.csr -subj /CN=vpn.lab.test"
    ));
    let name = culvert_lab::fixture::SERVER_NAME;
    fixture.write_file("server.ext", &format!("subjectAltName=DNS:{name}\n"));
    fixture.openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext \
         -out server-cert.pem",
    );
    fixture
}

/// What one server speaks, and what the client says about it.
struct Old {
    priorities: &'static str,
    arguments: &'static [&'static str],
    /// Ciphersuite and weaknesses as the client names them.
    session: &'static str,
    weak: &'static str,
}

const OLD: [Old; 4] = [
    Old {
        priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.0:-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-CBC",
        arguments: &["--no-dtls"],
        session: "(TLS1.0)-(RSA)-(AES-128-CBC)-(SHA1)",
        weak: "TLS 1.0, key exchange by static RSA, without forward secrecy, AES-128-CBC with SHA1",
    },
    Old {
        priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.1:-KX-ALL:+ECDHE-RSA:-GROUP-ALL:+GROUP-SECP256R1:-CIPHER-ALL:+AES-256-CBC",
        arguments: &["--no-dtls", "--pfs"],
        session: "(TLS1.1)-(ECDHE-SECP256R1)-(AES-256-CBC)-(SHA1)",
        weak: "TLS 1.1, AES-256-CBC with SHA1",
    },
    Old {
        priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-256-GCM",
        arguments: &[],
        session: "(TLS1.2)-(RSA)-(AES-256-GCM)",
        weak: "key exchange by static RSA, without forward secrecy",
    },
    Old {
        priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+3DES-CBC",
        arguments: &["--no-dtls", "--allow-insecure-crypto"],
        session: "(TLS1.2)-(RSA)-(3DES-CBC)-(SHA1)",
        weak: "key exchange by static RSA, without forward secrecy, 3DES-CBC with SHA1",
    },
];

fn start(world: &World, fixture: &Fixture, priorities: &str) -> Server {
    let quoted = format!("\"{priorities}\"");
    let options = ServerOptions {
        overrides: &[("tls-priorities", &quoted)],
        ..ServerOptions::default()
    };
    Server::start_with(Make::Real, world, fixture, &options)
}

#[test]
fn tunnels_carry_packets() {
    std::thread::scope(|scope| {
        for old in &OLD {
            scope.spawn(|| carries_packets(old));
        }
    });
}

fn carries_packets(old: &Old) {
    let world = World::new();
    let fixture = fixture_with_rsa();
    let inner: IpAddr = INNER_SERVER_V4.parse().unwrap();
    let _server = start(&world, &fixture, old.priorities);
    let options = ClientOptions {
        arguments: old.arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &world, &fixture, &options);
    let said = client.process.output();
    assert!(said.contains(old.session), "{}: {said}", old.session);
    let warning = format!("is weak: {}\n", old.weak);
    assert!(client.process.stderr().contains(&warning), "{warning}: {said}");
    if !old.arguments.contains(&"--no-dtls") {
        client.process.wait_for("Established DTLS connection");
    }
    probe::ping(&world.client, inner);
    let program = Path::new(env!("CARGO_BIN_EXE_transfer"));
    probe::transfer(program, fixture.dir(), &world.client, &world.server, inner);
    let address = Client::inner_v4(&world);
    probe::transfer(program, fixture.dir(), &world.server, &world.client, address);
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

#[test]
fn what_the_user_has_not_allowed_stays_refused() {
    let world = World::new();
    let fixture = fixture_with_rsa();
    let run = |arguments: &[&str]| {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        let finished = Client::run(Make::Culvert, &world, &fixture, &options);
        assert_eq!(finished.code, 1, "{arguments:?}: {}", finished.stderr);
        [finished.stdout, finished.stderr].concat()
    };
    {
        let _server = start(&world, &fixture, OLD[3].priorities);
        let said = run(&[]);
        assert!(said.contains("SSL connection failure"), "{said}");
    }
    let _server = start(&world, &fixture, OLD[0].priorities);
    for refusal in [
        "--pfs",
        "--gnutls-priority=NORMAL:-RSA",
        "--gnutls-priority=NORMAL:-VERS-TLS1.0",
    ] {
        let said = run(&[refusal]);
        assert!(said.contains("SSL connection failure"), "{refusal}: {said}");
    }
    // The certificate counts as much as with rustls.
    let wrong = "pin-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let said = run(&["--servercert", wrong]);
    assert!(said.contains("None of the 1 fingerprint(s)"), "{said}");
    assert!(
        said.contains("SSL connection failure: Error in the certificate."),
        "{said}"
    );
    assert!(!said.contains("Connected to HTTPS"), "{said}");
}

/// A gateway that wants a certificate only after it has seen the request: it renegotiates.
#[test]
fn a_certificate_in_a_renegotiation() {
    let world = World::new();
    let fixture = fixture_with_rsa();
    fixture.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout alice.key -out alice.pem -subj /CN=alice -days 30",
    );
    let mut server = SslServer::start(
        &world,
        &fixture,
        "-tls1_2 -CAfile alice.pem -no_resumption_on_reneg",
    );
    let ca = fixture.path("ca.pem").display().to_string();
    let arguments = [
        "--cookieonly",
        "--cafile",
        &ca,
        "-c",
        "alice.pem",
        "-k",
        "alice.key",
    ];
    let mut command = Client::bare(Make::Culvert, &world, &arguments);
    command.current_dir(fixture.dir());
    let client = Process::start(command, fixture.dir(), "openconnect", None);
    // rustls ends the connection; the second one is OpenSSL's.
    server.wait_for("POST / HTTP/1.1", 1);
    server.say("R\n");
    server.wait_for("POST / HTTP/1.1", 2);
    server.say("R\n");
    server.wait_for("CN = alice", 1);
    let body = "<config-auth client=\"vpn\" type=\"complete\"><auth id=\"success\"></auth></config-auth>";
    server.answer("Set-Cookie: webvpn=renegotiated\r\n", body);
    let finished = client.finish();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("renegotiated"), "{}", finished.stdout);
    assert!(
        finished
            .stderr
            .contains("The server asks for another TLS handshake"),
        "{}",
        finished.stderr
    );
}

/// What `--gnutls-priority` leaves is what is negotiated.
#[test]
fn a_priority_string_chooses() {
    let world = World::new();
    let fixture = fixture_with_rsa();
    let _server = start(&world, &fixture, "NORMAL");
    let log_in = |priorities: &str| {
        let option = format!("--gnutls-priority={priorities}");
        let options = ClientOptions {
            arguments: &["--cookieonly", &option],
            ..ClientOptions::default()
        };
        let finished = Client::run(Make::Culvert, &world, &fixture, &options);
        assert!(
            finished.stderr.contains("WARNING: --gnutls-priority"),
            "{}",
            finished.stderr
        );
        (finished.code, finished.stderr)
    };
    for (priorities, session) in [
        (
            "NORMAL:-VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP384R1:-CIPHER-ALL:+AES-128-GCM",
            "(TLS1.2)-(ECDHE-SECP384R1)-(RSA-PSS-RSAE-SHA256)-(AES-128-GCM)",
        ),
        ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", "(CHACHA20-POLY1305)"),
    ] {
        let (code, said) = log_in(priorities);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(session), "{priorities}: {said}");
    }
}

/// An old server without a gateway behind it, and the ciphersuite of both clients; `None` where none
/// may be agreed on.
struct Speaks {
    server: &'static str,
    arguments: &'static str,
    client: &'static [&'static str],
    session: Option<&'static str>,
    /// Signed with SHA-1.
    weak_certificate: bool,
}

const fn speaks(
    server: &'static str,
    arguments: &'static str,
    client: &'static [&'static str],
    session: Option<&'static str>,
) -> Speaks {
    Speaks {
        server,
        arguments,
        client,
        session,
        weak_certificate: false,
    }
}

const ALLOWED: &[&str] = &["--allow-insecure-crypto"];

const SERVERS: [Speaks; 18] = [
    speaks(
        "s_server",
        "-tls1 -cipher AES128-SHA:@SECLEVEL=0",
        &[],
        Some("(TLS1.0)-(RSA)-(AES-128-CBC)-(SHA1)"),
    ),
    speaks(
        "s_server",
        "-tls1_1 -groups P-256 -cipher ECDHE-RSA-AES128-SHA:@SECLEVEL=0",
        &["--pfs"],
        Some("(TLS1.1)-(ECDHE-SECP256R1)-(AES-128-CBC)-(SHA1)"),
    ),
    speaks(
        "s_server",
        "-tls1_1 -dhparam group.pem -cipher DHE-RSA-AES256-SHA:@SECLEVEL=0",
        &[],
        Some("(TLS1.1)-(DHE-CUSTOM2048)-(AES-256-CBC)-(SHA1)"),
    ),
    speaks(
        "s_server",
        "-tls1_2 -cipher AES256-SHA256",
        &[],
        Some("(TLS1.2)-(RSA)-(AES-256-CBC)-(SHA256)"),
    ),
    speaks(
        "s_server",
        "-tls1_2 -groups P-256 -sigalgs RSA+SHA256 -cipher ECDHE-RSA-AES128-SHA256",
        &[],
        Some("(TLS1.2)-(ECDHE-SECP256R1)-(RSA-SHA256)-(AES-128-CBC)-(SHA256)"),
    ),
    speaks(
        "s_server",
        "-tls1 -cipher AES128-SHA:@SECLEVEL=0",
        &["--pfs"],
        None,
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.0:-KX-ALL:+DHE-RSA:-CIPHER-ALL:+AES-128-CBC",
        &[],
        Some("(TLS1.0)-(DHE-FFDHE2048)-(AES-128-CBC)-(SHA1)"),
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+DHE-RSA:-CIPHER-ALL:+AES-128-GCM:-SIGN-ALL:+SIGN-RSA-SHA256",
        &[],
        Some("(TLS1.2)-(DHE-FFDHE2048)-(RSA-SHA256)-(AES-128-GCM)"),
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-CCM",
        &[],
        Some("(TLS1.2)-(RSA)-(AES-128-CCM)"),
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+3DES-CBC",
        &[],
        None,
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+3DES-CBC",
        ALLOWED,
        Some("(TLS1.2)-(RSA)-(3DES-CBC)-(SHA1)"),
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA:-GROUP-ALL:+GROUP-SECP256R1:-CIPHER-ALL:+3DES-CBC:\
         -SIGN-ALL:+SIGN-RSA-SHA256",
        ALLOWED,
        Some("(TLS1.2)-(ECDHE-SECP256R1)-(RSA-SHA256)-(3DES-CBC)-(SHA1)"),
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:-KX-ALL:+RSA:-CIPHER-ALL:+ARCFOUR-128",
        &[],
        None,
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:-KX-ALL:+RSA:-CIPHER-ALL:+ARCFOUR-128",
        ALLOWED,
        Some("(TLS1.1)-(RSA)-(ARCFOUR-128)-(SHA1)"),
    ),
    // The real client takes such a signature without being allowed to.
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA:-GROUP-ALL:+GROUP-SECP256R1:-SIGN-ALL:+SIGN-RSA-SHA1",
        &[],
        None,
    ),
    speaks(
        "gnutls-serv",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA:-GROUP-ALL:+GROUP-SECP256R1:-SIGN-ALL:+SIGN-RSA-SHA1",
        ALLOWED,
        Some("(TLS1.2)-(ECDHE-SECP256R1)-(RSA-SHA1)-(AES-256-GCM)"),
    ),
    Speaks {
        weak_certificate: true,
        ..speaks(
            "gnutls-serv",
            "NORMAL:-VERS-ALL:+VERS-TLS1.0:-KX-ALL:+RSA",
            &[],
            None,
        )
    },
    Speaks {
        weak_certificate: true,
        ..speaks(
            "gnutls-serv",
            "NORMAL:-VERS-ALL:+VERS-TLS1.0:-KX-ALL:+RSA:-CIPHER-ALL:+AES-256-CBC",
            ALLOWED,
            Some("(TLS1.0)-(RSA)-(AES-256-CBC)-(SHA1)"),
        )
    },
];

/// Both clients agree with each of these servers on the same, or on nothing, and end alike.
#[test]
fn the_same_as_the_real_client() {
    let world = World::new();
    let fixture = fixture_with_rsa();
    fixture.openssl("x509 -req -sha1 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext \
         -out weak-cert.pem",
    );
    fixture.openssl("genpkey -genparam -algorithm DH -pkeyopt group:modp_2048 -out group.pem");
    std::thread::scope(|scope| {
        for (index, speaks) in SERVERS.iter().enumerate() {
            let (world, fixture) = (&world, &fixture);
            scope.spawn(move || compare(world, fixture, speaks, 5000 + index));
        }
    });
}

fn compare(world: &World, fixture: &Fixture, speaks: &Speaks, port: usize) {
    let (port_text, what) = (port.to_string(), speaks.arguments);
    let certificate = match speaks.weak_certificate {
        true => "weak-cert.pem",
        false => "server-cert.pem",
    };
    let mut command = world.server.command(match speaks.server {
        "s_server" => "openssl",
        other => other,
    });
    command.current_dir(fixture.dir());
    match speaks.server {
        "s_server" => command
            .args(["s_server", "-www", "-accept", &port_text, "-cert", certificate])
            .args(["-key", "server-key.pem"])
            .args(what.split_whitespace()),
        _ => command
            .args(["--http", "--disable-client-cert", "--port", &port_text])
            .args(["--x509certfile", certificate, "--x509keyfile", "server-key.pem"])
            .args(["--priority", what]),
    };
    let _server = Process::start(command, fixture.dir(), &format!("server{port}"), None);
    wait::until(&format!("the server: {what}"), || {
        let sockets = world.server.run("ss", &["-Hltn", "sport", "=", &port_text]);
        (!sockets.trim().is_empty()).then_some(())
    });
    let ca = fixture.path("ca.pem").display().to_string();
    let run = |make: Make| {
        let name = culvert_lab::fixture::SERVER_NAME;
        let mut command = world.client.command(make.program("openconnect"));
        command
            .args(["--cookieonly", "--non-inter", "--no-xmlpost", "--cafile", &ca])
            .arg(format!("--resolve={name}:192.0.2.1"))
            .args(speaks.client)
            .arg(format!("https://{name}:{port}/"));
        Process::start(command, fixture.dir(), &format!("client{port}"), None).finish()
    };
    let ours = run(Make::Culvert);
    assert_eq!(ours.code, 1, "{what}: {}", ours.stderr);
    let sessions = |said: &str| -> Vec<String> {
        let lines = said.lines();
        let mut sessions: Vec<String> = lines
            .filter_map(|line| Some(line.split_once("with ciphersuite ")?.1.to_owned()))
            .collect();
        sessions.dedup();
        sessions
    };
    let expected: Vec<&str> = speaks.session.into_iter().collect();
    assert_eq!(sessions(&ours.stderr), expected, "{what}: {}", ours.stderr);
    // What an old server speaks is weak, and said so.
    let weak = ours.stderr.contains("WARNING: The TLS of server");
    let strong = speaks.session.is_some_and(|session| {
        session.contains("DHE-") && session.contains("GCM") && !session.contains("SHA1")
    });
    assert_eq!(
        weak,
        speaks.session.is_some() && !strong,
        "{what}: {}",
        ours.stderr
    );
    let real = run(Make::Real);
    assert_eq!(real.code, 1, "{what}: {}", real.stderr);
    let last = |said: &str| said.lines().last().map(str::to_owned);
    assert_eq!(last(&ours.stderr), last(&real.stderr), "{what}");
    let accepts_sha1 = speaks.client.is_empty() && what.ends_with("SIGN-RSA-SHA1");
    if !accepts_sha1 {
        assert_eq!(sessions(&real.stderr), expected, "{what}: {}", real.stderr);
    }
    if speaks.session.is_some() {
        return;
    }
    let cure = match (speaks.weak_certificate, speaks.client) {
        (true, _) => "Server certificate verify failed: insecure algorithm",
        (false, ["--pfs"]) => "one that only knows static RSA cannot be used with --pfs",
        (false, _) => "a server that only knows 3DES, RC4 or SHA-1 needs --allow-insecure-crypto",
    };
    assert!(ours.stderr.contains(cure), "{what}: {}", ours.stderr);
    if speaks.weak_certificate {
        assert!(real.stderr.contains(cure), "{what}: {}", real.stderr);
    }
}
