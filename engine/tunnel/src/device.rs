//! The inner end of a tunnel: a TUN device, or a program that reads and writes packets.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use culvert_sys::tcp;
use culvert_sys::tun::{Offload, Tun};

use crate::offload::HEADER_LEN;

/// Where the user's packets come from and go to.
#[derive(Debug)]
pub enum Device {
    /// A TUN device of the kernel.
    Kernel(Tun),
    /// A user-space program behind an AF_UNIX SOCK_DGRAM socket, one packet per datagram
    /// (`--script-tun`, `specs/client.md` §12.5).
    Datagram(OwnedFd),
}

impl Device {
    /// True when packets are preceded by a vnet header.
    pub(crate) fn vnet_header(&self) -> bool {
        matches!(self, Self::Kernel(tun) if tun.vnet_header())
    }

    /// Kinds of super-packets that may be written.
    pub(crate) fn offload(&self) -> Offload {
        match self {
            Self::Kernel(tun) => tun.offload(),
            Self::Datagram(_) => Offload::default(),
        }
    }

    /// Reads one packet, with its vnet header if there is one; 0 when the program is gone.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Kernel(tun) => tun.read(buffer),
            Self::Datagram(socket) => tcp::receive(socket, buffer),
        }
    }

    /// Writes one packet gathered from `parts`, the first of which is a vnet header.
    pub(crate) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let (header, packet) = parts.split_at(1.min(parts.len()));
        match self {
            Self::Kernel(tun) if tun.vnet_header() => {
                debug_assert_eq!(header.first().map_or(0, |header| header.len()), HEADER_LEN);
                tun.write(parts).map(|_| ())
            }
            Self::Kernel(tun) => tun.write(packet).map(|_| ()),
            // Nothing is joined for a device without super-packets, so one part is all.
            Self::Datagram(socket) => packet
                .iter()
                .try_for_each(|part| tcp::send(socket, part).map(|_| ())),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel(tun) => tun.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }
}

/// Packets that a device did not take yet, in order. Keeps its memory, so that a device that is
/// often full costs no allocations. What it holds is bounded by one receive pass, because
/// nothing is received while it holds anything.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    /// Start of the first packet.
    start: usize,
    lengths: VecDeque<usize>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Copies a packet given in parts, its vnet header among them.
    pub(crate) fn push(&mut self, parts: &[IoSlice<'_>]) {
        let before = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.lengths.push_back(self.bytes.len() - before);
    }

    pub(crate) fn front(&self) -> Option<&[u8]> {
        let len = *self.lengths.front()?;
        self.bytes.get(self.start..self.start + len)
    }

    pub(crate) fn pop(&mut self) {
        self.start += self.lengths.pop_front().unwrap_or(0);
        if self.lengths.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }
}
