//! Sending: one datagram, or a run of equal ones that the kernel or the network card cuts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::SockAddr;

use super::UdpSocket;
use super::control::{Control, Writer};
use crate::cvt::{cvt_len, retry};
use crate::tcp::set_integer;

/// Most segments that one send with `UDP_SEGMENT` may carry on every kernel that has it.
pub const SEGMENTS_MAX: usize = 64;
/// Most octets that one send with `UDP_SEGMENT` may carry.
pub const SEND_MAX: usize = 65_000;

/// Why datagrams were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The send buffer is full; wait until the socket is writable.
    #[error("the socket's send buffer is full")]
    WouldBlock,
    /// A datagram exceeds the path MTU or the largest size the kernel sends. Of several in one call each
    /// may pass by itself: unless [`super::PathMtuDiscovery`] forbids it, in fragments.
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
/// Where datagrams of an unconnected socket go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The receiver.
    pub peer: SocketAddr,
    /// Our address that they leave from; `None` leaves the choice to the kernel.
    pub local: Option<IpAddr>,
}
impl UdpSocket {
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
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => SendError::TooLarge,
                    // The kernel does not know the option.
                    _ => SendError::NoSegmentation,
                })?;
        }
        let send = || retry(|| self.socket.send_with_flags(data, libc::MSG_NOSIGNAL));
        let sent = send().or_else(|error| {
            // A segment that the path does not take spoils smaller datagrams, too (before Linux 6.14), and
            // what could go in fragments; where nothing can be segmented, any does.
            let stale = !segmented && set.load(Ordering::Relaxed) != 0;
            let spoilt = matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)
            );
            if !stale || !spoilt {
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
}

fn send_error(error: io::Error, segmented: bool) -> SendError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => SendError::WouldBlock,
        // From a device that cannot checksum.
        Some(libc::EIO) if segmented => SendError::NoSegmentation,
        // For segments that do not fit the path, kernels before 6.14 say EINVAL.
        Some(libc::EINVAL) if segmented => SendError::TooLarge,
        Some(libc::EMSGSIZE) => SendError::TooLarge,
        Some(libc::ECONNREFUSED) => SendError::Refused,
        _ => SendError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_too_large_for_the_path_are_no_lack_of_segmentation() {
        let of = |number, segmented| send_error(io::Error::from_raw_os_error(number), segmented);
        assert!(matches!(of(libc::EMSGSIZE, true), SendError::TooLarge));
        assert!(matches!(of(libc::EINVAL, true), SendError::TooLarge));
        assert!(matches!(of(libc::EIO, true), SendError::NoSegmentation));
        assert!(matches!(of(libc::EMSGSIZE, false), SendError::TooLarge));
        for number in [libc::EIO, libc::EINVAL] {
            assert!(matches!(of(number, false), SendError::Io(_)));
        }
    }
}
