//! The UDP channel of a client: how it is opened, the paths that it takes, and their MTU.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use culvert_sys::tcp;
use culvert_sys::udp::{Path, PathMtuDiscovery, UdpSocket};
use culvert_tunnel::{Buffers, DatagramSocket, Marks, SharedSocket};
use culvert_vocab::{MTU_MAX, Mtu};

use super::Client;
use crate::ipc::messages::{LogLevel, WorkerToMain};
use crate::ipc::session::NetPriority;

impl Client {
    /// A new path of datagrams on the process's UDP socket; false when it does not become one.
    pub(in crate::worker::tunnel) fn take_shared(
        &mut self,
        now: Instant,
        (socket, path): (Arc<UdpSocket>, Path),
        hello: bool,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<bool> {
        let marks = match self.net_priority {
            Some(NetPriority::Tos(tos)) => Marks {
                type_of_service: Some(tos),
                ..Marks::default()
            },
            Some(NetPriority::Priority(priority)) => Marks {
                priority,
                ..Marks::default()
            },
            None => Marks::default(),
        };
        let socket = SharedSocket::new(socket, path, marks);
        let begun = self.take_datagram(now, socket.into(), hello, packet, buffers);
        self.settle(now, buffers);
        begun
    }

    /// A new path of datagrams: a handshake goes into the second slot; a record counts only if it
    /// authenticates. False when the path is not used.
    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        socket: DatagramSocket,
        hello: bool,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> io::Result<bool> {
        let established = self.session.datagram_established();
        let channel = self
            .channels
            .as_ref()
            .and_then(|channels| channels.begin_datagrams(now, hello, established));
        if let Some(channel) = channel {
            self.session
                .attach_datagram(now, socket, channel, packet, buffers)?;
            Ok(true)
        } else {
            let moved = self.session.move_datagram(now, socket, packet, buffers)?;
            self.log(
                LogLevel::Debug,
                if moved {
                    "the client's UDP address has changed"
                } else {
                    "stray datagram"
                },
            );
            Ok(moved)
        }
    }

    /// Sets the options of a UDP socket of its own.
    pub(super) fn prepare(&self, socket: &UdpSocket) {
        let mode = if self.discover_mtu {
            PathMtuDiscovery::On
        } else {
            PathMtuDiscovery::Off
        };
        let marked = match self.net_priority {
            Some(NetPriority::Priority(priority)) => tcp::set_priority(socket, priority),
            Some(NetPriority::Tos(tos)) => tcp::set_type_of_service(socket, tos),
            None => Ok(()),
        };
        if let Err(error) = socket.set_path_mtu_discovery(mode).and(marked) {
            self.log(LogLevel::Debug, &format!("cannot set UDP options: {error}"));
        }
    }

    /// Changes the MTU of session and device.
    pub(super) fn change_mtu(&mut self, octets: usize) {
        let Ok(mtu) = Mtu::new(octets as u64) else { return };
        if mtu.get() > MTU_MAX || mtu.get() == self.session.mtu() {
            return;
        }
        self.log(
            LogLevel::Debug,
            &format!("MTU of the tunnel is {} now", mtu.get()),
        );
        self.session.set_mtu(mtu.get());
        self.reporter.tell(&WorkerToMain::SetMtu(mtu));
    }

    /// A datagram of `size` octets did not fit: the tunnel's MTU follows the path's.
    pub(super) fn shrink(&mut self, size: usize) {
        let Some(socket) = self.session.datagram_socket() else {
            return;
        };
        let headers = match socket.peer_addr() {
            Ok(peer) if peer.is_ipv6() => 48,
            _ => 28,
        };
        // A shared socket knows no path; TCP goes the same one.
        let path = socket.path_mtu().or_else(|| {
            let stream = self.session.stream_socket()?;
            tcp::path_info(stream).ok().map(|info| info.path_mtu)
        });
        let Some(path) = path.and_then(|path| usize::try_from(path).ok()) else {
            return;
        };
        let present = usize::from(self.session.mtu());
        let overhead = size.saturating_sub(present);
        let fits = path.saturating_sub(headers + overhead);
        if fits < present {
            self.change_mtu(fits);
        }
    }
}
