//! All clients of a process: one poller, one set of buffers, one queue of what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_sys::epoll::{Event, Poller};
use culvert_sys::udp::{Path, UdpSocket};
use culvert_tunnel::{Arrival, Buffers, Pace, Passed};

use super::client::{CLIENT_TOKENS, Client};
use crate::ipc::messages::WorkerReason;
use crate::ipc::session::Counters;
use crate::worker::hand_over::HandOver;
use crate::worker::log::Reporter;

/// Tokens from here on are not of clients.
pub(super) const OTHER_TOKENS: u64 = 1 << 62;

/// Where a client is kept. A number is used again when its client is gone.
pub(super) type Number = usize;

/// The clients of a process.
pub(super) struct Clients {
    poller: Arc<Poller>,
    /// Scratch memory, for all of them.
    pub(super) buffers: Buffers,
    slots: Vec<Option<Slot>>,
    free: Vec<Number>,
    /// When a client wants to be called. An entry that is not its client's present one means
    /// nothing.
    due: BinaryHeap<Reverse<(Instant, Number)>>,
    ended: Vec<Ended>,
    pace: Pace,
    /// What all clients have passed so far.
    passed: Passed,
}

struct Slot {
    client: Box<Client>,
    reporter: Arc<Reporter>,
    /// The earliest entry of this client in the queue.
    scheduled: Option<Instant>,
    /// What it has passed so far.
    passed: Passed,
}

/// A client that is gone.
pub(super) struct Ended {
    /// What its number was.
    pub(super) number: Number,
    /// Its channel to main.
    pub(super) reporter: Arc<Reporter>,
    /// Why.
    pub(super) reason: WorkerReason,
    /// What it carried.
    pub(super) counters: Counters,
}

impl Clients {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Arc::new(Poller::new()?),
            buffers: Buffers::new(),
            slots: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            ended: Vec::new(),
            pace: Pace::new(Instant::now()),
            passed: Passed::default(),
        })
    }

    /// The poller, for tokens from [`OTHER_TOKENS`] on.
    pub(super) fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// Goes on with what a login has handed over.
    ///
    /// # Errors
    /// Its parts do not fit together.
    pub(super) fn add(
        &mut self,
        state: HandOver,
        tcp: OwnedFd,
        tun: OwnedFd,
        reporter: Arc<Reporter>,
    ) -> io::Result<Number> {
        let number = self.free.last().copied().unwrap_or(self.slots.len());
        let client = Client::new(
            state,
            tcp,
            tun,
            Arc::clone(&reporter),
            &self.poller,
            number as u64 * CLIENT_TOKENS,
            &mut self.buffers,
        )?;
        let slot = Some(Slot {
            client: Box::new(client),
            reporter,
            scheduled: None,
            passed: Passed::default(),
        });
        match self.slots.get_mut(number) {
            Some(free) => {
                self.free.pop();
                *free = slot;
            }
            None => self.slots.push(slot),
        }
        self.look_after(number);
        Ok(number)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Acts on the readiness of a client's descriptor.
    pub(super) fn handle_ready(&mut self, now: Instant, event: Event) {
        let number = usize::try_from(event.token / CLIENT_TOKENS).unwrap_or(usize::MAX);
        if let Some(Some(slot)) = self.slots.get_mut(number) {
            slot.client.handle_ready(now, event, &mut self.buffers);
            self.look_after(number);
        }
    }

    /// Opens datagrams of the process's UDP socket; false when they are not of a channel of this
    /// client.
    pub(super) fn receive_datagrams(
        &mut self,
        now: Instant,
        number: Number,
        peer: SocketAddr,
        arrivals: &[Arrival],
    ) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(number) else {
            return false;
        };
        let taken = slot
            .client
            .receive_datagrams(now, peer, arrivals, &mut self.buffers);
        self.look_after(number);
        taken
    }

    /// A new path of a client's datagrams, on the process's UDP socket; false when it does not
    /// become one.
    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        number: Number,
        (socket, path): (Arc<UdpSocket>, Path),
        hello: bool,
        packet: &[u8],
    ) -> io::Result<bool> {
        let Some(Some(slot)) = self.slots.get_mut(number) else {
            return Ok(false);
        };
        let begun = slot
            .client
            .take_shared(now, (socket, path), hello, packet, &mut self.buffers);
        self.look_after(number);
        begun
    }

    /// Parts with all clients.
    pub(super) fn part(&mut self, now: Instant, reason: WorkerReason) {
        for number in 0..self.slots.len() {
            if let Some(Some(slot)) = self.slots.get_mut(number) {
                slot.client.part(now, reason, &mut self.buffers);
                self.look_after(number);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Calls the clients that want to be called.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        // Not more than there are now: nobody may keep this loop busy.
        for _ in 0..self.due.len() {
            let Some(&Reverse((due, number))) = self.due.peek().filter(|Reverse((due, _))| *due <= now)
            else {
                return;
            };
            self.due.pop();
            let Some(Some(slot)) = self.slots.get_mut(number) else {
                continue;
            };
            if slot.scheduled == Some(due) {
                slot.scheduled = None;
                slot.client.handle_timeout(now, &mut self.buffers);
                self.look_after(number);
            }
        }
    }

    /// After a turn that began at `now`: how long the process rests before the next one.
    pub(super) fn after_turn(&mut self, now: Instant) -> Option<Duration> {
        self.pace.after_turn(now, self.passed)
    }

    /// The next client that has ended.
    pub(super) fn poll_ended(&mut self) -> Option<Ended> {
        let ended = self.ended.pop()?;
        // Only now, so that no event of the same wait can be taken for one of a successor.
        self.free.push(ended.number);
        Some(ended)
    }

    /// After a client has done something: is it over, and when does it want to be called? A later
    /// time than before costs nothing: the old entry finds that nothing is due.
    fn look_after(&mut self, number: Number) {
        let Some(place) = self.slots.get_mut(number) else {
            return;
        };
        let Some(slot) = place else { return };
        let passed = slot.client.passed();
        self.passed = self.passed + (passed - slot.passed);
        slot.passed = passed;
        if let Some(reason) = slot.client.ended() {
            let counters = slot.client.counters();
            let reporter = Arc::clone(&slot.reporter);
            *place = None;
            self.ended.push(Ended {
                number,
                reporter,
                reason,
                counters,
            });
            return;
        }
        let due = slot.client.poll_timeout();
        if slot.scheduled.is_none_or(|scheduled| due < scheduled) {
            slot.scheduled = Some(due);
            self.due.push(Reverse((due, number)));
        }
    }
}
