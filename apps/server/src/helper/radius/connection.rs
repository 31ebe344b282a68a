//! A connection to a server: packets one after the other (RFC 6613), with TLS or without (RFC 6614).

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_radius::packet::{HEADER_LEN, PACKET_MAX};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use zeroize::Zeroizing;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Packets that wait to be sent; what does not fit is sent again in its time.
const WAITING_MAX: usize = 256;
/// Octets that wait to be written before more packets are taken.
const UNWRITTEN_MAX: usize = 64 << 10;
/// Octets that are read at a time.
const READ: usize = 16 << 10;

/// Octets of packets, which may hold passwords.
type Octets = Zeroizing<Vec<u8>>;

/// TLS to one server: settings, and whose certificate it must show.
pub(super) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// Where a connection goes, and how.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// Our own address.
    pub(super) bind: Option<IpAddr>,
    pub(super) tls: Option<Tls>,
    /// A server that says nothing for this long after it was asked has lost the connection.
    pub(super) patience: Duration,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was not made.
    Refused(io::Error),
    /// It was there, and is gone.
    Closed(io::Error),
}

/// The way for packets to a connection.
pub(super) fn outbox() -> (mpsc::Sender<Octets>, mpsc::Receiver<Octets>) {
    mpsc::channel(WAITING_MAX)
}

/// Makes a connection and exchanges packets over it until it ends, or until nobody sends any more.
pub(super) async fn run(
    target: Target,
    mut outgoing: mpsc::Receiver<Octets>,
    deliver: impl AsyncFnMut(Vec<u8>),
) -> End {
    let connected = timeout(CONNECT, connect(&target)).await;
    let (stream, tls) = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(made) => made,
        Err(error) => return End::Refused(error),
    };
    let mut connection = Connection {
        stream,
        tls,
        unwritten: Zeroizing::default(),
        packets: Packets::default(),
        established: false,
    };
    match connection.exchange(&mut outgoing, target.patience, deliver).await {
        Err(error) if connection.established => End::Closed(error),
        Err(error) => End::Refused(error),
        Ok(()) => End::Closed(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn connect(target: &Target) -> io::Result<(TcpStream, Option<ClientConnection>)> {
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(own) = target.bind {
        socket.bind((own, 0).into())?;
    }
    let stream = socket.connect(target.address).await?;
    stream.set_nodelay(true)?;
    let tls = target.tls.as_ref().map(|(config, name)| {
        ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)
    });
    Ok((stream, tls.transpose()?))
}

struct Connection {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    unwritten: Octets,
    packets: Packets,
    /// The peer has shown who it is, as far as it has to.
    established: bool,
}

impl Connection {
    async fn exchange(
        &mut self,
        outgoing: &mut mpsc::Receiver<Octets>,
        patience: Duration,
        mut deliver: impl AsyncFnMut(Vec<u8>),
    ) -> io::Result<()> {
        // Since when the server has something to say.
        let mut asked: Option<Instant> = None;
        loop {
            self.encrypt()?;
            self.established |= self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
            let interest = match self.unwritten.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let silent = asked.map_or_else(|| Instant::now() + patience, |asked| asked + patience);
            let event = async {
                tokio::select! {
                    packet = outgoing.recv(), if self.unwritten.len() < UNWRITTEN_MAX => Event::Packet(packet),
                    ready = self.stream.ready(interest) => Event::Ready(ready),
                }
            };
            match timeout_at(silent.into(), event).await {
                Ok(Event::Packet(Some(packet))) => {
                    asked.get_or_insert_with(Instant::now);
                    self.push(&packet)?;
                }
                Ok(Event::Packet(None)) => return Ok(()),
                Ok(Event::Ready(ready)) => {
                    let ready = ready?;
                    if ready.is_writable() {
                        self.write()?;
                    }
                    if ready.is_readable() && self.read()? {
                        asked = None;
                        while let Some(packet) = self.packets.next()? {
                            deliver(packet).await;
                        }
                    }
                }
                Err(_) if asked.is_some() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {}
            }
        }
    }

    fn push(&mut self, packet: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(packet),
            None => {
                self.unwritten.extend_from_slice(packet);
                Ok(())
            }
        }
    }

    fn encrypt(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && self.unwritten.len() < UNWRITTEN_MAX {
                tls.write_tls(&mut *self.unwritten)?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            match self.stream.try_write(&self.unwritten) {
                Ok(written) => drop(self.unwritten.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// True when something came.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ];
        let count = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut octets = buffer.get(..count).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            self.packets.0.extend_from_slice(octets);
            return Ok(true);
        };
        while !octets.is_empty() {
            tls.read_tls(&mut octets)?;
            if let Err(error) = tls.process_new_packets() {
                // The peer shall learn why.
                let _best_effort = tls.write_tls(&mut *self.unwritten);
                let _best_effort = self.stream.try_write(&self.unwritten);
                return Err(io::Error::other(error));
            }
            match tls.reader().read_to_end(&mut self.packets.0) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // The peer says that it is done; the end of the connection follows.
                _ => {}
            }
        }
        Ok(true)
    }
}

enum Event {
    Packet(Option<Octets>),
    Ready(io::Result<tokio::io::Ready>),
}

/// What has been read and is no whole packet yet.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    /// The next whole packet.
    ///
    /// # Errors
    /// No packet begins like this: nobody knows where the next one does.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(&[_code, _identifier, high, low]) = self.0.first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(HEADER_LEN..=PACKET_MAX).contains(&length) {
            let problem = format!("a packet of {length} octets");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if self.0.len() < length {
            return Ok(None);
        }
        let rest = self.0.split_off(length);
        Ok(Some(std::mem::replace(&mut self.0, rest)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(length: usize) -> Vec<u8> {
        let mut packet = vec![2; length];
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet
    }

    #[test]
    fn packets_in_pieces() {
        let stream = [packet(20), packet(4096), packet(38)].concat();
        for size in [1, 7, 4000, stream.len()] {
            let mut packets = Packets::default();
            let mut lengths = Vec::new();
            for piece in stream.chunks(size) {
                packets.0.extend_from_slice(piece);
                while let Some(packet) = packets.next().unwrap() {
                    lengths.push(packet.len());
                }
            }
            assert_eq!(lengths, [20, 4096, 38], "pieces of {size}");
            assert!(packets.0.is_empty());
        }
        for length in [0, 19, 4097] {
            let mut wrong = packet(20);
            wrong[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            assert!(Packets(wrong).next().is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut packets = Packets(octets);
            while let Ok(Some(packet)) = packets.next() {
                prop_assert!(packet.len() >= HEADER_LEN);
            }
        }
    }
}
