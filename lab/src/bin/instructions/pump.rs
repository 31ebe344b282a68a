//! The whole way of a packet: from a program through one session, the loopback interface and a
//! second session to another program. What the kernel does is not counted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_anyconnect::data::{CstpOpener, CstpSealer, DtlsChannel};
use culvert_dtls::CipherSuite;
use culvert_sys::channel::datagram_pair;
use culvert_sys::epoll::{Events, Poller};
use culvert_sys::tcp;
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{Buffers, Device, Role, Session, SessionConfig, TOKENS};

use crate::cases::measured;
use crate::channels;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Packets on their way at a time: loopback drops datagrams when a receive buffer is full.
const IN_FLIGHT: usize = 40;

/// Two sessions on one poller and one set of buffers.
struct Pump {
    poller: Arc<Poller>,
    ready: Events,
    buffers: Buffers,
    sessions: [Session<CstpSealer, CstpOpener, DtlsChannel>; 2],
    programs: [OwnedFd; 2],
}

impl Pump {
    fn new() -> Self {
        let poller = Arc::new(Poller::new().unwrap());
        let mut programs = Vec::new();
        let sessions = [Role::Client, Role::Server].map(|role| {
            let base = TOKENS * programs.len() as u64;
            let config = SessionConfig::new(role, 1400);
            let mut session = Session::new(config, Arc::clone(&poller), base, Instant::now());
            let (device, program) = datagram_pair().unwrap();
            session.attach_device(Device::Datagram(device)).unwrap();
            programs.push(program);
            session
        });
        Self {
            poller,
            ready: Events::with_capacity(16),
            buffers: Buffers::new(),
            sessions,
            programs: programs.try_into().unwrap(),
        }
    }

    fn turn(&mut self) {
        self.poller
            .wait(&mut self.ready, Some(Instant::now() + Duration::from_secs(1)))
            .unwrap();
        let now = Instant::now();
        for event in self.ready.iter() {
            for session in self
                .sessions
                .iter_mut()
                .filter(|session| session.owns(event.token))
            {
                session.handle_ready(now, event, &mut self.buffers);
            }
        }
        for session in &mut self.sessions {
            session.handle_timeout(now, &mut self.buffers);
            while session.poll_event().is_some() {}
        }
    }

    fn carry(&mut self, packet: &[u8], count: usize) {
        let mut buffer = [0; 2048];
        let mut done = 0;
        while done < count {
            let sent = IN_FLIGHT.min(count - done);
            for _ in 0..sent {
                tcp::send(&self.programs[0], packet).unwrap();
            }
            let mut received = 0;
            while received < sent {
                self.turn();
                while tcp::receive(&self.programs[1], &mut buffer).is_ok() {
                    received += 1;
                }
            }
            done += received;
        }
    }

    fn measure(mut self, len: usize, count: usize) {
        let mut packet = vec![0x5a; len];
        packet[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
        self.carry(&packet, 2 * IN_FLIGHT);
        measured(|| self.carry(&packet, count));
    }
}

/// Over DTLS with AES-256-GCM.
pub(crate) fn dtls(len: usize, count: usize) {
    let mut pump = Pump::new();
    let now = Instant::now();
    let near = UdpSocket::bind(LOCAL).unwrap();
    let far = UdpSocket::connected(Some(LOCAL), near.local_addr().unwrap()).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    let (client_end, server_end) = channels::dtls_ends(CipherSuite::PskAes256GcmSha384, now);
    let [client, server] = &mut pump.sessions;
    server
        .attach_datagram(now, far, server_end, &[], &mut pump.buffers)
        .unwrap();
    client
        .attach_datagram(now, near, client_end, &[], &mut pump.buffers)
        .unwrap();
    while !pump.sessions.iter().all(Session::datagram_established) {
        pump.turn();
    }
    pump.measure(len, count);
}

/// Over TLS 1.3 with AES-256-GCM.
pub(crate) fn tls(len: usize, count: usize) {
    let mut pump = Pump::new();
    let now = Instant::now();
    let listener = TcpListener::bind(LOCAL).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let (client, server) = channels::tls();
    let ends = [(near, client), (far, server)];
    for (session, (socket, end)) in pump.sessions.iter_mut().zip(ends) {
        session
            .attach_stream(now, socket.into(), end.sealer, end.opener, &[], &mut pump.buffers)
            .unwrap();
    }
    pump.measure(len, count);
}
