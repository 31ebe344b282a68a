//! What a session does with packets, frames, timers and broken transports.

#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "sockets are looked into, or broken on purpose"
)]

mod datagrams;
#[path = "../pair/mod.rs"]
mod pair;
#[path = "../records/mod.rs"]
mod records;
mod stream;

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use culvert_record::{FrameKind, SealError};
use culvert_sys::tcp;
use culvert_tunnel::{Channel, DatagramLoss, Event, FrameError, Role, SessionConfig, StreamError};
use culvert_vocab::{RekeyMethod, Timers};
use pair::{Pair, packet, tcp_pair, udp_pair};
use records::{Datagrams, Sealer};

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
    let renewed = |pair: &Pair| pair.client.session.last_rekey(Channel::Stream).unwrap();
    let mut last = renewed(&pair);
    pair.exchange(90);
    assert_eq!(renewed(&pair), last);
    for _ in 0..3 {
        pair.exchange(100);
        assert!(renewed(&pair) > last);
        last = renewed(&pair);
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
