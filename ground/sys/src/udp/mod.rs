//! UDP sockets with segmentation offload (`UDP_SEGMENT`, `UDP_GRO`), type of service and the
//! local address of received datagrams; groups of sockets that share one port.

mod batch;
mod control;
mod listen;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub use self::batch::{Batch, BatchItem};
use self::control::{Control, Writer, for_each_control, native_int};
pub use self::listen::{Instruction, Steering};
use crate::cvt::{cvt_len, retry};
use crate::tcp::{integer, set_integer, set_priority};

/// Most segments that one send with `UDP_SEGMENT` may carry on every kernel that has it.
pub const SEGMENTS_MAX: usize = 64;
/// Most octets that one send with `UDP_SEGMENT` may carry.
pub const SEND_MAX: usize = 65_000;

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

/// Why datagrams were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The send buffer is full; wait until the socket is writable.
    #[error("the socket's send buffer is full")]
    WouldBlock,
    /// A datagram exceeds the path MTU or the largest size the kernel sends.
    #[error("the datagram is larger than the path allows")]
    TooLarge,
    /// Segmentation is not possible on this socket or path: send datagrams one by one.
    #[error("the network device does not segment UDP")]
    NoSegmentation,
    /// The peer's host answered an earlier datagram with "port unreachable".
    #[error("the peer's port is unreachable")]
    Refused,
    /// Anything else.
    #[error(transparent)]
    Io(io::Error),
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

/// One receive call: one datagram, or a run of datagrams of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets received.
    pub len: usize,
    /// Size of every datagram but the last, which may be shorter; equals `len` for one datagram.
    pub segment: usize,
    /// Type of service or traffic class, if [`UdpSocket::receive_type_of_service`] is on.
    pub type_of_service: Option<u8>,
}

/// One receive call on an unconnected socket: one datagram, or a run of datagrams of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedFrom {
    /// Octets received.
    pub len: usize,
    /// As in [`Received`].
    pub segment: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The local address it was sent to, if [`UdpSocket::receive_local_address`] is on.
    pub local: Option<IpAddr>,
}

/// Where datagrams of an unconnected socket go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The receiver.
    pub peer: SocketAddr,
    /// Our address that they leave from; `None` leaves the choice to the kernel.
    pub local: Option<IpAddr>,
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

    /// Reports the type of service of received datagrams.
    ///
    /// # Errors
    /// None in practice.
    pub fn receive_type_of_service(&self, on: bool) -> io::Result<()> {
        if self.ipv6 {
            set_integer(self, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, on.into())
        } else {
            set_integer(self, libc::IPPROTO_IP, libc::IP_RECVTOS, on.into())
        }
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

    /// From now on [`Self::send`] on this connected socket makes do with `sendto` without an address,
    /// as [`crate::sandbox::Phase::Tunnel`] wants it; the size of segments becomes an option of the
    /// socket, so no other process or copy may send on it, and no type of service overrides the
    /// socket's.
    #[must_use]
    pub fn without_messages(mut self) -> Self {
        self.segment = Some(AtomicU16::new(0));
        self
    }

    fn send_plainly(&self, data: &[u8], segment: usize, set: &AtomicU16) -> Result<(), SendError> {
        let segmented = data.len() > segment;
        let present = usize::from(set.load(Ordering::Relaxed));
        let wanted = if segmented { segment } else { 0 };
        // One datagram that is not larger than a segment is not cut anyway.
        if present != wanted && (segmented || data.len() > present) {
            self.set_segment(wanted, set)
                .map_err(|error| send_error(error, segmented))?;
        }
        let send = || retry(|| self.socket.send_with_flags(data, libc::MSG_NOSIGNAL));
        let sent = send().or_else(|error| {
            // A segment that the path no longer takes spoils smaller datagrams, too.
            let stale = !segmented && set.load(Ordering::Relaxed) != 0;
            if !stale || error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
            self.set_segment(0, set)?;
            send()
        });
        sent.map(|_| ()).map_err(|error| send_error(error, segmented))
    }

    fn set_segment(&self, size: usize, set: &AtomicU16) -> io::Result<()> {
        let size = u16::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        set_integer(self, libc::SOL_UDP, libc::UDP_SEGMENT, size.into())?;
        set.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// Sends `data` to the peer as datagrams of `segment` octets, the last one possibly shorter:
    /// at most [`SEGMENTS_MAX`] of them and [`SEND_MAX`] octets. One datagram needs no offload.
    /// `type_of_service` overrides the socket's value for this call.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was sent.
    pub fn send(&self, data: &[u8], segment: usize, type_of_service: Option<u8>) -> Result<(), SendError> {
        match &self.segment {
            Some(set) => self.send_plainly(data, segment, set),
            None => self.send_message(data, segment, type_of_service, None),
        }
    }

    /// [`Self::send`] on an unconnected socket.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was sent.
    pub fn send_along(
        &self,
        data: &[u8],
        segment: usize,
        type_of_service: Option<u8>,
        path: &Path,
    ) -> Result<(), SendError> {
        self.send_message(data, segment, type_of_service, Some(path))
    }

    fn send_message(
        &self,
        data: &[u8],
        segment: usize,
        type_of_service: Option<u8>,
        path: Option<&Path>,
    ) -> Result<(), SendError> {
        let segmented = data.len() > segment;
        let mut control = Control::new();
        let mut writer = Writer::new(&mut control);
        if segmented {
            let size = u16::try_from(segment).map_err(|_| SendError::TooLarge)?;
            writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        if let Some(value) = type_of_service {
            let (level, kind) = if self.ipv6 {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            } else {
                (libc::IPPROTO_IP, libc::IP_TOS)
            };
            writer.push(level, kind, &i32::from(value).to_ne_bytes());
        }
        match path.and_then(|path| path.local) {
            Some(IpAddr::V4(local)) => writer.push_local_v4(local),
            Some(IpAddr::V6(local)) => writer.push_local_v6(local),
            None => {}
        }
        let used = writer.used();
        let address = path.map(|path| SockAddr::from(path.peer));
        let mut vector = libc::iovec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        };
        // SAFETY: msghdr is a plain C structure for which zeroes are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        if used > 0 {
            header.msg_control = control.as_mut_ptr();
            header.msg_controllen = used as _;
        }
        if let Some(address) = &address {
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
        }
        // SAFETY: `header` points to `vector`, `data`, `address` and `control`, which outlive the
        // call; sendmsg does not write through them.
        let sent = retry(|| {
            cvt_len(unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) })
        });
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(send_error(error, segmented)),
        }
    }

    /// Receives from the connected peer.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; `ConnectionRefused` for "port unreachable".
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = Control::new();
        let (len, header) = self.receive_message(buffer, &mut control, None)?;
        let mut received = Received {
            len,
            segment: len,
            type_of_service: None,
        };
        for_each_control(&header, |level, kind, data| match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                if let Some(segment) = native_int(data).and_then(|size| usize::try_from(size).ok()) {
                    received.segment = segment.clamp(1, len.max(1));
                }
            }
            // The kernel gives IP_TOS as one octet and IPV6_TCLASS as an int.
            (libc::IPPROTO_IP, libc::IP_TOS) => received.type_of_service = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                received.type_of_service = native_int(data).and_then(|class| u8::try_from(class).ok());
            }
            _ => {}
        });
        Ok(received)
    }

    /// Receives what anybody sent: one datagram, or a run of one sender with [`Self::set_gro`].
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn receive_from(&self, buffer: &mut [u8]) -> io::Result<ReceivedFrom> {
        let mut control = Control::new();
        // SAFETY: the closure lets recvmsg fill in the address it is given.
        let ((len, header), address) = unsafe {
            SockAddr::try_init(|storage, length| {
                let result = self.receive_message(buffer, &mut control, Some((storage.cast(), *length)))?;
                *length = result.1.msg_namelen;
                Ok(result)
            })?
        };
        let peer = address.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        Ok(received_from(len, peer, &header))
    }

    /// Sends one datagram to `peer` from an unconnected socket.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_to(&self, datagram: &[u8], peer: SocketAddr) -> Result<(), SendError> {
        self.socket
            .send_to(datagram, &peer.into())
            .map(|_| ())
            .map_err(|error| send_error(error, false))
    }

    fn receive_message(
        &self,
        buffer: &mut [u8],
        control: &mut Control,
        name: Option<(*mut libc::c_void, libc::socklen_t)>,
    ) -> io::Result<(usize, libc::msghdr)> {
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: msghdr is a plain C structure for which zeroes are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr();
        header.msg_controllen = Control::LEN as _;
        if let Some((storage, length)) = name {
            header.msg_name = storage;
            header.msg_namelen = length;
        }
        // SAFETY: every pointer in `header` is writable for the length beside it and outlives
        // the call.
        let len = retry(|| cvt_len(unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) }))?;
        header.msg_iov = std::ptr::null_mut();
        Ok((len, header))
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

/// Reads the control messages of a receive call on an unconnected socket.
fn received_from(len: usize, peer: SocketAddr, header: &libc::msghdr) -> ReceivedFrom {
    let mut received = ReceivedFrom {
        len,
        segment: len,
        peer,
        local: None,
    };
    for_each_control(header, |level, kind, data| match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            if let Some(segment) = native_int(data).and_then(|size| usize::try_from(size).ok()) {
                received.segment = segment.clamp(1, len.max(1));
            }
        }
        // in_pktinfo: interface index, local address, destination address of the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let octets = data
                .get(8..12)
                .and_then(|octets| <[u8; 4]>::try_from(octets).ok());
            received.local = octets.map(IpAddr::from);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let octets = data
                .get(..16)
                .and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            received.local = octets.map(IpAddr::from);
        }
        _ => {}
    });
    received
}

fn send_error(error: io::Error, segmented: bool) -> SendError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => SendError::WouldBlock,
        // A device that cannot checksum gives EIO, a kernel without the option EINVAL.
        Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT) if segmented => {
            SendError::NoSegmentation
        }
        Some(libc::EMSGSIZE) => SendError::TooLarge,
        Some(libc::ECONNREFUSED) => SendError::Refused,
        _ => SendError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use crate::epoll::{Events, Interest, Poller};

    use super::*;

    fn pair(local: &str) -> (UdpSocket, UdpSocket) {
        let first = UdpSocket::bind(local.parse().unwrap()).unwrap();
        let second = UdpSocket::connected(Some(local.parse().unwrap()), first.local_addr().unwrap()).unwrap();
        first.connect(second.local_addr().unwrap()).unwrap();
        (first, second)
    }

    fn wait(socket: &UdpSocket) {
        let poller = Poller::new().unwrap();
        poller.add(socket, 0, Interest::READ).unwrap();
        poller.wait(&mut Events::with_capacity(1), None).unwrap();
    }

    #[test]
    fn segments_are_sent_and_received_in_one_call() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (near, far) = pair(local);
            far.set_gro(true).unwrap();
            far.receive_type_of_service(true).unwrap();
            let data: Vec<u8> = (0..10_500u32).map(|i| i as u8).collect();
            near.send(&data, 1000, Some(0x48)).unwrap();
            let (mut received, mut buffer) = (Vec::new(), vec![0; 65536]);
            while received.len() < data.len() {
                wait(&far);
                let got = far.receive(&mut buffer).unwrap();
                assert!(got.segment == 1000 || got.segment == got.len, "{got:?}");
                assert_eq!(got.type_of_service, Some(0x48));
                received.extend_from_slice(&buffer[..got.len]);
            }
            assert_eq!(received, data);
            assert_eq!(
                far.receive(&mut buffer).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        }
    }

    /// The sizes of segments change, smaller datagrams and larger ones come between.
    #[test]
    fn segments_are_sent_without_messages() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (near, far) = pair(local);
            let near = near.without_messages();
            let mut buffer = vec![0; 65536];
            for (length, segment) in [
                (100, 100),
                (5000, 1000),
                (300, 300),
                (1400, 1400),
                (4200, 1400),
                (2999, 1000),
                (8, 8),
            ] {
                let data: Vec<u8> = (0..length).map(|i: u32| i as u8).collect();
                near.send(&data, segment, None).unwrap();
                for expected in data.chunks(segment) {
                    wait(&far);
                    let got = far.receive(&mut buffer).unwrap();
                    assert_eq!(&buffer[..got.len], expected, "{length} by {segment}");
                }
            }
            // The path becomes narrower than the segments were.
            near.set_path_mtu_discovery(PathMtuDiscovery::On).unwrap();
            near.send(&[1; 60_000], 30_000, None).unwrap();
            assert!(matches!(
                near.send(&[1; 65_530], 65_530, None),
                Err(SendError::TooLarge)
            ));
        }
    }

    #[test]
    fn a_listener_hands_a_peer_over_to_a_connected_socket() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = UdpSocket::bind(local.parse().unwrap()).unwrap();
            listener.receive_local_address(true).unwrap();
            let address = listener.local_addr().unwrap();
            let client = UdpSocket::connected(None, address).unwrap();
            client.send(b"hello", 5, None).unwrap();
            wait(&listener);
            let mut buffer = [0; 64];
            let first = listener.receive_from(&mut buffer).unwrap();
            assert_eq!((first.len, first.peer), (5, client.local_addr().unwrap()));
            assert_eq!(first.local, Some(address.ip()));

            let connected = UdpSocket::connected(Some(address), first.peer).unwrap();
            client.send(b"again", 5, None).unwrap();
            wait(&connected);
            assert_eq!(connected.receive(&mut buffer).unwrap().len, 5);
            assert_eq!(
                listener.receive_from(&mut buffer).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        }
    }

    #[test]
    fn errors_are_typed() {
        let (near, far) = pair("127.0.0.1:0");
        near.set_path_mtu_discovery(PathMtuDiscovery::On).unwrap();
        assert!(matches!(
            near.send(&[0; 65520], 65520, None),
            Err(SendError::TooLarge)
        ));
        assert!(near.path_mtu().unwrap() > 1280);
        drop(far);
        near.send(b"x", 1, None).unwrap();
        wait(&near);
        assert!(matches!(near.send(b"x", 1, None), Err(SendError::Refused)));
    }
}
