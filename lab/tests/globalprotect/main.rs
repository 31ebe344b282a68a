//! GlobalProtect: the real openconnect and ours log in to our server, pass packets over ESP and
//! over TLS, come back, and log out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificate;
mod esp;
mod networks;
mod pool;
mod report;
mod requests;

use std::net::IpAddr;

use culvert_lab::fixture::{INNER_SERVER_V4, INNER_SERVER_V6};
use culvert_lab::{
    Client, ClientOptions, Fixture, Host, Make, PASSWORD, Server, ServerOptions, World, probe, wait,
};

/// How packets travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Esp,
    Tls,
}

const SERVER: ServerOptions<'static> = ServerOptions {
    overrides: &[("protocols", "anyconnect, globalprotect")],
    arguments: &[],
    under: &[],
};

fn arguments(over: Over, interface: &'static str) -> Vec<&'static str> {
    let mut arguments = vec!["--protocol=gp"];
    if !interface.is_empty() {
        arguments.push(interface);
    }
    if over == Over::Tls {
        arguments.push("--no-dtls");
    }
    arguments
}

fn packets_both_ways(world: &World) {
    for address in [INNER_SERVER_V4, INNER_SERVER_V6] {
        probe::ping(&world.client, address.parse::<IpAddr>().unwrap());
    }
    for address in [Client::inner_v4(world), Client::inner_v6(world)] {
        probe::ping(&world.server, address);
    }
    for packet_size in ["1000", "3000"] {
        wait::until(&format!("an answer to a ping of {packet_size} octets"), || {
            let mut command = world.client.command("ping");
            command.args(["-c1", "-W1", "-s", packet_size, INNER_SERVER_V4]);
            command.output().unwrap().status.success().then_some(())
        });
    }
}

fn established(client: &mut Client, server: &mut Server, over: Over) {
    if over == Over::Esp {
        client.process.wait_for("ESP session established with server");
        server
            .process
            .wait_for("ESP session established (ESP)-(AES-128-CBC)");
    }
}

/// MTU of a host's TUN device.
fn mtu(host: &Host) -> u32 {
    let text = host.ip("-o link show");
    let line = text.lines().find(|line| line.contains("POINTOPOINT")).unwrap();
    let after = line.split_once(" mtu ").unwrap().1;
    after.split(' ').next().unwrap().parse().unwrap()
}

/// Over ESP both ends take the largest packet that fits a datagram (`specs/esp.md` §10), and it
/// passes; over TLS the client takes more than a datagram carries.
fn same_mtu(world: &World, over: Over) {
    let (client, server) = (mtu(&world.client), mtu(&world.server));
    assert_eq!(server, 1422);
    match over {
        Over::Esp => assert_eq!(client, server),
        Over::Tls => assert!(client >= server, "{client}"),
    }
    for host in [&world.client, &world.server] {
        let to = match host.name() == world.client.name() {
            true => INNER_SERVER_V4.to_owned(),
            false => Client::inner_v4(world).to_string(),
        };
        host.ping_uncut(u16::try_from(server - 28).unwrap(), &to);
    }
}

/// What the client sends with another source address than its own goes no further than the server's
/// worker, in either family.
fn packets_in_others_names(world: &World) {
    world.server.nft(
        "add table inet names; add chain inet names in { type filter hook input priority 0; }; \
         add rule inet names in iifname \"vpns*\" ip saddr 10.99.1.77 counter comment \"foreign\"; \
         add rule inet names in iifname \"vpns*\" ip6 saddr fd99:1::77 counter comment \"foreign\"; \
         add rule inet names in iifname \"vpns*\" counter comment \"own\"",
    );
    for address in ["10.99.1.77/32", "fd99:1::77/128 nodad"] {
        world.client.ip(&format!("address add {address} dev tunlab"));
    }
    for (from, to) in [("10.99.1.77", INNER_SERVER_V4), ("fd99:1::77", INNER_SERVER_V6)] {
        let mut command = world.client.command("ping");
        let answers = command
            .args(["-n", "-c3", "-i0.2", "-W1", "-I", from, to])
            .output();
        assert!(!answers.unwrap().status.success());
    }
    for address in ["10.99.1.77/32", "fd99:1::77/128"] {
        world.client.ip(&format!("address delete {address} dev tunlab"));
    }
    probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
    let counted = world.server.run("nft", &["list", "table", "inet", "names"]);
    let packets = |comment: &str| {
        let lines = counted.lines().filter(|line| line.contains(comment));
        let count = |line: &str| {
            line.split("packets ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<u32>()
                .ok()
        };
        lines.map(|line| count(line).unwrap()).sum::<u32>()
    };
    assert_eq!(packets("foreign"), 0, "{counted}");
    assert!(packets("own") > 0, "{counted}");
    world.server.nft("delete table inet names");
}

/// One login, packets of both families in both directions, an orderly end.
fn session(make: Make, over: Over, interface: &'static str) {
    let world = World::new();
    let fixture = Fixture::new();
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    let arguments = arguments(over, interface);
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(make, &world, &fixture, &options);
    established(&mut client, &mut server, over);
    packets_both_ways(&world);
    same_mtu(&world, over);
    packets_in_others_names(&world);
    let (code, users) = server.occtl(&["show", "users"]);
    assert!(code == 0 && users.contains("alice"), "{users}\n{}", server.log());

    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    assert!(
        client.process.output().contains("Logout successful."),
        "{}",
        client.process.output()
    );
    assert_eq!(world.client.interfaces(), ["lo", "eth0"]);
    wait::until("the end of the session", || {
        (world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
}

macro_rules! sessions {
    ($($name:ident: $make:ident over $over:ident $interface:literal;)*) => {
        $(#[test]
        fn $name() {
            session(Make::$make, Over::$over, $interface);
        })*
    };
}

sessions! {
    real_client_over_esp: Real over Esp "--usergroup=gateway";
    real_client_over_tls: Real over Tls "--usergroup=gateway";
    real_client_by_the_portal: Real over Esp "";
    our_client_over_esp: Culvert over Esp "--usergroup=gateway";
    our_client_over_tls: Culvert over Tls "--usergroup=gateway";
    our_client_by_the_portal: Culvert over Esp "";
}

/// Datagrams do not get through: the client notices, and goes on over TLS with the same addresses;
/// when they do again, over ESP.
fn fall_back(make: Make) {
    let world = World::new();
    let fixture = Fixture::new();
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    let rules = "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; \
                 add rule inet lab in meta l4proto udp drop";
    world.server.nft(rules);
    let options = ClientOptions {
        arguments: &["--protocol=gp", "--usergroup=gateway", "--force-dpd=2"],
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(make, &world, &fixture, &options);
    client
        .process
        .wait_for("Failed to connect ESP tunnel; using HTTPS instead.");
    packets_both_ways(&world);
    // And back, with the next configuration.
    world.server.nft("delete table inet lab");
    client.signal_until("USR2", "ESP", || {
        let said = client.process.output();
        said.contains("ESP session established with server")
    });
    packets_both_ways(&world);
    // A death in mid-session leads to the TLS tunnel at once, on a new connection: nobody logs the
    // cookie in its URL.
    let asked = "HTTP GET /ssl-tunnel-connect.sslvpn";
    let before = server.log().matches(asked).count();
    world.server.nft(rules);
    server.wait_for_log(asked, before + 1);
    packets_both_ways(&world);
    assert!(!server.log().contains("authcookie="), "{}", server.log());
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    server.process.signal("TERM");
    assert_eq!(server.process.exit_code(), 0, "{}", server.log());
}

#[test]
fn real_client_falls_back_to_tls() {
    fall_back(Make::Real);
}

#[test]
fn our_client_falls_back_to_tls() {
    fall_back(Make::Culvert);
}

/// A new configuration with new keys for the same session: the old connection's worker ends, the
/// addresses stay.
fn comes_back(make: Make, ways: &[Over]) {
    let world = World::new();
    let fixture = Fixture::new();
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    for &over in ways {
        let arguments = arguments(over, "--usergroup=gateway");
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(make, &world, &fixture, &options);
        established(&mut client, &mut server, over);
        let before = Client::inner_v4(&world);
        for _ in 0..2 {
            let configurations = client.process.output().matches("ssl-vpn/getconfig.esp").count();
            // A client that is still busy with the previous one ignores the signal.
            client.signal_until("USR2", "a new configuration", || {
                let output = client.process.output();
                output.matches("ssl-vpn/getconfig.esp").count() > configurations
            });
            probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
            assert_eq!(Client::inner_v4(&world), before);
        }
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    }
}

#[test]
fn our_client_comes_back() {
    comes_back(Make::Culvert, &[Over::Esp, Over::Tls]);
}

/// Over ESP it only changes its socket, and then goes on over TLS.
#[test]
fn real_client_comes_back() {
    comes_back(Make::Real, &[Over::Tls]);
}

/// Runs a client's clock faster than ours.
const FASTER: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The client asks for new keys a minute before its configuration ends, which is after 5 minutes at
/// the earliest; its clock runs 60 times as fast as the server's.
fn renews_its_keys(make: Make, over: Over) {
    let (world, fixture) = (World::new(), Fixture::new());
    let options = ServerOptions {
        overrides: &[("protocols", "anyconnect, globalprotect"), ("rekey-time", "300")],
        ..ServerOptions::default()
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let arguments = arguments(over, "--usergroup=gateway");
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let mut command = Client::command(make, &world, &fixture, &options);
    command.env("LD_PRELOAD", FASTER).env("FAKETIME", "+0 x60");
    let input = format!("{PASSWORD}\n");
    let process = culvert_lab::Process::start(command, fixture.dir(), "openconnect", Some(&input));
    let mut client = Client { process };
    established(&mut client, &mut server, over);
    client.process.wait_for("Configured as");
    let keys = |server: &Server| match over {
        Over::Esp => server.log().matches("ESP session established (ESP)").count(),
        Over::Tls => server.log().matches("opened a tunnel").count(),
    };
    wait::until("new keys", || {
        let _any = world
            .client
            .command("ping")
            .args(["-c1", "-W1", INNER_SERVER_V4])
            .output();
        (keys(&server) >= 2 && client.process.output().contains("rekey due")).then_some(())
    });
    probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

#[test]
fn real_client_renews_its_keys() {
    renews_its_keys(Make::Real, Over::Esp);
}

#[test]
fn our_client_renews_its_keys() {
    renews_its_keys(Make::Culvert, Over::Esp);
}

/// A cookie of one client opens a tunnel for the other.
#[test]
fn cookies_of_the_two_clients_are_the_same() {
    let world = World::new();
    let fixture = Fixture::new();
    let _server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    for (first, second) in [(Make::Culvert, Make::Real), (Make::Real, Make::Culvert)] {
        let login = ClientOptions {
            arguments: &["--protocol=gp", "--usergroup=gateway", "--cookieonly"],
            name: "login",
            ..ClientOptions::default()
        };
        let finished = Client::run(first, &world, &fixture, &login);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let cookie = finished.stdout.lines().last().unwrap().to_owned();
        assert!(cookie.starts_with("authcookie="), "{cookie}");
        let input = format!("{PASSWORD}\n{cookie}");
        let connect = ClientOptions {
            arguments: &["--protocol=gp", "--cookie-on-stdin"],
            input: &input,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(second, &world, &fixture, &connect);
        probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        // Logged out: the cookie is worth nothing any more.
        let again = Client::run(second, &world, &fixture, &connect);
        assert_eq!(again.code, 2, "{}", again.stderr);
    }
}

/// The server asks for a report about the client's host, and its log says what is in it. It is good for an
/// hour: later questions and other connections lead to no other. Packets pass meanwhile.
fn host_reports(make: Make, over: Over) {
    let world = World::new();
    let fixture = Fixture::new();
    let options = ServerOptions {
        overrides: &[
            ("protocols", "anyconnect, globalprotect"),
            ("host-reports", "true"),
        ],
        ..SERVER
    };
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let mut arguments = arguments(over, "--usergroup=gateway");
    arguments.extend(["--force-trojan=2", "--local-hostname=pc"]);
    if make == Make::Real {
        // It has no report of its own.
        arguments.extend(["--csd-wrapper", "/usr/libexec/openconnect/hipreport.sh"]);
    }
    let options = ClientOptions {
        arguments: &arguments,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(make, &world, &fixture, &options);
    established(&mut client, &mut server, over);
    let said = |server: &Server, text: &str| server.log().matches(text).count();
    let report = "host report of 'alice': host 'pc'";
    let asked = "HTTP POST /ssl-vpn/hipreportcheck.esp";
    wait::until("a report and later questions", || {
        (said(&server, report) >= 1 && said(&server, asked) >= 2).then_some(())
    });
    // Over ESP no connection is left between two checks; the real client keeps that of the last one open
    // until the next one begins.
    if make == Make::Culvert {
        server.wait_for_workers(1);
    }
    packets_both_ways(&world);
    let log = server.log();
    let version = match make {
        Make::Culvert => ", client 'v9.21', ",
        Make::Real => ", client '5.1.5-8', ",
    };
    assert!(log.contains(version) && !log.contains("md5-sum is not"), "{log}");
    if make == Make::Culvert && over == Over::Esp {
        let (tunnels, questions) = (said(&server, "opened a tunnel"), said(&server, asked));
        client.signal_until("USR2", "another tunnel", || {
            said(&server, "opened a tunnel") > tunnels
        });
        server.wait_for_log(asked, questions + 1);
    }
    assert_eq!(said(&server, report), 1, "{}", server.log());
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

#[test]
fn host_reports_are_logged() {
    for over in [Over::Esp, Over::Tls] {
        host_reports(Make::Real, over);
        host_reports(Make::Culvert, over);
    }
}
