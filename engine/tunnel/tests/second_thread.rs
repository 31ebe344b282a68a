//! What one thread does, two do as well: the same packets in the same order, whatever else happens
//! meanwhile.

#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "one test breaks a socket on purpose"
)]

mod pair;
mod records;

use std::time::Instant;

use culvert_record::FrameKind;
use culvert_sys::tcp;
use culvert_tunnel::{Channel, Event, Role, SecondThread, SessionConfig};
use pair::{Pair, is_without_runs, packet, tcp_pair};
use records::Sealer;

/// The client lends its sending half as soon as there is a packet.
fn lending_pair() -> Pair {
    let client = SessionConfig {
        second_thread: SecondThread::Always,
        ..SessionConfig::new(Role::Client, 1400)
    };
    Pair::new(client, SessionConfig::new(Role::Server, 1400))
}

/// Sends packets until another thread does the work.
fn exchange_until_lent(pair: &mut Pair) {
    for _ in 0..100 {
        pair.exchange(20);
        if pair.client.session.is_lending() {
            return;
        }
    }
    panic!("the sending half was never lent");
}

fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_stream_keeps_its_order_through_new_keys_and_control_frames() {
    let mut pair = lending_pair();
    pair.connect_stream();
    for round in 0..30 {
        exchange_until_lent(&mut pair);
        match round % 4 {
            0 => {
                let buffers = &mut pair.client.buffers;
                pair.client.session.rekey_stream(now(), true, buffers).unwrap();
                assert!(!pair.client.session.is_lending());
            }
            1 => pair
                .client
                .send(Channel::Stream, FrameKind::ProbeRequest, b"")
                .unwrap(),
            // The answer, and the answer to new keys, need the sealer.
            2 => pair
                .server
                .send(Channel::Stream, FrameKind::ProbeRequest, b"")
                .unwrap(),
            _ => {
                let buffers = &mut pair.server.buffers;
                pair.server.session.rekey_stream(now(), true, buffers).unwrap();
            }
        }
        // Packets of the other direction, too.
        tcp::send(&pair.server.program, &packet(round)).unwrap();
        pair.exchange(20);
        pair.run_until(|pair| pair.client.packets.len() == round + 1);
    }
    assert!(
        pair.client
            .packets
            .iter()
            .enumerate()
            .all(|(index, received)| *received == packet(index))
    );
    pair.client.session.recall(now());
    let (client, server) = (pair.client.session.statistics(), pair.server.session.statistics());
    assert_eq!(client.sent_packets as usize, pair.server.packets.len());
    assert_eq!(client.sent_octets, server.received_octets);
    assert_eq!((client.dropped, server.dropped), (0, 0));
}

#[test]
fn keys_that_wear_out_on_the_thread_are_renewed() {
    let mut pair = lending_pair();
    let (client, server) = tcp_pair();
    pair.client.stream_with(client, Sealer::wearing_out_after(50));
    pair.server.stream(server);
    for _ in 0..5 {
        let before = pair.client.session.last_rekey(Channel::Stream);
        exchange_until_lent(&mut pair);
        pair.exchange(60);
        // The thread has ended when the session hears of it.
        pair.run_until(|pair| pair.client.session.last_rekey(Channel::Stream) > before);
    }
}

#[test]
fn data_moves_from_the_stream_to_datagrams_and_to_the_next_ones() {
    let mut pair = lending_pair();
    pair.connect_stream();
    exchange_until_lent(&mut pair);
    for _ in 0..5 {
        pair.connect_datagrams();
        exchange_until_lent(&mut pair);
        for channel in [Channel::Datagram, Channel::Stream] {
            pair.client.send(channel, FrameKind::ProbeRequest, b"").unwrap();
            pair.exchange(20);
        }
        exchange_until_lent(&mut pair);
        let channel = pair.server.session.datagram_channel().unwrap();
        assert_eq!(channel.repeated, 0, "a number was used twice");
    }
    pair.client.session.detach_datagram();
    pair.server.session.detach_datagram();
    exchange_until_lent(&mut pair);
}

#[test]
fn a_full_socket_stops_the_device_and_loses_nothing() {
    let mut pair = lending_pair();
    pair.connect_stream();
    exchange_until_lent(&mut pair);
    let before = pair.server.packets.len();
    // The server does not turn: the socket fills, then the device, then the program is told.
    let (mut sent, mut stalled) = (before, 0);
    while stalled < 50 {
        if tcp::send(&pair.client.program, &packet(sent)).is_ok() {
            (sent, stalled) = (sent + 1, 0);
        } else {
            stalled += 1;
        }
        pair.client.turn();
        assert!(sent < 200_000, "nothing blocks");
    }
    pair.client
        .send(Channel::Stream, FrameKind::Disconnect, b"bye")
        .unwrap();
    assert!(!pair.client.session.stream_flushed());
    pair.run_until(|pair| pair.server.packets.len() == sent && pair.client.session.stream_flushed());
    assert!(pair.is_in_order());
    assert!(pair.has_said_goodbye());
}

#[test]
fn a_stream_that_breaks_is_reported_and_can_be_replaced() {
    let mut pair = lending_pair();
    pair.connect_stream();
    exchange_until_lent(&mut pair);
    pair.server.session.detach_stream();
    pair.run_until(|pair| {
        pair.client
            .events
            .iter()
            .any(|event| matches!(event, Event::StreamClosed | Event::StreamFailed(_)))
    });
    assert!(!pair.client.session.is_lending());
    let (client, server) = tcp_pair();
    pair.client.stream(client);
    pair.server.stream(server);
    exchange_until_lent(&mut pair);
}

#[test]
fn a_lack_of_segmentation_comes_home() {
    let mut pair = lending_pair();
    pair.connect_stream();
    pair.connect_datagrams();
    exchange_until_lent(&mut pair);
    pair.refuse_segmentation();
    for _ in 0..100 {
        // Packets of equal length are a run.
        let before = pair.server.packets.len();
        for _ in 0..8 {
            tcp::send(&pair.client.program, &packet(7)).unwrap();
        }
        pair.run_until(|pair| pair.server.packets.len() == before + 8);
        if pair.client.events.iter().any(is_without_runs) {
            break;
        }
    }
    exchange_after_junk(&mut pair);
    let notices = pair.client.events.iter().filter(|event| is_without_runs(event));
    assert_eq!(notices.count(), 1);
}

/// Goes on with numbered packets after others.
fn exchange_after_junk(pair: &mut Pair) {
    pair.server.packets.clear();
    pair.exchange(50);
}

#[test]
fn a_session_that_ends_takes_its_thread_along() {
    let mut pair = lending_pair();
    pair.connect_stream();
    exchange_until_lent(&mut pair);
    let program = pair.client.program.try_clone().unwrap();
    drop(pair);
    // The thread's copy of the device was the last one: then nobody is at the other end.
    for _ in 0..2000 {
        if tcp::send(&program, b"x").is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the thread goes on");
}
