//! Options of TCP sockets, and those that TCP and UDP share.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::cvt::{cvt, cvt_len, retry};

/// Sizes that the kernel knows of a connection (`specs/cstp-dtls.md` §13.1), in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// Path MTU.
    pub path_mtu: u32,
    /// Largest segment sent.
    pub send_mss: u32,
    /// Largest segment received so far.
    pub receive_mss: u32,
}

/// Sends small segments at once.
///
/// # Errors
/// Not a TCP socket.
pub fn set_nodelay(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_nodelay(true)
}

/// Turns on TCP keepalive: first probe after `idle` of silence.
///
/// # Errors
/// Not a TCP socket, or a duration the kernel does not accept.
pub fn set_keepalive(socket: impl AsFd, idle: Duration) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))
}

/// Octets that may wait unsent before the socket stops being writable: keeps the queue where
/// the packet path sees it.
///
/// # Errors
/// Not a TCP socket.
pub fn set_unsent_limit(socket: impl AsFd, octets: u32) -> io::Result<()> {
    set_integer(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_NOTSENT_LOWAT,
        octets.cast_signed(),
    )
}

/// Path MTU and segment sizes from the kernel.
///
/// # Errors
/// Not a TCP socket.
pub fn path_info(socket: impl AsFd) -> io::Result<PathInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has room for `length` octets; zeroes are valid where the kernel is older.
    let info = unsafe {
        cvt(libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        ))?;
        info.assume_init()
    };
    Ok(PathInfo {
        path_mtu: info.tcpi_pmtu,
        send_mss: info.tcpi_snd_mss,
        receive_mss: info.tcpi_rcv_mss,
    })
}

/// Sizes the send buffer, in octets (`SO_SNDBUF`).
///
/// # Errors
/// Not a socket.
pub fn set_send_buffer(socket: impl AsFd, octets: usize) -> io::Result<()> {
    SockRef::from(&socket).set_send_buffer_size(octets)
}

/// Sets the priority of outgoing packets, 0 to 6 (`SO_PRIORITY`).
///
/// # Errors
/// Not a socket, or a priority that needs privileges.
pub fn set_priority(socket: impl AsFd, priority: u8) -> io::Result<()> {
    set_integer(socket, libc::SOL_SOCKET, libc::SO_PRIORITY, priority.into())
}

/// Sets type of service (IPv4) and traffic class (IPv6) of outgoing packets.
///
/// # Errors
/// Not an IP socket.
pub fn set_type_of_service(socket: impl AsFd, value: u8) -> io::Result<()> {
    let fd = socket.as_fd();
    match SockRef::from(&fd).local_addr()?.as_socket() {
        // A dual-stack socket may carry IPv4, too; where it does not, the option is refused.
        Some(SocketAddr::V6(_)) => {
            set_integer(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, value.into())?;
            set_integer(fd, libc::IPPROTO_IP, libc::IP_TOS, value.into()).or(Ok(()))
        }
        Some(SocketAddr::V4(_)) => set_integer(fd, libc::IPPROTO_IP, libc::IP_TOS, value.into()),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Sends what the socket takes now, without raising SIGPIPE.
///
/// # Errors
/// `WouldBlock` when it takes nothing; any other error ends the connection.
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and length describe `bytes`.
    retry(|| cvt_len(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) }))
}

/// Receives what has arrived; 0 at the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing has; any other error ends the connection.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and length describe `buffer`, which is writable.
    retry(|| cvt_len(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) }))
}

pub(crate) fn set_integer(socket: impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option takes an int, which outlives the call.
    cvt(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

pub(crate) fn integer(socket: impl AsFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option fills in an int.
    cvt(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn options_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        set_nodelay(&near).unwrap();
        set_keepalive(&near, Duration::from_secs(30)).unwrap();
        set_unsent_limit(&near, 65536).unwrap();
        set_priority(&near, 4).unwrap();
        set_type_of_service(&near, 0x48).unwrap();
        assert_eq!(integer(&near, libc::IPPROTO_IP, libc::IP_TOS).unwrap(), 0x48);
        let info = path_info(&near).unwrap();
        assert!(info.path_mtu >= 576 && info.send_mss < info.path_mtu, "{info:?}");

        let mut buffer = [0; 8];
        assert_eq!(
            receive(&far, &mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(send(&near, b"ping").unwrap(), 4);
        let mut got = receive(&far, &mut buffer);
        while got
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {
            got = receive(&far, &mut buffer);
        }
        assert_eq!(got.unwrap(), 4);
    }
}
