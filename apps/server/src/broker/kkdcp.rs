//! The way to Kerberos KDCs for clients that reach only this server (`specs/server-auth.md` §2.8).
//! The worker has read the client's request; the broker carries a ticket request, and nothing
//! else, to one of the configured KDCs, and reads nothing of the answer but its length.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use culvert_kkdcp::{MESSAGE_MAX, is_allowed, is_too_big};
use culvert_server_config::{Kkdcp, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::conversation::{Conversation, Violation};
use super::loaded::LoadedHost;
use super::places::Places;
use crate::ipc::Bytes;
use crate::ipc::messages::{BrokerToMain, BrokerToWorker};
use crate::log::{self, Level};

/// Time for a KDC, all of its addresses together; the worker waits a little longer.
const TIME: Duration = Duration::from_secs(8);
/// A datagram is sent again after these pauses.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// Messages under way at a time, of all clients, and those that wait for one of them to end.
const UNDER_WAY_MAX: usize = 64;
const LINE: usize = 1024;
/// Addresses of one KDC that are tried.
const ADDRESSES_MAX: usize = 4;

/// A KDC, with the addresses that its name had when the configuration was read.
#[derive(Debug, Clone)]
pub(super) struct Kdc {
    transport: Transport,
    addresses: Vec<SocketAddr>,
    /// For logs.
    name: String,
}

impl Kdc {
    /// Looks up the KDC's name (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn resolve(config: &Kkdcp) -> Result<Self, String> {
        let found = (config.host.as_str(), config.port).to_socket_addrs();
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| format!("error: getaddrinfo({}) failed: {error}", config.host))?
            .take(ADDRESSES_MAX)
            .collect();
        let protocol = match config.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        Ok(Self {
            transport: config.transport,
            addresses,
            name: format!("{protocol}@{}:{} of {}", config.host, config.port, config.realm),
        })
    }

    /// Carries a message there and the answer back, both without their length.
    async fn exchange(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let share = TIME / u32::try_from(self.addresses.len().max(1)).unwrap_or(1);
        for address in &self.addresses {
            let exchange = async {
                match self.transport {
                    Transport::Tcp => by_tcp(*address, message).await,
                    Transport::Udp => match by_udp(*address, message).await {
                        // KDCs listen on both.
                        Ok(reply) if is_too_big(&reply) => by_tcp(*address, message).await,
                        result => result,
                    },
                }
            };
            match timeout(share, exchange).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

async fn by_udp(address: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Datagrams of others do not arrive.
    socket.connect(address).await?;
    let mut reply = vec![0; MESSAGE_MAX];
    for pause in PAUSES {
        socket.send(message).await?;
        if let Ok(received) = timeout(pause, socket.recv(&mut reply)).await {
            reply.truncate(received?);
            return Ok(reply);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn by_tcp(address: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], message].concat())
        .await?;
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer too long"));
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// The right to have a message under way.
pub(super) fn places() -> Places {
    Places::new(UNDER_WAY_MAX, LINE)
}

impl Conversation {
    /// Carries a worker's message to the KDC at this position of the host's list.
    pub(super) async fn ask_kdc(
        &mut self,
        host: &LoadedHost,
        server: u8,
        message: &[u8],
    ) -> Result<BrokerToWorker, Violation> {
        self.kdc_messages.spend("too many messages for a KDC")?;
        let kdc = host
            .kdcs
            .get(usize::from(server))
            .ok_or(Violation("a message for a KDC that does not exist"))?;
        if !is_allowed(message) {
            return Err(Violation("a message for a KDC that is no request for a ticket"));
        }
        self.broker.tell_main(&BrokerToMain::KdcAsked(self.id));
        if self.barred.get() {
            return Ok(BrokerToWorker::Kdc(None));
        }
        let exchange = async {
            match self.broker.kdc_places.take(self.peer).await {
                Some(_place) => kdc.exchange(message).await,
                None => Err(io::Error::other("too many messages wait")),
            }
        };
        let reply = match timeout(TIME, exchange).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let reply = reply.and_then(|reply| Bytes::new(reply).map_err(io::Error::other));
        if let Err(error) = &reply {
            let text = format!("sec-mod: kkdcp: no answer from {}: {error}", kdc.name);
            log::write(Level::Notice, &text);
        }
        Ok(BrokerToWorker::Kdc(reply.ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kdc(transport: Transport, addresses: Vec<SocketAddr>) -> Kdc {
        Kdc {
            transport,
            addresses,
            name: "a KDC".to_owned(),
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test)
    }

    /// A server for one connection that reads a message and says `answer`.
    async fn tcp_server(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut message = vec![0; length as usize];
            stream.read_exact(&mut message).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[test]
    fn names_and_transports() {
        let config = |host: &str| Kkdcp {
            path: "/p".into(),
            realm: "R".into(),
            transport: Transport::Udp,
            host: host.into(),
            port: 88,
        };
        let known = Kdc::resolve(&config("127.0.0.1")).unwrap();
        assert_eq!(known.name, "udp@127.0.0.1:88 of R");
        assert_eq!(known.addresses, ["127.0.0.1:88".parse().unwrap()]);
        let unknown = Kdc::resolve(&config("no such host")).unwrap_err();
        assert!(
            unknown.starts_with("error: getaddrinfo(no such host) failed: "),
            "{unknown}"
        );
    }

    #[test]
    fn answers_by_tcp() {
        run(async {
            let good = tcp_server(b"\0\0\0\x05reply").await;
            assert_eq!(
                kdc(Transport::Tcp, vec![good]).exchange(b"x").await.unwrap(),
                b"reply"
            );
            for bad in [&b"\0\0\0\x05rep"[..], b"\0\x02\0\0x", b"\0"] {
                let address = tcp_server(bad).await;
                assert!(kdc(Transport::Tcp, vec![address]).exchange(b"x").await.is_err());
            }
        });
    }

    #[test]
    fn answers_by_udp() {
        run(async {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let addresses = [&dead, &server].map(|socket| socket.local_addr().unwrap());
            drop(dead);
            tokio::spawn(async move {
                let mut message = [0; 10];
                // The first one is lost.
                let _ = server.recv_from(&mut message).await.unwrap();
                let (length, peer) = server.recv_from(&mut message).await.unwrap();
                server.send_to(&message[..length], peer).await.unwrap();
            });
            let both = kdc(Transport::Udp, addresses.to_vec());
            assert_eq!(both.exchange(b"echo").await.unwrap(), b"echo");
        });
    }
}
