//! Keys and certificates of our server, as the real client and openssl see them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use culvert_lab::fixture::{SERVER_NAME, USER};
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Fixture, Make, PASSWORD, Process, Server, ServerOptions, World, process, wait};

/// A key and a self-signed certificate for the server: NAME-key.pem, NAME.pem.
fn pair(fixture: &Fixture, name: &str, kind: &str) {
    fixture.openssl(&format!(
            "req -x509 -newkey {kind} -nodes -keyout {name}-key.pem -out {name}.pem -days 9 -subj /CN={SERVER_NAME} \
             -addext subjectAltName=DNS:{SERVER_NAME}"
        ),
    );
}

fn start(world: &World, fixture: &Fixture, options: &[(&str, &str)]) -> Server {
    let paths: Vec<(&str, String)> = options
        .iter()
        .map(|(name, value)| {
            let is_file = ["server-cert", "server-key", "pin-file", "ocsp-response"].contains(name);
            let value = if is_file {
                fixture.path(value).display().to_string()
            } else {
                (*value).to_owned()
            };
            (*name, value)
        })
        .collect();
    let overrides: Vec<(&str, &str)> = paths
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let options = ServerOptions {
        overrides: &overrides,
        ..Default::default()
    };
    Server::launch(Make::Culvert, world, fixture, &options)
}

fn start_well(world: &World, fixture: &Fixture, options: &[(&str, &str)]) -> Server {
    let mut server = start(world, fixture, options);
    server.process.wait_for("initialized ocserv");
    server
}

/// The real client logs in, trusting this certificate only.
fn log_in(world: &World, fixture: &Fixture, server: &Server, trusted: &str) {
    let mut command = world.client.command(Make::Real.program("openconnect"));
    command
        .arg("--cafile")
        .arg(fixture.path(trusted))
        .args(["--user", USER, "--passwd-on-stdin", "--cookieonly", "--resolve"])
        .arg(format!("{SERVER_NAME}:{SERVER_V4}"))
        .arg(format!("https://{SERVER_NAME}/"));
    let input = format!("{PASSWORD}\n");
    let login = Process::start(command, fixture.dir(), "login", Some(&input)).finish();
    assert_eq!(login.code, 0, "{trusted}: {}{}", login.stderr, server.log());
    assert!(login.stdout.contains("webvpn="), "{}", login.stdout);
}

/// What `openssl s_client` says about the handshake.
fn handshake(world: &World, fixture: &Fixture, arguments: &[&str]) -> String {
    let mut command = world.client.command("openssl");
    command
        .args(["s_client", "-servername", SERVER_NAME, "-connect"])
        .arg(format!("{SERVER_V4}:443"))
        .args(arguments);
    Process::start(command, fixture.dir(), "s_client", None)
        .finish()
        .stdout
}

#[test]
fn keys_of_every_kind() {
    let (world, fixture) = (World::new(), Fixture::new());
    for (name, kind) in [
        ("rsa", "rsa:2048"),
        ("rsa-pss", "rsa-pss -pkeyopt rsa_keygen_bits:2048"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "ed25519"),
    ] {
        pair(&fixture, name, kind);
        let (key, certificate) = (format!("{name}-key.pem"), format!("{name}.pem"));
        let options = [("server-cert", certificate.as_str()), ("server-key", &key)];
        let server = start_well(&world, &fixture, &options);
        log_in(&world, &fixture, &server, &certificate);
    }
}

#[test]
fn encrypted_keys() {
    let (world, fixture) = (World::new(), Fixture::new());
    pair(&fixture, "rsa", "rsa:2048");
    fixture.openssl("pkcs8 -topk8 -v2 aes-256-cbc -in rsa-key.pem -out pkcs8.pem -passout pass:4711");
    fixture.openssl("rsa -aes128 -traditional -in rsa-key.pem -out old.pem -passout pass:4711");
    fixture.write_file("pin", "4711\n");
    fixture.write_file("no-pin", "\n");
    for (key, option, value) in [("pkcs8.pem", "pin-file", "pin"), ("old.pem", "key-pin", "4711")] {
        assert!(
            fs::read_to_string(fixture.path(key))
                .unwrap()
                .contains("ENCRYPTED")
        );
        let options = [("server-cert", "rsa.pem"), ("server-key", key), (option, value)];
        let server = start_well(&world, &fixture, &options);
        log_in(&world, &fixture, &server, "rsa.pem");
    }
    for (option, value, why) in [
        ("key-pin", "4712", "the passphrase is wrong"),
        ("pin-file", "no-pin", "holds no PIN"),
        ("pin-file", "missing", "cannot open file"),
        ("dpd", "20", "is encrypted: key-pin or pin-file is needed"),
    ] {
        let options = [
            ("server-cert", "rsa.pem"),
            ("server-key", "pkcs8.pem"),
            (option, value),
        ];
        let mut server = start(&world, &fixture, &options);
        assert_eq!(server.process.exit_code(), 1, "{}", server.log());
        assert!(server.log().contains(why), "{why}: {}", server.log());
        assert!(!server.log().contains("4712"), "{}", server.log());
    }
}

/// A certificate that is renewed is served without a word to the server, once its key is there, too.
#[test]
fn renewed_files_are_read_again() {
    let (world, fixture) = (World::new(), Fixture::new());
    pair(&fixture, "old", "ec -pkeyopt ec_paramgen_curve:P-256");
    pair(&fixture, "new", "rsa:2048");
    let replace = |from: &str, to: &str| {
        fs::copy(fixture.path(from), fixture.path("fresh")).unwrap();
        fs::rename(fixture.path("fresh"), fixture.path(to)).unwrap();
    };
    replace("old.pem", "cert.pem");
    replace("old-key.pem", "key.pem");
    let options = [("server-cert", "cert.pem"), ("server-key", "key.pem")];
    let server = start_well(&world, &fixture, &options);
    log_in(&world, &fixture, &server, "old.pem");

    let handshakes_until = |text: &str| {
        wait::until(&format!("'{text}' in the log\n{}", server.log()), || {
            handshake(&world, &fixture, &["-brief"]);
            server.log().contains(text).then_some(())
        });
    };
    replace("new.pem", "cert.pem");
    handshakes_until("main: the old configuration stays in force");
    log_in(&world, &fixture, &server, "old.pem");
    replace("new-key.pem", "key.pem");
    wait::until("the new certificate", || {
        let text = handshake(&world, &fixture, &[]);
        text.contains("Server public key is 2048 bit").then_some(())
    });
    log_in(&world, &fixture, &server, "new.pem");
}

/// With several pairs the client's signature algorithms decide.
#[test]
fn several_pairs() {
    let (world, fixture) = (World::new(), Fixture::new());
    pair(&fixture, "ec", "ec -pkeyopt ec_paramgen_curve:P-256");
    pair(&fixture, "rsa", "rsa:2048");
    let options = [
        ("server-cert", "ec.pem"),
        ("server-key", "ec-key.pem"),
        ("server-cert", "rsa.pem"),
        ("server-key", "rsa-key.pem"),
    ];
    let server = start_well(&world, &fixture, &options);
    for (version, algorithms, expected) in [
        (
            "-tls1_3",
            "ECDSA+SHA256:RSA-PSS+SHA256",
            "Peer signature type: ECDSA",
        ),
        ("-tls1_3", "RSA-PSS+SHA256", "Peer signature type: RSA-PSS"),
        (
            "-tls1_2",
            "ECDSA+SHA256:RSA-PSS+SHA256",
            "Peer signature type: ECDSA",
        ),
        ("-tls1_2", "RSA+SHA256", "Peer signature type: RSA"),
    ] {
        let said = handshake(&world, &fixture, &[version, "-sigalgs", algorithms]);
        assert!(
            said.contains(expected),
            "{version} {algorithms}: {said}{}",
            server.log()
        );
    }
    log_in(&world, &fixture, &server, "ec.pem");
}

#[test]
fn stapled_ocsp_responses() {
    let (world, fixture) = (World::new(), Fixture::new());
    fixture.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout auth-key.pem -out auth.pem -days 9 -subj /CN=authority",
    );
    fixture.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf-key.pem -out leaf.csr -subj /CN=vpn.test \
         -addext subjectAltName=DNS:vpn.test",
    );
    fixture.openssl("x509 -req -in leaf.csr -CA auth.pem -CAkey auth-key.pem -set_serial 0x1234 -days 9 -copy_extensions copy -out leaf.pem",
    );
    let respond = |status: &str, name: &str| {
        fixture.write_file("index.txt", &format!("{status}\t1234\tunknown\t/CN=vpn.test\n"));
        fixture.openssl(&format!(
                "ocsp -index index.txt -CA auth.pem -rsigner auth.pem -rkey auth-key.pem -issuer auth.pem -cert leaf.pem \
                 -ndays 2 -no_nonce -respout {name}"
            ),
        );
    };
    respond("V\t491231000000Z\t", "good.der");
    respond("R\t491231000000Z\t260101000000Z", "revoked.der");
    let options = |response| {
        [
            ("server-cert", "leaf.pem"),
            ("server-key", "leaf-key.pem"),
            ("ocsp-response", response),
        ]
    };
    {
        let server = start_well(&world, &fixture, &options("good.der"));
        let said = handshake(
            &world,
            &fixture,
            &[
                "-status",
                "-CAfile",
                &fixture.path("auth.pem").display().to_string(),
            ],
        );
        assert!(
            said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"),
            "{said}"
        );
        assert!(
            said.contains("Verify return code: 0 (ok)"),
            "{said}{}",
            server.log()
        );
        log_in(&world, &fixture, &server, "auth.pem");
    }
    let server = start_well(&world, &fixture, &options("revoked.der"));
    assert!(
        server.log().contains("does not say that the certificate is good"),
        "{}",
        server.log()
    );
    let said = handshake(&world, &fixture, &["-status"]);
    assert!(said.contains("OCSP response: no response sent"), "{said}");

    // A response that was fetched meanwhile is sent after the next maintenance.
    fs::copy(fixture.path("good.der"), fixture.path("revoked.der")).unwrap();
    server.process.signal("USR2");
    wait::until("the new response", || {
        server
            .log()
            .contains("OCSP responses were read again")
            .then_some(())
    });
    let said = handshake(&world, &fixture, &["-status"]);
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
}

/// Keys on a token of SoftHSM, through p11-kit.
#[test]
fn keys_in_hardware() {
    let (world, fixture) = (World::new(), Fixture::new());
    fs::create_dir(fixture.path("tokens")).unwrap();
    let tokens = fixture.path("tokens").display().to_string();
    let config = fixture.write_file("softhsm2.conf", &format!("directories.tokendir = {tokens}\n"));
    let variable = format!("SOFTHSM2_CONF={}", config.display());
    let softhsm = |arguments: &[&str]| {
        let mut all = vec![variable.as_str(), "softhsm2-util"];
        all.extend(arguments);
        process::run("env", &all)
    };
    softhsm(&[
        "--init-token",
        "--free",
        "--label",
        "lab",
        "--pin",
        "4711",
        "--so-pin",
        "0815",
    ]);
    for (id, name, kind) in [
        ("01", "rsa", "rsa:2048"),
        ("02", "p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("03", "p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ] {
        pair(&fixture, name, kind);
        let key = fixture.path(&format!("{name}-key.pem")).display().to_string();
        let label = format!("{name} key");
        softhsm(&[
            "--import", &key, "--token", "lab", "--label", &label, "--id", id, "--pin", "4711",
        ]);
    }
    let launch = |certificate: &str, key: &str, pin: &str| {
        let certificate = fixture.path(certificate).display().to_string();
        let overrides = [
            ("server-cert", certificate.as_str()),
            ("server-key", key),
            ("key-pin", pin),
        ];
        let options = ServerOptions {
            overrides: &overrides,
            under: &["env", &variable],
            ..Default::default()
        };
        Server::launch(Make::Culvert, &world, &fixture, &options)
    };
    for (name, key) in [
        ("rsa", "pkcs11:token=lab;object=rsa%20key;type=private"),
        ("p256", "pkcs11:token=lab;id=%02;type=private"),
        ("p384", "pkcs11:model=SoftHSM%20v2;object=p384%20key"),
    ] {
        let certificate = format!("{name}.pem");
        let mut server = launch(&certificate, key, "4711");
        server.process.wait_for("initialized ocserv");
        log_in(&world, &fixture, &server, &certificate);
        // Keys that were loaded again work, too.
        server.process.signal("HUP");
        server.process.wait_for("was renewed");
        let tls12 = handshake(&world, &fixture, &["-tls1_2"]);
        assert!(tls12.contains("Protocol  : TLSv1.2"), "{tls12}{}", server.log());
    }
    for (certificate, key, pin, why) in [
        (
            "rsa.pem",
            "pkcs11:token=lab;id=%02",
            "4711",
            "does not belong to the certificate",
        ),
        (
            "rsa.pem",
            "pkcs11:token=other;id=%01",
            "4711",
            "The requested data were not available",
        ),
        (
            "rsa.pem",
            "pkcs11:token=lab;id=%09",
            "4711",
            "The requested data were not available",
        ),
        (
            "rsa.pem",
            "pkcs11:token=lab;id=%01",
            "1234",
            "does not accept the PIN",
        ),
        ("rsa.pem", "tpmkey:uuid=1", "4711", "keys of a TPM are files here"),
    ] {
        let mut server = launch(certificate, key, pin);
        assert_eq!(server.process.exit_code(), 1, "{}", server.log());
        assert!(server.log().contains(why), "{why}: {}", server.log());
    }
}
