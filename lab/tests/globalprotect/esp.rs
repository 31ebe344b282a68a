//! ESP: all algorithms, and what strangers send.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::net::{CLIENT_V4, SERVER_V4, SERVER_V6};
use culvert_lab::probe::Echoes;
use culvert_lab::{
    Client, ClientOptions, Fixture, Host, Make, Process, Server, ServerOptions, World, probe, wait,
};
use culvert_sys::netns::NetworkNamespace;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Over, SERVER, established, mtu, packets_both_ways};

/// The clients offer all; which pair it is follows from the server's priorities.
#[test]
fn all_algorithms() {
    let (world, fixture) = (World::new(), Fixture::new());
    for (priorities, pair) in [
        ("NORMAL:-AES-256-CBC", "(AES-128-CBC)-(HMAC-SHA-1-96)"),
        ("NORMAL:-AES-128-CBC", "(AES-256-CBC)-(HMAC-SHA-1-96)"),
        ("NORMAL:-AES-256-CBC:-SHA1", "(AES-128-CBC)-(HMAC-SHA-256-128)"),
        ("NORMAL:-AES-128-CBC:-SHA1", "(AES-256-CBC)-(HMAC-SHA-256-128)"),
        ("NORMAL:-AES-256-CBC:-SHA1:+MD5", "(AES-128-CBC)-(HMAC-MD5-96)"),
        ("NORMAL:-AES-128-CBC:-SHA1:+MD5", "(AES-256-CBC)-(HMAC-MD5-96)"),
    ] {
        let options = ServerOptions {
            overrides: &[
                ("protocols", "anyconnect, globalprotect"),
                ("tls-priorities", priorities),
            ],
            ..ServerOptions::default()
        };
        let mut server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        for make in [Make::Real, Make::Culvert] {
            let options = ClientOptions {
                arguments: &["--protocol=gp", "--usergroup=gateway"],
                ..ClientOptions::default()
            };
            let mut client = Client::connect_with(make, &world, &fixture, &options);
            client.process.wait_for("ESP session established with server");
            server
                .process
                .wait_for(&format!("ESP session established (ESP)-{pair}"));
            packets_both_ways(&world);
            client.process.signal("INT");
            assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        }
        server.process.signal("TERM");
        assert_eq!(server.process.exit_code(), 0, "{}", server.log());
    }
}

/// Port of the clients.
const PORT: u16 = 5555;
/// Between three datagrams of a stranger.
const PAUSE: Duration = Duration::from_millis(3);

/// Sends datagrams in the name of the other end.
struct Forger {
    socket: Socket,
    from: u16,
    to: SocketAddrV4,
}

impl Forger {
    fn new(host: &Host, from: u16, to: (&str, u16)) -> Self {
        let namespace = NetworkNamespace::open(&Path::new("/run/netns").join(host.name())).unwrap();
        let socket = namespace
            .enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))
            .unwrap()
            .unwrap();
        let to = SocketAddrV4::new(to.0.parse::<Ipv4Addr>().unwrap(), to.1);
        Self { socket, from, to }
    }

    fn send(&self, payload: &[u8]) {
        let length = u16::try_from(payload.len() + 8).unwrap();
        let mut datagram = Vec::with_capacity(length.into());
        // No checksum: IPv4 does not need one.
        for field in [self.from, self.to.port(), length, 0] {
            datagram.extend_from_slice(&field.to_be_bytes());
        }
        datagram.extend_from_slice(payload);
        let address = SocketAddrV4::new(*self.to.ip(), 0).into();
        self.socket.send_to(&datagram, &address).unwrap();
    }

    /// Lengths from nothing to more than any packet, with strangers' SPIs; with SPI 0 and small
    /// numbers if `zero`.
    /// One at a time: the receiver may stand still for a moment, and its buffer is for others, too.
    fn send_junk(&self, zero: bool) {
        for length in (0..100).chain([1400, 1472]) {
            std::thread::sleep(PAUSE);
            let mut junk = vec![0x55; length];
            self.send(&junk);
            if zero {
                junk.fill(0);
                self.send(&junk);
            }
            junk.fill(0xff);
            self.send(&junk);
        }
    }
}

/// From now on the server sees the client's datagrams come from another port, as behind a NAT that
/// has forgotten the first one.
fn change_port(world: &World) {
    world.client.nft(&format!(
        "delete table ip lab; add table ip nat; \
         add chain ip nat out {{ type filter hook postrouting priority 0; }}; \
         add rule ip nat out udp sport {PORT} udp sport set 6000; \
         add chain ip nat in {{ type filter hook prerouting priority -300; }}; \
         add rule ip nat in udp dport 6000 udp dport set {PORT}"
    ));
}

/// Every datagram comes twice, and others come between them: packets pass once, none is lost, and
/// nothing is said about the channel. Then the client's port changes on the way.
fn strangers(make: Make) {
    let (world, fixture) = (World::new(), Fixture::new());
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    let port = PORT.to_string();
    let options = ClientOptions {
        arguments: &["--protocol=gp", "--usergroup=gateway", "--dtls-local-port", &port],
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(make, &world, &fixture, &options);
    client.process.wait_for("ESP session established with server");
    probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
    for (host, to) in [(&world.client, SERVER_V4), (&world.server, CLIENT_V4)] {
        host.nft(&format!(
            "add table ip lab; add chain ip lab out {{ type filter hook postrouting priority 0; }}; \
             add rule ip lab out ip protocol udp dup to {to} device eth0"
        ));
    }
    let to_server = Forger::new(&world.client, PORT, (SERVER_V4, 443));
    let to_client = Forger::new(&world.server, 443, (CLIENT_V4, PORT));
    let echoes = Echoes::of(&world.client, &world.server);
    let mut ping = world.client.command("ping");
    ping.args(["-n", "-c", "50", "-i", "0.02", INNER_SERVER_V4]);
    let mut ping = Process::start(ping, fixture.dir(), "ping", None);
    to_server.send_junk(true);
    // Some of it ends the real client.
    to_client.send_junk(make == Make::Culvert);
    ping.wait();
    echoes.all_arrive_once(50);
    packets_both_ways(&world);
    change_port(&world);
    packets_both_ways(&world);
    server.process.wait_for("the client's UDP address has changed");
    let log = server.log();
    assert_eq!(log.matches("ESP session established").count(), 1, "{log}");
    assert_eq!(log.matches("opened a tunnel").count(), 1, "{log}");
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

#[test]
fn strangers_do_not_disturb_the_real_client() {
    strangers(Make::Real);
}

#[test]
fn strangers_do_not_disturb_our_client() {
    strangers(Make::Culvert);
}

/// Outside IPv6, inside both: the largest packet is one of 1406 octets.
#[test]
fn over_ipv6() {
    let (world, fixture) = (World::new(), Fixture::new());
    let mut server = Server::start_with(Make::Culvert, &world, &fixture, &SERVER);
    for make in [Make::Real, Make::Culvert] {
        let options = ClientOptions {
            arguments: &["--protocol=gp", "--usergroup=gateway"],
            address: SERVER_V6,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(make, &world, &fixture, &options);
        established(&mut client, &mut server, Over::Esp);
        packets_both_ways(&world);
        assert_eq!((mtu(&world.client), mtu(&world.server)), (1406, 1406), "{make:?}");
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        wait::until("the end of the session", || {
            (world.server.interfaces() == ["lo", "eth0"]).then_some(())
        });
    }
}
