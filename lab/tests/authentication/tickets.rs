//! A ticket and a certificate together: both have to be there, and to speak of the same user.

use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, PASSWORD, Process, Realm, Server, ServerOptions, USER,
    World,
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
    server.wait_for_log("presented a certificate which is for user 'bob'", 1);
}

#[test]
fn and_certificate_with_the_real_client() {
    and_certificate(Make::Real);
}

#[test]
fn and_certificate_with_our_client() {
    and_certificate(Make::Culvert);
}

/// The common set-up: a password, or a certificate, or a ticket.
#[test]
fn or_certificate_or_password() {
    let (world, fixture) = (World::new(), Fixture::new());
    let authority = Authority::new(&fixture, "users.pem");
    authority.issue(&fixture, "bob", Some("bob"), None);
    let realm = Realm::start(&world, &fixture, "");
    let done = realm.kinit(&world.client, &fixture, ("krb5.conf", "tickets"), USER);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let path = |name: &str| fixture.path(name).display().to_string();
    let (plain, gssapi) = (
        format!("plain[passwd={}]", path("ocpasswd")),
        format!(
            "gssapi[keytab={},require-local-user-map=false]",
            path("vpn.test.keytab")
        ),
    );
    let (authorities, config) = (path("users.pem"), format!("KRB5_CONFIG={}", path("krb5.conf")));
    let options = ServerOptions {
        overrides: &[
            ("auth", &plain),
            ("enable-auth", "certificate"),
            ("enable-auth", &gssapi),
            ("ca-cert", &authorities),
            ("cert-user-oid", UID),
        ],
        under: &["env", &config],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let (pem, key) = (path("bob.pem"), path("bob.key"));
    let with_certificate = ["-c", &pem, "-k", &key];
    let log_in = |client: Make, certificate: &[&str], cache: &str, password: &str| {
        let arguments = [&["--authenticate", "--non-inter"], certificate].concat();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let command = Client::command(client, &world, &fixture, &options);
        let command = realm.with_tickets(command, cache);
        let login = Process::start(
            command,
            fixture.dir(),
            "openconnect",
            Some(&format!("{password}\n")),
        )
        .finish();
        assert_eq!(
            login.code == 0,
            login.stdout.contains("COOKIE="),
            "{}",
            login.stdout
        );
        login.code == 0
    };
    let logged_in = |user: &str, times: usize| {
        let said = format!("auth complete for user '{user}'");
        server.wait_for_log(&said, times);
        assert_eq!(server.log().matches(&said).count(), times, "{}", server.log());
    };
    for (client, times) in [(Make::Real, 1), (Make::Culvert, 2)] {
        assert!(log_in(client, &[], "tickets", "wrong"), "{}", server.log());
        logged_in("alice@LAB.TEST", times);
        assert!(log_in(client, &[], "none", PASSWORD), "{}", server.log());
        logged_in(USER, times);
        assert!(
            log_in(client, &with_certificate, "none", "wrong"),
            "{}",
            server.log()
        );
        logged_in("bob", times);
        assert!(!log_in(client, &[], "none", "wrong"), "{}", server.log());
    }
}
