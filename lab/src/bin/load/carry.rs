//! The sessions: one event loop for all, pings in, pings out.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_anyconnect::data::{CstpOpener, CstpSealer, DtlsChannel};
use culvert_dtls::{ClientConfig, Connection};
use culvert_sys::channel::datagram_pair;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::tcp;
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::{Buffers, Device, Event, Role, Session, SessionConfig, TOKENS};

use crate::Options;
use crate::login::Tunnel;

/// Octets of the smallest ping: IPv4 and ICMP headers.
pub(crate) const SMALLEST: usize = 28;
/// Tokens per client: those of its session, and one for its program.
const CLIENT_TOKENS: u64 = TOKENS + 1;
/// Time for the last answers.
const GRACE: Duration = Duration::from_secs(3);

/// All clients.
pub(crate) struct Carrier {
    options: Options,
    poller: Arc<Poller>,
    events: Events,
    buffers: Buffers,
    clients: Vec<Client>,
    ended: usize,
    last_timeouts: Instant,
}

struct Client {
    session: Session<CstpSealer, CstpOpener, DtlsChannel>,
    /// The program's end of the device.
    program: OwnedFd,
    address: Ipv4Addr,
    up: bool,
    ended: bool,
    /// Answers in this round.
    answers: u64,
}

impl Carrier {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            poller: Arc::new(Poller::new().unwrap()),
            events: Events::with_capacity(256),
            buffers: Buffers::new(),
            clients: Vec::new(),
            ended: 0,
            last_timeouts: Instant::now(),
        }
    }

    /// Clients that have logged in.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Clients whose packets go over UDP.
    pub(crate) fn datagrams(&self) -> usize {
        self.clients.iter().filter(|client| client.up).count()
    }

    /// Clients whose session the server has ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Takes over what a login has opened.
    pub(crate) fn add(&mut self, tunnel: Tunnel) {
        let now = Instant::now();
        let base = self.clients.len() as u64 * CLIENT_TOKENS;
        let mut config = SessionConfig::new(Role::Client, tunnel.config.mtu.get());
        config.stream.dpd = tunnel.config.stream.dpd;
        config.datagram.dpd = tunnel.config.datagram.dpd;
        let mut session = Session::new(config, Arc::clone(&self.poller), base, now);
        let (device, program) = datagram_pair().unwrap();
        session.attach_device(Device::Datagram(device)).unwrap();
        session
            .attach_stream(
                now,
                tunnel.socket,
                CstpSealer::new(tunnel.records.sealer),
                CstpOpener::new(tunnel.records.opener),
                &tunnel.records.unread,
                &mut self.buffers,
            )
            .unwrap();
        if let Some((offer, psk)) = tunnel.dtls {
            let mut server = self.options.server;
            server.set_port(offer.port);
            let socket = UdpSocket::connected(self.options.source_of(tunnel.number), server).unwrap();
            let channel = DtlsChannel::new(Connection::client(ClientConfig::new(psk, offer.id), now));
            session
                .attach_datagram(now, socket, channel, &[], &mut self.buffers)
                .unwrap();
        }
        self.poller.add(&program, base + TOKENS, Interest::READ).unwrap();
        let address = tunnel
            .config
            .ipv4
            .map_or(Ipv4Addr::UNSPECIFIED, |ipv4| ipv4.address);
        self.clients.push(Client {
            session,
            program,
            address,
            up: false,
            ended: false,
            answers: 0,
        });
    }

    /// Waits for events until something happens or `limit` is over, and handles them.
    pub(crate) fn turn(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.poller.wait(&mut self.events, Some(deadline)).unwrap();
        let now = Instant::now();
        for event in self.events.iter() {
            let number = (event.token / CLIENT_TOKENS) as usize;
            let Some(client) = self.clients.get_mut(number) else {
                continue;
            };
            if event.token % CLIENT_TOKENS == TOKENS {
                client.collect();
            } else {
                client.session.handle_ready(now, event, &mut self.buffers);
                self.ended += usize::from(client.settle());
            }
        }
        if now.duration_since(self.last_timeouts) >= Duration::from_millis(200) {
            self.last_timeouts = now;
            for client in &mut self.clients {
                client.session.handle_timeout(now, &mut self.buffers);
                self.ended += usize::from(client.settle());
            }
        }
    }

    /// Only what the sessions themselves do.
    pub(crate) fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::from_millis(20));
        }
    }

    /// Pings through all tunnels in turn, and prints what came back.
    pub(crate) fn echo(&mut self, options: &Options, title: &str) {
        for client in &mut self.clients {
            client.answers = 0;
        }
        let begin = Instant::now();
        let length = Duration::from_secs(options.seconds);
        let count = self.clients.len().max(1) as u64;
        let (mut sent, mut refused) = (0, 0);
        while begin.elapsed() < length {
            let due = (begin.elapsed().as_secs_f64() * options.rate as f64) as u64;
            // What cannot be sent in time is not sent later in a burst.
            let turn = due.min(sent + 256);
            while sent < turn {
                let client = &mut self.clients[(sent % count) as usize];
                refused += u64::from(!client.ping(options.size, sent));
                sent += 1;
            }
            self.turn(Duration::from_millis(1));
        }
        let received = |carrier: &Self| carrier.clients.iter().map(|client| client.answers).sum::<u64>();
        let end = Instant::now() + GRACE;
        while received(self) < sent && Instant::now() < end {
            self.turn(Duration::from_millis(5));
        }
        let received = received(self);
        let passing = self.clients.iter().filter(|client| client.answers > 0).count();
        let seconds = length.as_secs_f64();
        println!(
            "{title}: sent {sent} received {received} lost {}, refused {refused}, passing {passing} of {count}, {:.0} packets/s, {:.1} Mbit/s",
            sent - received,
            received as f64 / seconds,
            received as f64 * options.size as f64 * 8.0 / seconds / 1e6
        );
    }
}

impl Client {
    /// Sends one ping into the tunnel; false when it is full.
    fn ping(&self, size: usize, sequence: u64) -> bool {
        let mut packet = [0; 1400];
        let packet = &mut packet[..size];
        let octets = self.address.octets();
        // The server's end is the first address of the network.
        let server = Ipv4Addr::new(octets[0], octets[1], octets[2] & 0xf0, 1);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(size as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = 1;
        packet[12..16].copy_from_slice(&octets);
        packet[16..20].copy_from_slice(&server.octets());
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet[20] = 8;
        packet[24..28].copy_from_slice(&(sequence as u32).to_be_bytes());
        let sum = checksum(&packet[20..]);
        packet[22..24].copy_from_slice(&sum.to_be_bytes());
        tcp::send(&self.program, packet).is_ok()
    }

    /// Takes the answers.
    fn collect(&mut self) {
        let mut packet = [0; 2048];
        while let Ok(len) = tcp::receive(&self.program, &mut packet) {
            // Only answers to pings: the kernel's own packets do not count.
            self.answers += u64::from(len >= SMALLEST && packet[9] == 1 && packet[20] == 0);
        }
    }

    /// Takes note of events; true when the session has just ended.
    fn settle(&mut self) -> bool {
        let mut ends = false;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::DatagramUp { .. } => self.up = true,
                Event::DatagramLost(_) | Event::DatagramFailed { .. } => self.up = false,
                Event::Disconnect { .. } | Event::StreamClosed | Event::StreamFailed(_) => ends = true,
                _ => {}
            }
        }
        let just_ended = ends && !self.ended;
        if just_ended {
            self.ended = true;
            self.session.detach_stream();
            self.session.detach_datagram();
        }
        just_ended
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_zero() {
        let mut header = *b"\x45\0\0\x1c\0\0\0\0\x40\x01\0\0\x0a\x63\0\x05\x0a\x63\0\x01";
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&header), 0);
    }
}
