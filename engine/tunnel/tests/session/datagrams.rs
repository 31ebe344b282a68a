//! Packets over datagrams: channels that follow each other, sockets that lack something or are shared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_record::FrameKind;
use culvert_sys::tcp;
use culvert_sys::udp::{Path, UdpSocket};
use culvert_tunnel::{Arrival, DatagramSocket, Event, Marks, Notice, SharedSocket};

use crate::pair::{End, LOCAL, Pair, is_without_runs, packet, tcp_pair, udp_pair};
use crate::records::{Datagrams, Sealer};

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
    assert!(pair.client.session.datagram_established());
}

/// What the peer has sent over one channel before it knew of the next one.
#[test]
fn a_replaced_channel_receives_for_a_moment_longer() {
    const COUNT: usize = 20;
    let mut pair = Pair::plain();
    pair.connect_datagrams();
    let before = pair
        .server
        .session
        .datagram_socket()
        .unwrap()
        .peer_addr()
        .unwrap();
    for index in 0..COUNT {
        tcp::send(&pair.client.program, &packet(index)).unwrap();
    }
    while pair.client.session.statistics().sent_packets < COUNT as u64 {
        pair.client.turn();
    }
    // All of it lies in a socket when the next channel is established.
    let (client, server) = udp_pair();
    pair.client.datagram(client, Datagrams::client(Instant::now()));
    let mut hello = [0; 100];
    let len = loop {
        if let Ok(received) = server.receive(&mut hello) {
            break received.len;
        }
    };
    let End { session, buffers, .. } = &mut pair.server;
    let begun = Instant::now();
    session
        .attach_datagram(begun, server, Datagrams::server(), &hello[..len], buffers)
        .unwrap();
    assert_ne!(session.datagram_socket().unwrap().peer_addr().unwrap(), before);
    pair.run_until(|pair| pair.server.packets.len() == COUNT);
    assert_eq!(pair.server.session.datagram_channel().unwrap().repeated, 0);

    // Then it is gone, and with it the timer.
    let until = pair.server.session.poll_timeout().unwrap();
    assert!(until > begun && until < Instant::now() + Duration::from_secs(10));
    let End { session, buffers, .. } = &mut pair.server;
    session.handle_timeout(until, buffers);
    assert_eq!(session.poll_timeout(), None);
    pair.exchange(20);
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
fn a_socket_without_segmentation_carries_everything_and_says_so_once() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    pair.client.session.detach_stream();
    pair.refuse_segmentation();
    for index in 0..8 {
        tcp::send(&pair.client.program, &packet(index * 300)).unwrap();
    }
    pair.run_until(|pair| pair.server.packets.len() == 8);
    assert!((0..8).all(|index| pair.server.packets[index] == packet(index * 300)));
    let notices = pair.client.events.iter().filter(|event| is_without_runs(event));
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

/// Where the server's datagrams leave.
fn local_addr(pair: &Pair) -> SocketAddr {
    let socket = pair.server.session.datagram_socket();
    socket
        .and_then(DatagramSocket::own)
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn roaming_needs_a_datagram_that_authenticates() {
    let mut pair = Pair::with_stream();
    pair.connect_datagrams();
    pair.client.session.detach_stream();
    let old = local_addr(&pair);

    let (client_side, server_side) = udp_pair();
    let buffers = &mut pair.server.buffers;
    let refused = pair
        .server
        .session
        .move_datagram(Instant::now(), server_side, b"forged forged", buffers);
    assert!(!refused.unwrap());
    assert_eq!(local_addr(&pair), old);

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
    assert_eq!(local_addr(&pair), new);
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
