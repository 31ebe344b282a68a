//! What passes through the tunnel, and what strangers send beside it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::time::Duration;

use culvert_sys::udp::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{FAR, NEAR, TUNNEL_PORT};

/// Octets per transfer; unoptimised programs are slow.
pub(crate) const TRANSFER: usize = if cfg!(debug_assertions) {
    10 << 20
} else {
    100 << 20
};
const DATAGRAMS: u32 = 4000;
const TRAFFIC_PORT: u16 = 5000;

/// Tells the client again and again that the server is unreachable, in every way that ICMP has
/// (RFC 792).
pub(crate) fn forge() {
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

pub(crate) fn send(address: &str) {
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

pub(crate) fn receive(address: &str) {
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
