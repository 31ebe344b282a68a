//! A process of the pool: carries the tunnels of many clients. It never reads a byte of a client
//! that has not logged in, except first datagrams.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use culvert_sys::channel::Channel;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::mem;
use culvert_sys::signal::{SIGTERM, SignalFd};
use culvert_sys::udp::{Path, UdpSocket};
use culvert_tunnel::Arrival;

use super::clients::{Clients, Ended, Number, OTHER_TOKENS};
use crate::first_datagrams::{Finding, First, FirstDatagrams, Identifier};
use crate::ipc::fields::{Bytes, Text};
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, WorkerReason, WorkerToMain};
use crate::ipc::pool::{Adoption, MainToPool, PoolToMain};
use crate::ipc::snapshot::Snapshot;
use crate::worker::hand_over::HandOver;
use crate::worker::log::Reporter;

const SIGNALS: u64 = OTHER_TOKENS;
const MAIN: u64 = OTHER_TOKENS + 1;
/// Tokens of the UDP sockets, and of the channels of logins.
const SOCKETS: u64 = OTHER_TOKENS + (1 << 32);
const LOGINS: u64 = OTHER_TOKENS + (1 << 33);

/// Events that one wait collects.
const EVENTS: usize = 256;
/// Receive calls of one turn of a UDP socket.
const RECEIVES: usize = 64;
/// Paths per client that datagrams may come on: the present one, one whose handshake is under
/// way, and the last one, on which some may still be.
const PATHS: usize = 3;
/// First datagrams per second that main is asked about.
const STRAYS: u32 = 50;

/// The whole life of a pool process.
pub(crate) fn run(snapshot: &Snapshot, main: Blocking) {
    let main = Arc::new(main);
    let witness = Arc::clone(&main);
    std::panic::set_hook(Box::new(move |panic| {
        log(&witness, LogLevel::Error, &panic.to_string());
    }));
    let ended = Pool::new(snapshot.log_level, Arc::clone(&main)).and_then(|mut pool| pool.serve());
    if let Err(error) = ended {
        log(&main, LogLevel::Error, &format!("the pool process ends: {error}"));
    }
}

fn log(main: &Blocking, level: LogLevel, text: &str) {
    let text = Text::truncated(text);
    let _main_gone = main.send_now(&PoolToMain::Log { level, text }, &[]);
}

struct Pool {
    main: Arc<Blocking>,
    log_level: u8,
    clients: Clients,
    sockets: Vec<Arc<UdpSocket>>,
    /// Logins that are about to hand their tunnels over, by token.
    logins: HashMap<u64, Login>,
    next_login: u64,
    /// The same logins by what a ClientHello names their sessions.
    coming: HashMap<Identifier, u64>,
    /// Whom datagrams of an address belong to.
    peers: HashMap<SocketAddr, Number>,
    /// The addresses in `peers`, by client, oldest first.
    paths: HashMap<Number, Vec<SocketAddr>>,
    first: FirstDatagrams<Number>,
    strays: Strays,
    /// Empty between two turns; kept for their memory.
    received: Vec<Received>,
    arrivals: Vec<Arrival>,
    stopping: bool,
}

struct Login {
    channel: Blocking,
    tun: OwnedFd,
    adoption: Adoption,
    /// A ClientHello that was faster than the hand-over.
    early: Option<Early>,
}

/// A first datagram.
struct Early {
    socket: Arc<UdpSocket>,
    path: Path,
    kind: First,
    packet: Vec<u8>,
}

/// What one receive call gave.
struct Received {
    peer: SocketAddr,
    local: Option<IpAddr>,
    arrival: Arrival,
}

/// How many first datagrams main was asked about in this second.
struct Strays {
    since: Instant,
    sent: u32,
}

impl Pool {
    fn new(log_level: u8, main: Arc<Blocking>) -> io::Result<Self> {
        Ok(Self {
            main,
            log_level,
            clients: Clients::new()?,
            sockets: Vec::new(),
            logins: HashMap::new(),
            next_login: LOGINS,
            coming: HashMap::new(),
            peers: HashMap::new(),
            paths: HashMap::new(),
            first: FirstDatagrams::new(),
            strays: Strays {
                since: Instant::now(),
                sent: 0,
            },
            received: Vec::with_capacity(RECEIVES),
            arrivals: Vec::with_capacity(RECEIVES),
            stopping: false,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let poller = Arc::clone(self.clients.poller());
        let signals = SignalFd::new(&[SIGTERM])?;
        poller.add(&signals, SIGNALS, Interest::READ)?;
        poller.add(&*self.main, MAIN, Interest::READ)?;
        // What the zygote needed to get here.
        mem::trim();
        let mut events = Events::with_capacity(EVENTS);
        while !(self.stopping && self.clients.len() == 0) {
            poller.wait(&mut events, self.clients.poll_timeout())?;
            let now = Instant::now();
            for event in events.iter() {
                match event.token {
                    SIGNALS => {
                        let _consumed = signals.read();
                        self.stop(now);
                    }
                    MAIN => self.obey(&poller)?,
                    token @ SOCKETS..LOGINS => self.receive(now, token - SOCKETS),
                    token @ LOGINS.. => self.take_over(now, token),
                    _ => self.clients.handle_ready(now, event),
                }
            }
            self.clients.handle_timeout(now);
            if let Some(rest) = self.clients.after_turn(now) {
                thread::sleep(rest);
            }
            while let Some(ended) = self.clients.poll_ended() {
                self.forget(&ended);
            }
        }
        Ok(())
    }

    fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.logins.clear();
        self.coming.clear();
        self.clients.part(now, WorkerReason::Told);
    }

    fn obey(&mut self, poller: &Poller) -> io::Result<()> {
        match self.main.receive_now::<MainToPool>() {
            Ok(Some((MainToPool::Socket(bound), descriptors))) => {
                for socket in descriptors {
                    if let Err(error) = self.listen(poller, socket) {
                        log(
                            &self.main,
                            LogLevel::Error,
                            &format!("cannot use the UDP socket {bound}: {error}"),
                        );
                    }
                }
            }
            Ok(Some((MainToPool::Adopt(adoption), descriptors))) => {
                let mut descriptors = descriptors.into_iter();
                if let (Some(tun), Some(channel)) = (descriptors.next(), descriptors.next()) {
                    let token = self.next_login;
                    let channel = Blocking::new(Channel::from_fd(channel));
                    poller.add(&channel, token, Interest::READ)?;
                    self.next_login += 1;
                    if let Some(identifier) = adoption.datagram_id {
                        self.coming.insert(identifier, token);
                    }
                    let login = Login {
                        channel,
                        tun,
                        adoption,
                        early: None,
                    };
                    self.logins.insert(token, login);
                }
            }
            // Without a goodbye to the clients: they may come back to the next server.
            Ok(None) => return Err(io::Error::other("main is gone")),
            Err(LinkError::Timeout) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    fn listen(&mut self, poller: &Poller, socket: OwnedFd) -> io::Result<()> {
        let socket = UdpSocket::from_fd(socket)?;
        // Kernels without it give one datagram at a time.
        let _best_effort = socket.set_gro(true);
        poller.add(&socket, SOCKETS + self.sockets.len() as u64, Interest::READ)?;
        self.sockets.push(Arc::new(socket));
        Ok(())
    }

    /// A login hands its tunnel over, or has ended before.
    fn take_over(&mut self, now: Instant, token: u64) {
        let Some(login) = self.logins.get(&token) else {
            return;
        };
        let taken = match login.channel.receive_now::<HandOver>() {
            Err(LinkError::Timeout) => return,
            taken => taken,
        };
        // Another process may hold a copy of the channel.
        let _was_registered = self.clients.poller().delete(&login.channel);
        let Some(Login {
            tun, adoption, early, ..
        }) = self.logins.remove(&token)
        else {
            return;
        };
        if let Some(identifier) = adoption.datagram_id {
            self.coming.remove(&identifier);
        }
        let (state, descriptors) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => {
                let text = format!("a login handed over what is no tunnel: {error}");
                return log(&self.main, LogLevel::Error, &text);
            }
        };
        let mut descriptors = descriptors.into_iter();
        let (Some(tcp), Some(main)) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        let main = Blocking::new(Channel::from_fd(main));
        let reporter = Arc::new(Reporter::impatient(main, self.log_level));
        let added = self.clients.add(state, tcp, tun, Arc::clone(&reporter));
        match added {
            Ok(number) => {
                if let Some(identifier) = adoption.datagram_id {
                    self.first.add(number, identifier, adoption.peer);
                }
                if let Some(early) = early {
                    self.begin(now, number, early);
                }
            }
            Err(error) => {
                let text = format!("cannot carry the tunnel: {error}");
                reporter.log(LogLevel::Error, &text);
            }
        }
    }

    /// Says goodbye to main for a client, and forgets everything about it.
    fn forget(&mut self, ended: &Ended) {
        let Ended {
            number,
            reporter,
            reason,
            counters,
        } = ended;
        let closing = WorkerToMain::Closing {
            reason: *reason,
            counters: *counters,
        };
        reporter.tell(&closing);
        self.first.remove(*number);
        for peer in self.paths.remove(number).unwrap_or_default() {
            if self.peers.get(&peer) == Some(number) {
                self.peers.remove(&peer);
            }
        }
    }

    /// One turn of a UDP socket.
    fn receive(&mut self, now: Instant, socket: u64) {
        let socket = usize::try_from(socket).unwrap_or(usize::MAX);
        let Some(socket) = self.sockets.get(socket).map(Arc::clone) else {
            return;
        };
        let mut received = std::mem::take(&mut self.received);
        let mut filled = 0;
        while received.len() < RECEIVES
            && let Some(room) = self.clients.buffers.receive_room(filled)
        {
            // Nothing is there any more. (Unconnected sockets have no other errors.)
            let Ok(one) = socket.receive_from(room) else { break };
            let arrival = Arrival {
                octets: filled..filled + one.len,
                segment: one.segment,
            };
            filled += one.len;
            received.push(Received {
                peer: one.peer,
                local: one.local,
                arrival,
            });
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for run in received.chunk_by(|one, next| one.peer == next.peer) {
            arrivals.clear();
            arrivals.extend(run.iter().map(|one| one.arrival.clone()));
            if let Some(first) = run.first() {
                self.sort_out(now, &socket, first, &arrivals);
            }
        }
        received.clear();
        arrivals.clear();
        (self.received, self.arrivals) = (received, arrivals);
    }

    /// Brings datagrams of one peer to their client.
    fn sort_out(&mut self, now: Instant, socket: &Arc<UdpSocket>, first: &Received, arrivals: &[Arrival]) {
        if let Some(number) = self.peers.get(&first.peer)
            && self.clients.receive_datagrams(now, *number, first.peer, arrivals)
        {
            return;
        }
        let Arrival { octets, segment } = &first.arrival;
        let end = octets.end.min(octets.start + segment);
        let packet = self.clients.buffers.received(octets.start..end);
        let source = first.peer.ip().to_canonical();
        let found = self.first.find(now, source, packet);
        let coming = match found {
            Finding::Nothing => return,
            Finding::Unknown(Some(identifier)) => self.coming.get(&identifier).copied(),
            Finding::Path(..) | Finding::Unknown(None) => None,
        };
        let unknown = matches!(found, Finding::Unknown(_));
        if unknown && coming.is_none() && !self.strays.may_ask(now) {
            return;
        }
        let mut early = Early {
            socket: Arc::clone(socket),
            path: Path {
                peer: first.peer,
                local: first.local,
            },
            kind: First::Hello,
            packet: packet.to_vec(),
        };
        if let Finding::Path(number, kind) = found {
            early.kind = kind;
            return self.begin(now, number, early);
        }
        match coming.and_then(|token| self.logins.get_mut(&token)) {
            Some(login) => login.early = Some(early),
            None => self.ask_main(early),
        }
    }

    /// Begins a new path of a client.
    fn begin(&mut self, now: Instant, number: Number, first: Early) {
        let peer = first.path.peer;
        let hello = first.kind == First::Hello;
        let path = (first.socket, first.path);
        match self
            .clients
            .take_datagram(now, number, path, hello, &first.packet)
        {
            Ok(true) => self.note_path(number, peer),
            Ok(false) => {}
            Err(error) => {
                let text = format!("cannot use a UDP path: {error}");
                log(&self.main, LogLevel::Info, &text);
            }
        }
    }

    /// Perhaps another process has the session.
    fn ask_main(&self, stray: Early) {
        let (Ok(bound), Ok(packet)) = (stray.socket.local_addr(), Bytes::new(stray.packet)) else {
            return;
        };
        let ip = stray.path.local.unwrap_or_else(|| bound.ip());
        let stray = PoolToMain::Stray {
            local: SocketAddr::new(ip, bound.port()),
            peer: stray.path.peer,
            packet,
        };
        let _main_busy = self.main.send_now(&stray, &[]);
    }

    /// Datagrams of `peer` are this client's from now on.
    fn note_path(&mut self, number: Number, peer: SocketAddr) {
        self.peers.insert(peer, number);
        let paths = self.paths.entry(number).or_default();
        paths.retain(|known| *known != peer);
        if paths.len() >= PATHS {
            let oldest = paths.remove(0);
            if self.peers.get(&oldest) == Some(&number) {
                self.peers.remove(&oldest);
            }
        }
        paths.push(peer);
    }
}

impl Strays {
    fn may_ask(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.sent = 0;
        }
        self.sent += 1;
        self.sent <= STRAYS
    }
}
