//! Sealing and opening packets allocates nothing.

mod common;

use std::time::Instant;

use common::{ALGORITHMS, packet, pair};
use culvert_record::{DatagramChannel, DatagramOpened, FrameKind, PacketSealer};

#[test]
fn steady_state_allocates_nothing() {
    for algorithms in ALGORITHMS {
        let now = Instant::now();
        let (mut client, mut server) = pair(algorithms, now);
        common::establish(&mut client, &mut server, now);
        let inner = packet(4, 1400);
        let mut buffer = vec![0; 2048];
        let mut one_packet = || {
            let headroom = client.headroom();
            buffer[headroom..headroom + inner.len()].copy_from_slice(&inner);
            let len = client.seal(FrameKind::Data, &mut buffer, inner.len()).unwrap();
            let DatagramOpened::Frame { frame, .. } = server.open(now, &mut buffer[..len]) else {
                panic!("not opened");
            };
            assert_eq!(buffer[frame.payload], inner);
        };
        one_packet();
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| one_packet()));
        assert_eq!(counted.count_total, 0, "{algorithms:?}");
    }
}

/// Packets of a run.
const RUN: usize = 40;

#[test]
fn steady_state_of_runs_allocates_nothing() {
    for algorithms in ALGORITHMS {
        let now = Instant::now();
        let (mut client, mut server) = pair(algorithms, now);
        common::establish(&mut client, &mut server, now);
        let inner = packet(4, 1400);
        let (headroom, len) = (client.headroom(), client.sealed_len(inner.len()));
        let mut buffer = vec![0; (RUN + 1) * 2048];
        let mut one_run = || {
            for number in 0..RUN {
                let room = &mut buffer[number * len..];
                room[headroom..headroom + inner.len()].copy_from_slice(&inner);
                client.prepare(FrameKind::Data, room, inner.len()).unwrap();
            }
            let run = &mut buffer[..RUN * len];
            client.complete(run, &mut std::iter::repeat_n(len, RUN));
            let authentic = server.check_run(run, len);
            for (number, datagram) in run.chunks_exact_mut(len).enumerate() {
                let opened = if authentic >> number & 1 == 1 {
                    server.open_checked(now, datagram)
                } else {
                    server.open(now, datagram)
                };
                let DatagramOpened::Frame { frame, .. } = opened else {
                    panic!("not opened");
                };
                assert_eq!(datagram[frame.payload], inner);
            }
        };
        one_run();
        let counted = allocation_counter::measure(one_run);
        assert_eq!(counted.count_total, 0, "{algorithms:?}");
    }
}
