//! What a tunnel survives: a killed worker, a change of network, blocked UDP; and how it ends when
//! the server does. Every case is run with one real end, so that both sides agree on what happens.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use culvert_lab::fixture::inner_server;
use culvert_lab::net::{CLIENT_V4, SERVER_V4};
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, process, wait};

struct Tunnel {
    client: Client,
    server: Server,
    fixture: Fixture,
    world: World,
}

/// A tunnel over DTLS that carries packets.
fn tunnel(client_make: Make, server_make: Make, overrides: &[(&str, &str)], arguments: &[&str]) -> Tunnel {
    let world = World::new();
    let fixture = Fixture::new();
    let server = Server::start_with(
        server_make,
        &world,
        &fixture,
        &ServerOptions {
            overrides,
            ..Default::default()
        },
    );
    let options = ClientOptions {
        arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(client_make, &world, &fixture, &options);
    client.process.wait_for("Established DTLS connection");
    probe::ping(&world.client, inner_server());
    Tunnel {
        client,
        server,
        fixture,
        world,
    }
}

impl Tunnel {
    fn logs(&self) -> String {
        self.client.process.output() + &self.server.log()
    }

    fn reconnects(&self) -> usize {
        self.client
            .process
            .stdout()
            .matches("Got CONNECT response")
            .count()
    }
}

/// `kill -9` of the worker: the client comes back with the same cookie and the same address.
fn reconnects_after_a_worker_is_killed(client: Make, server: Make) {
    let mut tunnel = tunnel(client, server, &[], &[]);
    let address = Client::inner_v4(&tunnel.world);
    let workers = tunnel.server.workers();
    assert!(!workers.is_empty());
    for worker in workers {
        process::kill_if_there(worker);
    }
    wait::until(&format!("a reconnect\n{}", tunnel.logs()), || {
        (tunnel.reconnects() == 2).then_some(())
    });
    probe::ping(&tunnel.world.client, inner_server());
    assert_eq!(Client::inner_v4(&tunnel.world), address, "{}", tunnel.logs());
    assert!(tunnel.client.process.is_running());
    probe::ping(&tunnel.world.server, address);
    stop_client(&mut tunnel);
}

#[test]
fn real_client_reconnects_after_the_real_worker_is_killed() {
    reconnects_after_a_worker_is_killed(Make::Real, Make::Real);
}

#[test]
fn our_client_reconnects_after_the_real_worker_is_killed() {
    reconnects_after_a_worker_is_killed(Make::Culvert, Make::Real);
}

#[test]
fn real_client_reconnects_after_our_worker_is_killed() {
    reconnects_after_a_worker_is_killed(Make::Real, Make::Culvert);
}

#[test]
fn our_client_reconnects_after_our_worker_is_killed() {
    reconnects_after_a_worker_is_killed(Make::Culvert, Make::Culvert);
}

const POOL: &[(&str, &str)] = &[("worker-processes", "2")];

/// `kill -9` of a pool process: only its own client has to come back, and a new process carries it.
#[test]
fn clients_reconnect_after_a_pool_process_is_killed() {
    for client in [Make::Real, Make::Culvert] {
        let mut tunnel = tunnel(client, Make::Culvert, POOL, &[]);
        let address = Client::inner_v4(&tunnel.world);
        // The login's process goes.
        tunnel.server.wait_for_workers(0);
        let pool = tunnel.server.pool();
        assert_eq!(pool.len(), 2, "{}", tunnel.logs());
        for process in &pool {
            process::kill(*process, "9");
        }
        wait::until(&format!("a reconnect\n{}", tunnel.logs()), || {
            (tunnel.reconnects() == 2).then_some(())
        });
        probe::ping(&tunnel.world.client, inner_server());
        assert_eq!(Client::inner_v4(&tunnel.world), address, "{}", tunnel.logs());
        wait::until("new pool processes", || {
            let new = tunnel.server.pool();
            (new.len() == 2 && new.iter().all(|pid| !pool.contains(pid))).then_some(())
        });
        stop_client(&mut tunnel);
    }
}

/// A new outer address: dead peer detection notices, the session goes on with the same inner
/// address.
fn roams_to_a_new_address(client: Make, server: Make, overrides: &[(&str, &str)]) {
    let overrides = [&[("dpd", "4")], overrides].concat();
    let mut tunnel = tunnel(client, server, &overrides, &["--force-dpd", "4"]);
    let address = Client::inner_v4(&tunnel.world);
    tunnel.world.roam("192.0.2.77");
    let limit = Duration::from_secs(90);
    wait::until_within(limit, &format!("a reconnect\n{}", tunnel.logs()), || {
        (tunnel.reconnects() >= 2).then_some(())
    });
    probe::ping_within(limit, &tunnel.world.client, inner_server());
    assert_eq!(Client::inner_v4(&tunnel.world), address);
    wait::until(&format!("the new address\n{}", tunnel.logs()), || {
        let (_, users) = tunnel.server.occtl(&["show", "users"]);
        (users.contains("192.0.2.77") && !users.contains(&format!("{CLIENT_V4} "))).then_some(())
    });
    stop_client(&mut tunnel);
}

#[test]
fn real_client_roams_with_the_real_server() {
    roams_to_a_new_address(Make::Real, Make::Real, &[]);
}

#[test]
fn our_client_roams_with_the_real_server() {
    roams_to_a_new_address(Make::Culvert, Make::Real, &[]);
}

#[test]
fn real_client_roams_with_our_server() {
    roams_to_a_new_address(Make::Real, Make::Culvert, &[]);
}

#[test]
fn our_client_roams_with_our_server() {
    roams_to_a_new_address(Make::Culvert, Make::Culvert, &[]);
}

#[test]
fn real_client_roams_with_our_pool() {
    roams_to_a_new_address(Make::Real, Make::Culvert, POOL);
}

#[test]
fn our_client_roams_with_our_pool() {
    roams_to_a_new_address(Make::Culvert, Make::Culvert, POOL);
}

/// UDP is blocked in mid-session and comes back: packets go over TLS meanwhile, and over DTLS again.
fn survives_the_loss_of_udp(client: Make, server: Make, overrides: &[(&str, &str)]) {
    let overrides = [&[("dpd", "4")], overrides].concat();
    let mut tunnel = tunnel(client, server, &overrides, &["--force-dpd", "4"]);
    tunnel.world.block_udp();
    let limit = Duration::from_secs(60);
    probe::ping_within(limit, &tunnel.world.client, inner_server());
    assert_eq!(
        tunnel.reconnects(),
        1,
        "the TLS connection must stay up\n{}",
        tunnel.logs()
    );
    assert!(tunnel.client.process.is_running());
    tunnel.world.unblock_udp();
    // The client tries DTLS again 60 s after an attempt has failed.
    wait::until_within(
        Duration::from_secs(150),
        &format!("DTLS again\n{}", tunnel.logs()),
        || {
            let established = tunnel
                .client
                .process
                .stdout()
                .matches("Established DTLS connection")
                .count();
            (established >= 2).then_some(())
        },
    );
    probe::ping(&tunnel.world.client, inner_server());
    stop_client(&mut tunnel);
}

#[test]
fn real_client_survives_the_loss_of_udp_with_the_real_server() {
    survives_the_loss_of_udp(Make::Real, Make::Real, &[]);
}

#[test]
fn our_client_survives_the_loss_of_udp_with_the_real_server() {
    survives_the_loss_of_udp(Make::Culvert, Make::Real, &[]);
}

#[test]
fn real_client_survives_the_loss_of_udp_with_our_server() {
    survives_the_loss_of_udp(Make::Real, Make::Culvert, &[]);
}

#[test]
fn our_client_survives_the_loss_of_udp_with_our_server() {
    survives_the_loss_of_udp(Make::Culvert, Make::Culvert, &[]);
}

#[test]
fn real_client_survives_the_loss_of_udp_with_our_pool() {
    survives_the_loss_of_udp(Make::Real, Make::Culvert, POOL);
}

#[test]
fn our_client_survives_the_loss_of_udp_with_our_pool() {
    survives_the_loss_of_udp(Make::Culvert, Make::Culvert, POOL);
}

/// The server stops while a client is connected: the client is told and ends with code 1. (The
/// real server's word does not always reach its clients, so it is not a case here.)
fn ends_with_the_server(client: Make, server: Make, overrides: &[(&str, &str)]) {
    let mut tunnel = tunnel(client, server, overrides, &[]);
    tunnel.server.process.signal("TERM");
    assert_eq!(tunnel.server.process.exit_code(), 0, "{}", tunnel.logs());
    assert_eq!(tunnel.client.process.exit_code(), 1, "{}", tunnel.logs());
    assert!(
        tunnel
            .client
            .process
            .output()
            .contains("Session terminated by server; exiting."),
        "{}",
        tunnel.logs()
    );
    assert_eq!(tunnel.world.server.interfaces(), ["lo", "eth0"]);
    assert_eq!(tunnel.world.client.interfaces(), ["lo", "eth0"]);
    assert!(!tunnel.fixture.path("occtl.sock").exists());
}

#[test]
fn real_client_ends_with_our_server() {
    ends_with_the_server(Make::Real, Make::Culvert, &[]);
}

#[test]
fn our_client_ends_with_our_server() {
    ends_with_the_server(Make::Culvert, Make::Culvert, &[]);
}

#[test]
fn clients_end_with_our_pool() {
    for client in [Make::Real, Make::Culvert] {
        ends_with_the_server(client, Make::Culvert, POOL);
    }
}

/// UDP is blocked from the start: the tunnel is up over TLS at once.
#[test]
fn our_client_is_up_at_once_without_udp() {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start(Make::Real, &world, &fixture);
    world.block_udp();
    let mut client = Client::launch(Make::Culvert, &world, &fixture, &ClientOptions::default());
    client.process.wait_for("Configured as");
    probe::ping_within(Duration::from_secs(8), &world.client, inner_server());
}

/// More connections than the shell that started the server allows descriptors: users still get in.
#[test]
fn our_server_serves_beside_many_silent_connections() {
    let world = World::new();
    let fixture = Fixture::new();
    let options = ServerOptions {
        under: &["prlimit", "--nofile=64:4096"],
        ..Default::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let script = format!(
        "for i in $(seq 150); do exec {{fd}}<>/dev/tcp/{SERVER_V4}/443 || exit; done; echo connected; read"
    );
    let mut command = world.client.command("bash");
    command.args(["-c", &script]).stdin(Stdio::piped());
    let mut silent = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(silent.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "connected\n", "{}", server.log());
    server.wait_for_workers(150);
    let client = Client::connect(Make::Culvert, &world, &fixture);
    probe::ping(&world.client, inner_server());
    drop(client);
    // The end of its input ends the shell.
    drop(silent.stdin.take());
    silent.wait().unwrap();
    server.wait_for_workers(0);
}

/// More connections than there can be descriptors for: the server closes those beyond, keeps what it needs
/// for itself, and serves again when there is room.
#[test]
fn our_server_keeps_descriptors_for_itself() {
    let (world, fixture) = (World::new(), Fixture::new());
    let options = ServerOptions {
        under: &["prlimit", "--nofile=64:400"],
        ..Default::default()
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let script = format!("for i in $(seq 200); do exec {{fd}}<>/dev/tcp/{SERVER_V4}/443 || exit; done; read");
    let mut command = world.client.command("bash");
    let mut silent = command
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    server
        .process
        .wait_for("main: reached maximum client limit (active: 36)");
    let (code, text) = server.occtl(&["show", "status"]);
    assert!(code == 0 && text.contains("Active sessions: 36"), "{text}");
    drop(silent.stdin.take());
    silent.wait().unwrap();
    // Those beyond may still wait to be accepted, and be counted then.
    wait::until("nobody waits to be accepted", || {
        let listeners = world.server.run("ss", &["-tlnH", "sport", "=", ":443"]);
        let mut waiting = listeners.lines().map(|line| line.split_whitespace().nth(1));
        waiting.all(|number| number == Some("0")).then_some(())
    });
    server.wait_for_workers(0);
    let _client = Client::connect(Make::Culvert, &world, &fixture);
    probe::ping(&world.client, inner_server());
    assert!(!server.log().contains("error in accept()"), "{}", server.log());
}

fn stop_client(tunnel: &mut Tunnel) {
    tunnel.client.process.signal("INT");
    assert_eq!(tunnel.client.process.exit_code(), 0, "{}", tunnel.logs());
    assert_eq!(tunnel.world.client.interfaces(), ["lo", "eth0"]);
}
