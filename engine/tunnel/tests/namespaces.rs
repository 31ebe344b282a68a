//! Two tunnel ends with real TUN devices in two network namespaces. Needs root.
//!
//! The program starts itself in other roles inside the namespaces, so it has no test harness.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod records;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_sys::epoll::{Events, Poller};
use culvert_sys::process::CommandExt;
use culvert_sys::rtnl::{self, LinkChange, Rtnl};
use culvert_sys::tun::{Tun, TunOptions};
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{Buffers, Device, Event, Notice, Role, Session, SessionConfig};
use records::{Datagrams, Opener, Sealer};
use socket2::{Domain, Protocol, Socket, Type};

const ROLE: &str = "CULVERT_TUNNEL_TEST_ROLE";
const MTU: u16 = 1400;
/// Octets per transfer; unoptimised programs are slow.
const TRANSFER: usize = if cfg!(debug_assertions) {
    10 << 20
} else {
    100 << 20
};
const DATAGRAMS: u32 = 4000;
/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Packets of the tunnel's MTU that a transfer makes at least.
const PACKETS: u64 = (TRANSFER / MTU as usize) as u64;

const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));
/// Before what a session notices at its start or later.
const NOTICE: &str = "notice: ";
const TUNNEL_PORT: u16 = 4000;
const TRAFFIC_PORT: u16 = 5000;

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
    narrow_path(&world);
    drop(world);
    println!("test result: ok. 5 passed (namespaces)");
}

/// Starts both ends, server and client.
fn start_ends(world: &World, transport: &str, offload: &str) -> [Process; 2] {
    let mut server = world.start(Role::Server, "end", &["server", transport, offload]);
    server.expect("listening");
    let mut client = world.start(Role::Client, "end", &["client", transport, offload]);
    server.expect("up");
    client.expect("up");
    [server, client]
}

/// Moves data through both ends in both directions and families.
fn case(world: &World, transport: &str, offload: &str) {
    let ends = start_ends(world, transport, offload);
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

/// A path that does not take the tunnel's datagrams for a while: they go one by one and in fragments, and
/// in runs again later. Forged ICMP messages change nothing.
fn narrow_path(world: &World) {
    let ends = start_ends(world, "datagram", "offload");
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

struct World {
    spaces: [String; 2],
}

impl World {
    fn new() -> Self {
        let id = std::process::id();
        let spaces = [format!("Dt{id}c"), format!("Dt{id}s")];
        let world = Self { spaces };
        let [near, far] = &world.spaces;
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        ip(&[
            "-n", near, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", far,
        ]);
        for (space, address) in [(near, NEAR), (far, FAR)] {
            ip(&[
                "-n",
                space,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                "veth0",
            ]);
            ip(&["-n", space, "link", "set", "veth0", "up"]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
        }
        world
    }

    /// The MTU of the path, as each end knows it; `None` for that of the link.
    fn set_path_mtu(&self, mtu: Option<u16>) {
        for (space, peer) in self.spaces.iter().zip([FAR, NEAR]) {
            let peer = peer.to_string();
            let route = ["-n", space, "route"];
            match mtu {
                Some(mtu) => {
                    let mtu = mtu.to_string();
                    ip(&[&route[..], &["add", &peer, "dev", "veth0", "mtu", &mtu]].concat());
                }
                None => ip(&[&route[..], &["del", &peer]].concat()),
            }
        }
    }

    /// A counter of the kernel in a namespace: the client's or the server's.
    fn counter(&self, side: Role, protocol: &str, name: &str) -> u64 {
        let space = &self.spaces[usize::from(side == Role::Server)];
        let output = Command::new("ip")
            .args(["netns", "exec", space, "cat", "/proc/net/snmp"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let prefix = format!("{protocol}: ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// Starts this program in a role inside a namespace: the client's or the server's.
    fn start(&self, side: Role, role: &str, arguments: &[&str]) -> Process {
        let space = &self.spaces[usize::from(side == Role::Server)];
        let child = Command::new("ip")
            .args(["netns", "exec", space])
            .arg(std::env::current_exe().unwrap())
            .args(arguments)
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .parent_death_signal(culvert_sys::signal::SIGKILL)
            .spawn()
            .expect("iproute2 is needed: apt-get install iproute2");
        Process::new(child)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for space in &self.spaces {
            // At least try the other one, also while panicking.
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("iproute2 is needed: apt-get install iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    /// Notices that came before what was expected.
    noticed: String,
}

impl Process {
    fn new(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            output,
            noticed: String::new(),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn expect(&mut self, text: &str) {
        let mut line = self.line();
        while line.starts_with(NOTICE) {
            self.noticed.push_str(&line);
            self.noticed.push('\n');
            line = self.line();
        }
        assert_eq!(line, text);
    }

    /// Ends it; everything that it has not been asked for.
    fn all_said(mut self) -> String {
        self.child.kill().unwrap();
        let mut said = std::mem::take(&mut self.noticed);
        self.output.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    let tun = make_tun(role, offload == "offload");
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

/// Tells the client again and again that the server is unreachable, in every way that ICMP has
/// (RFC 792).
fn forge() {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    let target = SocketAddr::new(NEAR, 0).into();
    loop {
        // All but "fragmentation needed", which the kernel believes.
        for code in (0..16).filter(|code| *code != 4) {
            // The beginning of a datagram of the tunnel.
            let mut message = vec![
                3, code, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0,
            ];
            for address in [NEAR, FAR] {
                let IpAddr::V4(address) = address else { return };
                message.extend_from_slice(&address.octets());
            }
            let [high, low] = TUNNEL_PORT.to_be_bytes();
            message.extend_from_slice(&[high, low, high, low, 0, 8, 0, 0]);
            let sum = message.chunks(2).fold(0u32, |sum, word| {
                sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
            });
            let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            // A full send buffer is no matter.
            let _ = socket.send_to(&message, &target);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Octets that repeat with a period that no segment size divides.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

const PERIOD: usize = 65_521;

fn send(address: &str) {
    let target = SocketAddr::new(address.parse().unwrap(), TRAFFIC_PORT);
    let pattern = pattern(PERIOD);
    let mut stream = TcpStream::connect(target).unwrap();
    let mut left = TRANSFER;
    while left > 0 {
        let part = &pattern[..left.min(PERIOD)];
        stream.write_all(part).unwrap();
        left -= part.len();
    }
    // The receiver says when it has everything and is ready for datagrams.
    stream.read_exact(&mut [0]).unwrap();
    let socket = UdpSocket::connected(None, target).unwrap();
    let mut next = 0u32;
    while next < DATAGRAMS {
        let run: Vec<u8> = (next..next + 20).flat_map(datagram).collect();
        match socket.send(&run, 500, None) {
            Ok(()) => next += 20,
            Err(culvert_sys::udp::SendError::WouldBlock) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // The end mark may be lost like any other datagram, so it is repeated until it was seen.
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while stream.read_exact(&mut [0]).is_err() {
        // The receiver closes its socket when it has seen one.
        let _ = socket.send(b"end", 3, None);
    }
}

fn datagram(number: u32) -> Vec<u8> {
    let mut bytes = pattern(500);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn receive(address: &str) {
    let target = SocketAddr::new(address.parse().unwrap(), TRAFFIC_PORT);
    let listener = TcpListener::bind(target).unwrap();
    let datagrams = StdUdpSocket::bind(target).unwrap();
    println!("listening");
    let mut stream = listener.accept().unwrap().0;
    let pattern = pattern(PERIOD);
    let mut buffer = vec![0; PERIOD];
    let mut left = TRANSFER;
    while left > 0 {
        let part = left.min(PERIOD);
        stream.read_exact(&mut buffer[..part]).unwrap();
        assert!(buffer[..part] == pattern[..part], "the data changed on the way");
        left -= part;
    }
    println!("stream complete");
    stream.write_all(b"x").unwrap();
    let mut numbers = Vec::new();
    loop {
        let len = datagrams.recv(&mut buffer).unwrap();
        if &buffer[..len] == b"end" {
            break;
        }
        let number = u32::from_be_bytes(*buffer.first_chunk().unwrap());
        assert!(buffer[..len] == datagram(number), "a datagram changed on the way");
        numbers.push(number);
    }
    assert!(numbers.is_sorted(), "the order changed");
    println!("{} of {DATAGRAMS} datagrams", numbers.len());
    // On a busy machine many are lost: nothing holds the sender back.
    assert!(
        numbers.len() as u32 > DATAGRAMS / 20,
        "most datagrams are missing"
    );
    stream.write_all(b"x").unwrap();
}
