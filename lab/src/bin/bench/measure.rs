//! How each number is obtained.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Instant;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Process, Server, ServerOptions, World};

use crate::cases::{Case, Results};
use crate::cost::{tree_cpu, tree_pss};
use crate::traffic::{Plan, Traffic, ping};

/// Serial logins per measurement.
const LOGINS: u32 = 20;
/// Sessions over which the memory of one is measured.
const SESSIONS: u32 = 10;

/// The two hosts without a VPN: the upper bound.
pub(crate) fn bare_wire(plan: &Plan, results: &mut Results) {
    let world = World::new();
    let fixture = Fixture::new();
    let traffic = Traffic::new(plan, &world, &fixture, SERVER_V4.parse().unwrap());
    for (case, arguments) in ONE_STREAM.into_iter().chain(FOUR_STREAMS) {
        results.add(case, traffic.tcp(arguments));
    }
    results.add(Case::PacketsUp, traffic.packets());
    let idle = plan.disturbance.least(|| ping(&world.client, SERVER_V4));
    results.add(Case::Ping, idle);
    world.switch_offload_off();
    for (case, arguments) in WITHOUT_OFFLOAD {
        results.add(case, traffic.tcp(arguments));
    }
}

const REVERSE: &[&str] = &["-R"];
const ONE_STREAM: [(Case, &[&str]); 2] = [(Case::DtlsUp, &[]), (Case::DtlsDown, REVERSE)];
const FOUR_STREAMS: [(Case, &[&str]); 2] = [
    (Case::DtlsFourUp, &["-P", "4"]),
    (Case::DtlsFourDown, &["-P", "4", "-R"]),
];
const WITHOUT_OFFLOAD: [(Case, &[&str]); 4] = [
    (Case::PlainUp, &[]),
    (Case::PlainDown, REVERSE),
    (Case::PlainFourUp, &["-P", "4"]),
    (Case::PlainFourDown, &["-P", "4", "-R"]),
];
const WITH_LOSS: [(Case, &[&str]); 2] = [(Case::LossUp, &[]), (Case::LossDown, REVERSE)];
const BESIDE_JUNK: [(Case, &[&str]); 2] = [(Case::JunkUp, &[]), (Case::JunkDown, REVERSE)];
const OVER_ESP: [(Case, Case, &[&str]); 2] = [
    (Case::EspUp, Case::EspCpuUp, &[]),
    (Case::EspDown, Case::EspCpuDown, REVERSE),
];

/// One pair of programs, from login to the end, over DTLS and over TLS alone.
pub(crate) fn pair(plan: &Plan, make: Make, results: &mut Results) {
    let world = World::new();
    let fixture = Fixture::new();
    let server = Server::start(make, &world, &fixture);
    let logins = plan.disturbance.least(|| logins(make, &world, &fixture));
    results.add(Case::Logins, logins);
    {
        let options = ClientOptions {
            arguments: &["--no-dtls"],
            ..ClientOptions::default()
        };
        let _client = Client::connect_with(make, &world, &fixture, &options);
        let traffic = Traffic::new(plan, &world, &fixture, inner_server());
        results.add(Case::TlsUp, traffic.tcp(&[]));
        results.add(Case::TlsDown, traffic.tcp(REVERSE));
    }
    let mut client = Client::connect(make, &world, &fixture);
    client.process.wait_for("Established DTLS connection");
    let idle = plan.disturbance.least(|| ping(&world.client, INNER_SERVER_V4));
    results.add(Case::Ping, idle);
    results.add(Case::ClientMemory, tree_pss(client.process.pid()) / 1e3);
    results.add(
        Case::SessionMemory,
        session_memory(make, &world, &fixture, &server) / 1e3,
    );

    let traffic = Traffic::new(plan, &world, &fixture, inner_server());
    let ends = (&client.process, &server.process);
    for ((case, arguments), (client_cpu, server_cpu)) in ONE_STREAM.into_iter().zip([
        (Case::ClientCpuUp, Case::ServerCpuUp),
        (Case::ClientCpuDown, Case::ServerCpuDown),
    ]) {
        let cost = measured(plan, &traffic, arguments, ends);
        results.add(case, cost.gbit_per_second);
        results.add(client_cpu, cost.client);
        results.add(server_cpu, cost.server);
    }
    for ((case, arguments), (undisturbed, _)) in BESIDE_JUNK.into_iter().zip(ONE_STREAM) {
        let flood = flood(&world, &fixture);
        let left = traffic.tcp(arguments);
        drop(flood);
        let all = results.latest(undisturbed).unwrap();
        results.add(case, left / all * 100.0);
    }
    for (case, arguments) in FOUR_STREAMS {
        results.add(case, traffic.tcp(arguments));
    }
    results.add(Case::PacketsUp, traffic.packets());
    results.add(Case::PingLoadedUp, traffic.ping_beside(&[]));
    results.add(Case::PingLoadedDown, traffic.ping_beside(REVERSE));
    world.switch_offload_off();
    for (case, arguments) in WITHOUT_OFFLOAD {
        results.add(case, traffic.tcp(arguments));
    }
    // Without offload every packet is lost or not by itself.
    world.lose_udp(1);
    for (case, arguments) in WITH_LOSS {
        results.add(case, traffic.tcp(arguments));
    }
}

/// Our program with the real one at the other end: what ours costs.
pub(crate) fn mixed(plan: &Plan, ours: &mut Results) {
    for (client, server) in [(Make::Culvert, Make::Real), (Make::Real, Make::Culvert)] {
        let world = World::new();
        let fixture = Fixture::new();
        let server_process = Server::start(server, &world, &fixture);
        let mut client_process = Client::connect(client, &world, &fixture);
        client_process.process.wait_for("Established DTLS connection");
        let traffic = Traffic::new(plan, &world, &fixture, inner_server());
        let ends = (&client_process.process, &server_process.process);
        let (up, down) = (
            measured(plan, &traffic, &[], ends),
            measured(plan, &traffic, REVERSE, ends),
        );
        if client == Make::Culvert {
            ours.add(Case::MixedClientCpuUp, up.client);
            ours.add(Case::MixedClientCpuDown, down.client);
        } else {
            ours.add(Case::MixedServerCpuUp, up.server);
            ours.add(Case::MixedServerCpuDown, down.server);
        }
    }
}

/// A GlobalProtect client with our server, over ESP with AES-128-CBC and SHA-1.
pub(crate) fn over_esp(plan: &Plan, client: Make, results: &mut Results) {
    let world = World::new();
    let fixture = Fixture::new();
    let server_options = ServerOptions {
        overrides: &[("protocols", "anyconnect, globalprotect")],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &server_options);
    let options = ClientOptions {
        arguments: &["--protocol=gp", "--usergroup=gateway"],
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(client, &world, &fixture, &options);
    client.process.wait_for("ESP session established with server");
    let traffic = Traffic::new(plan, &world, &fixture, inner_server());
    for (case, cpu, arguments) in OVER_ESP {
        let cost = measured(plan, &traffic, arguments, (&client.process, &server.process));
        results.add(case, cost.gbit_per_second);
        results.add(cpu, cost.client);
    }
}

/// Records of nobody for the server's UDP port, 100,000 per second, until the process is dropped.
fn flood(world: &World, fixture: &Fixture) -> Process {
    let mut command = world.client.command(culvert_lab::built("load"));
    command.args(["--server", &format!("{SERVER_V4}:443"), "--clients", "0"]);
    command.args(["--junk", "100000", "--junk-kind", "record", "--seconds", "60"]);
    let mut flood = Process::start(command, fixture.dir(), "flood", None);
    flood.wait_for("flooding");
    flood
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// A transfer and the CPU seconds per Gbit of both ends.
struct Cost {
    gbit_per_second: f64,
    client: f64,
    server: f64,
}

fn measured(plan: &Plan, traffic: &Traffic<'_>, arguments: &[&str], ends: (&Process, &Process)) -> Cost {
    plan.disturbance
        .least(|| measured_once(plan, traffic, arguments, ends))
}

fn measured_once(plan: &Plan, traffic: &Traffic<'_>, arguments: &[&str], ends: (&Process, &Process)) -> Cost {
    let cpu = || (tree_cpu(ends.0.pid()), tree_cpu(ends.1.pid()));
    let before = cpu();
    let gbit_per_second = traffic.tcp_once(arguments);
    let after = cpu();
    let gbit = gbit_per_second * f64::from(plan.seconds);
    Cost {
        gbit_per_second,
        client: (after.0 - before.0) / gbit,
        server: (after.1 - before.1) / gbit,
    }
}

/// What one more idle session costs all processes of the server, in kB.
fn session_memory(make: Make, world: &World, fixture: &Fixture, server: &Server) -> f64 {
    let before = tree_pss(server.process.pid());
    let clients: Vec<Client> = (0..SESSIONS)
        .map(|number| {
            let (name, device) = (format!("idle{number}"), format!("idle{number}"));
            let options = ClientOptions {
                arguments: &["--script", "/bin/true", "--interface", &device],
                script: false,
                name: &name,
                ..ClientOptions::default()
            };
            let mut client = Client::launch(make, world, fixture, &options);
            client.process.wait_for("Established DTLS connection");
            client
        })
        .collect();
    let after = tree_pss(server.process.pid());
    drop(clients);
    (after - before) / f64::from(SESSIONS)
}

/// Serial logins per second, each with a program start, a full handshake and a password. A shell
/// on the client's host runs them, so that nothing else is measured.
fn logins(make: Make, world: &World, fixture: &Fixture) -> f64 {
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        script: false,
        ..ClientOptions::default()
    };
    let login = Client::command(make, world, fixture, &options);
    let mut shell = world.client.command("sh");
    let script = format!(
        "i=0; while [ $i -lt {LOGINS} ]; do \"$@\" <{} || exit 1; i=$((i + 1)); done",
        fixture.path("password").display()
    );
    // `ip netns exec NAME` comes before the program.
    shell.args(["-c", &script, "sh"]).args(login.get_args().skip(3));
    shell.stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    assert!(shell.status().unwrap().success(), "a login failed: {login:?}");
    f64::from(LOGINS) / begin.elapsed().as_secs_f64()
}
