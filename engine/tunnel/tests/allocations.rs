//! In steady state no packet costs an allocation, over datagrams and over a stream.

#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "a counting allocator is unsafe by its trait"
)]

mod pair;
mod records;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_sys::channel::datagram_pair;
use culvert_sys::epoll::{Events, Poller};
use culvert_sys::tcp;
use culvert_sys::udp::{Path, UdpSocket};
use culvert_tunnel::offload::{Coalescer, HEADER_LEN, Splitter, VnetHeader};
use culvert_tunnel::{Arrival, Buffers, Device, Marks, Role, Session, SessionConfig, SharedSocket, TOKENS};
use pair::{LOCAL, tcp_pair, udp_pair};
use records::{Datagrams, Opener, Sealer};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two sessions of one process, on one poller and with one set of buffers.
struct Loop {
    poller: Arc<Poller>,
    ready: Events,
    buffers: Buffers,
    sessions: [Session<Sealer, Opener, Datagrams>; 2],
    programs: [OwnedFd; 2],
    /// Sockets that the sessions share with others, as in a pool process.
    shared: Vec<Arc<UdpSocket>>,
    arrivals: Vec<Arrival>,
}

impl Loop {
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
        let programs = programs.try_into().unwrap();
        Self {
            poller,
            ready: Events::with_capacity(16),
            buffers: Buffers::new(),
            sessions,
            programs,
            shared: Vec::new(),
            arrivals: Vec::with_capacity(256),
        }
    }

    fn receive_shared(&mut self, now: Instant) {
        for (socket, session) in self.shared.iter().zip(&mut self.sessions) {
            let (mut filled, mut peer) = (0, None);
            self.arrivals.clear();
            while let Some(room) = self.buffers.receive_room(filled)
                && let Ok(received) = socket.receive_from(room)
            {
                let octets = filled..filled + received.len;
                filled = octets.end;
                peer = Some(received.peer);
                self.arrivals.push(Arrival {
                    octets,
                    segment: received.segment,
                });
            }
            if let Some(peer) = peer {
                assert!(session.receive_datagrams(now, peer, &self.arrivals, &mut self.buffers));
            }
        }
    }

    fn turn(&mut self) {
        self.poller
            .wait(&mut self.ready, Some(Instant::now() + Duration::from_millis(1)))
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
        self.receive_shared(now);
        for session in &mut self.sessions {
            session.handle_timeout(now, &mut self.buffers);
            while session.poll_event().is_some() {}
        }
    }

    /// Sends packets from one program to the other and back; returns how many allocations that
    /// cost.
    fn exchange(&mut self, packets: usize) -> u64 {
        let before = ALLOCATIONS.get();
        let mut packet = [7u8; 1300];
        packet[0] = 0x45;
        let mut buffer = [0u8; 2048];
        for (from, to) in [(0, 1), (1, 0)] {
            let (mut sent, mut received) = (0, 0);
            let deadline = Instant::now() + Duration::from_secs(20);
            while received < packets {
                assert!(Instant::now() < deadline, "{received} of {sent} packets arrived");
                // Few in flight: loopback drops datagrams when a receive buffer is full.
                while sent < packets.min(received + 50) && tcp::send(&self.programs[from], &packet).is_ok() {
                    sent += 1;
                }
                self.turn();
                while tcp::receive(&self.programs[to], &mut buffer).is_ok() {
                    received += 1;
                }
            }
        }
        ALLOCATIONS.get() - before
    }

    /// Once the datagram channels are there, packets over them cost no allocation.
    fn datagrams_are_free(mut self) {
        while !self.sessions.iter().all(Session::datagram_established) {
            self.turn();
        }
        self.exchange(200);
        assert_eq!(self.exchange(2000), 0);
    }
}

#[test]
fn datagrams_cost_no_allocation() {
    let mut test = Loop::new();
    let now = Instant::now();
    let (near, far) = udp_pair();
    let [client, server] = &mut test.sessions;
    server
        .attach_datagram(now, far, Datagrams::server(), &[], &mut test.buffers)
        .unwrap();
    client
        .attach_datagram(now, near, Datagrams::client(now), &[], &mut test.buffers)
        .unwrap();
    test.datagrams_are_free();
}

#[test]
fn datagrams_of_a_shared_socket_cost_no_allocation() {
    let mut test = Loop::new();
    let now = Instant::now();
    test.shared = [LOCAL, LOCAL]
        .map(|local| Arc::new(UdpSocket::bind_in_group(local).unwrap()))
        .into();
    for (number, channel) in [Datagrams::client(now), Datagrams::server()]
        .into_iter()
        .enumerate()
    {
        test.shared[number].set_gro(true).unwrap();
        let path = Path {
            peer: test.shared[1 - number].local_addr().unwrap(),
            local: Some(LOCAL.ip()),
        };
        let marks = Marks {
            type_of_service: Some(0x48),
            priority: 3,
        };
        let socket = SharedSocket::new(Arc::clone(&test.shared[number]), path, marks);
        test.sessions[number]
            .attach_datagram(now, socket, channel, &[], &mut test.buffers)
            .unwrap();
    }
    test.datagrams_are_free();
}

#[test]
fn a_stream_costs_no_allocation() {
    let mut test = Loop::new();
    let now = Instant::now();
    for (session, socket) in test.sessions.iter_mut().zip(<[OwnedFd; 2]>::from(tcp_pair())) {
        let (sealer, opener) = (Sealer::default(), Opener::default());
        session
            .attach_stream(now, socket, sealer, opener, &[], &mut test.buffers)
            .unwrap();
    }
    test.exchange(200);
    assert_eq!(test.exchange(2000), 0);
}

#[test]
fn splitting_and_joining_cost_no_allocation() {
    let mut packet = vec![0x5a; 40 + 60_000];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0xea, 0x88, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    packet[20..40].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 1, 0, 0, 0, 0]);
    let header = VnetHeader {
        segmentation: culvert_tunnel::offload::Segmentation::Tcp { size: 1300 },
        partial_checksum: Some((20, 16)),
    };
    let mut out = vec![0; 80_000];
    let mut coalescer = Coalescer::new(true, true);
    for round in 0..3 {
        let before = ALLOCATIONS.get();
        let mut splitter = Splitter::new(header, &mut packet).unwrap();
        let mut at = 0;
        while let Some(len) = splitter.write_next(&mut out[at..]) {
            coalescer.push(&out, at..at + len);
            at += len;
        }
        let mut octets = 0;
        coalescer.flush(&mut out, |_, parts| {
            octets += parts.iter().map(|part| part.len()).sum::<usize>()
        });
        assert_eq!(octets, HEADER_LEN + packet.len());
        if round > 0 {
            assert_eq!(ALLOCATIONS.get(), before);
        }
    }
}
