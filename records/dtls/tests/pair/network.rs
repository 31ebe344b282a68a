//! A network in memory with loss, reordering, duplication and corruption, on a virtual clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use culvert_dtls::{Connection, Opened};
use culvert_record::ChannelState;
use proptest::prelude::*;

/// What the network does to one datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Deliver,
    Lose,
    Double,
    Delay(u64),
    /// Octet (modulo the length) and what it is xored with.
    Corrupt(usize, u8),
}

pub(crate) fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Deliver),
        2 => Just(Fate::Lose),
        1 => Just(Fate::Double),
        1 => (1u64..3000).prop_map(Fate::Delay),
    ]
}

/// A datagram's way: true towards the server.
type InFlight = (bool, Vec<u8>);

pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    start: Instant,
    pub(crate) now: Instant,
    /// By arrival time in ms and order.
    network: BTreeMap<(u64, u64), InFlight>,
    sent: u64,
    pub(crate) fates: Vec<Fate>,
    pub(crate) to_client: Vec<Vec<u8>>,
    pub(crate) to_server: Vec<Vec<u8>>,
}

impl Pair {
    /// Two ends that were begun at `now`.
    pub(crate) fn new(client: Connection, server: Connection, now: Instant, fates: Vec<Fate>) -> Self {
        Self {
            client,
            server,
            start: now,
            now,
            network: BTreeMap::new(),
            sent: 0,
            fates,
            to_client: Vec::new(),
            to_server: Vec::new(),
        }
    }

    /// As [`Self::new`], on a good network, once the handshake is complete.
    pub(crate) fn established(client: Connection, server: Connection, now: Instant) -> Self {
        let mut pair = Self::new(client, server, now, Vec::new());
        pair.run(Duration::from_secs(1));
        assert!(
            pair.is_established(),
            "{:?} {:?}",
            pair.client.failure(),
            pair.server.failure()
        );
        pair
    }

    pub(crate) fn is_established(&self) -> bool {
        [&self.client, &self.server]
            .iter()
            .all(|end| end.state() == ChannelState::Established)
    }

    fn end(&mut self, server: bool) -> &mut Connection {
        if server {
            &mut self.server
        } else {
            &mut self.client
        }
    }

    /// The next 10 ms after every sending; the fates are used in order, then all is delivered.
    pub(crate) fn send(&mut self, to_server: bool, mut datagram: Vec<u8>) {
        let fate = if self.fates.is_empty() {
            Fate::Deliver
        } else {
            self.fates.remove(0)
        };
        let at = self.now.duration_since(self.start).as_millis() as u64 + 10;
        let (copies, at) = match fate {
            Fate::Deliver => (1, at),
            Fate::Lose => (0, at),
            Fate::Double => (2, at),
            Fate::Delay(by) => (1, at + by),
            Fate::Corrupt(octet, xor) => {
                let octet = octet % datagram.len();
                datagram[octet] ^= xor;
                (1, at)
            }
        };
        for _ in 0..copies {
            self.sent += 1;
            self.network
                .insert((at, self.sent), (to_server, datagram.clone()));
        }
    }

    fn collect(&mut self) {
        for from_server in [false, true] {
            while let Some(datagram) = self.end(from_server).poll_transmit() {
                assert!(datagram.len() <= 1232);
                self.send(!from_server, datagram);
            }
        }
    }

    /// Runs for a time, or until nothing more happens.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let arrival = self
                .network
                .keys()
                .next()
                .map(|(at, _)| self.start + Duration::from_millis(*at));
            let timeouts = [self.client.poll_timeout(), self.server.poll_timeout()];
            let Some(next) = timeouts
                .into_iter()
                .flatten()
                .chain(arrival)
                .min()
                .filter(|at| *at <= end)
            else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next)
                && let Some((_, (to_server, datagram))) = self.network.pop_first()
            {
                self.deliver(to_server, datagram);
            }
            for server in [false, true] {
                let now = self.now;
                if self.end(server).poll_timeout().is_some_and(|at| at <= now) {
                    self.end(server).handle_timeout(now);
                }
            }
        }
    }

    pub(crate) fn deliver(&mut self, to_server: bool, mut datagram: Vec<u8>) {
        let now = self.now;
        let mut rest = &mut datagram[..];
        while !rest.is_empty() {
            let consumed = match self.end(to_server).open_record(now, rest) {
                Opened::Nothing { consumed } => consumed,
                Opened::Application { consumed, payload } => {
                    let payload = rest[payload].to_vec();
                    if to_server {
                        &mut self.to_server
                    } else {
                        &mut self.to_client
                    }
                    .push(payload);
                    consumed
                }
            };
            assert!(consumed >= 1);
            rest = &mut rest[consumed..];
        }
    }

    pub(crate) fn seal(&mut self, from_server: bool, payload: &[u8]) -> Vec<u8> {
        let end = self.end(from_server);
        let mut record = vec![0; end.headroom()];
        record.extend_from_slice(payload);
        record.resize(record.len() + end.tailroom(), 0);
        let Ok(len) = end.seal_application(&mut record, payload.len()) else {
            panic!("not sealed: {:?}", end.failure());
        };
        assert_eq!(len, end.sealed_len(payload.len()));
        record.truncate(len);
        record
    }

    /// Data goes both ways.
    pub(crate) fn exchange(&mut self) {
        for from_server in [false, true] {
            let record = self.seal(from_server, b"data");
            self.deliver(!from_server, record);
        }
        assert_eq!(self.to_server.pop().as_deref(), Some(&b"data"[..]));
        assert_eq!(self.to_client.pop().as_deref(), Some(&b"data"[..]));
    }

    /// A corrupted datagram of an established association is as good as lost.
    pub(crate) fn drops_what_is_corrupted(&mut self, octet: usize, xor: u8) {
        let record = self.seal(false, b"some data");
        self.fates = vec![Fate::Corrupt(octet, xor)];
        self.send(true, record);
        self.run(Duration::from_secs(1));
        assert!(self.to_server.is_empty());
        self.exchange();
    }

    /// However the handshake fares: both ends are established and understand each other, or not both are.
    pub(crate) fn is_not_misled(&mut self) {
        self.run(Duration::from_secs(70));
        if self.is_established() {
            self.exchange();
        }
    }

    /// After so many steps of the handshake, junk with and without the beginning of a record neither panics
    /// nor disturbs an established association.
    pub(crate) fn withstands(&mut self, junk: &[Vec<u8>], prefix: &[u8], steps: usize) {
        for _ in 0..steps {
            self.run(Duration::from_millis(10));
        }
        let was_established = self.is_established();
        for octets in junk {
            let len = (octets.len() as u16).to_be_bytes();
            for datagram in [&[prefix, &len, octets].concat(), octets] {
                self.deliver(true, datagram.clone());
                self.deliver(false, datagram.clone());
            }
        }
        if was_established {
            assert!(self.is_established());
            self.exchange();
        }
    }
}

/// The datagram number `which` is corrupted.
pub(crate) fn corrupted(which: usize, octet: usize, xor: u8) -> Vec<Fate> {
    [vec![Fate::Deliver; which], vec![Fate::Corrupt(octet, xor)]].concat()
}

/// Octets that anybody could send.
pub(crate) fn junk() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)
}
