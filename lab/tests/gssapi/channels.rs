//! Tickets that are bound to the client's TLS connection (channel bindings): ours are, those of
//! openconnect 9.01 are not, those of others are bound to the server's certificate. Somebody in the middle, whom the client trusts, passes a login on.

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Client, ClientOptions, Finished, Make, Process, wait};

use super::{KEYTAB, Scene, TICKETS};

/// Address of the one in the middle, who is close to the client.
const MIDDLE_V4: &str = "192.0.2.3";

/// In the log.
const OTHER_CONNECTION: &str = "the client's ticket is for another TLS connection (channel bindings)";

/// A login by way of the one in the middle.
fn by_way(scene: &Scene, client: Make) -> Finished {
    let arguments = ["--authenticate", "--non-inter"];
    let options = ClientOptions {
        arguments: &arguments,
        address: MIDDLE_V4,
        ..ClientOptions::default()
    };
    let command = Client::command(client, &scene.world, &scene.fixture, &options);
    let command = scene.realm.with_tickets(command, TICKETS);
    Process::start(command, scene.fixture.dir(), "by-way", Some("\n")).finish()
}

/// Both halves of a login see the same connection, or the ticket is worth nothing.
fn bound(server: &[(&'static str, &str)], middle: &str) {
    let scene = Scene::new(Make::Culvert, KEYTAB, server);
    scene
        .world
        .client
        .ip(&format!("address add {MIDDLE_V4}/24 dev eth0"));
    let read = |name: &str| std::fs::read_to_string(scene.fixture.path(name)).unwrap();
    let pair = scene
        .fixture
        .write_file("middle.pem", &(read("server-cert.pem") + &read("server-key.pem")));
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend clients\n bind {MIDDLE_V4}:443 ssl crt {} {middle}\n default_backend vpn\n\
         backend vpn\n server vpn {SERVER_V4}:443 ssl verify none sni str({SERVER_NAME}) {middle}\n",
        pair.display()
    );
    let config = scene.fixture.write_file("middle.cfg", &config);
    let mut command = scene.world.client.command("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(config);
    let _middle = Process::start(command, scene.fixture.dir(), "haproxy", None);
    wait::until("haproxy", || {
        let sockets = scene.world.client.run("ss", &["-tlnH", "sport", "=", "443"]);
        (!sockets.is_empty()).then_some(())
    });

    scene.accepts(Make::Culvert, TICKETS, "");
    // The second time, the one in the middle resumes its session with the server.
    for times in 1..=2 {
        let refused = by_way(&scene, Make::Culvert);
        assert!(
            refused.code != 0 && !refused.stdout.contains("COOKIE="),
            "{}\n{}",
            refused.stdout,
            scene.server.log()
        );
        scene.server.wait_for_log(OTHER_CONNECTION, times);
    }
    let control = by_way(&scene, Make::Real);
    assert_eq!(control.code, 0, "{}\n{}", control.stderr, scene.server.log());
    bound_to_the_certificate(&scene);
}

/// Tickets that name the server's certificate: good once, and over a resumed TLS session, too.
fn bound_to_the_certificate(scene: &Scene) {
    let script = scene
        .fixture
        .write_file("end_point.py", include_str!("end_point.py"));
    // The packages are Debian's, and so is the Python that knows them.
    let mut command = scene.world.client.command("/usr/bin/python3");
    command
        .arg(script)
        .arg(SERVER_V4)
        .arg(scene.fixture.path("ca.pem"));
    let command = scene.realm.with_tickets(command, TICKETS);
    let said = Process::start(command, scene.fixture.dir(), "end-point", None).finish();
    let expected = "nothing 401\nbound 200\nagain 401\nanother 401\nresumed True 200\n";
    assert_eq!(said.stdout, expected, "{}\n{}", said.stderr, scene.server.log());
    for (why, times) in [(OTHER_CONNECTION, 3), ("Request is a replay", 1)] {
        scene.server.wait_for_log(why, times);
        let log = scene.server.log();
        assert_eq!(log.matches(why).count(), times, "{why}: {log}");
    }
}

#[test]
fn tickets_are_bound_to_tls_1_3() {
    bound(&[], "ssl-min-ver TLSv1.3");
}

#[test]
fn tickets_are_bound_to_tls_1_2() {
    bound(
        &[("tls-priorities", "\"NORMAL:-VERS-TLS1.3\"")],
        "ssl-max-ver TLSv1.2",
    );
}
