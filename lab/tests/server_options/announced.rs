//! What the server announces to its clients, and the headers that say so; the real server says
//! the same.

use culvert_lab::{Client, Fixture, Make, Server, ServerOptions, USER, World, wait};

/// Options with the header lines that they give.
const ANNOUNCED: [(&str, &str, &str); 22] = [
    ("dns", "10.1.1.1", "X-CSTP-DNS: 10.1.1.1"),
    ("ipv6-dns", "fd00::53", "X-CSTP-DNS: fd00::53"),
    ("nbns", "10.1.1.2", "X-CSTP-NBNS: 10.1.1.2"),
    ("split-dns", "a.test", "X-CSTP-Split-DNS: a.test"),
    ("split-dns", "b.test", "X-CSTP-Split-DNS: b.test"),
    ("route", "10.0.0.0/8", "X-CSTP-Split-Include: 10.0.0.0/255.0.0.0"),
    ("route", "fd00::/8", "X-CSTP-Split-Include-IP6: fd00::/8"),
    (
        "no-route",
        "10.9.0.0/16",
        "X-CSTP-Split-Exclude: 10.9.0.0/255.255.0.0",
    ),
    (
        "default-domain",
        "one.test two.test",
        "X-CSTP-Default-Domain: one.test two.test",
    ),
    ("tunnel-all-dns", "true", "X-CSTP-Tunnel-All-DNS: true"),
    (
        "proxy-url",
        "http://pac.test/%{U}/%{G}",
        "X-CSTP-MSIE-Proxy-Pac-URL: http://pac.test/alice/staff",
    ),
    ("custom-header", "X-CSTP-Lab-User: %{U}", "X-CSTP-Lab-User: alice"),
    (
        "client-bypass-protocol",
        "true",
        "X-CSTP-Client-Bypass-Protocol: true",
    ),
    ("keepalive", "111", "X-CSTP-Keepalive: 111"),
    ("dpd", "33", "X-CSTP-DPD: 33"),
    ("idle-timeout", "444", "X-CSTP-Idle-Timeout: 444"),
    ("session-timeout", "5555", "X-CSTP-Session-Timeout: 5555"),
    ("mtu", "1400", "X-CSTP-Base-MTU: 1400"),
    ("rekey-method", "new-tunnel", "X-CSTP-Rekey-Method: new-tunnel"),
    ("rekey-time", "30", "X-CSTP-Rekey-Time: 30"),
    ("banner", "Good morning", "X-CSTP-Banner: Good morning"),
    ("udp-port", "443", "X-DTLS-Port: 443"),
];

fn announces(make: Make, more: &[(&str, &str, &str)]) {
    let (world, fixture) = (World::new(), Fixture::new());
    let all: Vec<_> = ANNOUNCED.iter().chain(more).collect();
    let overrides: Vec<_> = all.iter().map(|(name, value, _)| (*name, *value)).collect();
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(make, &world, &fixture, &options);
    let text = connected(&world, &fixture, USER, &[]);
    for (name, value, header) in all {
        let found = text.lines().any(|line| line == *header);
        assert!(
            found,
            "{name} = {value}: no '{header}' in {text}\n{}",
            server.log()
        );
    }
}

/// What the real client says of its connection, with all headers.
fn connected(world: &World, fixture: &Fixture, user: &str, arguments: &[&str]) -> String {
    let mut all = vec!["-v"];
    all.extend(arguments);
    let options = culvert_lab::ClientOptions {
        arguments: &all,
        user,
        ..culvert_lab::ClientOptions::default()
    };
    let mut client = Client::launch(Make::Real, world, fixture, &options);
    client.process.wait_for("Configured as");
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    client.process.stdout()
}

#[test]
fn our_server_announces_its_options() {
    announces(
        Make::Culvert,
        &[
            ("included-http-headers", "X-Everywhere: yes", "X-Everywhere: yes"),
            ("mobile-dpd", "1234", "X-DTLS-DPD: 33"),
        ],
    );
}

#[test]
fn real_server_announces_its_options() {
    announces(Make::Real, &[]);
}

/// Files for groups and users, and those for everybody who has none.
#[test]
fn files_of_groups_and_users_change_what_is_announced() {
    let (world, fixture) = (World::new(), Fixture::new());
    for (folder, name, text) in [
        ("groups", "staff", "dns = 10.2.2.2\nkeepalive = 222\n"),
        (
            "users",
            "alice",
            "explicit-ipv4 = 10.99.1.77\nexplicit-ipv6 = fd99:1::77\nhostname = pinned\nno-udp = true\n\
             keepalive = 333\nroute = default\n",
        ),
    ] {
        let folder = fixture.path(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }
    let path = |name: &str| fixture.path(name).display().to_string();
    let everybody = fixture.write_file("everybody", "keepalive = 444\nipv6-subnet-prefix = 112\n");
    let every_group = fixture.write_file("every-group", "dpd = 44\n");
    let (users, groups) = (path("users"), path("groups"));
    let overrides = [
        ("config-per-user", users.as_str()),
        ("config-per-group", &groups),
        ("default-user-config", everybody.to_str().unwrap()),
        ("default-group-config", every_group.to_str().unwrap()),
        ("select-group", "staff"),
        ("select-group", "admins"),
        ("default-select-group", "any"),
        ("mobile-dpd", "1234"),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let has = |text: &str, lines: &[&str]| {
        for line in lines {
            assert!(
                text.lines().any(|other| other == *line),
                "no '{line}' in {text}\n{}",
                server.log()
            );
        }
    };
    // One after the other: the address is free again.
    let connected = |user: &str, arguments: &[&str]| {
        server.wait_until_alone();
        connected(&world, &fixture, user, arguments)
    };
    let alice = connected(USER, &["--authgroup", "staff"]);
    has(
        &alice,
        &[
            "X-CSTP-Address: 10.99.1.77",
            "X-CSTP-Address-IP6: fd99:1::77/128",
            "X-CSTP-Hostname: pinned",
            "X-CSTP-DNS: 10.2.2.2",
            "X-CSTP-Keepalive: 333",
            "X-CSTP-DPD: 20",
            // A default route of one's own resolves everything through the tunnel.
            "X-CSTP-Tunnel-All-DNS: true",
        ],
    );
    assert!(
        !alice.contains("X-DTLS-") && !alice.contains("X-CSTP-Split-Include"),
        "{alice}"
    );

    let other_group = connected(USER, &["--authgroup", "admins"]);
    has(&other_group, &["X-CSTP-DPD: 44", "X-CSTP-DNS: 10.99.1.1"]);

    let mobile = connected(USER, &["--authgroup", "staff", "--os", "android"]);
    has(&mobile, &["X-CSTP-DPD: 1234"]);

    let bob = connected("bob", &["--authgroup", "any"]);
    has(&bob, &["X-CSTP-Keepalive: 444"]);
    let address = bob
        .lines()
        .find(|line| line.starts_with("X-CSTP-Address-IP6: fd99:1::"));
    assert!(address.is_some_and(|line| line.ends_with("/112")), "{bob}");
}

/// Without `predictable-ips` the address says nothing about the name.
#[test]
fn addresses_may_be_random() {
    let addresses = ["true", "true", "false"].map(|predictable| {
        let (world, fixture) = (World::new(), Fixture::new());
        let options = ServerOptions {
            overrides: &[("predictable-ips", predictable)],
            ..ServerOptions::default()
        };
        let _server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        let _client = Client::connect(Make::Real, &world, &fixture);
        wait::until("an IPv6 address", || {
            let text = world.client.ip("-o -6 address show dev tunlab scope global");
            (!text.is_empty()).then_some(())
        });
        Client::inner_v6(&world)
    });
    assert_eq!(addresses[0], addresses[1]);
    assert_ne!(addresses[0], addresses[2]);
}

/// The sizes of the pools may stand in options of their own; a user's routes may come on top of
/// everybody's.
#[test]
fn masks_of_their_own_and_more_routes() {
    let (world, fixture) = (World::new(), Fixture::new());
    std::fs::create_dir(fixture.path("users")).unwrap();
    fixture.write_file("users/alice", "route = 10.50.0.0/16\nno-route = 10.50.1.0/24\n");
    let users = fixture.path("users").display().to_string();
    let overrides = [
        ("ipv4-network", "10.99.1.0"),
        ("ipv4-netmask", "255.255.255.128"),
        ("ipv6-network", "fd99:1::"),
        ("ipv6-prefix", "80"),
        ("route", "10.99.1.0/24"),
        ("append-routes", "true"),
        ("config-per-user", &users),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let text = connected(&world, &fixture, USER, &[]);
    for line in [
        "X-CSTP-Netmask: 255.255.255.128",
        "X-CSTP-Split-Include: 10.99.1.0/255.255.255.0",
        "X-CSTP-Split-Include: 10.50.0.0/255.255.0.0",
        "X-CSTP-Split-Exclude: 10.50.1.0/255.255.255.0",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no '{line}' in {text}\n{}",
            server.log()
        );
    }
    // All leases are from the first 80 bits of the pool.
    assert!(
        text.contains("X-CSTP-Address-IP6: fd99:1:0:0:0:") || text.contains("X-CSTP-Address-IP6: fd99:1::"),
        "{text}"
    );
}
