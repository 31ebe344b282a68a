//! Listening sockets: several processes on one port, and datagrams that the kernel refuses for us.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::UdpSocket;
use crate::cvt::cvt;
use crate::tcp::set_integer;

/// Classic BPF: offset of the network header in a packet.
const NETWORK: u32 = libc::SKF_NET_OFF.cast_unsigned();
/// Multiplier that spreads neighbouring addresses (the golden ratio in 32 bits).
const SPREAD: u32 = 0x9E37_79B1;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const COPY_TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const XOR_X: u16 = (libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X) as u16;
const MULTIPLY: u16 = (libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K) as u16;
const SHIFT_RIGHT: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
const RETURN_A: u16 = (libc::BPF_RET | libc::BPF_A) as u16;

/// One instruction of classic BPF, as the kernel's `sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a condition is true.
    pub jump_true: u8,
    /// Instructions to skip when it is false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

impl Instruction {
    /// An instruction that does not jump.
    pub const fn plain(code: u16, operand: u32) -> Self {
        Self {
            code,
            jump_true: 0,
            jump_false: 0,
            operand,
        }
    }
}

/// Which socket of a group gets the datagrams of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    sockets: u32,
}

impl Steering {
    /// Among `sockets` sockets (at least one), in the order in which they were bound.
    pub fn new(sockets: u16) -> Self {
        Self {
            sockets: u32::from(sockets.max(1)),
        }
    }

    /// Number of the socket that gets the datagrams of `source`.
    pub fn socket_of(self, source: IpAddr) -> u16 {
        let word = match source {
            IpAddr::V4(address) => u32::from(address),
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                (0..4).fold(0, |word, part| word ^ (bits >> (part * 32)) as u32)
            }
        };
        // Below the count, which came from a u16.
        ((word.wrapping_mul(SPREAD) >> 16) % self.sockets) as u16
    }

    /// The same as a program for the kernel.
    fn program(self, ipv6: bool) -> Vec<Instruction> {
        let mut program = Vec::new();
        if ipv6 {
            // The source address begins at octet 8 of the header.
            program.push(Instruction::plain(LOAD_WORD, NETWORK + 8));
            for word in 1..4 {
                program.push(Instruction::plain(COPY_TO_X, 0));
                program.push(Instruction::plain(LOAD_WORD, NETWORK + 8 + word * 4));
                program.push(Instruction::plain(XOR_X, 0));
            }
        } else {
            program.push(Instruction::plain(LOAD_WORD, NETWORK + 12));
        }
        program.push(Instruction::plain(MULTIPLY, SPREAD));
        program.push(Instruction::plain(SHIFT_RIGHT, 16));
        program.push(Instruction::plain(MODULO, self.sockets));
        program.push(Instruction::plain(RETURN_A, 0));
        program
    }
}

impl UdpSocket {
    /// A socket bound to `local` that shares its port with others of this kind.
    ///
    /// # Errors
    /// The address is not ours, or in use by a socket of another kind or user.
    pub fn bind_in_group(local: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The address, too: connected sockets of single peers share the port.
        socket.set_reuse_address(true)?;
        set_integer(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        socket.bind(&local.into())?;
        socket.set_nonblocking(true)?;
        Ok(Self::new(socket, local.is_ipv6()))
    }

    /// Has the kernel choose among the sockets of this one's group by the sender's address.
    ///
    /// # Errors
    /// The kernel lacks it.
    pub fn steer_group(&self, steering: Steering) -> io::Result<()> {
        self.attach_program(libc::SO_ATTACH_REUSEPORT_CBPF, &steering.program(self.ipv6))
    }

    /// Has the kernel drop the datagrams for which `program` returns 0. Offset 0 is the UDP header.
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn set_filter(&self, program: &[Instruction]) -> io::Result<()> {
        self.attach_program(libc::SO_ATTACH_FILTER, program)
    }

    /// Sizes the receive buffer beyond what users may ask for, in octets.
    ///
    /// # Errors
    /// Not privileged.
    pub fn force_receive_buffer(&self, octets: usize) -> io::Result<()> {
        let octets = i32::try_from(octets).map_err(|_| io::ErrorKind::InvalidInput)?;
        set_integer(self, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, octets)
    }

    /// Sizes the send buffer beyond what users may ask for, in octets.
    ///
    /// # Errors
    /// Not privileged.
    pub fn force_send_buffer(&self, octets: usize) -> io::Result<()> {
        let octets = i32::try_from(octets).map_err(|_| io::ErrorKind::InvalidInput)?;
        set_integer(self, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, octets)
    }

    fn attach_program(&self, option: libc::c_int, program: &[Instruction]) -> io::Result<()> {
        let mut instructions: Vec<libc::sock_filter> = program
            .iter()
            .map(|instruction| libc::sock_filter {
                code: instruction.code,
                jt: instruction.jump_true,
                jf: instruction.jump_false,
                k: instruction.operand,
            })
            .collect();
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: instructions.as_mut_ptr(),
        };
        // SAFETY: the option takes a sock_fprog, whose pointer and length describe `instructions`;
        // the kernel copies and checks them.
        cvt(unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoll::{Events, Interest, Poller};

    #[test]
    fn the_kernel_steers_as_we_compute() {
        const SOCKETS: u16 = 3;
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let first = UdpSocket::bind_in_group(local.parse().unwrap()).unwrap();
            let address = first.local_addr().unwrap();
            let mut group = vec![first];
            for _ in 1..SOCKETS {
                group.push(UdpSocket::bind_in_group(address).unwrap());
            }
            let steering = Steering::new(SOCKETS);
            group[0].steer_group(steering).unwrap();
            let poller = Poller::new().unwrap();
            for (number, socket) in group.iter().enumerate() {
                poller.add(socket, number as u64, Interest::READ).unwrap();
            }
            let mut events = Events::with_capacity(4);
            // Loopback has many IPv4 addresses, and one of IPv6.
            for last in 1..=if address.is_ipv4() { 20 } else { 1 } {
                let source: SocketAddr = if address.is_ipv4() {
                    format!("127.0.0.{last}:0").parse().unwrap()
                } else {
                    "[::1]:0".parse().unwrap()
                };
                let client = UdpSocket::connected(Some(source), address).unwrap();
                client.send(b"hello", 5, None).unwrap();
                poller.wait(&mut events, None).unwrap();
                let token = events.get(0).unwrap().token;
                assert_eq!(token, u64::from(steering.socket_of(source.ip())), "{source}");
                let mut buffer = [0; 16];
                group[token as usize].receive_from(&mut buffer).unwrap();
            }
        }
    }

    #[test]
    fn addresses_are_spread() {
        let steering = Steering::new(4);
        let mut counts = [0u32; 4];
        for last in 0..=255u8 {
            counts[usize::from(steering.socket_of([192, 0, 2, last].into()))] += 1;
        }
        assert!(counts.iter().all(|count| *count > 32), "{counts:?}");
    }

    #[test]
    fn a_connected_socket_takes_its_peer_from_the_group() {
        let group = UdpSocket::bind_in_group("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = group.local_addr().unwrap();
        let client = UdpSocket::connected(None, address).unwrap();
        let own = UdpSocket::connected(Some(address), client.local_addr().unwrap()).unwrap();
        client.send(b"mine", 4, None).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&own, 0, Interest::READ).unwrap();
        poller.wait(&mut Events::with_capacity(1), None).unwrap();
        assert_eq!(own.receive(&mut [0; 16]).unwrap().len, 4);
    }

    #[test]
    fn filtered_datagrams_do_not_arrive() {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let load_octet = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
        // Only datagrams that begin with an octet other than zero: the octet is the verdict.
        socket
            .set_filter(&[
                Instruction::plain(load_octet, 8),
                Instruction::plain(MULTIPLY, 1000),
                Instruction::plain(RETURN_A, 0),
            ])
            .unwrap();
        let client = UdpSocket::connected(None, socket.local_addr().unwrap()).unwrap();
        client.send(&[0, 1, 2], 3, None).unwrap();
        client.send(&[9, 1, 2], 3, None).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&socket, 0, Interest::READ).unwrap();
        poller.wait(&mut Events::with_capacity(1), None).unwrap();
        let mut buffer = [0; 16];
        let received = socket.receive_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], [9, 1, 2]);
        assert_eq!(
            socket.receive_from(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn an_unconnected_socket_answers_in_runs_from_the_address_that_was_asked() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let shared = UdpSocket::bind_in_group(local.parse().unwrap()).unwrap();
            shared.receive_local_address(true).unwrap();
            shared.set_gro(true).unwrap();
            let client = UdpSocket::connected(None, shared.local_addr().unwrap()).unwrap();
            client.set_gro(true).unwrap();
            client.send(&[7; 2500], 1000, None).unwrap();
            let poller = Poller::new().unwrap();
            poller.add(&shared, 0, Interest::READ).unwrap();
            poller.add(&client, 1, Interest::READ).unwrap();
            let mut events = Events::with_capacity(1);
            poller.wait(&mut events, None).unwrap();
            let mut buffer = vec![0; 65536];
            let received = shared.receive_from(&mut buffer).unwrap();
            assert!(
                (received.len, received.segment) == (2500, 1000)
                    || (received.len, received.segment) == (1000, 1000),
                "{received:?}"
            );
            let path = super::super::Path {
                peer: received.peer,
                local: received.local,
            };
            shared.send_along(&[8; 2500], 1000, Some(0x48), &path).unwrap();
            poller.delete(&shared).unwrap();
            poller.wait(&mut events, None).unwrap();
            assert!(client.receive(&mut buffer).unwrap().len >= 1000);
        }
    }
}
