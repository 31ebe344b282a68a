//! The client as a state machine: retransmission, the next server when one is silent, and
//! servers that are known to be dead (RFC 2865 §2.4-2.5, RFC 5080 §2.2.1, RFC 5997).
//!
//! Requests carry no order among each other. A server that stays silent through all
//! transmissions is dead for a while: requests go to the others first, and it is asked for its
//! status until it answers or its time is over.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use culvert_vocab::SecretBytes;
use zeroize::Zeroizing;

use crate::config::MessageAuthenticator;
use crate::packet::Packet;
use crate::reply::{self, Reply};
use crate::request::{Code, Request, RequestError, Sealed};

/// Sockets per server; each has 256 identifiers.
pub const SOCKETS_MAX: u16 = 8;
/// Requests that may be under way to one server.
const REQUESTS_MAX: usize = SOCKETS_MAX as usize * 256;
/// Notes for the log that wait to be taken.
const NOTES_MAX: usize = 32;
/// Interval at which a dead server is asked for its status.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How servers are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Time until a transmission is repeated.
    pub timeout: Duration,
    /// Transmissions after the first one.
    pub retries: u32,
    /// How long a silent server is passed over.
    pub dead_time: Duration,
    /// Whether replies must carry a Message-Authenticator.
    pub message_authenticator: MessageAuthenticator,
    /// Packets go over connections, which lose nothing: they are sent once (RFC 6613 §2.6.1), and
    /// have the time of all transmissions.
    pub connections: bool,
}

impl Policy {
    /// Until a server counts as silent or the packet is sent again.
    pub fn patience(&self) -> Duration {
        match self.connections {
            true => self.timeout.saturating_mul(self.retries.saturating_add(1)),
            false => self.timeout,
        }
    }

    /// How often the time may run out before a server counts as silent.
    fn transmissions(&self) -> u32 {
        match self.connections {
            true => 1,
            false => self.retries.saturating_add(1),
        }
    }
}

/// A server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name for the log.
    pub name: String,
    /// The shared secret.
    pub secret: SecretBytes,
}

/// Names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey(pub u64);

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Index of the server.
    pub server: usize,
    /// Which of the sockets or connections to this server, below [`SOCKETS_MAX`].
    pub socket: u16,
    /// The packet.
    pub datagram: Zeroizing<Vec<u8>>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A server said this.
    Reply(Reply),
    /// No server answered.
    NoAnswer,
}

/// Something to act upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request is done.
    Done(RequestKey, Outcome),
    /// A server is silent; its address may be worth a new look-up.
    Dead(usize),
    /// A server that was silent answers.
    Alive(usize),
    /// A line for the log about a server.
    Note(usize, String),
}

/// A request that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It cannot be written.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Too many are under way.
    #[error("{REQUESTS_MAX} requests are under way")]
    Busy,
    /// There is no server.
    #[error("there is no server")]
    NoServer,
    /// No random numbers.
    #[error("no random numbers")]
    Random,
}

#[derive(Debug)]
struct ServerState {
    server: Server,
    dead_until: Option<Instant>,
    next_probe: Option<Instant>,
    /// It has sent a good Message-Authenticator: it always can.
    signs: bool,
    /// Requests under way by socket and identifier.
    pending: HashMap<(u16, u8), RequestKey>,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    /// `None`: a probe.
    asked: bool,
    server: usize,
    slot: (u16, u8),
    sealed: Sealed,
    sent: u32,
    /// Connections that ended before the answer.
    lost: u32,
    next: Instant,
    /// Servers to ask after this one.
    others: VecDeque<usize>,
}

/// All servers of one kind (authentication or accounting) of one configuration.
#[derive(Debug)]
pub struct Client {
    policy: Policy,
    servers: Vec<ServerState>,
    requests: HashMap<RequestKey, Pending>,
    next_key: u64,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    notes: usize,
}

impl Client {
    /// A client for these servers, in the order of preference.
    pub fn new(servers: Vec<Server>, policy: Policy) -> Self {
        let servers = servers.into_iter().map(|server| ServerState {
            server,
            dead_until: None,
            next_probe: None,
            signs: false,
            pending: HashMap::new(),
        });
        Self {
            policy,
            servers: servers.collect(),
            requests: HashMap::new(),
            next_key: 1,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            notes: 0,
        }
    }

    /// Sends a request to the first server that is not known to be dead.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing is sent then.
    pub fn submit(&mut self, now: Instant, request: Request) -> Result<RequestKey, SubmitError> {
        let is_dead = |state: &ServerState| state.dead_until.is_some_and(|until| until > now);
        let alive = (0..self.servers.len()).filter(|at| !is_dead(&self.servers[*at]));
        let dead = (0..self.servers.len()).filter(|at| is_dead(&self.servers[*at]));
        let mut order: VecDeque<usize> = alive.chain(dead).collect();
        let first = order.pop_front().ok_or(SubmitError::NoServer)?;
        let key = RequestKey(self.next_key);
        let (slot, sealed) = self.seal(first, key, &request)?;
        self.next_key += 1;
        let pending = Pending {
            request,
            asked: true,
            server: first,
            slot,
            sealed,
            sent: 0,
            lost: 0,
            next: now,
            others: order,
        };
        self.requests.insert(key, pending);
        self.transmit(now, key);
        Ok(key)
    }

    /// Nobody waits for this request any more.
    pub fn cancel(&mut self, key: RequestKey) {
        if let Some(pending) = self.requests.remove(&key)
            && let Some(server) = self.servers.get_mut(pending.server)
        {
            server.pending.remove(&pending.slot);
        }
    }

    /// A datagram from a server, on one of its sockets. What is no verified reply to a request
    /// that is under way changes nothing.
    pub fn handle_input(&mut self, now: Instant, server: usize, socket: u16, datagram: &[u8]) {
        let Some(state) = self.servers.get(server) else {
            return;
        };
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(error) => return self.note(server, format!("a datagram is ignored: {error}")),
        };
        let slot = (socket, packet.identifier());
        let Some((key, pending)) = state
            .pending
            .get(&slot)
            .and_then(|key| Some((*key, self.requests.get(key)?)))
        else {
            return self.note(server, "a reply to no request is ignored".to_owned());
        };
        let required = match self.policy.message_authenticator {
            MessageAuthenticator::Required => true,
            MessageAuthenticator::Optional => false,
            MessageAuthenticator::Learned => state.signs,
        };
        let code = pending.request.code();
        let authenticator = pending.sealed.authenticator;
        match reply::read(&packet, code, &authenticator, &state.server.secret, required) {
            Ok((reply, signed)) => {
                let asked = pending.asked;
                self.cancel(key);
                self.alive(server, signed);
                if asked {
                    self.events.push_back(Event::Done(key, Outcome::Reply(reply)));
                }
            }
            Err(why) => self.note(server, format!("a reply is ignored: {why}")),
        }
        self.handle_timeout(now);
    }

    /// A server's host says that nobody listens there: others are asked at once. Without others
    /// it is asked again in time, since it may be starting.
    pub fn handle_refused(&mut self, now: Instant, server: usize) {
        if self
            .servers
            .get(server)
            .is_some_and(|state| !state.pending.is_empty())
        {
            self.dead(now, server);
            if self.policy.connections {
                self.ask_again(now, server);
            }
        }
    }

    /// What waits for a server that takes no connection is sent once more, as often as configured.
    fn ask_again(&mut self, now: Instant, server: usize) {
        for pending in self
            .requests
            .values_mut()
            .filter(|pending| pending.server == server)
        {
            pending.lost += 1;
            if pending.asked && pending.lost <= self.policy.retries {
                pending.sent = 0;
                pending.next = now + self.policy.timeout;
            } else {
                pending.next = now;
            }
        }
    }

    /// A connection to a server has ended: what waits there for an answer goes over a new one, unless
    /// that has happened too often.
    pub fn handle_closed(&mut self, now: Instant, server: usize, connection: u16) {
        let Some(state) = self.servers.get(server) else {
            return;
        };
        let there = state
            .pending
            .iter()
            .filter(|((socket, _), _)| *socket == connection);
        let mut keys: Vec<RequestKey> = there.map(|(_, key)| *key).collect();
        keys.sort_unstable();
        for key in keys {
            // It may have moved on while another one was handled.
            let Some(pending) = self
                .requests
                .get_mut(&key)
                .filter(|pending| pending.server == server)
            else {
                continue;
            };
            pending.lost += 1;
            if !pending.asked {
                self.cancel(key);
            } else if pending.lost <= self.policy.retries {
                self.transmit(now, key);
            } else {
                self.dead(now, server);
                if self.is_at(key, server) {
                    self.ask_next(now, key);
                }
            }
        }
    }

    fn is_at(&self, key: RequestKey, server: usize) -> bool {
        self.requests
            .get(&key)
            .is_some_and(|pending| pending.server == server)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.requests.iter().filter(|(_, pending)| pending.next <= now);
        let mut due: Vec<RequestKey> = due.map(|(key, _)| *key).collect();
        due.sort_unstable();
        for key in due {
            // It may have moved on while another one was handled.
            let Some(pending) = self.requests.get(&key).filter(|pending| pending.next <= now) else {
                continue;
            };
            if pending.asked && pending.sent < self.policy.transmissions() {
                self.transmit(now, key);
            } else if pending.asked {
                let server = pending.server;
                self.dead(now, server);
                if self.is_at(key, server) {
                    self.ask_next(now, key);
                }
            } else {
                self.cancel(key);
            }
        }
        for server in 0..self.servers.len() {
            self.probe(now, server);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if matches!(event, Event::Note(..)) {
            self.notes = self.notes.saturating_sub(1);
        }
        Some(event)
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.requests.values().map(|pending| pending.next);
        let probes = self.servers.iter().filter_map(|state| state.next_probe);
        requests.chain(probes).min()
    }

    /// A free identifier of this server and the packet with it.
    fn seal(
        &mut self,
        server: usize,
        key: RequestKey,
        request: &Request,
    ) -> Result<((u16, u8), Sealed), SubmitError> {
        let state = self.servers.get_mut(server).ok_or(SubmitError::NoServer)?;
        if state.pending.len() >= REQUESTS_MAX {
            return Err(SubmitError::Busy);
        }
        let mut random = [0; 17];
        getrandom::fill(&mut random).map_err(|_| SubmitError::Random)?;
        let [first, authenticator @ ..] = random;
        let slots = (0..SOCKETS_MAX)
            .flat_map(|socket| (0..=u8::MAX).map(move |step| (socket, first.wrapping_add(step))));
        let mut free = slots.filter(|slot| !state.pending.contains_key(slot));
        let slot = free.next().ok_or(SubmitError::Busy)?;
        let sealed = request.seal(slot.1, authenticator, &state.server.secret)?;
        state.pending.insert(slot, key);
        Ok((slot, sealed))
    }

    fn transmit(&mut self, now: Instant, key: RequestKey) {
        let Some(pending) = self.requests.get_mut(&key) else {
            return;
        };
        pending.sent += 1;
        pending.next = now + self.policy.patience();
        self.transmits.push_back(Transmit {
            server: pending.server,
            socket: pending.slot.0,
            datagram: pending.sealed.octets.clone(),
        });
    }

    /// Asks the next server, or gives up.
    fn ask_next(&mut self, now: Instant, key: RequestKey) {
        let Some(mut pending) = self.requests.remove(&key) else {
            return;
        };
        if let Some(server) = self.servers.get_mut(pending.server) {
            server.pending.remove(&pending.slot);
        }
        while let Some(next) = pending.others.pop_front() {
            if let Ok((slot, sealed)) = self.seal(next, key, &pending.request) {
                (pending.server, pending.slot, pending.sealed) = (next, slot, sealed);
                (pending.sent, pending.lost) = (0, 0);
                self.requests.insert(key, pending);
                return self.transmit(now, key);
            }
        }
        self.events.push_back(Event::Done(key, Outcome::NoAnswer));
    }

    /// A server is silent: what waits for it goes to a living one.
    fn dead(&mut self, now: Instant, server: usize) {
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        let before = state.dead_until.replace(now + self.policy.dead_time);
        if before.is_none_or(|until| until <= now) {
            state.next_probe = Some(now + PROBE_INTERVAL.min(self.policy.dead_time));
            self.events.push_back(Event::Dead(server));
        }
        let keys: Vec<RequestKey> = state.pending.values().copied().collect();
        for key in keys {
            let living = |at: &usize| {
                let state = self.servers.get(*at);
                state.is_some_and(|state| state.dead_until.is_none_or(|until| until <= now))
            };
            let pending = self.requests.get(&key).filter(|pending| pending.asked);
            if pending.is_some_and(|pending| pending.others.iter().any(living)) {
                self.ask_next(now, key);
            }
        }
    }

    fn alive(&mut self, server: usize, signed: bool) {
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        state.signs |= signed;
        state.next_probe = None;
        if state.dead_until.take().is_some() {
            self.events.push_back(Event::Alive(server));
        }
    }

    /// Asks a dead server for its status (RFC 5997), until its time is over.
    fn probe(&mut self, now: Instant, server: usize) {
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        if state.next_probe.is_none_or(|next| next > now) {
            return;
        }
        if state.dead_until.is_none_or(|until| until <= now) {
            state.next_probe = None;
            return;
        }
        state.next_probe = Some(now + PROBE_INTERVAL);
        let request = Request::new(Code::Status);
        let key = RequestKey(self.next_key);
        let Ok((slot, sealed)) = self.seal(server, key, &request) else {
            return;
        };
        self.next_key += 1;
        let pending = Pending {
            request,
            asked: false,
            server,
            slot,
            sealed,
            sent: 0,
            lost: 0,
            next: now,
            others: VecDeque::new(),
        };
        self.requests.insert(key, pending);
        self.transmit(now, key);
    }

    fn note(&mut self, server: usize, text: String) {
        if self.notes < NOTES_MAX {
            self.notes += 1;
            self.events.push_back(Event::Note(server, text));
        }
    }
}
