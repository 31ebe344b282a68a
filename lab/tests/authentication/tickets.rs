//! A ticket and a certificate together: both have to be there, and to speak of the same user.

use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, Process, Realm, Server, ServerOptions, USER, World,
};

use culvert_lab::authority::{Authority, UID};

fn log_in(
    (world, fixture, realm): (&World, &Fixture, &Realm),
    client: Make,
    certificate: &str,
    cache: &str,
) -> Finished {
    let path = |kind: &str| {
        fixture
            .path(&format!("{certificate}.{kind}"))
            .display()
            .to_string()
    };
    let (pem, key) = (path("pem"), path("key"));
    let arguments = ["-c", &pem, "-k", &key, "--authenticate", "--non-inter"];
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let command = Client::command(client, world, fixture, &options);
    let command = realm.with_tickets(command, cache);
    Process::start(command, fixture.dir(), "openconnect", Some("\n")).finish()
}

fn and_certificate(client: Make) {
    let (world, fixture) = (World::new(), Fixture::new());
    let authority = Authority::new(&fixture, "users.pem");
    authority.issue(&fixture, "alice", Some(USER), None);
    authority.issue(&fixture, "bob", Some("bob"), None);
    let realm = Realm::start(&world, &fixture, "");
    let done = realm.kinit(&world.client, &fixture, ("krb5.conf", "tickets"), USER);
    assert_eq!(done.code, 0, "{}", done.stderr);

    let path = |name: &str| fixture.path(name).display().to_string();
    let gssapi = format!("gssapi[keytab={}]", path("vpn.test.keytab"));
    let authorities = path("users.pem");
    let config = format!("KRB5_CONFIG={}", path("krb5.conf"));
    let options = ServerOptions {
        overrides: &[
            ("auth", "certificate"),
            ("auth", &gssapi),
            ("ca-cert", &authorities),
            ("cert-user-oid", UID),
        ],
        under: &["env", &config],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let scene = (&world, &fixture, &realm);
    let accepted = log_in(scene, client, "alice", "tickets");
    assert_eq!(accepted.code, 0, "{}\n{}", accepted.stderr, server.log());
    assert!(accepted.stdout.contains("COOKIE="), "{}", accepted.stdout);
    for (certificate, cache) in [("bob", "tickets"), ("alice", "none")] {
        let refused = log_in(scene, client, certificate, cache);
        assert_ne!(refused.code, 0, "{certificate} {cache}: {}", server.log());
        assert!(!refused.stdout.contains("COOKIE="), "{}", refused.stdout);
    }
    let log = server.log();
    assert!(
        log.contains("presented a certificate which is for user 'bob'"),
        "{log}"
    );
}

#[test]
fn and_certificate_with_the_real_client() {
    and_certificate(Make::Real);
}

#[test]
fn and_certificate_with_our_client() {
    and_certificate(Make::Culvert);
}
