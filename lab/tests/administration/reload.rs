//! SIGHUP and `occtl reload` while clients are connected.

use std::fs;
use std::path::Path;

use culvert_lab::{
    Client, ClientOptions, Fixture, Make, Reflector, Server, ServerOptions, World, probe, wait,
};

use crate::inner_server;

/// A login and a tunnel of a new client, for the text of its connection.
fn third_client(make: Make, world: &World, fixture: &Fixture, name: &str) -> String {
    let script = fixture.write_script("nothing", "").display().to_string();
    let options = ClientOptions {
        arguments: &["--script", &script, "--interface", "tunthird"],
        script: false,
        name,
        ..ClientOptions::default()
    };
    let mut client = Client::launch(make, world, fixture, &options).process;
    client.wait_for("Configured as");
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    client.output()
}

#[test]
fn clients_stay_and_new_ones_get_the_new_values() {
    let world = World::new();
    let fixture = Fixture::new();
    let overrides = [("keepalive", "301")];
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let mut first = Client::connect(Make::Real, &world, &fixture);
    let program = Path::new(env!("CARGO_BIN_EXE_reflect"));
    let mut second = Reflector::connect(&world, &fixture, program, "bob");
    let alive = |first: &mut Client, second: &mut Reflector| {
        probe::ping(&world.client, inner_server());
        probe::ping(&world.server, second.address);
        assert!(first.process.is_running() && second.process.is_running());
    };
    alive(&mut first, &mut second);
    assert!(
        first.process.stdout().contains("Keepalive 301"),
        "{}",
        first.process.output()
    );
    let workers = server.workers();

    let config = fixture.path("ocserv.conf");
    let good = fixture.ocserv_conf(&[("keepalive", "302")]);
    fs::write(&config, &good).unwrap();
    let reloads = |number: usize| {
        wait::until(&format!("a reload\n{}", server.log()), || {
            (server.log().matches("main: reloading configuration").count() == number).then_some(())
        });
    };
    server.process.signal("HUP");
    reloads(1);
    let third = third_client(Make::Real, &world, &fixture, "new-value");
    assert!(third.contains("Keepalive 302"), "{third}\n{}", server.log());
    alive(&mut first, &mut second);

    // A file with an error in it changes nothing; the log tells the line.
    let lines = good.lines().count();
    fs::write(
        &config,
        format!("{}this is no option\n", good.replace("302", "303")),
    )
    .unwrap();
    server.process.signal("HUP");
    reloads(2);
    wait::until(&format!("the error\n{}", server.log()), || {
        server
            .log()
            .contains("main: the old configuration stays in force")
            .then_some(())
    });
    let place = format!("line {}", lines + 1);
    assert!(server.log().contains(&place), "no {place}: {}", server.log());
    let third = third_client(Make::Culvert, &world, &fixture, "old-value");
    assert!(third.contains("Keepalive 302"), "{third}\n{}", server.log());
    alive(&mut first, &mut second);

    // The same by occtl, with a certificate that does not fit its key: only the broker can tell.
    fs::write(
        &config,
        good.replace("302", "304")
            .replace("server-key.pem", "other-key.pem"),
    )
    .unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fixture.write_file("other-key.pem", &other.serialize_pem());
    let (code, text) = server.occtl(&["reload"]);
    assert_eq!(code, 0, "{text}");
    reloads(3);
    wait::until(&format!("the error\n{}", server.log()), || {
        let log = server.log();
        (log.matches("main: the old configuration stays in force").count() == 2).then_some(())
    });
    let third = third_client(Make::Culvert, &world, &fixture, "still-old");
    assert!(third.contains("Keepalive 302"), "{third}\n{}", server.log());

    // And a good one again.
    fs::write(&config, good.replace("302", "305")).unwrap();
    server.process.signal("HUP");
    reloads(4);
    let third = third_client(Make::Culvert, &world, &fixture, "newest");
    assert!(third.contains("Keepalive 305"), "{third}\n{}", server.log());
    alive(&mut first, &mut second);
    wait::until("the same workers as before", || {
        (server.workers() == workers).then_some(())
    });
}
