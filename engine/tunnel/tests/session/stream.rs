//! Packets over the stream, and streams that are slow or break.

use std::time::Instant;

use culvert_record::FrameKind;
use culvert_sys::channel::datagram_pair;
use culvert_sys::tcp;
use culvert_tunnel::{Channel, Event, StreamError};

use crate::pair::{Pair, packet, tcp_pair};
use crate::records::{Opener, Sealer};

#[test]
fn the_stream_carries_packets_both_ways() {
    let mut pair = Pair::with_stream();
    pair.exchange(500);
    tcp::send(&pair.server.program, &packet(3)).unwrap();
    pair.run_until(|pair| pair.client.packets.len() == 1);
    assert_eq!(pair.client.packets[0], packet(3));
    let octets: usize = pair.server.packets.iter().map(Vec::len).sum();
    let (client, server) = (pair.client.session.statistics(), pair.server.session.statistics());
    assert_eq!((client.sent_packets, client.sent_octets), (500, octets as u64));
    assert_eq!(
        (server.received_packets, server.received_octets),
        (500, octets as u64)
    );
    assert_eq!(
        (
            client.received_packets,
            server.sent_packets,
            client.dropped,
            server.dropped
        ),
        (1, 1, 0, 0)
    );
}

#[test]
fn a_blocked_stream_stops_the_device_and_loses_nothing() {
    let mut pair = Pair::with_stream();
    let mut sent = 0;
    // Only the client turns: its socket fills, then its device, then the program is told.
    let mut stalled = 0;
    while stalled < 20 {
        if tcp::send(&pair.client.program, &packet(sent)).is_ok() {
            sent += 1;
            stalled = 0;
        } else {
            stalled += 1;
        }
        pair.client.turn();
        assert!(sent < 200_000, "nothing blocks");
    }
    assert!(!pair.client.session.stream_flushed());
    // Control frames still get in, up to a bound.
    pair.client
        .send(Channel::Stream, FrameKind::ProbeRequest, b"")
        .unwrap();
    pair.client
        .send(Channel::Stream, FrameKind::Disconnect, b"bye")
        .unwrap();
    let mut accepted = 0;
    while pair
        .client
        .send(Channel::Stream, FrameKind::Keepalive, b"")
        .is_ok()
    {
        accepted += 1;
        assert!(accepted < 10_000, "memory is not bounded");
    }
    pair.run_until(|pair| pair.server.packets.len() == sent && pair.client.session.stream_flushed());
    assert!(pair.is_in_order());
    assert!(pair.has_said_goodbye());
}

#[test]
fn a_slow_program_stops_the_transports_and_loses_nothing() {
    let mut pair = Pair::with_stream();
    for index in 0..2000 {
        while tcp::send(&pair.client.program, &packet(index)).is_err() {
            pair.client.turn();
            pair.server.turn();
            pair.server.collect();
        }
        pair.client.turn();
        pair.server.turn();
    }
    pair.run_until(|pair| pair.server.packets.len() == 2000);
    assert!(pair.is_in_order());
}

#[test]
fn a_vanished_program_is_reported() {
    let mut pair = Pair::with_stream();
    pair.exchange(10);
    let (elsewhere, _kept) = datagram_pair().unwrap();
    pair.server.program = elsewhere;
    pair.server.turn();
    pair.server.turn();
    assert!(
        pair.server.ready.is_empty(),
        "a missing program must not keep the loop busy"
    );
    tcp::send(&pair.client.program, &packet(0)).unwrap();
    pair.run_until(|pair| {
        pair.server
            .events
            .iter()
            .any(|event| matches!(event, Event::DeviceFailed(_)))
    });
    assert!(pair.server.session.detach_device().is_none());
}

#[test]
fn a_broken_stream_is_reported_and_can_be_replaced() {
    let mut pair = Pair::plain();
    let (raw, socket) = tcp_pair();
    pair.server.stream(socket);
    tcp::send(&raw, &[0, 1, 0, 0, 1, 2, 3]).unwrap();
    pair.run_until(|pair| !pair.server.events.is_empty());
    let event = pair.server.events.pop_front().unwrap();
    assert!(
        matches!(event, Event::StreamFailed(StreamError::Open(_))),
        "{event:?}"
    );

    let (raw, socket) = tcp_pair();
    pair.server.stream(socket);
    drop(raw);
    pair.run_until(|pair| !pair.server.events.is_empty());
    assert!(matches!(
        pair.server.events.pop_front(),
        Some(Event::StreamClosed)
    ));

    pair.connect_stream();
    pair.exchange(20);
    // A key update is announced, answered and counted.
    let before = pair.client.session.last_rekey(Channel::Stream).unwrap();
    pair.client
        .session
        .rekey_stream(Instant::now(), true, &mut pair.client.buffers)
        .unwrap();
    assert!(pair.client.session.last_rekey(Channel::Stream).unwrap() > before);
    pair.exchange(20);
}

#[test]
fn octets_that_were_read_before_belong_to_the_stream() {
    let mut pair = Pair::plain();
    let (raw, socket) = tcp_pair();
    let mut record = vec![0; 105];
    record[4..104].copy_from_slice(&packet(0));
    culvert_record::PacketSealer::seal(&mut Sealer::default(), FrameKind::Data, &mut record, 100).unwrap();
    let (early, late) = record.split_at(50);
    let server = &mut pair.server;
    let (sealer, opener) = (Sealer::default(), Opener::default());
    server
        .session
        .attach_stream(Instant::now(), socket, sealer, opener, early, &mut server.buffers)
        .unwrap();
    tcp::send(&raw, late).unwrap();
    pair.run_until(|pair| pair.server.packets == [packet(0)]);
}
