//! The buffers of a process; all its sessions use them in turn.

use std::ops::Range;

use crate::batch::Batch;
use crate::offload::{Coalescer, HEADER_LEN};

/// Longest super-packet with its vnet header.
pub(crate) const SUPER_PACKET_MAX: usize = HEADER_LEN + 65_575;
/// Room that one receive call may need: a run of datagrams, or the largest UDP datagram.
pub(crate) const RECEIVE_MAX: usize = 65_536;
/// Octets that one pass receives at most, so that single datagrams can be joined, too.
pub(crate) const RECEIVE_PASS: usize = 3 * RECEIVE_MAX;

/// Scratch memory of the packet path, about 400 KiB of address space of which only what is used
/// becomes resident. Keep one per thread.
#[derive(Debug)]
pub struct Buffers {
    pub(crate) outgoing: Outgoing,
    /// Received records, opened in place.
    pub(crate) receive: Box<[u8]>,
    pub(crate) coalescer: Coalescer,
}

/// The part of [`Buffers`] that the sending direction needs.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// One packet of the device.
    pub(crate) packet: Box<[u8]>,
    pub(crate) outbox: Outbox,
}

/// Datagrams of equal size (the last possibly shorter) in the receive buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where they lie.
    pub octets: Range<usize>,
    /// Size of each.
    pub segment: usize,
}

/// The batch being filled; always empty between two calls of a session.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) batch: Batch,
    /// Empty batches that replace those of blocked sessions.
    spare: Vec<Batch>,
}

/// Spare batches that are kept; when more sessions are blocked, memory is allocated.
const SPARE_MAX: usize = 8;

impl Buffers {
    /// Allocates the buffers.
    pub fn new() -> Self {
        Self {
            outgoing: Outgoing::new(),
            receive: vec![0; RECEIVE_PASS].into(),
            coalescer: Coalescer::new(true, true),
        }
    }
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self {
            packet: vec![0; SUPER_PACKET_MAX].into(),
            outbox: Outbox {
                batch: Batch::new(),
                spare: Vec::with_capacity(SPARE_MAX),
            },
        }
    }
}

impl Buffers {
    /// Where the application puts what it receives on a shared socket, from octet `at` on; `None`
    /// when the room may be too small for another receive call.
    pub fn receive_room(&mut self, at: usize) -> Option<&mut [u8]> {
        self.receive
            .get_mut(at..)
            .filter(|room| room.len() >= RECEIVE_MAX)
    }

    /// Received octets.
    pub fn received(&self, octets: Range<usize>) -> &[u8] {
        self.receive.get(octets).unwrap_or_default()
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// Takes the filled batch away, for a channel whose socket is blocked.
    pub(crate) fn take(&mut self) -> Batch {
        let empty = self.spare.pop().unwrap_or_else(Batch::new);
        std::mem::replace(&mut self.batch, empty)
    }

    /// Gives a batch back.
    pub(crate) fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(batch);
        }
    }
}
