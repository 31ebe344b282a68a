//! The UDP socket of a datagram channel: its own, or one that many sessions share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use culvert_sys::epoll::{Interest, Poller};
use culvert_sys::udp::{Path, SendError, UdpSocket};

/// Where the datagrams of a channel leave. They arrive here, too, unless the socket is shared.
#[derive(Debug)]
pub enum DatagramSocket {
    /// Connected to the peer and this channel's alone.
    Own(Arc<UdpSocket>),
    /// One for many sessions: the application receives, and calls
    /// [`Session::receive_datagrams`](crate::Session::receive_datagrams).
    Shared(SharedSocket),
}

/// How the datagrams of one session are marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Type of service; `None` leaves the socket's.
    pub type_of_service: Option<u8>,
    /// Queueing priority inside this host, 0 to 6.
    pub priority: u8,
}

/// One session's view of a socket that many use.
#[derive(Debug)]
pub struct SharedSocket {
    socket: Arc<UdpSocket>,
    path: Path,
    marks: Marks,
    /// A copy of the descriptor while this session waits for room in the send buffer. Registered
    /// only then: every registration is work for every datagram that arrives.
    waiting: Option<UdpSocket>,
}

impl SharedSocket {
    /// `socket`, for datagrams along `path`.
    pub fn new(socket: Arc<UdpSocket>, path: Path, marks: Marks) -> Self {
        Self {
            socket,
            path,
            marks,
            waiting: None,
        }
    }
}

impl From<UdpSocket> for DatagramSocket {
    fn from(socket: UdpSocket) -> Self {
        Self::Own(Arc::new(socket))
    }
}

impl From<SharedSocket> for DatagramSocket {
    fn from(socket: SharedSocket) -> Self {
        Self::Shared(socket)
    }
}

impl DatagramSocket {
    /// The peer's address.
    ///
    /// # Errors
    /// None in practice.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Own(socket) => socket.peer_addr(),
            Self::Shared(shared) => Ok(shared.path.peer),
        }
    }

    /// Path MTU that the kernel knows, in octets; `None` for a shared socket.
    pub fn path_mtu(&self) -> Option<u32> {
        match self {
            Self::Own(socket) => socket.path_mtu().ok(),
            Self::Shared(_) => None,
        }
    }

    /// The socket, if it is the channel's own.
    pub fn own(&self) -> Option<&UdpSocket> {
        match self {
            Self::Own(socket) => Some(socket),
            Self::Shared(_) => None,
        }
    }

    /// For another thread that sends meanwhile; `None` for a shared socket.
    pub(super) fn lend(&self) -> Option<Self> {
        match self {
            Self::Own(socket) => Some(Self::Own(Arc::clone(socket))),
            Self::Shared(_) => None,
        }
    }

    /// True when datagrams of `peer` that came to the process's socket are meant.
    pub(super) fn is_shared_with(&self, peer: SocketAddr) -> bool {
        matches!(self, Self::Shared(shared) if shared.path.peer == peer)
    }

    pub(super) fn send(
        &self,
        data: &[u8],
        segment: usize,
        type_of_service: Option<u8>,
    ) -> Result<(), SendError> {
        match self {
            Self::Own(socket) => socket.send(data, segment, type_of_service),
            Self::Shared(shared) => {
                let marks = shared.marks;
                shared
                    .socket
                    .set_priority(marks.priority)
                    .map_err(SendError::Io)?;
                let type_of_service = type_of_service.or(marks.type_of_service);
                shared
                    .socket
                    .send_along(data, segment, type_of_service, &shared.path)
            }
        }
    }

    /// Makes the socket known to the poller.
    pub(super) fn register(&self, poller: &Poller, token: u64) -> io::Result<()> {
        match self {
            Self::Own(socket) => poller.add(socket, token, Interest::READ),
            Self::Shared(_) => Ok(()),
        }
    }

    /// Changes what the poller waits for.
    pub(super) fn set_interest(&mut self, poller: &Poller, token: u64, wanted: Interest) -> io::Result<()> {
        match self {
            Self::Own(socket) => poller.modify(socket, token, wanted),
            Self::Shared(shared) if wanted.writable => {
                if shared.waiting.is_none() {
                    let copy = shared.socket.try_clone()?;
                    poller.add(&copy, token, Interest::WRITE)?;
                    shared.waiting = Some(copy);
                }
                Ok(())
            }
            Self::Shared(shared) => match shared.waiting.take() {
                Some(copy) => poller.delete(copy),
                None => Ok(()),
            },
        }
    }

    /// Makes the poller forget it.
    pub(super) fn unregister(&self, poller: &Poller) {
        // Closing a descriptor is not enough when another process holds a copy of it.
        let _ = match self {
            Self::Own(socket) => poller.delete(socket),
            Self::Shared(shared) => match &shared.waiting {
                Some(copy) => poller.delete(copy),
                None => Ok(()),
            },
        };
    }
}
