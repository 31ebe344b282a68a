//! With `worker-processes = N` the tunnels of GlobalProtect are in the pool, too, over ESP and over
//! TLS; no process of a client's own is left.

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, wait};

use super::{Over, arguments, established, packets_both_ways};

#[test]
fn the_pool_carries_the_tunnels() {
    let (world, fixture) = (World::new(), Fixture::new());
    let options = ServerOptions {
        overrides: &[
            ("protocols", "anyconnect, globalprotect"),
            ("worker-processes", "2"),
            ("host-reports", "true"),
        ],
        ..ServerOptions::default()
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    for (make, over) in [
        (Make::Real, Over::Esp),
        (Make::Culvert, Over::Esp),
        (Make::Real, Over::Tls),
        (Make::Culvert, Over::Tls),
    ] {
        let arguments = arguments(over, "--usergroup=gateway");
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let reports = server.log().matches("host report of 'alice'").count();
        let mut client = Client::connect_with(make, &world, &fixture, &options);
        established(&mut client, &mut server, over);
        packets_both_ways(&world);
        server.wait_for_workers(0);
        assert_eq!(server.pool().len(), 2);
        // It is the pool that asks for a report on the connection beside the tunnel.
        if make == Make::Culvert {
            wait::until(&format!("a report\n{}", server.log()), || {
                let now = server.log().matches("host report of 'alice'").count();
                (now > reports).then_some(())
            });
        }
        // A new configuration for the same session, with new keys.
        let before = Client::inner_v4(&world);
        if make == Make::Culvert {
            let opened = || server.log().matches("opened a tunnel").count();
            let first = opened();
            client.signal_until("USR2", "a second tunnel", || opened() > first);
            probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
            assert_eq!(Client::inner_v4(&world), before);
        }
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        wait::until("the end of the session", || {
            (world.server.interfaces() == ["lo", "eth0"]).then_some(())
        });
    }
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
}
