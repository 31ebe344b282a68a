//! Channels between processes: messages with descriptors, over AF_UNIX SOCK_SEQPACKET.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::cvt::{cvt, cvt_len, retry};

/// Longest message, in octets.
pub const MESSAGE_MAX: usize = 128 * 1024;
/// Most descriptors that one message carries.
pub const DESCRIPTORS_MAX: usize = 8;

/// Room for the control message of [`DESCRIPTORS_MAX`] descriptors.
const CONTROL_LEN: usize = 64;

#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// One end of a channel. Messages keep their boundaries and order; blocking unless told otherwise.
#[derive(Debug)]
pub struct Channel(Socket);

/// A received message: its octets lie in the caller's buffer.
#[derive(Debug, Default)]
pub struct Received {
    /// Octets of the message.
    pub len: usize,
    /// Descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Who made the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Channel {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        Ok((Self(near), Self(far)))
    }

    /// Wraps a descriptor received from another process or inherited.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Socket::from(fd))
    }

    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.0.into()
    }

    /// Tells the peer that nothing more comes, and takes nothing more from it, also when other
    /// processes hold copies of this end.
    ///
    /// # Errors
    /// It is closed already.
    pub fn shut_down(&self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Both)
    }

    /// Makes calls return `WouldBlock` instead of waiting (or the reverse).
    ///
    /// # Errors
    /// None in practice.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }

    /// Longest time that a blocking call waits; it then fails with `WouldBlock`. `None`: for ever.
    ///
    /// # Errors
    /// The duration is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)?;
        self.0.set_write_timeout(timeout)
    }

    /// Sends one message of 1 to [`MESSAGE_MAX`] octets with up to [`DESCRIPTORS_MAX`] descriptors.
    ///
    /// # Errors
    /// `InvalidInput` outside these limits; `BrokenPipe` or `ConnectionReset` when the peer is
    /// gone; `WouldBlock` when the queue is full and the channel must not wait (longer).
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, 0)
    }

    /// [`Self::send`] that never waits, whatever the mode of the channel: other processes may hold
    /// copies of it and change that.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_now(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, libc::MSG_DONTWAIT)
    }

    fn send_with(
        &self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: libc::c_int,
    ) -> io::Result<()> {
        if message.is_empty() || message.len() > MESSAGE_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let number = self.0.as_raw_fd();
        if descriptors.is_empty() {
            // Processes whose tunnel is open may not use sendmsg.
            let (octets, length) = (message.as_ptr().cast(), message.len());
            // SAFETY: the pointer and the length describe `message`.
            retry(|| cvt_len(unsafe { libc::send(number, octets, length, libc::MSG_NOSIGNAL | flags) }))?;
            return Ok(());
        }
        let mut vector = libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        };
        let mut control = Control([0; CONTROL_LEN]);
        let mut header = message_header(&mut vector);
        attach(&mut header, &mut control, descriptors);
        // SAFETY: `header` points to `vector` and `control`, which outlive the call; sendmsg
        // does not write through them.
        retry(|| cvt_len(unsafe { libc::sendmsg(number, &raw const header, libc::MSG_NOSIGNAL | flags) }))?;
        Ok(())
    }

    /// Receives one message into `buffer` (which should hold [`MESSAGE_MAX`] octets); `None` when
    /// the peer has closed its end.
    ///
    /// # Errors
    /// `InvalidData` when the message or its descriptors do not fit (they are closed);
    /// `WouldBlock` when there is none and the channel must not wait (longer).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.receive_with(buffer, 0)
    }

    /// [`Self::receive`] that never waits, whatever the mode of the channel.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_now(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.receive_with(buffer, libc::MSG_DONTWAIT)
    }

    fn receive_with(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Option<Received>> {
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control = Control([0; CONTROL_LEN]);
        let mut header = message_header(&mut vector);
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN as _;
        let mut receive = || {
            // SAFETY: `header` points to `vector` (the caller's buffer) and `control`, which are
            // writable for their lengths and outlive the call.
            retry(|| {
                cvt_len(unsafe {
                    libc::recvmsg(
                        self.0.as_raw_fd(),
                        &raw mut header,
                        libc::MSG_CMSG_CLOEXEC | flags,
                    )
                })
            })
        };
        // A peer that closed with messages unread: the kernel says so, once, before it gives out what
        // that peer had sent.
        let len = receive().or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionReset => receive(),
            _ => Err(error),
        })?;
        let descriptors = detach(&header);
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message is longer than agreed",
            ));
        }
        // Messages are never empty, so nothing means that the peer has closed.
        Ok((len > 0).then_some(Received { len, descriptors }))
    }

    /// Who made the other end of a pair, or connected to the listener.
    ///
    /// # Errors
    /// Not a Unix socket.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Who connected a Unix socket (`SO_PEERCRED`).
///
/// # Errors
/// Not a connected Unix socket.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    let mut credentials = MaybeUninit::<libc::ucred>::uninit();
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `credentials` has room for `length` octets and is read only after success.
    let credentials = unsafe {
        cvt(libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &raw mut length,
        ))?;
        credentials.assume_init()
    };
    Ok(PeerCredentials {
        pid: credentials.pid,
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

/// Two connected ends of an AF_UNIX SOCK_DGRAM socket (`specs/client.md` §12.5).
///
/// # Errors
/// Descriptors are used up.
pub fn datagram_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::DGRAM, None)?;
    Ok((near.into(), far.into()))
}

/// Sizes the send buffer of any socket, in octets (`SO_SNDBUF`).
///
/// # Errors
/// Not a socket.
pub fn set_send_buffer(socket: impl AsFd, octets: usize) -> io::Result<()> {
    SockRef::from(&socket).set_send_buffer_size(octets)
}

fn message_header(vector: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is a plain C structure for which zeroes are valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    header
}

fn attach(header: &mut libc::msghdr, control: &mut Control, descriptors: &[BorrowedFd<'_>]) {
    let payload = size_of_val(descriptors) as u32;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
    // SAFETY: `control` is aligned for cmsghdr and has room for CMSG_SPACE of DESCRIPTORS_MAX
    // descriptors; BorrowedFd is a transparent RawFd.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = libc::CMSG_LEN(payload) as _;
        let data = libc::CMSG_DATA(message).cast::<RawFd>();
        for (index, descriptor) in descriptors.iter().enumerate() {
            data.add(index).write_unaligned(descriptor.as_raw_fd());
        }
    }
}

fn detach(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled in the control messages; the macros stay within them, and every
    // descriptor in SCM_RIGHTS is fresh and owned by nobody else.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS {
                let octets = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                for index in 0..octets / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    descriptors
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_keep_boundaries_and_carry_descriptors() {
        let (near, far) = Channel::pair().unwrap();
        let (read_end, write_end) = io::pipe().unwrap();
        near.send(b"first", &[write_end.as_fd(), near.as_fd()]).unwrap();
        near.send(&vec![7; MESSAGE_MAX], &[]).unwrap();
        drop(write_end);

        let mut buffer = vec![0; MESSAGE_MAX];
        let first = far.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(
            (&buffer[..first.len], first.descriptors.len()),
            (&b"first"[..], 2)
        );
        let mut descriptors = first.descriptors.into_iter();
        File::from(descriptors.next().unwrap())
            .write_all(b"through")
            .unwrap();
        let mut text = String::new();
        File::from(OwnedFd::from(read_end))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through");

        let second = far.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((second.len, second.descriptors.len()), (MESSAGE_MAX, 0));
    }

    #[test]
    fn last_words_of_a_peer_that_left_messages_unread() {
        let (near, far) = Channel::pair().unwrap();
        near.send(b"last", &[]).unwrap();
        far.send(b"unread", &[]).unwrap();
        drop(near);
        let mut buffer = [0; 16];
        assert_eq!(far.receive(&mut buffer).unwrap().unwrap().len, 4);
        assert!(far.receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn the_end_is_seen_once_all_copies_are_closed() {
        let (near, far) = Channel::pair().unwrap();
        near.send(b"last", &[]).unwrap();
        drop(near);
        let mut buffer = [0; 16];
        assert_eq!(far.receive(&mut buffer).unwrap().unwrap().len, 4);
        assert!(far.receive(&mut buffer).unwrap().is_none());
        assert!(far.send(b"x", &[]).is_err());
    }

    #[test]
    fn limits_and_waiting() {
        let (near, far) = Channel::pair().unwrap();
        assert_eq!(
            near.send(b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        let too_many = [near.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(
            near.send(b"x", &too_many).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );

        near.send(b"longer than the buffer", &[near.as_fd()]).unwrap();
        assert_eq!(
            far.receive(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );

        assert_eq!(
            far.receive_now(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        far.set_timeout(Some(Duration::from_millis(5))).unwrap();
        assert_eq!(
            far.receive(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        far.set_nonblocking(true).unwrap();
        assert_eq!(
            far.receive(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn credentials_are_ours() {
        let (near, _far) = Channel::pair().unwrap();
        let credentials = near.peer_credentials().unwrap();
        assert_eq!(credentials.uid, crate::user::effective_uid());
        assert_eq!(credentials.pid.cast_unsigned(), std::process::id());
    }
}
