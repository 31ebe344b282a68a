//! First datagrams: which session do they belong to (`specs/cstp-dtls.md` §7.3).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use crate::ipc::pollable;
use culvert_dtls::{HelloError, hello_identifier};
use culvert_sys::udp::UdpSocket;
use tokio::sync::mpsc;

use super::listen::unmapped;
use super::state::{Event, Phase, Server};
use crate::ipc::fields::Bytes;
use crate::ipc::messages::{ConnectionId, MainToWorker};
use crate::log::{self, Level};

/// Datagrams below the length of a record header are junk.
const SHORTEST: usize = 13;
/// Longest first datagram that is passed on.
const LONGEST: usize = 4096;
/// A session gets a new socket at most this often.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(3);

/// Receives on one listening socket for ever. When main is busy datagrams are dropped, as a
/// network does; clients repeat them.
pub(crate) async fn receive(socket: UdpSocket, bound: SocketAddr, events: mpsc::Sender<Event>) {
    let socket = match pollable(socket) {
        Ok(socket) => socket,
        Err(error) => return log::write(Level::Error, &format!("main: cannot poll a UDP socket: {error}")),
    };
    let mut buffer = [0; LONGEST];
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let received = match socket.get_ref().receive_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => {
                // Also errors of earlier datagrams to unreachable peers end up here.
                if error.kind() == io::ErrorKind::WouldBlock {
                    ready.clear_ready();
                }
                continue;
            }
        };
        let Some(packet) = buffer
            .get(..received.len)
            .filter(|packet| packet.len() >= SHORTEST)
        else {
            continue;
        };
        let local = local_address(bound, received.local, received.peer);
        let event = Event::Datagram {
            local,
            peer: received.peer,
            packet: packet.to_vec(),
        };
        if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(event) {
            return;
        }
    }
}

/// Our address that `peer` sent to: a socket for this peer must answer from it.
fn local_address(bound: SocketAddr, destination: Option<IpAddr>, peer: SocketAddr) -> SocketAddr {
    match (destination, peer) {
        (Some(IpAddr::V6(ip)), SocketAddr::V6(peer)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, bound.port(), 0, peer.scope_id()).into()
        }
        (Some(ip), _) => SocketAddr::new(ip, bound.port()),
        (None, _) => bound,
    }
}

impl Server {
    /// Finds the session of a first datagram and gives its worker a socket for this peer.
    pub(crate) fn handle_datagram(&mut self, local: SocketAddr, peer: SocketAddr, packet: Vec<u8>) {
        let (id, hello) = match hello_identifier(&packet, true) {
            Ok(identifier) => (self.by_identifier(identifier), true),
            Err(HelloError::NotHandshake) => (self.by_source(unmapped(peer).ip()), false),
            Err(_) => (None, false),
        };
        let Some(id) = id else { return };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Phase::Open(tunnel) = &mut connection.phase else {
            return;
        };
        let now = Instant::now();
        // Limited apart: anybody can send records in the name of the client's address, and must not
        // keep its handshakes away.
        let last = if hello {
            &mut tunnel.last_hello
        } else {
            &mut tunnel.last_record
        };
        if last.is_some_and(|last| now.duration_since(last) <= HAND_OVER_INTERVAL) {
            return;
        }
        *last = Some(now);
        let previous = tunnel.datagram_ip;
        let socket = match UdpSocket::connected(Some(local), peer) {
            Ok(socket) => socket,
            Err(error) => return self.log(id, Level::Warning, &format!("cannot make a UDP socket: {error}")),
        };
        let Ok(packet) = Bytes::new(packet) else { return };
        if hello {
            // A ClientHello names the session by a secret, so its sender is the client; another
            // record only becomes believable when the worker has authenticated it.
            tunnel.datagram_ip = unmapped(peer).ip();
            let now_at = tunnel.datagram_ip;
            self.move_datagrams(id, previous, now_at);
        }
        let message = MainToWorker::Datagram { peer, hello, packet };
        self.tell_worker(id, &message, vec![socket.into_fd()]);
    }

    fn by_identifier(&self, identifier: &[u8]) -> Option<ConnectionId> {
        let identifier = <[u8; 32]>::try_from(identifier).ok()?;
        self.datagram_ids.get(&identifier).copied()
    }

    /// The one session of this address; none when several could be meant.
    fn by_source(&self, ip: IpAddr) -> Option<ConnectionId> {
        let sessions = self.datagram_ips.get(&ip)?;
        let only = sessions.iter().next().copied();
        only.filter(|_| sessions.len() == 1)
    }

    fn move_datagrams(&mut self, id: ConnectionId, from: IpAddr, to: IpAddr) {
        if from != to {
            self.remove_datagram_ip(id, from);
            self.datagram_ips.entry(to).or_default().insert(id);
        }
    }

    /// The tunnel of this connection is over.
    pub(crate) fn forget_datagrams(&mut self, id: ConnectionId, identifier: Option<[u8; 32]>, ip: IpAddr) {
        if let Some(identifier) = identifier {
            self.datagram_ids.remove(&identifier);
            self.remove_datagram_ip(id, ip);
        }
    }

    fn remove_datagram_ip(&mut self, id: ConnectionId, ip: IpAddr) {
        if let Some(sessions) = self.datagram_ips.get_mut(&ip) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.datagram_ips.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        let wildcard: SocketAddr = "0.0.0.0:443".parse().unwrap();
        let peer: SocketAddr = "198.51.100.2:9".parse().unwrap();
        let destination = Some("192.0.2.1".parse().unwrap());
        assert_eq!(
            local_address(wildcard, destination, peer),
            "192.0.2.1:443".parse().unwrap()
        );
        assert_eq!(local_address(wildcard, None, peer), wildcard);
        let bound: SocketAddr = "[::]:443".parse().unwrap();
        let peer = SocketAddrV6::new("fe80::2".parse().unwrap(), 9, 0, 7).into();
        let local = local_address(bound, Some("fe80::1".parse().unwrap()), peer);
        assert_eq!(
            local,
            SocketAddrV6::new("fe80::1".parse().unwrap(), 443, 0, 7).into()
        );
    }
}
