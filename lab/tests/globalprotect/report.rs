//! Reports about the client's host, by a program of the user.

use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, wait};

use super::{Over, SERVER, arguments, packets_both_ways};

/// SIGUSR2 while the user's program makes a report: the program ends, the session gets a new
/// connection and goes on.
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
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let wrapper = fixture.write_script(
        "wrapper",
        "[ -e $0.hang ] && { mv $0.hang $0.hangs; exec sleep 60; }\nexec /usr/libexec/openconnect/hipreport.sh \"$@\"",
    );
    let mut arguments = arguments(Over::Tls, "--usergroup=gateway");
    arguments.extend(["--force-trojan=2", "--csd-wrapper", wrapper.to_str().unwrap()]);
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &world, &fixture, &options);
    fixture.write_file("wrapper.hang", "");
    wait::until("a report that hangs", || {
        fixture.path("wrapper.hangs").exists().then_some(())
    });
    let reports = server.log().matches("host report of").count();
    client.process.signal("USR2");
    client.process.wait_for("User requested reconnect");
    wait::until("another report", || {
        (server.log().matches("host report of").count() > reports).then_some(())
    });
    packets_both_ways(&world);
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}
