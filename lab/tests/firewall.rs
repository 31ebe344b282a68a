//! `restrict-user-to-routes` and `restrict-user-to-ports`: which packets of a client pass the server, by
//! IPv4 and IPv6, and what is left of the rules afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::{INNER_V4, INNER_V6, USER};
use culvert_lab::lan::{Lan, NETWORKS, OTHER_NETWORKS, connects};
use culvert_lab::{Client, Fixture, Make, Server, ServerOptions, World, probe, process, wait};

struct Scene {
    server: Server,
    lan: Lan,
    fixture: Fixture,
    world: World,
}

fn scene(under: &[&str]) -> Scene {
    let world = World::new();
    let fixture = Fixture::new();
    let lan = Lan::new(&world, &fixture, &[443, 22]);
    fs::create_dir(fixture.path("users")).unwrap();
    let users = fixture.path("users").display().to_string();
    let [lan_v4, lan_v6] = NETWORKS;
    let overrides = [
        ("config-per-user", users.as_str()),
        ("route", INNER_V4),
        ("route", INNER_V6),
        ("route", lan_v4),
        ("route", lan_v6),
        ("dns", "10.30.0.2"),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        under,
        ..Default::default()
    };
    Scene {
        server: Server::start_with(Make::Culvert, &world, &fixture, &options),
        lan,
        fixture,
        world,
    }
}

impl Scene {
    /// A client with these options of its own, which tries to reach everything.
    fn client(&self, options: &str) -> Client {
        self.fixture.write_file(&format!("users/{USER}"), options);
        let client = Client::connect(Make::Real, &self.world, &self.fixture);
        for network in OTHER_NETWORKS {
            self.world.client.ip(&format!("route add {network} dev {DEVICE}"));
        }
        client
    }

    fn leave(&self, mut client: Client) {
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        wait::until("the end of the rules", || self.tables().is_empty().then_some(()));
    }

    fn tables(&self) -> String {
        self.world.server.run("nft", &["list", "tables"])
    }

    /// The last of the client's routes may come a moment after its first.
    fn reaches(&self, address: &str, port: u16) {
        let what = format!("{address} port {port}\n{}{}", self.tables(), self.server.log());
        wait::until(&what, || self.connects(address, port).then_some(()));
    }

    fn is_answered_by(&self, address: &str) {
        probe::ping(&self.world.client, address.parse().unwrap());
    }

    fn pings(&self, address: &str) -> bool {
        probe::answers(&self.world.client, address.parse().unwrap())
    }

    fn connects(&self, address: &str, port: u16) -> bool {
        connects(&self.world.client, address, port)
    }
}

#[test]
fn packets_that_pass_and_packets_that_do_not() {
    let scene = scene(&[]);
    // Unrestricted: everything, and no rules.
    let client = scene.client("");
    for address in ["10.20.0.2", "10.30.0.2", "fd20::2", "fd30::2"] {
        scene.reaches(address, 22);
        scene.is_answered_by(address);
    }
    assert_eq!(scene.tables(), "");
    scene.leave(client);

    // Routes alone; the name server is reachable all the same.
    let client = scene.client("restrict-user-to-routes = true\n");
    assert!(
        scene.tables().starts_with("table inet ocserv_vpns0_"),
        "{}",
        scene.tables()
    );
    for address in ["10.20.0.2", "fd20::2"] {
        scene.reaches(address, 22);
        scene.is_answered_by(address);
    }
    for address in ["10.30.0.2", "fd30::2"] {
        assert!(
            !scene.pings(address) && !scene.connects(address, 443),
            "{address}"
        );
    }
    // The server itself, and connections to the client, are not limited.
    scene.is_answered_by("10.99.1.1");
    let inner = Client::inner_v4(&scene.world);
    probe::ping(&scene.lan.host, inner);
    scene.leave(client);

    // Some ports, everywhere.
    let client = scene.client("restrict-user-to-ports = \"tcp(443), icmp()\"\n");
    for address in ["10.20.0.2", "10.30.0.2", "fd20::2", "fd30::2"] {
        scene.reaches(address, 443);
        assert!(!scene.connects(address, 22), "{address}");
    }
    scene.is_answered_by("10.30.0.2");
    assert!(!scene.pings("fd20::2"));
    scene.leave(client);

    // All but some, within the routes.
    let client =
        scene.client("restrict-user-to-routes = true\nrestrict-user-to-ports = \"!(tcp(22), icmpv6())\"\n");
    for address in ["10.20.0.2", "fd20::2"] {
        scene.reaches(address, 443);
        assert!(!scene.connects(address, 22), "{address}");
    }
    scene.is_answered_by("10.20.0.2");
    assert!(!scene.pings("fd20::2"));
    assert!(!scene.connects("10.30.0.2", 443));
    scene.leave(client);
}

/// Rules of a killed server go at its next start; those of others stay.
#[test]
fn a_killed_server_leaves_no_rules_for_long() {
    let mut scene = scene(&[]);
    let client = scene.client("restrict-user-to-routes = true\n");
    let tables = scene.tables();
    // Another server on this host, with the same device prefix.
    let others = Fixture::new();
    let overrides = [("tcp-port", "444"), ("udp-port", "444")];
    let options = ServerOptions {
        overrides: &overrides,
        ..Default::default()
    };
    let mut other = Server::launch(Make::Culvert, &scene.world, &others, &options);
    other.process.wait_for("initialized ocserv");
    assert_eq!(scene.tables(), tables, "{}", other.log());
    process::kill(scene.server.process.pid(), "9");
    scene.server.process.wait();
    other.process.signal("TERM");
    assert_eq!(other.process.exit_code(), 0, "{}", other.log());
    assert_eq!(scene.tables(), tables);
    drop(client);
    scene.world.server.nft("add table inet ocserv_of_somebody");
    wait::until("the end of the device", || {
        (!scene.world.server.interfaces().contains(&"vpns0".to_owned())).then_some(())
    });
    scene.server = Server::start(Make::Culvert, &scene.world, &scene.fixture);
    scene.server.process.wait_for("initialized ocserv");
    assert_eq!(scene.tables(), "table inet ocserv_of_somebody\n");
}

/// A program of the administrator's in the place of the built-in rules: it runs instead of the
/// scripts.
#[test]
fn a_firewall_program_of_the_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let program = folder.path().join("firewall");
    let body = format!(
        "#!/bin/sh\necho $REASON $DEVICE $OCSERV_RESTRICT_TO_ROUTES $OCSERV_ALLOW_PORTS >>{}\n",
        seen.display()
    );
    fs::write(&program, body).unwrap();
    process::run("chmod", &["755", &program.display().to_string()]);
    let variable = format!("OCSERV_FW_SCRIPT={}", program.display());
    let scene = scene(&["env", &variable]);
    let client = scene.client("restrict-user-to-routes = true\nrestrict-user-to-ports = tcp(443)\n");
    assert_eq!(fs::read_to_string(&seen).unwrap(), "connect vpns0 1 tcp 443\n");
    assert_eq!(scene.tables(), "");
    scene.leave(client);
    wait::until("the second run", || {
        let text = fs::read_to_string(&seen).unwrap();
        text.ends_with("\ndisconnect vpns0 1 tcp 443\n").then_some(())
    });
}
