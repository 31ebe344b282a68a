//! Clients with certificates.

use std::process::Command;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe};

/// The certificate says who it is; without one there is no login.
#[test]
fn a_certificate_is_enough() {
    let (world, fixture) = (World::new(), Fixture::new());
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=alice",
            "-days",
            "9",
            "-keyout",
            "client-key.pem",
            "-out",
            "client.pem",
        ])
        .current_dir(fixture.dir())
        .output()
        .expect("openssl is needed: see scripts/setup");
    assert!(made.status.success(), "{made:?}");
    let (certificate, key) = (fixture.path("client.pem"), fixture.path("client-key.pem"));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let options = ServerOptions {
        overrides: &[
            ("protocols", "anyconnect, globalprotect"),
            ("auth", "certificate"),
            ("ca-cert", &certificate),
            ("cert-user-oid", "2.5.4.3"),
        ],
        ..ServerOptions::default()
    };
    let _server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    for make in [Make::Real, Make::Culvert] {
        let arguments = ["--protocol=gp", "--certificate", &certificate, "--sslkey", &key];
        let options = ClientOptions {
            arguments: &arguments,
            input: "any",
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(make, &world, &fixture, &options);
        probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        let without = ClientOptions {
            arguments: &["--protocol=gp", "--usergroup=gateway"],
            ..ClientOptions::default()
        };
        let finished = Client::run(make, &world, &fixture, &without);
        assert_eq!(finished.code, 1, "{}", finished.stderr);
    }
}
