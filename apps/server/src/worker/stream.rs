//! The client's connection before the tunnel: reads and writes that main and the deadline can
//! interrupt.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::tcp;

use super::log::Reporter;
use crate::ipc::link::LinkError;
use crate::ipc::messages::MainToWorker;

const TCP: u64 = 0;
const MAIN: u64 = 1;
const OTHER: u64 = 2;

/// Why a worker ends before it has a tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client has closed the connection.
    #[error("the client has closed the connection")]
    PeerClosed,
    /// The last answer was one that ends the connection.
    #[error("the connection ends with this answer")]
    Answered,
    /// The tunnel was refused.
    #[error("the tunnel was refused")]
    Refused,
    /// Main said so.
    #[error("ended by the server")]
    Told,
    /// `auth-timeout` has passed.
    #[error("the client has not logged in by auth-timeout")]
    Late,
    /// The connection broke.
    #[error("connection: {0}")]
    Io(io::Error),
    /// The client's TLS is not acceptable.
    #[error("TLS: {0}")]
    Tls(#[from] culvert_tls::TlsError),
    /// The client's HTTP is not acceptable.
    #[error("HTTP: {0}")]
    Http(String),
    /// A channel to main or broker failed.
    #[error(transparent)]
    Channel(LinkError),
    /// Main or broker said something that does not fit.
    #[error("{0}")]
    Protocol(&'static str),
}

/// The client's connection.
pub(super) struct Stream {
    tcp: OwnedFd,
    reporter: Arc<Reporter>,
    poller: Poller,
    events: Events,
    deadline: Option<Instant>,
}

impl Stream {
    pub(super) fn new(tcp: OwnedFd, reporter: Arc<Reporter>, deadline: Option<Instant>) -> io::Result<Self> {
        socket2::SockRef::from(&tcp).set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add(&tcp, TCP, Interest::READ)?;
        poller.add(&*reporter, MAIN, Interest::READ)?;
        Ok(Self {
            tcp,
            reporter,
            poller,
            events: Events::with_capacity(4),
            deadline,
        })
    }

    /// Who hears from this worker.
    pub(super) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The socket.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.tcp
    }

    /// Gives the socket back, for the tunnel.
    pub(super) fn into_socket(self) -> OwnedFd {
        // The poller's registration ends with the poller.
        self.tcp
    }

    /// Reads at least one octet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, End> {
        loop {
            match tcp::receive(&self.tcp, buffer) {
                Ok(0) => return Err(End::PeerClosed),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(Interest::READ)?,
                Err(error) => return Err(End::Io(error)),
            }
        }
    }

    /// Writes everything.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            match tcp::send(&self.tcp, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(Interest::WRITE)?,
                Err(error) => return Err(End::Io(error)),
            }
        }
        Ok(())
    }

    /// Main's answer to a CONNECT, with its descriptors. What main says afterwards waits for the
    /// tunnel: a first datagram may come while the response is still being written.
    pub(super) fn grant(&mut self) -> Result<(MainToWorker, Vec<OwnedFd>), End> {
        match self.reporter.order(self.deadline) {
            Ok(Some((MainToWorker::Terminate, _))) | Ok(None) => Err(End::Told),
            Ok(Some(answer)) => {
                self.poller.delete(&*self.reporter).map_err(End::Io)?;
                Ok(answer)
            }
            Err(LinkError::Timeout) => Err(End::Late),
            Err(error) => Err(End::Channel(error)),
        }
    }

    /// Waits until another channel has something to say, unless the client closes its connection:
    /// nobody waits for the end of a login then. What main says meanwhile is read later; its answer to a
    /// CONNECT may come before the broker's.
    pub(super) fn wait_for(&mut self, other: impl AsFd) -> Result<(), End> {
        self.poller.delete(&*self.reporter).map_err(End::Io)?;
        self.poller.add(&other, OTHER, Interest::READ).map_err(End::Io)?;
        self.poller.watch_for_end(&self.tcp, TCP).map_err(End::Io)?;
        self.wait_until_ready()?;
        self.poller.delete(&other).map_err(End::Io)?;
        self.poller
            .add(&*self.reporter, MAIN, Interest::READ)
            .map_err(End::Io)?;
        match self.events.iter().any(|event| event.token == OTHER) {
            true => Ok(()),
            false => Err(End::PeerClosed),
        }
    }

    fn wait(&mut self, interest: Interest) -> Result<(), End> {
        self.poller.modify(&self.tcp, TCP, interest).map_err(End::Io)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), End> {
        loop {
            self.poller
                .wait(&mut self.events, self.deadline)
                .map_err(End::Io)?;
            if self.events.is_empty() && self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(End::Late);
            }
            let mut ready = false;
            for event in self.events.iter() {
                match event.token {
                    // Before the tunnel main has one thing to say: stop. Also when it is gone.
                    MAIN => return Err(End::Told),
                    _ => ready = true,
                }
            }
            if ready {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::thread;
    use std::time::Duration;

    use culvert_sys::channel::Channel;

    use super::*;
    use crate::ipc::Bytes;
    use crate::ipc::link::Blocking;
    use crate::ipc::messages::Refusal;

    /// More than the buffers of a connection hold.
    const MUCH: usize = 64 << 20;

    fn stream() -> (Stream, TcpStream, Blocking) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (near, far) = Channel::pair().unwrap();
        let reporter = Arc::new(Reporter::new(Blocking::new(far), 0));
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        let stream = Stream::new(server.into(), reporter, deadline).unwrap();
        (stream, client, Blocking::new(near))
    }

    #[test]
    fn the_client_may_leave_while_another_is_asked() {
        let (mut stream, mut client, main) = stream();
        let (near, far) = Channel::pair().unwrap();
        let (near, far) = (Blocking::new(near), Blocking::new(far));
        // Neither main nor more data of the client disturbs.
        main.send(&MainToWorker::Terminate, &[]).unwrap();
        client.write_all(b"more").unwrap();
        far.send(&MainToWorker::Terminate, &[]).unwrap();
        stream.wait_for(&near).unwrap();
        assert!(matches!(stream.wait_for(&near), Ok(())), "nothing was read");
        near.receive::<MainToWorker>(None).unwrap();
        drop(client);
        assert!(matches!(stream.wait_for(&near), Err(End::PeerClosed)));
    }

    #[test]
    fn main_ends_a_write_that_waits() {
        let (mut stream, _client, main) = stream();
        main.send(&MainToWorker::Terminate, &[]).unwrap();
        assert!(matches!(stream.write(&vec![0; MUCH]), Err(End::Told)));
    }

    #[test]
    fn a_datagram_after_mains_answer_does_not_end_the_response() {
        let (mut stream, mut client, main) = stream();
        main.send(&MainToWorker::Refuse(Refusal::Server), &[]).unwrap();
        assert!(stream.grant().is_ok());
        let datagram = MainToWorker::Datagram {
            peer: "192.0.2.1:9".parse().unwrap(),
            hello: false,
            packet: Bytes::default(),
        };
        main.send(&datagram, &[client.as_fd()]).unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut left = MUCH;
            while left > 0 {
                left -= client.read(&mut buffer).unwrap();
            }
        });
        assert!(stream.write(&vec![0; MUCH]).is_ok());
        reader.join().unwrap();
    }
}
