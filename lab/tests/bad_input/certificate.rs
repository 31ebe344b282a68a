//! Servers that cannot be reached or are not to be trusted.

use culvert_lab::fixture::USER;
use culvert_lab::{Client, Finished, Fixture, Make, PASSWORD, Process, Server, World};

fn attempt(client: Make, world: &World, fixture: &Fixture, arguments: &[&str]) -> Finished {
    let mut all = vec!["--user", USER, "--passwd-on-stdin", "--cookieonly"];
    all.extend(arguments);
    let command = Client::bare(client, world, &all);
    let input = format!("{PASSWORD}\n");
    Process::start(command, fixture.dir(), "attempt", Some(&input)).finish()
}

/// The client prints the pin to use, refuses wrong ones, and takes the right one.
fn untrusted_server(client: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let server = Server::start(Make::Real, &world, &fixture);
    let refused = attempt(client, &world, &fixture, &["--non-inter"]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, ""),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("signer not found"), "{}", refused.stderr);
    let pin = refused
        .stderr
        .lines()
        .find_map(|line| line.trim().strip_prefix("--servercert "))
        .expect("the pin to use")
        .to_owned();

    let wrong = "pin-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let refused = attempt(client, &world, &fixture, &["--servercert", wrong]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, ""),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("match server's certificate"),
        "{}",
        refused.stderr
    );

    let accepted = attempt(client, &world, &fixture, &["--servercert", &pin]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let either = attempt(
        client,
        &world,
        &fixture,
        &["--servercert", wrong, "--servercert", &pin],
    );
    assert_eq!(either.code, 0, "{}", either.stderr);
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn real_client_and_an_untrusted_server() {
    untrusted_server(Make::Real);
}

#[test]
fn our_client_and_an_untrusted_server() {
    untrusted_server(Make::Culvert);
}

/// A certificate that the CA signed, but for another name; a pin that does not match a
/// certificate which is good otherwise (the real client does not look at it then).
#[test]
fn our_client_refuses_other_names_and_wrong_pins() {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start(Make::Real, &world, &fixture);
    let ca = fixture.path("ca.pem").display().to_string();
    let other = [
        "--cafile",
        &ca,
        "--non-inter",
        "--resolve",
        "other.test:192.0.2.1",
        "--server",
    ];
    let mut command = world.client.command(Make::Culvert.program("openconnect"));
    command.args(other).arg("other.test");
    let refused = Process::start(command, fixture.dir(), "other", None).finish();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("certificate does not match hostname"),
        "{}",
        refused.stderr
    );

    let wrong = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let refused = attempt(
        Make::Culvert,
        &world,
        &fixture,
        &["--cafile", &ca, "--servercert", wrong],
    );
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, ""),
        "{}",
        refused.stderr
    );
}

/// Nobody listens; the name is unknown.
fn unreachable_server(client: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let refused = attempt(client, &world, &fixture, &[]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, ""),
        "{}",
        refused.stderr
    );
    assert!(
        refused
            .stderr
            .contains("Failed to connect to 192.0.2.1:443: Connection refused"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("Failed to connect to host vpn.test"),
        "{}",
        refused.stderr
    );

    // Nobody answers questions about names either; the resolver would wait for long.
    std::fs::write(
        world.client.resolv_conf(),
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    let mut command = world.client.command(client.program("openconnect"));
    command.args(["--user", USER, "nosuch.invalid"]);
    let unknown = Process::start(command, fixture.dir(), "unknown", None).finish();
    assert_eq!(unknown.code, 1, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("nosuch.invalid"), "{}", unknown.stderr);
}

#[test]
fn real_client_and_an_unreachable_server() {
    unreachable_server(Make::Real);
}

#[test]
fn our_client_and_an_unreachable_server() {
    unreachable_server(Make::Culvert);
}
