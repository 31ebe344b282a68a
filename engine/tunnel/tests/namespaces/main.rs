//! Two tunnel ends with real TUN devices in two network namespaces. Needs root.
//!
//! The program starts itself in other roles inside the namespaces, so it has no test harness.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lack;
#[path = "../records/mod.rs"]
mod records;
mod traffic;
mod world;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_sys::epoll::{Events, Poller};
use culvert_sys::rtnl::{self, LinkChange, Rtnl};
use culvert_sys::tun::{Tun, TunOptions};
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{Buffers, Device, Event, Notice, Role, Session, SessionConfig};
use lack::lack;
use records::{Datagrams, Opener, Sealer};
use traffic::{TRANSFER, forge, receive, send};
use world::{Process, World};

const ROLE: &str = "CULVERT_TUNNEL_TEST_ROLE";
const MTU: u16 = 1400;
/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Packets of the tunnel's MTU that a transfer makes at least.
const PACKETS: u64 = (TRANSFER / MTU as usize) as u64;

const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));
/// Before what a session notices at its start or later.
const NOTICE: &str = "notice: ";
const TUNNEL_PORT: u16 = 4000;

/// Inner addresses of the ends: client, server.
fn inner(role: Role, ipv6: bool) -> IpAddr {
    let address = match (role, ipv6) {
        (Role::Client, false) => "10.78.0.2",
        (Role::Server, false) => "10.78.0.1",
        (Role::Client, true) => "fd78::2",
        (Role::Server, true) => "fd78::1",
    };
    address.parse().unwrap()
}

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("end") => end(&std::env::args().skip(1).collect::<Vec<_>>()),
        Ok("receive") => receive(&std::env::args().nth(1).unwrap()),
        Ok("forge") => forge(),
        Ok("send") => send(&std::env::args().nth(1).unwrap()),
        _ => orchestrate(),
    }
}

fn orchestrate() {
    assert_eq!(
        culvert_sys::user::effective_uid(),
        0,
        "this test makes network namespaces: run it as root"
    );
    // A tunnel that stands still must not keep everybody waiting.
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        eprintln!("not done after {PATIENCE:?}");
        std::process::exit(1);
    });
    let world = World::new();
    for transport in ["stream", "datagram"] {
        for offload in ["offload", "plain"] {
            case(&world, transport, offload);
        }
    }
    lacking_kernels(&world);
    narrow_path(&world);
    drop(world);
    println!("test result: ok. 6 passed (namespaces)");
}

/// Starts both ends, server and client, each with an offload of its own.
fn start_ends(world: &World, transport: &str, offload: [&str; 2]) -> [Process; 2] {
    let mut server = world.start(Role::Server, "end", &["server", transport, offload[0]]);
    server.expect("listening");
    let mut client = world.start(Role::Client, "end", &["client", transport, offload[1]]);
    server.expect("up");
    client.expect("up");
    [server, client]
}

/// Moves data through both ends in both directions and families.
fn case(world: &World, transport: &str, offload: &str) {
    let ends = start_ends(world, transport, [offload; 2]);
    for (to, ipv6) in [
        (Role::Server, false),
        (Role::Client, false),
        (Role::Server, true),
        (Role::Client, true),
    ] {
        let result = transfer(world, to, ipv6);
        println!("{transport:8} {offload:7} {result}");
    }
    for end in ends {
        let said = end.all_said();
        let expected = usize::from(offload == "plain");
        assert_eq!(count_notices(&said, Notice::NoVnetHeader), expected, "{said}");
    }
}

fn count_notices(said: &str, notice: Notice) -> usize {
    said.matches(&format!("{NOTICE}{notice}\n")).count()
}

/// One stream, and datagrams after it.
fn transfer(world: &World, to: Role, ipv6: bool) -> String {
    let address = inner(to, ipv6).to_string();
    let mut receiver = world.start(to, "receive", &[&address]);
    receiver.expect("listening");
    let start = Instant::now();
    let mut sender = world.start(other(to), "send", &[&address]);
    receiver.expect("stream complete");
    let seconds = start.elapsed().as_secs_f64();
    let report = receiver.line();
    let gbits = TRANSFER as f64 * 8.0 / 1e9 / seconds;
    assert!(sender.child.wait().unwrap().success());
    assert!(receiver.child.wait().unwrap().success());
    format!("to {to:?} at {address}: {gbits:.2} Gbit/s; {report}")
}

/// Kernels that lack what this one has: each end does without and says so once.
fn lacking_kernels(world: &World) {
    let [server, client] = start_ends(world, "datagram", ["no-udp-offload", "no-super-packets"]);
    for to in [Role::Server, Role::Client] {
        transfer(world, to, false);
    }
    for (end, expected) in [
        (server, &[Notice::NoUdpSuperPackets, Notice::NoSegmentation][..]),
        (client, &[Notice::NoSuperPackets]),
    ] {
        let said = end.all_said();
        assert!(
            said.lines().count() == expected.len() && !said.contains("Lost"),
            "{said}"
        );
        for notice in expected {
            assert_eq!(count_notices(&said, *notice), 1, "{said}");
        }
    }
}

/// A path that does not take the tunnel's datagrams for a while: they go one by one and in fragments, and
/// in runs again later. Forged ICMP messages change nothing.
fn narrow_path(world: &World) {
    let ends = start_ends(world, "datagram", ["offload"; 2]);
    let both = [Role::Server, Role::Client];
    world.set_path_mtu(Some(1300));
    for to in both {
        transfer(world, to, false);
        let fragments = world.counter(other(to), "Ip", "FragCreates");
        assert!(fragments > PACKETS, "{fragments} fragments to {to:?}");
    }
    world.set_path_mtu(None);
    for to in both {
        // The first one lasts until runs are tried again.
        transfer(world, to, false);
        let count = || world.counter(other(to), "Udp", "OutDatagrams");
        let (before, mut forger) = (count(), world.start(Role::Server, "forge", &[]));
        transfer(world, to, false);
        let sent = count() - before;
        assert!(sent < PACKETS / 2, "{sent} system calls to {to:?}");
        assert!(forger.child.try_wait().unwrap().is_none(), "the forger has ended");
    }
    for end in ends {
        let said = end.all_said();
        assert_eq!(count_notices(&said, Notice::NoSegmentation), 1, "{said}");
        assert!(!said.contains("Lost"), "{said}");
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// One end of the tunnel.
fn end(arguments: &[String]) {
    let [role, transport, offload] = arguments else {
        panic!("{arguments:?}")
    };
    let role = if role == "client" {
        Role::Client
    } else {
        Role::Server
    };
    lack(offload);
    let tun = make_tun(role, offload != "plain");
    let poller = Arc::new(Poller::new().unwrap());
    let mut buffers = Buffers::new();
    let mut session: Session<Sealer, Opener, Datagrams> = Session::new(
        SessionConfig::new(role, MTU),
        Arc::clone(&poller),
        0,
        Instant::now(),
    );
    session.attach_device(Device::Kernel(tun)).unwrap();
    let (near, far) = (
        SocketAddr::new(NEAR, TUNNEL_PORT),
        SocketAddr::new(FAR, TUNNEL_PORT),
    );
    let now = Instant::now();
    match (transport.as_str(), role) {
        ("datagram", Role::Client) => {
            let socket = UdpSocket::connected(Some(near), far).unwrap();
            session
                .attach_datagram(now, socket, Datagrams::client(now), &[], &mut buffers)
                .unwrap();
        }
        ("datagram", Role::Server) => {
            // As a worker sends.
            let socket = UdpSocket::connected(Some(far), near).unwrap().without_messages();
            session
                .attach_datagram(now, socket, Datagrams::server(), &[], &mut buffers)
                .unwrap();
            println!("listening");
        }
        (_, role) => {
            let socket = if role == Role::Client {
                TcpStream::connect(far).unwrap()
            } else {
                let listener = TcpListener::bind(far).unwrap();
                println!("listening");
                listener.accept().unwrap().0
            };
            let (sealer, opener) = (Sealer::default(), Opener::default());
            session
                .attach_stream(now, socket.into(), sealer, opener, &[], &mut buffers)
                .unwrap();
            println!("up");
        }
    }
    let mut ready = Events::with_capacity(8);
    loop {
        poller.wait(&mut ready, session.poll_timeout()).unwrap();
        let now = Instant::now();
        for event in ready.iter() {
            session.handle_ready(now, event, &mut buffers);
        }
        session.handle_timeout(now, &mut buffers);
        while let Some(event) = session.poll_event() {
            match event {
                Event::DatagramUp { .. } => println!("up"),
                Event::Notice(notice) => println!("{NOTICE}{notice}"),
                Event::StreamClosed => return,
                event => println!("{event:?}"),
            }
        }
    }
}

fn make_tun(role: Role, offload: bool) -> Tun {
    let tun = Tun::open(&TunOptions {
        name: "dtun%d",
        offload,
        ..TunOptions::default()
    })
    .unwrap();
    assert_eq!(tun.vnet_header(), offload);
    // As a worker gets it: by descriptor only.
    let (name, before) = (tun.name().to_owned(), tun.offload());
    let tun = Tun::from_fd(tun.into_fd()).unwrap();
    assert_eq!((tun.name(), tun.offload()), (name.as_str(), before));

    let index = rtnl::interface_index(tun.name()).unwrap();
    let mut rtnl = Rtnl::open().unwrap();
    let change = LinkChange {
        up: Some(true),
        mtu: Some(MTU.into()),
        group: Some(77),
    };
    rtnl.set_link(index, change).unwrap();
    rtnl.add_address(index, inner(role, false), 32, Some(inner(other(role), false)))
        .unwrap();
    rtnl.add_address(index, inner(role, true), 128, None).unwrap();
    rtnl.add_route(index, inner(other(role), true), 128, Some(1))
        .unwrap();
    rtnl.add_route(index, "10.79.1.2".parse().unwrap(), 16, None)
        .unwrap();
    rtnl.delete_route(index, "10.79.0.0".parse().unwrap(), 16)
        .unwrap();
    tun
}
