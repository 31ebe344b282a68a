//! The servers of one kind (authentication or accounting) with their sockets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_radius::config::ServerAddress;
use culvert_radius::packet::PACKET_MAX;
use culvert_radius::{Client, ClientConfig, Policy, Server, Transmit, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::connection::{self, End, Target, Tls};
use super::{Input, tls};
use crate::ipc::messages::LogLevel;

/// Datagrams that wait for the address of their server.
const WAITING_MAX: usize = 256;

/// Authentication or accounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `authserver`.
    Auth,
    /// `acctserver`.
    Acct,
}

/// A way to a server.
struct Link {
    way: Way,
    reader: AbortHandle,
}

#[derive(Clone)]
enum Way {
    /// For sending: a socket that is registered a moment ago is not ready for tokio.
    Datagrams(Rc<std::net::UdpSocket>),
    Connection(mpsc::Sender<Zeroizing<Vec<u8>>>),
}

impl Way {
    /// What is not sent is repeated in its time.
    fn send(&self, packet: Zeroizing<Vec<u8>>) {
        match self {
            Self::Datagrams(socket) => drop(socket.send(&packet)),
            Self::Connection(outbox) => drop(outbox.try_send(packet)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Default)]
struct Place {
    address: Option<SocketAddr>,
    links: HashMap<u16, Link>,
    waiting: Vec<Transmit>,
}

/// Servers of one kind: who is asked, and through which sockets.
pub(super) struct Servers {
    pub(super) client: Client,
    kind: Kind,
    configured: Vec<ServerAddress>,
    /// TLS to each server.
    tls: Vec<Option<Tls>>,
    transport: Transport,
    /// How long a connection may be silent after a question.
    patience: Duration,
    bind: Option<IpAddr>,
    places: RefCell<Vec<Place>>,
    inputs: mpsc::Sender<Input>,
}

impl Servers {
    /// Begins to look up their addresses.
    ///
    /// # Errors
    /// TLS cannot be used like this; one line for the administrator.
    pub(super) fn new(
        kind: Kind,
        config: &ClientConfig,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Self, String> {
        let configured = match kind {
            Kind::Auth => &config.auth_servers,
            Kind::Acct => &config.acct_servers,
        };
        let servers = configured.iter().map(|server| Server {
            name: name(server),
            secret: server.secret.clone(),
        });
        let policy = Policy {
            timeout: config.timeout,
            retries: config.retries,
            dead_time: config.dead_time,
            message_authenticator: config.message_authenticator,
            connections: config.transport != Transport::Udp,
        };
        let tls = configured.iter().map(|server| match &config.transport {
            Transport::Tls(settings) => tls::to(settings, &server.host).map(Some),
            Transport::Udp | Transport::Tcp => Ok(None),
        });
        let servers = Self {
            client: Client::new(servers.collect(), policy),
            kind,
            configured: configured.clone(),
            tls: tls.collect::<Result<_, String>>()?,
            transport: config.transport.clone(),
            patience: policy.patience(),
            bind: config.bind_address,
            places: RefCell::new(configured.iter().map(|_| Place::default()).collect()),
            inputs: inputs.clone(),
        };
        for at in 0..servers.configured.len() {
            servers.look_up(at);
        }
        Ok(servers)
    }

    /// Name of a server, for the log.
    pub(super) fn name(&self, server: usize) -> String {
        self.configured.get(server).map(name).unwrap_or_default()
    }

    /// Looks a server's name up (again).
    pub(super) fn look_up(&self, server: usize) {
        let Some(configured) = self.configured.get(server) else {
            return;
        };
        if let Ok(address) = configured.host.parse::<IpAddr>() {
            return self.found(server, Ok(SocketAddr::new(address, configured.port)));
        }
        let (inputs, kind, bind) = (self.inputs.clone(), self.kind, self.bind);
        let (host, port) = (configured.host.clone(), configured.port);
        tokio::task::spawn_local(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            let fits = |address: &SocketAddr| bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4());
            let found = found.and_then(|mut list| {
                let none = || io::Error::new(io::ErrorKind::NotFound, "it has no usable address");
                list.find(fits).ok_or_else(none)
            });
            let _process_ends = inputs.send(Input::Found(kind, server, found)).await;
        });
    }

    /// The result of a look-up. Returns a line for the log when there is no address.
    pub(super) fn handle_found(&self, server: usize, found: io::Result<SocketAddr>) -> Option<String> {
        let problem = found.as_ref().err().map(|error| {
            let name = self.name(server);
            format!("cannot find the address of server {name}: {error}")
        });
        self.found(server, found);
        problem
    }

    fn found(&self, server: usize, found: io::Result<SocketAddr>) {
        let waiting = {
            let mut places = self.places.borrow_mut();
            let (Some(place), Ok(address)) = (places.get_mut(server), found) else {
                return;
            };
            if place.address.replace(address) != Some(address) {
                place.links.clear();
            }
            std::mem::take(&mut place.waiting)
        };
        for transmit in waiting {
            self.send(transmit);
        }
    }

    /// Sends what the client has to send.
    pub(super) fn flush(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            self.send(transmit);
        }
    }

    /// The local address towards a server, once there is a socket.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        match self.way(0, 0).ok()?? {
            Way::Datagrams(socket) => socket.local_addr().ok().map(|address| address.ip()),
            Way::Connection(_) => None,
        }
    }

    fn send(&self, transmit: Transmit) {
        match self.way(transmit.server, transmit.socket) {
            Ok(Some(way)) => way.send(transmit.datagram),
            Ok(None) => {
                if let Some(place) = self.places.borrow_mut().get_mut(transmit.server)
                    && place.waiting.len() < WAITING_MAX
                {
                    place.waiting.push(transmit);
                }
            }
            Err(_) => {
                let (kind, server) = (self.kind, transmit.server);
                let _busy = self.inputs.try_send(Input::Refused(kind, server));
            }
        }
    }

    /// The socket or connection of this number to a server; `None` while its address is not known.
    fn way(&self, server: usize, number: u16) -> io::Result<Option<Way>> {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(server) else {
            return Ok(None);
        };
        if let Some(link) = place.links.get(&number) {
            return Ok(Some(link.way.clone()));
        }
        let Some(address) = place.address else {
            return Ok(None);
        };
        let link = match self.transport {
            Transport::Udp => self.socket(address, (server, number))?,
            Transport::Tcp | Transport::Tls(_) => self.connection(address, (server, number)),
        };
        let way = link.way.clone();
        place.links.insert(number, link);
        Ok(Some(way))
    }

    fn socket(&self, address: SocketAddr, (server, number): (usize, u16)) -> io::Result<Link> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((self.bind.unwrap_or(any), 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        let receiving = UdpSocket::from_std(socket.try_clone()?)?;
        let socket = Rc::new(socket);
        let from = (self.kind, server, number);
        let reader = tokio::task::spawn_local(read(receiving, from, self.inputs.clone()));
        Ok(Link {
            way: Way::Datagrams(socket),
            reader: reader.abort_handle(),
        })
    }

    fn connection(&self, address: SocketAddr, (server, number): (usize, u16)) -> Link {
        let target = Target {
            address,
            bind: self.bind,
            tls: self.tls.get(server).cloned().flatten(),
            patience: self.patience,
        };
        let (sender, outgoing) = connection::outbox();
        let (kind, inputs) = (self.kind, self.inputs.clone());
        let task = tokio::task::spawn_local(async move {
            let deliver = async |packet| {
                let _process_ends = inputs.send(Input::Datagram(kind, server, number, packet)).await;
            };
            let end = connection::run(target, outgoing, deliver).await;
            let _process_ends = inputs.send(Input::Ended(kind, server, number, end)).await;
        });
        Link {
            way: Way::Connection(sender),
            reader: task.abort_handle(),
        }
    }

    /// A connection has ended. Returns a line for the log.
    pub(super) fn handle_ended(&mut self, server: usize, number: u16, end: &End) -> (LogLevel, String) {
        if let Some(place) = self.places.borrow_mut().get_mut(server) {
            place.links.remove(&number);
        }
        match end {
            End::Closed(error) => {
                self.client.handle_closed(Instant::now(), server, number);
                let text = format!(
                    "the connection to server {} has ended: {error}",
                    self.name(server)
                );
                (LogLevel::Debug, text)
            }
            End::Refused(error) => {
                self.client.handle_refused(Instant::now(), server);
                let text = format!("no connection to server {}: {error}", self.name(server));
                (LogLevel::Warning, text)
            }
        }
    }

    /// Takes a datagram of a server.
    pub(super) fn handle_input(&mut self, server: usize, socket: u16, datagram: &[u8]) {
        self.client.handle_input(Instant::now(), server, socket, datagram);
    }
}

/// Takes datagrams from one socket.
async fn read(socket: UdpSocket, from: (Kind, usize, u16), inputs: mpsc::Sender<Input>) {
    let (kind, server, number) = from;
    let mut buffer = [0; PACKET_MAX];
    loop {
        let input = match socket.recv(&mut buffer).await {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                Input::Datagram(kind, server, number, datagram)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Input::Refused(kind, server),
            // What the network cannot do at the moment is repeated in time.
            Err(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

fn name(server: &ServerAddress) -> String {
    format!("{}:{}", server.host, server.port)
}
