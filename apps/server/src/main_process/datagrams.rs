//! First datagrams: the session that each belongs to gets a path of its own
//! (`specs/cstp-dtls.md` §7.3).

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_sys::udp::{Batch, UdpSocket};
use tokio::sync::mpsc;

use super::listen::unmapped;
use super::state::{Event, Phase, Server};
use crate::first_datagrams::{Finding, First, FirstDatagrams};
use crate::ipc::fields::Bytes;
use crate::ipc::messages::{ConnectionId, MainToWorker};
use crate::ipc::pollable;
use crate::log::{self, Level};

/// Longest first datagram that is passed on.
const LONGEST: usize = 4096;
/// Datagrams of one receive call.
const BATCH: usize = 32;
/// Receive calls in a row after which strangers have to wait.
const TURNS: u32 = 32;
/// For how long: with a full queue of junk main spends less than half of its time on it.
const REST: Duration = Duration::from_millis(3);

/// Sessions that may use UDP; the tasks that receive look into it without waking the rest of main.
pub(crate) type Sessions = Rc<RefCell<FirstDatagrams<ConnectionId>>>;

/// A datagram that opens a new path of a session.
pub(crate) struct FirstDatagram {
    /// The connection of the session.
    pub(crate) id: ConnectionId,
    /// What it is.
    pub(crate) kind: First,
    /// Our address that it was sent to.
    pub(crate) local: SocketAddr,
    /// Who sent it.
    pub(crate) peer: SocketAddr,
    /// Its content.
    pub(crate) packet: Bytes<LONGEST>,
}

/// Receives on one listening socket for ever. Datagrams of strangers are dropped here.
pub(crate) async fn receive(
    socket: UdpSocket,
    bound: SocketAddr,
    sessions: Sessions,
    events: mpsc::Sender<Event>,
) {
    let socket = match pollable(socket) {
        Ok(socket) => socket,
        Err(error) => return log::write(Level::Error, &format!("main: cannot poll a UDP socket: {error}")),
    };
    let mut batch = Batch::new(BATCH, LONGEST);
    let mut turns = 0;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        match socket.get_ref().receive_batch(&mut batch) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                turns = 0;
                continue;
            }
            // Errors of earlier datagrams to unreachable peers end up here, one each. They count as a turn:
            // an error that stays must not keep everybody else waiting.
            Err(_) => {}
        }
        let mut found = Vec::new();
        for item in batch.iter() {
            let local = local_address(bound, item.local, item.peer);
            found.extend(find(&sessions, local, item.peer, item.bytes));
        }
        for datagram in found {
            if events.send(Event::Datagram(datagram)).await.is_err() {
                return;
            }
        }
        turns += 1;
        if turns >= TURNS {
            turns = 0;
            tokio::time::sleep(REST).await;
        }
    }
}

/// The session that a datagram opens a new path of.
pub(crate) fn find(
    sessions: &Sessions,
    local: SocketAddr,
    peer: SocketAddr,
    packet: &[u8],
) -> Option<FirstDatagram> {
    let found = sessions
        .borrow_mut()
        .find(Instant::now(), unmapped(peer).ip(), packet);
    let Finding::Path(id, kind) = found else {
        return None;
    };
    let packet = Bytes::new(packet.to_vec()).ok()?;
    Some(FirstDatagram {
        id,
        kind,
        local,
        peer,
        packet,
    })
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

/// IPv4 as such; everything else, scopes included, as it is.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) if six.ip().to_ipv4_mapped().is_some() => unmapped(address),
        _ => address,
    }
}

impl Server {
    /// Gives whoever carries the session a socket for this peer.
    pub(crate) fn handle_datagram(&self, datagram: FirstDatagram) {
        let FirstDatagram {
            id,
            kind,
            local,
            peer,
            packet,
        } = datagram;
        let open = self
            .connections
            .get(&id)
            .is_some_and(|connection| matches!(connection.phase, Phase::Open(_)));
        if !open {
            return;
        }
        // A socket of both families, as service managers make, gives IPv4 addresses in the form of
        // IPv6; the answers need none.
        let (from, to) = (plain(local), plain(peer));
        let made = self
            .fixed
            .in_listen_namespace(|| UdpSocket::connected(Some(from), to));
        let socket = match made.flatten() {
            Ok(socket) => socket,
            Err(error) => return self.log(id, Level::Warning, &format!("cannot make a UDP socket: {error}")),
        };
        let message = MainToWorker::Datagram {
            peer,
            hello: kind == First::Hello,
            packet,
        };
        self.tell_worker(id, &message, vec![socket.into_fd()]);
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
