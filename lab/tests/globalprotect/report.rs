//! Reports about the client's host, by a program of the user.

use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, wait};

use super::{Over, SERVER, arguments};

/// A signal while the user's program makes a report ends the program and, before there is a tunnel,
/// the client; also SIGUSR2.
#[test]
fn a_signal_ends_a_report() {
    let (world, fixture) = (World::new(), Fixture::new());
    let options = ServerOptions {
        overrides: &[
            ("protocols", "anyconnect, globalprotect"),
            ("host-reports", "true"),
        ],
        ..SERVER
    };
    let _server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let wrapper = fixture.write_script("wrapper", "touch $0.hangs; exec sleep 60");
    let mut arguments = arguments(Over::Tls, "--usergroup=gateway");
    arguments.extend(["--csd-wrapper", wrapper.to_str().unwrap()]);
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::launch(Make::Culvert, &world, &fixture, &options);
    wait::until("a report that hangs", || {
        fixture.path("wrapper.hangs").exists().then_some(())
    });
    client.process.signal("USR2");
    assert_eq!(client.process.exit_code(), 1, "{}", client.process.output());
    assert!(
        client.process.output().contains("Creating SSL connection failed"),
        "{}",
        client.process.output()
    );
}
