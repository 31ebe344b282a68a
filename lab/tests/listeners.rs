//! How clients reach the server: chosen addresses, a proxy in front, another namespace, sockets of a
//! service manager.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use culvert_lab::fixture::{INNER_SERVER_V4, PASSWORD, SERVER_NAME, USER};
use culvert_lab::net::{CLIENT_V4, SERVER_V4, SERVER_V6};
use culvert_lab::{Fixture, Make, Process, Raw, Server, ServerOptions, World, lan, probe, wait};
use culvert_sys::netns::NetworkNamespace;
use culvert_sys::process::CommandExt as _;

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// The real client, by this address of the server; its tunnel carries packets.
fn client(world: &World, fixture: &Fixture, address: &str, dtls: bool) -> Process {
    let mut command = world.client.command(Make::Real.program("openconnect"));
    command
        .arg("--cafile")
        .arg(fixture.path("ca.pem"))
        .args(["--user", USER, "--passwd-on-stdin", "--interface", "tunlab"])
        .args(["--script", "/usr/share/vpnc-scripts/vpnc-script", "--resolve"])
        .arg(format!("{SERVER_NAME}:{address}"))
        .arg(format!("https://{SERVER_NAME}/"));
    let mut client = Process::start(command, fixture.dir(), "client", Some(&format!("{PASSWORD}\n")));
    client.wait_for(if dtls {
        "Established DTLS connection"
    } else {
        "Configured as"
    });
    probe::ping(&world.client, inner_server());
    client
}

fn launch(world: &World, fixture: &Fixture, overrides: &[(&str, &str)], listening: &str) -> Server {
    let options = ServerOptions {
        overrides,
        ..Default::default()
    };
    let mut server = Server::launch(Make::Culvert, world, fixture, &options);
    server.process.wait_for(listening);
    server.process.wait_for("initialized ocserv");
    server
}

#[test]
fn all_addresses_of_a_host_and_no_others() {
    let (world, fixture) = (World::new(), Fixture::new());
    // `ip netns exec` puts this over /etc/hosts.
    let hosts = Path::new("/etc/netns").join(world.server.name()).join("hosts");
    fs::write(hosts, format!("{SERVER_V4} both.test\n{SERVER_V6} both.test\n")).unwrap();
    let overrides = [("listen-host", "both.test"), ("udp-listen-host", SERVER_V4)];
    let server = launch(
        &world,
        &fixture,
        &overrides,
        &format!("listening (UDP) on {SERVER_V4}:443"),
    );
    for note in [
        format!("listening (TCP) on {SERVER_V4}:443..."),
        format!("listening (TCP) on [{SERVER_V6}]:443..."),
    ] {
        assert!(server.log().contains(&note), "{}", server.log());
    }
    assert!(
        !server
            .log()
            .contains(&format!("listening (UDP) on [{SERVER_V6}]")),
        "{}",
        server.log()
    );
    wait::until("a connection by IPv6", || {
        lan::connects(&world.server, SERVER_V6, 443).then_some(())
    });
    assert!(!lan::connects(&world.server, "127.0.0.1", 443));
    client(&world, &fixture, SERVER_V4, true);
    client(&world, &fixture, SERVER_V6, false);
}

#[test]
fn a_client_by_ipv6() {
    let (world, fixture) = (World::new(), Fixture::new());
    let server = Server::start(Make::Culvert, &world, &fixture);
    let _client = client(&world, &fixture, SERVER_V6, true);
    let (_, users) = server.occtl(&["show", "users"]);
    assert!(users.contains("2001:db8::2"), "{users}");
}

/// haproxy in front, with both versions of its header.
#[test]
fn a_proxy_in_front() {
    let (world, fixture) = (World::new(), Fixture::new());
    let overrides = [
        ("listen-host", "127.0.0.1"),
        ("tcp-port", "4430"),
        ("udp-port", "0"),
        ("listen-proxy-proto", "true"),
    ];
    let mut server = launch(&world, &fixture, &overrides, "listening (TCP) on 127.0.0.1:4430");
    // More connections than headers are waited for; they hold up nobody.
    let silent =
        "for i in $(seq 1100); do exec {fd}<>/dev/tcp/127.0.0.1/4430 || exit; done; echo connected; read";
    let mut command = world.server.command("prlimit");
    command.args(["--nofile=4096:4096", "bash", "-c", silent]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut silent = command.spawn().unwrap();
    server.process.wait_for("connections send no PROXY header");
    for (version, keyword) in [(1, "send-proxy"), (2, "send-proxy-v2")] {
        let config = format!(
            "global\n  maxconn 20\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen vpn\n  bind {SERVER_V4}:443\n  bind [{SERVER_V6}]:443\n  server ocserv 127.0.0.1:4430 {keyword}\n"
        );
        let config = fixture.write_file(&format!("haproxy-{version}.cfg"), &config);
        let mut haproxy = world.server.command("/usr/sbin/haproxy");
        haproxy.arg("-db").arg("-f").arg(config);
        let mut haproxy = Process::start(haproxy, fixture.dir(), &format!("haproxy-{version}"), None);
        wait::until("haproxy", || {
            lan::connects(&world.server, SERVER_V6, 443).then_some(())
        });
        for (address, peer) in [(SERVER_V4, CLIENT_V4), (SERVER_V6, "2001:db8::2")] {
            let mut client = client(&world, &fixture, address, false);
            let (_, users) = server.occtl(&["--json", "show", "users"]);
            assert!(users.contains(peer) && users.contains(address), "{users}");
            client.signal("INT");
            assert_eq!(client.exit_code(), 0, "{}", client.output());
        }
        haproxy.signal("TERM");
        haproxy.wait();
    }
    // The end of its input ends the shell.
    drop(silent.stdin.take());
    silent.wait().unwrap();
    // A client that comes past the proxy is not served.
    let mut past = world.server.command("openssl");
    past.args(["s_client", "-connect", "127.0.0.1:4430"]);
    let past = Process::start(past, fixture.dir(), "past", None).finish();
    assert_ne!(past.code, 0, "{}", past.stdout);
    server.wait_for_log("bad PROXY header: there is none", 1);
}

/// A change of `listen-proxy-proto` by reload is for new connections.
#[test]
fn proxy_headers_can_be_switched_on() {
    let (world, fixture) = (World::new(), Fixture::new());
    let server = Server::start(Make::Culvert, &world, &fixture);
    let _client = client(&world, &fixture, SERVER_V4, true);
    fixture.write_file(
        "ocserv.conf",
        &fixture.ocserv_conf(&[("listen-proxy-proto", "true")]),
    );
    server.process.signal("HUP");
    wait::until("the reload", || {
        server.log().contains("was renewed").then_some(())
    });
    let without = Raw::connect(&world, &fixture, "without").closed();
    assert_eq!(without, "");
    server.wait_for_log("bad PROXY header", 1);
    probe::ping(&world.client, inner_server());
}

/// The server lives in one namespace and listens in another one.
#[test]
fn another_namespace_for_the_sockets() {
    let (world, fixture) = (World::new(), Fixture::new());
    let home = lan::Lan::new(&world, &fixture, &[]);
    let config = fixture.ocserv_conf(&[("listen-netns", world.server.name())]);
    let config = fixture.write_file("ocserv.conf", &config);
    let mut command = home.host.command(Make::Culvert.program("ocserv"));
    command.args(["-f", "-d", "3", "--log-stderr", "-c"]).arg(&config);
    let mut server = Process::start(command, fixture.dir(), "ocserv", None);
    server.wait_for("initialized ocserv");
    let _client = client(&world, &fixture, SERVER_V4, true);
    assert!(home.host.interfaces().contains(&"vpns0".to_owned()));
    assert!(!world.server.interfaces().contains(&"vpns0".to_owned()));

    let config = fixture.ocserv_conf(&[
        ("listen-netns", "no-such-namespace"),
        ("occtl-socket-file", "/tmp/none"),
    ]);
    let config = fixture.write_file("other.conf", &config);
    let mut command = home.host.command(Make::Culvert.program("ocserv"));
    command.args(["-f", "-c"]).arg(config);
    let failed = Process::start(command, fixture.dir(), "failed", None).finish();
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        failed.stderr.contains("cannot init listen namespaces"),
        "{}",
        failed.stderr
    );
}

/// Sockets of both families from a service manager, and what it is told.
#[test]
fn sockets_and_news_of_a_service_manager() {
    let (world, fixture) = (World::new(), Fixture::new());
    let namespace = NetworkNamespace::open(&Path::new("/var/run/netns").join(world.server.name())).unwrap();
    let sockets = || -> Vec<OwnedFd> {
        // Both accept IPv4, too: nobody says IPV6_V6ONLY.
        let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 443)).unwrap();
        let udp = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 443)).unwrap();
        vec![tcp.into(), udp.into()]
    };
    let mut passed = namespace.enter(sockets).unwrap();
    passed.push(UnixListener::bind(fixture.path("stray.sock")).unwrap().into());
    let news = UnixDatagram::bind(fixture.path("notify")).unwrap();
    news.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 256];
        let length = news.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };

    // Ports and hosts of the configuration do not count.
    let config = fixture.ocserv_conf(&[
        ("tcp-port", "1"),
        ("udp-port", "2"),
        ("listen-host", "198.51.100.99"),
    ]);
    let config = fixture.write_file("ocserv.conf", &config);
    let start = |count: usize, sockets: Vec<OwnedFd>, name: &str| {
        let mut command: Command = world.server.command("sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"])
            .arg(Make::Culvert.program("ocserv"))
            .args(["-f", "-d", "3", "--log-stderr", "-c"])
            .arg(&config)
            .env("LISTEN_FDS", count.to_string())
            .env("NOTIFY_SOCKET", fixture.path("notify"))
            .pass_descriptors(sockets.into_iter().zip(3..).collect());
        Process::start(command, fixture.dir(), name, None)
    };
    let mut server = start(3, passed, "ocserv");
    server.wait_for("listening on 2 systemd sockets...");
    server.wait_for("Non-internet socket fd received!");
    assert_eq!(hear(), "READY=1");
    for address in [SERVER_V4, SERVER_V6] {
        let mut client = client(&world, &fixture, address, true);
        client.signal("INT");
        assert_eq!(client.exit_code(), 0, "{}", client.output());
    }
    // Addresses of a socket for both families are those of clients all the same.
    let log = server.stderr();
    assert!(
        log.contains(&format!(":{CLIENT_V4}:")) && !log.contains("::ffff:"),
        "{log}"
    );

    server.signal("HUP");
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear(), "READY=1");
    server.signal("TERM");
    assert_eq!(hear(), "STOPPING=1");
    assert_eq!(server.exit_code(), 0, "{}", server.output());

    let stray = UnixListener::bind(fixture.path("another.sock")).unwrap();
    let none = start(1, vec![stray.into()], "none").finish();
    assert_eq!(none.code, 1, "{}", none.stderr);
    assert!(
        none.stderr.contains("no useful sockets were provided by systemd"),
        "{}",
        none.stderr
    );
}
