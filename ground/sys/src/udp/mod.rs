//! UDP sockets with segmentation offload (`UDP_SEGMENT`, `UDP_GRO`), type of service of sent and the
//! local address of received datagrams; groups of sockets that share one port.

mod batch;
mod control;
mod listen;
mod receive;
mod send;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

pub use self::batch::{Batch, BatchItem};
pub use self::listen::{Instruction, Steering};
pub use self::receive::{Received, ReceivedFrom};
pub use self::send::{Path, SEGMENTS_MAX, SEND_MAX, SendError};
use crate::tcp::{integer, set_integer, set_priority};

/// A non-blocking, close-on-exec UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    ipv6: bool,
    /// Octets per datagram that the socket itself is set to, on one that [sends
    /// without messages](Self::without_messages); 0 when it does not cut.
    segment: Option<AtomicU16>,
    /// `SO_PRIORITY`, as far as this process has set it.
    priority: AtomicU8,
}

/// How the path MTU is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMtuDiscovery {
    /// Datagrams may be fragmented on the way.
    Off,
    /// Don't-fragment is set; sends above the known path MTU fail.
    On,
    /// Don't-fragment is set; the known path MTU is ignored (for probing).
    Probe,
}

impl UdpSocket {
    fn new(socket: Socket, ipv6: bool) -> Self {
        Self {
            socket,
            ipv6,
            segment: None,
            priority: AtomicU8::new(0),
        }
    }

    /// A socket bound to `local` with `SO_REUSEADDR`, so that [`Self::connected`] can share its
    /// port.
    ///
    /// # Errors
    /// The address is not ours, or in use without `SO_REUSEADDR`.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        Self::bind_with(local, true)
    }

    fn bind_with(local: SocketAddr, reuse_address: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(reuse_address)?;
        socket.bind(&local.into())?;
        socket.set_nonblocking(true)?;
        Ok(Self::new(socket, local.is_ipv6()))
    }

    /// A socket that exchanges datagrams with `peer` only; `local` may be the address of a
    /// listening socket (the server's hand-over) or `None` for any port. Datagrams of strangers
    /// that arrived between the two system calls may still be received.
    ///
    /// # Errors
    /// As [`Self::bind`], or `peer` is unreachable.
    pub fn connected(local: Option<SocketAddr>, peer: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if peer.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let local = local.unwrap_or(SocketAddr::new(any, 0));
        // A port that the kernel chooses must be nobody else's: two sockets with the same addresses
        // and ports would take each other's datagrams.
        let socket = Self::bind_with(local, local.port() != 0)?;
        socket.connect(peer)?;
        Ok(socket)
    }

    /// Adopts a socket of another process.
    ///
    /// # Errors
    /// Not an IP socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::InvalidInput)?;
        socket.set_nonblocking(true)?;
        Ok(Self::new(socket, local.is_ipv6()))
    }

    /// The same socket under another descriptor.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.socket.try_clone()?, self.ipv6))
    }

    /// The descriptor, for another process.
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }

    /// Changes the peer.
    ///
    /// # Errors
    /// It is unreachable.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket.connect(&peer.into())
    }

    /// Local address.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Address of the peer.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .peer_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Sizes the socket's buffers, in octets; `None` leaves one as it is.
    ///
    /// # Errors
    /// None in practice; the kernel limits the sizes silently.
    pub fn set_buffers(&self, send: Option<usize>, receive: Option<usize>) -> io::Result<()> {
        if let Some(octets) = send {
            self.socket.set_send_buffer_size(octets)?;
        }
        if let Some(octets) = receive {
            self.socket.set_recv_buffer_size(octets)?;
        }
        Ok(())
    }

    /// Lets one receive call return a run of datagrams ([`Received::segment`]).
    ///
    /// # Errors
    /// The kernel lacks it.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        set_integer(self, libc::SOL_UDP, libc::UDP_GRO, on.into())
    }

    /// Sets the queueing priority (`SO_PRIORITY`) of what is sent from now on, unless it is that already.
    ///
    /// # Errors
    /// Above 6 without CAP_NET_ADMIN.
    pub fn set_priority(&self, priority: u8) -> io::Result<()> {
        if self.priority.load(Ordering::Relaxed) != priority {
            set_priority(self, priority)?;
            self.priority.store(priority, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reports the local address of received datagrams.
    ///
    /// # Errors
    /// None in practice.
    pub fn receive_local_address(&self, on: bool) -> io::Result<()> {
        if self.ipv6 {
            set_integer(self, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, on.into())
        } else {
            set_integer(self, libc::IPPROTO_IP, libc::IP_PKTINFO, on.into())
        }
    }

    /// Sets how the path MTU is treated.
    ///
    /// # Errors
    /// None in practice.
    pub fn set_path_mtu_discovery(&self, mode: PathMtuDiscovery) -> io::Result<()> {
        let (level, option, value) = match (self.ipv6, mode) {
            (false, PathMtuDiscovery::Off) => {
                (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
            }
            (false, PathMtuDiscovery::On) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
            (false, PathMtuDiscovery::Probe) => {
                (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
            }
            (true, PathMtuDiscovery::Off) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DONT,
            ),
            (true, PathMtuDiscovery::On) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DO,
            ),
            (true, PathMtuDiscovery::Probe) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            ),
        };
        set_integer(self, level, option, value)
    }

    /// Path MTU that the kernel knows, in octets.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn path_mtu(&self) -> io::Result<u32> {
        let mtu = if self.ipv6 {
            integer(self, libc::IPPROTO_IPV6, libc::IPV6_MTU)?
        } else {
            integer(self, libc::IPPROTO_IP, libc::IP_MTU)?
        };
        Ok(mtu.cast_unsigned())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
