//! What a session does with packets, frames, timers and broken transports.

#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "one test breaks a socket on purpose"
)]

mod pair;
mod records;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_record::{FrameKind, SealError};
use culvert_sys::channel::datagram_pair;
use culvert_sys::tcp;
use culvert_sys::udp::{Path, UdpSocket};
use culvert_tunnel::{
    Arrival, Channel, DatagramLoss, Event, FrameError, Marks, Notice, Role, SessionConfig, SharedSocket,
    StreamError,
};
use culvert_vocab::{RekeyMethod, Timers};
use pair::{LOCAL, Pair, packet, tcp_pair, udp_pair};
use records::{Datagrams, Opener, Sealer};

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
fn datagrams_take_over_and_a_new_handshake_disturbs_nothing() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    // The stream is dead silent now, so what arrives went through the datagrams.
    pair.client.session.detach_stream();
    pair.exchange(200);

    // A handshake that nobody answers fails without a trace in the active channel.
    let (lonely, _mute) = udp_pair();
    pair.client.datagram(lonely, Datagrams::client(Instant::now()));
    assert!(pair.client.session.datagram_connecting());
    pair.exchange(50);
    pair.run_until(|pair| {
        pair.client
            .events
            .iter()
            .any(|event| matches!(event, Event::DatagramFailed { refused: false }))
    });
    assert!(pair.client.session.datagram_established());
    pair.exchange(50);

    // One that succeeds replaces it.
    pair.connect_datagrams();
    pair.exchange(50);
    assert!(pair.client.session.datagram_established() && !pair.client.session.datagram_connecting());
}

/// A stranger who forges the peer's address can send faster than we can receive.
#[test]
fn empty_datagrams_do_not_hold_up_a_pass() {
    const EMPTY: usize = 300;
    let mut pair = Pair::plain();
    let (client, server) = udp_pair();
    let stranger = client.try_clone().unwrap();
    pair.server.datagram(server, Datagrams::server());
    (0..EMPTY).for_each(|_| stranger.send(&[], 0, None).unwrap());
    let mut passes = 0;
    let is_readable = |pair: &mut Pair| {
        let Pair { server, .. } = pair;
        server
            .poller
            .wait(&mut server.ready, Some(Instant::now()))
            .unwrap();
        !server.ready.is_empty()
    };
    while is_readable(&mut pair) {
        pair.server.turn();
        passes += 1;
    }
    assert!((2..=EMPTY).contains(&passes), "{passes} passes");
    // The channel is as good as before.
    pair.client.datagram(client, Datagrams::client(Instant::now()));
    pair.run_until(|pair| pair.server.session.datagram_established());
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
    for (index, received) in pair.server.packets.iter().enumerate() {
        assert_eq!(*received, packet(index));
    }
    assert!(
        pair.server
            .events
            .iter()
            .any(|event| matches!(event, Event::Disconnect { reason, .. } if reason == b"bye"))
    );
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
    assert!(
        pair.server
            .packets
            .iter()
            .enumerate()
            .all(|(index, received)| *received == packet(index))
    );
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
fn probes_are_answered_by_the_rules_of_the_role() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    for channel in [Channel::Stream, Channel::Datagram] {
        pair.client
            .send(channel, FrameKind::ProbeRequest, b"echo me")
            .unwrap();
        pair.server
            .send(channel, FrameKind::ProbeRequest, b"do not echo me")
            .unwrap();
        pair.run_until(|pair| !pair.client.events.is_empty() && !pair.server.events.is_empty());
        let answer = pair.client.events.pop_front().unwrap();
        assert!(matches!(answer, Event::ProbeResponse { channel: c, payload_len: 7 } if c == channel));
        let answer = pair.server.events.pop_front().unwrap();
        assert!(matches!(answer, Event::ProbeResponse { channel: c, payload_len: 0 } if c == channel));
    }
    pair.client
        .send(Channel::Datagram, FrameKind::ProbeRequest, &[0x5a; 1450])
        .unwrap();
    pair.run_until(|pair| !pair.server.events.is_empty());
    assert!(matches!(pair.server.events[0], Event::LargeProbe { size: 1450 }));
    let too_large = pair
        .client
        .send(Channel::Datagram, FrameKind::ProbeRequest, &vec![0; 65_530]);
    assert!(
        matches!(too_large, Err(FrameError::TooLarge | FrameError::Full)),
        "{too_large:?}"
    );
    pair.server
        .send(Channel::Stream, FrameKind::Other(77), b"?")
        .unwrap();
    pair.run_until(|pair| {
        pair.client.events.iter().any(|event| {
            matches!(
                event,
                Event::Frame {
                    kind: FrameKind::Other(77),
                    ..
                }
            )
        })
    });
}

/// Whatever the timers say, a key protects only so much (RFC 8446 §5.5).
#[test]
fn keys_that_have_protected_enough_are_renewed() {
    let mut pair = Pair::plain();
    let (client, server) = tcp_pair();
    pair.client.stream_with(client, Sealer::wearing_out_after(100));
    pair.server.stream(server);
    let renewed = |pair: &Pair| {
        // The server renews its own in answer.
        [&pair.client, &pair.server].map(|end| end.session.last_rekey(Channel::Stream).unwrap())
    };
    let [mut client, mut server] = renewed(&pair);
    pair.exchange(90);
    assert_eq!(renewed(&pair), [client, server]);
    for _ in 0..3 {
        pair.exchange(100);
        pair.run_until(|pair| renewed(pair)[0] > client && renewed(pair)[1] > server);
        [client, server] = renewed(&pair);
    }
}

#[test]
fn keys_that_are_used_up_end_the_channel() {
    let mut pair = Pair::plain();
    let (client, server) = tcp_pair();
    pair.client.stream_with(client, Sealer::with_last_records(0));
    pair.server.stream(server);
    tcp::send(&pair.client.program, &packet(0)).unwrap();
    pair.run_until(|pair| {
        let failed = StreamError::Seal(SealError::Exhausted).to_string();
        pair.client
            .events
            .iter()
            .any(|event| matches!(event, Event::StreamFailed(error) if error.to_string() == failed))
    });
    pair.connect_stream();
    let (client, server) = udp_pair();
    pair.server.datagram(server, Datagrams::server());
    pair.client
        .datagram(client, Datagrams::client(Instant::now()).with_last_records(20));
    pair.run_until(|pair| pair.client.session.datagram_established());
    // What is sent when there is no number left is lost; then the stream carries on.
    for index in 0..30 {
        tcp::send(&pair.client.program, &packet(index)).unwrap();
    }
    let lost = |event: &Event| {
        matches!(
            event,
            Event::DatagramLost(DatagramLoss::Seal(SealError::Exhausted))
        )
    };
    pair.run_until(|pair| pair.client.events.iter().any(lost));
    tcp::send(&pair.client.program, &packet(99)).unwrap();
    pair.run_until(|pair| pair.server.packets.last() == Some(&packet(99)));
}

#[test]
fn a_socket_without_segmentation_carries_everything_and_says_so_once() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    pair.client.session.detach_stream();
    // The kernel refuses UDP_SEGMENT where it may not compute checksums.
    let socket = pair
        .client
        .session
        .datagram_socket()
        .unwrap()
        .own()
        .unwrap()
        .as_fd()
        .as_raw_fd();
    let on = 1i32;
    // SAFETY: the option takes an int, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            4,
        )
    };
    assert_eq!(set, 0);
    for index in 0..8 {
        tcp::send(&pair.client.program, &packet(index * 300)).unwrap();
    }
    pair.run_until(|pair| pair.server.packets.len() == 8);
    assert!((0..8).all(|index| pair.server.packets[index] == packet(index * 300)));
    let notices = pair
        .client
        .events
        .iter()
        .filter(|event| matches!(event, Event::Notice(Notice::NoSegmentation)));
    assert_eq!(notices.count(), 1);
}

#[test]
fn a_socket_without_receive_offload_is_used_all_the_same() {
    let mut pair = Pair::plain();
    // The option is one of UDP.
    let (stream, _far) = tcp_pair();
    let socket = UdpSocket::from_fd(stream).unwrap();
    pair.client.datagram(socket, Datagrams::client(Instant::now()));
    let notices: Vec<Event> = std::iter::from_fn(|| pair.client.session.poll_event()).collect();
    assert!(
        matches!(notices[..], [Event::Notice(Notice::NoReceiveOffload)]),
        "{notices:?}"
    );
}

#[test]
fn roaming_needs_a_datagram_that_authenticates() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    pair.client.session.detach_stream();
    let old = pair
        .server
        .session
        .datagram_socket()
        .unwrap()
        .own()
        .unwrap()
        .local_addr()
        .unwrap();

    let (client_side, server_side) = udp_pair();
    let buffers = &mut pair.server.buffers;
    let refused = pair
        .server
        .session
        .move_datagram(Instant::now(), server_side, b"forged forged", buffers);
    assert!(!refused.unwrap());
    assert_eq!(
        pair.server
            .session
            .datagram_socket()
            .unwrap()
            .own()
            .unwrap()
            .local_addr()
            .unwrap(),
        old
    );

    let mut record = vec![0; 200];
    let mut sealer = Sealer::default();
    let content = packet(0);
    record[4..104].copy_from_slice(&content);
    let len = culvert_record::PacketSealer::seal(&mut sealer, FrameKind::Data, &mut record, 100).unwrap();
    let server_side = UdpSocket::connected(Some(LOCAL), client_side.local_addr().unwrap()).unwrap();
    let new = server_side.local_addr().unwrap();
    let moved = pair.server.session.move_datagram(
        Instant::now(),
        server_side,
        &record[..len],
        &mut pair.server.buffers,
    );
    assert!(moved.unwrap());
    assert_eq!(
        pair.server
            .session
            .datagram_socket()
            .unwrap()
            .own()
            .unwrap()
            .local_addr()
            .unwrap(),
        new
    );
    pair.run_until(|pair| pair.server.packets == [packet(0)]);
}

/// Two sessions of a server on one unconnected socket: the application receives for both.
#[test]
fn sessions_share_a_socket() {
    let shared = Arc::new(UdpSocket::bind(LOCAL).unwrap());
    shared.receive_local_address(true).unwrap();
    shared.set_gro(true).unwrap();
    let address = shared.local_addr().unwrap();
    let mut pairs: Vec<Pair> = (0..2).map(|_| Pair::plain()).collect();
    let mut peers = Vec::new();
    for pair in &mut pairs {
        let socket = UdpSocket::connected(None, address).unwrap();
        let path = Path {
            peer: socket.local_addr().unwrap(),
            local: Some(address.ip()),
        };
        peers.push(path.peer);
        let view = SharedSocket::new(Arc::clone(&shared), path, Marks::default());
        let server = &mut pair.server;
        server
            .session
            .attach_datagram(
                Instant::now(),
                view,
                Datagrams::server(),
                &[],
                &mut server.buffers,
            )
            .unwrap();
        pair.client.datagram(socket, Datagrams::client(Instant::now()));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut sent = 0;
    while !pairs
        .iter()
        .all(|pair| pair.server.packets.len() >= 20 && pair.client.packets.len() >= 20)
    {
        assert!(Instant::now() < deadline, "packets do not arrive");
        for (index, pair) in pairs.iter_mut().enumerate() {
            if pair.client.session.datagram_established() && sent < 40 {
                sent += 1;
                tcp::send(&pair.client.program, &packet(index)).unwrap();
                tcp::send(&pair.server.program, &packet(10 + index)).unwrap();
            }
            pair.client.turn();
            pair.client.collect();
            pair.server.turn();
            pair.server.collect();
        }
        let mut datagrams = [0; 65536];
        while let Ok(received) = shared.receive_from(&mut datagrams) {
            let arrival = Arrival {
                octets: 0..received.len,
                segment: received.segment,
            };
            for (pair, peer) in pairs.iter_mut().zip(&peers) {
                let server = &mut pair.server;
                let room = server.buffers.receive_room(0).unwrap();
                room[..received.len].copy_from_slice(&datagrams[..received.len]);
                let taken = server.session.receive_datagrams(
                    Instant::now(),
                    received.peer,
                    std::slice::from_ref(&arrival),
                    &mut server.buffers,
                );
                assert_eq!(
                    taken,
                    *peer == received.peer,
                    "only the session that talks to the peer"
                );
            }
        }
    }
    for (index, pair) in pairs.iter().enumerate() {
        assert!(pair.server.packets.iter().all(|got| *got == packet(index)));
        assert!(pair.client.packets.iter().all(|got| *got == packet(10 + index)));
    }
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

#[test]
fn timers_probe_give_up_and_rekey() {
    let timers = Timers {
        dpd: Some(Duration::from_secs(10)),
        rekey: Some(Duration::from_secs(15)),
        rekey_method: RekeyMethod::Ssl,
        ..Timers::default()
    };
    let config = SessionConfig {
        stream: Timers {
            rekey_method: RekeyMethod::NewTunnel,
            ..timers
        },
        datagram: timers,
        ..SessionConfig::new(Role::Client, 1400)
    };
    let mut pair = Pair::new(config, SessionConfig::new(Role::Server, 1400));
    pair.connect_stream();
    pair.connect_datagrams();
    let start = Instant::now();
    let client = &mut pair.client;
    let due = client.session.poll_timeout().unwrap();
    assert!(due <= start + Duration::from_secs(10));
    let mut at = |seconds| {
        client
            .session
            .handle_timeout(start + Duration::from_secs(seconds), &mut client.buffers);
        std::iter::from_fn(|| client.session.poll_event()).collect::<Vec<_>>()
    };
    assert!(at(11).is_empty(), "probes need no decision");
    let rekey = at(16);
    assert!(
        matches!(rekey[..], [Event::RekeyDue(Channel::Stream)]),
        "{rekey:?}"
    );
    let dead = at(21);
    assert!(
        matches!(
            dead[..],
            [Event::StreamDead, Event::DatagramLost(DatagramLoss::Dead)]
        ),
        "{dead:?}"
    );
    assert!(!pair.client.session.datagram_established());
    assert_eq!(pair.client.session.poll_timeout(), None);
}

#[test]
fn a_packet_that_no_datagram_can_carry_is_dropped_alone() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    pair.client.session.detach_stream();
    let mut huge = packet(0);
    huge.resize(65_510, 0);
    // All of them are read in one pass.
    for index in 0..6 {
        let packet = if index == 3 { huge.clone() } else { packet(index) };
        tcp::send(&pair.client.program, &packet).unwrap();
    }
    pair.run_until(|pair| pair.server.packets.len() == 5);
    for (received, index) in pair.server.packets.iter().zip([0, 1, 2, 4, 5]) {
        assert_eq!(*received, packet(index));
    }
    let too_large = |event: &&Event| matches!(event, Event::DatagramTooLarge { size } if *size > 65_510);
    assert_eq!(pair.client.events.iter().filter(too_large).count(), 1);
    assert_eq!(pair.client.session.statistics().dropped, 1);
}

#[test]
fn a_queue_length_sizes_both_sockets() {
    let option = |socket: &dyn AsFd, level, name| {
        let (mut value, mut len) = (0i32, 4);
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the option is an int, for which there is room.
        let got = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
        assert_eq!(got, 0);
        value
    };
    for queue_len in [5, 32, 100] {
        let config = SessionConfig {
            queue_len,
            ..SessionConfig::new(Role::Client, 1400)
        };
        let mut pair = Pair::new(config, SessionConfig::new(Role::Server, 1400));
        pair.connect_stream();
        pair.connect_datagrams();
        let octets = i32::try_from(queue_len * 1400).unwrap();
        let session = &pair.client.session;
        let datagrams = session.datagram_socket().and_then(|socket| socket.own()).unwrap();
        // The kernel doubles what it is given, for its own overhead.
        assert_eq!(option(datagrams, libc::SOL_SOCKET, libc::SO_SNDBUF), 2 * octets);
        let stream = session.stream_socket().unwrap();
        assert_eq!(
            option(&stream, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
            octets
        );
        pair.client.session.detach_stream();
        pair.exchange(200);
    }
}
