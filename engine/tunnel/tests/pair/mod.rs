//! Two sessions on real sockets, with a program instead of a TUN device on either side.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_record::FrameKind;
use culvert_sys::channel::datagram_pair;
use culvert_sys::epoll::{Events, Poller};
use culvert_sys::tcp;
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{
    Buffers, Channel, DatagramSocket, Device, Event, FrameError, Notice, Role, Session, SessionConfig,
};

use crate::records::{Datagrams, Opener, Sealer};

const TOKEN: u64 = 40;
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) struct End {
    pub(crate) session: Session<Sealer, Opener, Datagrams>,
    pub(crate) poller: Arc<Poller>,
    pub(crate) ready: Events,
    pub(crate) buffers: Buffers,
    /// The program's end of the device.
    pub(crate) program: OwnedFd,
    pub(crate) events: VecDeque<Event>,
    /// Packets that the program received.
    pub(crate) packets: Vec<Vec<u8>>,
}

impl End {
    pub(crate) fn new(config: SessionConfig) -> Self {
        let poller = Arc::new(Poller::new().unwrap());
        let mut session = Session::new(config, Arc::clone(&poller), TOKEN, Instant::now());
        let (device, program) = datagram_pair().unwrap();
        session.attach_device(Device::Datagram(device)).unwrap();
        let (ready, buffers) = (Events::with_capacity(8), Buffers::new());
        Self {
            session,
            poller,
            ready,
            buffers,
            program,
            events: VecDeque::new(),
            packets: Vec::new(),
        }
    }

    pub(crate) fn stream(&mut self, socket: OwnedFd) {
        self.stream_with(socket, Sealer::default());
    }

    pub(crate) fn stream_with(&mut self, socket: OwnedFd, sealer: Sealer) {
        let opener = Opener::default();
        self.session
            .attach_stream(Instant::now(), socket, sealer, opener, &[], &mut self.buffers)
            .unwrap();
    }

    pub(crate) fn datagram(&mut self, socket: UdpSocket, channel: Datagrams) {
        self.session
            .attach_datagram(Instant::now(), socket, channel, &[], &mut self.buffers)
            .unwrap();
    }

    pub(crate) fn send(
        &mut self,
        channel: Channel,
        kind: FrameKind,
        payload: &[u8],
    ) -> Result<(), FrameError> {
        self.session
            .send(Instant::now(), channel, kind, payload, &mut self.buffers)
    }

    pub(crate) fn turn(&mut self) {
        let deadline = Instant::now() + Duration::from_millis(1);
        self.poller.wait(&mut self.ready, Some(deadline)).unwrap();
        let now = Instant::now();
        for event in self.ready.iter() {
            assert!(self.session.owns(event.token));
            self.session.handle_ready(now, event, &mut self.buffers);
        }
        self.session.handle_timeout(now, &mut self.buffers);
        self.events
            .extend(std::iter::from_fn(|| self.session.poll_event()));
    }

    pub(crate) fn collect(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok(len) = tcp::receive(&self.program, &mut buffer) {
            self.packets.push(buffer[..len].to_vec());
        }
    }
}

pub(crate) struct Pair {
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Pair {
    /// Both ends without channels.
    pub(crate) fn new(client: SessionConfig, server: SessionConfig) -> Self {
        Self {
            client: End::new(client),
            server: End::new(server),
        }
    }

    pub(crate) fn plain() -> Self {
        Self::new(
            SessionConfig::new(Role::Client, 1400),
            SessionConfig::new(Role::Server, 1400),
        )
    }

    pub(crate) fn with_stream() -> Self {
        let mut pair = Self::plain();
        pair.connect_stream();
        pair
    }

    pub(crate) fn connect_stream(&mut self) {
        let (client, server) = tcp_pair();
        self.client.stream(client);
        self.server.stream(server);
    }

    pub(crate) fn connect_datagrams(&mut self) {
        let (client, server) = udp_pair();
        self.server.datagram(server, Datagrams::server());
        self.client.datagram(client, Datagrams::client(Instant::now()));
        self.run_until(|pair| count_ups(&pair.client.events) * count_ups(&pair.server.events) > 0);
        self.client.events.clear();
        self.server.events.clear();
    }

    pub(crate) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{:?} {:?}",
                self.client.events,
                self.server.events
            );
            self.client.turn();
            self.server.turn();
            self.client.collect();
            self.server.collect();
        }
    }

    /// Sends packets from the client's program and waits for them at the server's.
    pub(crate) fn exchange(&mut self, count: usize) {
        let before = self.server.packets.len();
        for index in 0..count {
            let packet = packet(before + index);
            while tcp::send(&self.client.program, &packet).is_err() {
                self.client.turn();
                self.server.turn();
                self.server.collect();
            }
        }
        self.run_until(|pair| pair.server.packets.len() == before + count);
        for (index, received) in self.server.packets.iter().enumerate().skip(before) {
            assert_eq!(*received, packet(index));
        }
    }
}

impl Pair {
    /// True when the server's program has received the packets from number 0 on, in order.
    pub(crate) fn is_in_order(&self) -> bool {
        let mut numbered = self.server.packets.iter().enumerate();
        numbered.all(|(index, received)| *received == packet(index))
    }

    /// True when the server knows that the client has said "bye".
    pub(crate) fn has_said_goodbye(&self) -> bool {
        let is_goodbye =
            |event: &Event| matches!(event, Event::Disconnect { reason, .. } if reason == b"bye");
        self.server.events.iter().any(is_goodbye)
    }

    /// The kernel refuses UDP_SEGMENT where it may not compute checksums: on the client's socket from now on.
    pub(crate) fn refuse_segmentation(&self) {
        let socket = self.client.session.datagram_socket();
        let socket = socket.and_then(DatagramSocket::own).unwrap();
        let on = 1i32;
        // SAFETY: the option takes an int, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const on).cast(),
                4,
            )
        };
        assert_eq!(set, 0);
    }
}

/// True for the word that runs of datagrams are not possible.
pub(crate) fn is_without_runs(event: &Event) -> bool {
    matches!(event, Event::Notice(Notice::NoSegmentation))
}

pub(crate) fn count_ups(events: &VecDeque<Event>) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::DatagramUp { description } if description == "(XOR)"))
        .count()
}

pub(crate) fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    (near.into(), far.into())
}

pub(crate) fn udp_pair() -> (UdpSocket, UdpSocket) {
    let near = UdpSocket::bind(LOCAL).unwrap();
    let far = UdpSocket::connected(Some(LOCAL), near.local_addr().unwrap()).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    (near, far)
}

/// An IPv4 packet (as far as anybody looks at it) that tells its number.
pub(crate) fn packet(number: usize) -> Vec<u8> {
    let mut packet = vec![number as u8; 100 + number * 37 % 1200];
    packet[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
    packet[20..24].copy_from_slice(&(number as u32).to_be_bytes());
    packet
}
