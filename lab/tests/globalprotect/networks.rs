//! Networks behind clients (`iroute`): their packets pass, although they are not the client's own.

use std::fs;

use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, wait};

use super::{Over, arguments, established};

#[test]
fn networks_behind_a_client_are_reached() {
    let (world, fixture) = (World::new(), Fixture::new());
    let users = fixture.path("users");
    fs::create_dir(&users).unwrap();
    fs::write(users.join("alice"), "iroute = 10.77.0.0/16\n").unwrap();
    let users = users.display().to_string();
    let options = ServerOptions {
        overrides: &[
            ("protocols", "anyconnect, globalprotect"),
            ("config-per-user", &users),
        ],
        ..ServerOptions::default()
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    world.client.ip("address add 10.77.8.9/32 dev lo");
    for (make, over) in [(Make::Real, Over::Esp), (Make::Culvert, Over::Tls)] {
        let arguments = arguments(over, "--usergroup=gateway");
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(make, &world, &fixture, &options);
        established(&mut client, &mut server, over);
        probe::ping(&world.server, "10.77.8.9".parse().unwrap());
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        wait::until("the end of the session", || {
            (world.server.interfaces() == ["lo", "eth0"]).then_some(())
        });
    }
}
