//! Receiving: one datagram, or a run that the kernel has put together (`UDP_GRO`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::SockAddr;

use super::UdpSocket;
use super::control::{Control, for_each_control, native_int};
use crate::cvt::{cvt_len, retry};

/// One receive call: one datagram, or a run of datagrams of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets received.
    pub len: usize,
    /// Size of every datagram but the last, which may be shorter; equals `len` for one datagram.
    pub segment: usize,
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

impl UdpSocket {
    /// Receives from the connected peer.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; `ConnectionRefused` for "port unreachable".
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = Control::new();
        let (len, header) = self.receive_message(buffer, &mut control, None)?;
        let mut received = Received { len, segment: len };
        for_each_control(&header, |level, kind, data| {
            if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
                received.segment = run_segment(data, len);
            }
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

/// Reads the control messages of a receive call on an unconnected socket.
pub(super) fn received_from(len: usize, peer: SocketAddr, header: &libc::msghdr) -> ReceivedFrom {
    let mut received = ReceivedFrom {
        len,
        segment: len,
        peer,
        local: None,
    };
    for_each_control(header, |level, kind, data| match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => received.segment = run_segment(data, len),
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

/// Octets per datagram of a run of `len` octets, from the value of `UDP_GRO`.
fn run_segment(data: &[u8], len: usize) -> usize {
    let segment = native_int(data).and_then(|size| usize::try_from(size).ok());
    segment.map_or(len, |segment| segment.clamp(1, len.max(1)))
}
