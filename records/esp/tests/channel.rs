//! Two ends of a channel joined in memory: probes, loss, reordering, rekey, junk.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::{ALGORITHMS, association, establish, open, packet, pair, seal};
use culvert_record::{ChannelState, DatagramChannel, DatagramOpened, FrameKind, PacketSealer};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn packets_of_both_families_pass_both_ways() {
    for algorithms in ALGORITHMS {
        let now = Instant::now();
        let (mut client, mut server) = pair(algorithms, now);
        establish(&mut client, &mut server, now);
        for len in (1..=64).chain([1406, 1407, 1421, 1422, 9000]) {
            for version in [4, 6] {
                let inner = packet(version, len);
                let datagram = seal(&mut client, &inner);
                assert_eq!(open(&mut server, now, &datagram), Some(inner.clone()), "{len}");
                let datagram = seal(&mut server, &inner);
                assert_eq!(open(&mut client, now, &datagram), Some(inner), "{len}");
            }
        }
    }
}

#[test]
fn a_silent_server_is_probed_for_five_seconds() {
    let start = Instant::now();
    let (mut client, _) = pair(ALGORITHMS[1], start);
    let mut sent = Vec::new();
    while client.state() == ChannelState::Connecting {
        let now = client.poll_timeout().unwrap();
        while client.poll_transmit().is_some() {
            sent.push((now - start).as_secs() - 1);
        }
        client.handle_timeout(now);
    }
    assert_eq!(sent, [0, 0, 1, 2, 3, 4]);
    assert_eq!(client.state(), ChannelState::Failed);
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn a_server_says_nothing_to_strangers() {
    let now = Instant::now();
    let (_, mut server) = pair(ALGORITHMS[1], now);
    let (mut stranger, _) = pair(ALGORITHMS[2], now);
    let datagram = seal(&mut stranger, &packet(4, 40));
    assert_eq!(open(&mut server, now, &datagram), None);
    assert_eq!(server.state(), ChannelState::Failed);
    assert_eq!(server.poll_transmit(), None);
}

#[test]
fn only_probes_prove_the_channel_to_the_client() {
    let now = Instant::now();
    let (mut client, mut server) = pair(ALGORITHMS[1], now);
    let inner = packet(4, 40);
    let datagram = seal(&mut server, &inner);
    assert_eq!(open(&mut client, now, &datagram), Some(inner));
    assert_eq!(client.state(), ChannelState::Connecting);
    establish(&mut client, &mut server, now);
    assert!(client.send_probe(now));
    let mut probe = client.poll_transmit().unwrap();
    let DatagramOpened::Frame { frame, .. } = server.open(now, &mut probe) else {
        panic!("no frame")
    };
    assert_eq!(frame.kind, FrameKind::Keepalive);
    let mut answer = server.poll_transmit().unwrap();
    let DatagramOpened::Frame { frame, .. } = client.open(now, &mut answer) else {
        panic!("no frame")
    };
    assert_eq!(frame.kind, FrameKind::ProbeResponse);
}

#[test]
fn answers_to_a_storm_of_probes_do_not_pile_up() {
    let now = Instant::now();
    let (mut client, mut server) = pair(ALGORITHMS[1], now);
    establish(&mut client, &mut server, now);
    for _ in 0..100 {
        client.send_probe(now);
        let mut probe = client.poll_transmit().unwrap();
        server.open(now, &mut probe);
    }
    assert_eq!(std::iter::from_fn(|| server.poll_transmit()).count(), 16);
}

#[test]
fn a_packet_that_contradicts_its_next_header_is_dropped() {
    let now = Instant::now();
    let (mut client, mut server) = pair(ALGORITHMS[1], now);
    let datagram = seal(&mut client, &packet(5, 40));
    assert_eq!(open(&mut server, now, &datagram), None);
}

#[test]
fn frames_that_esp_lacks_are_discarded_by_the_peer() {
    let now = Instant::now();
    let (mut client, mut server) = pair(ALGORITHMS[1], now);
    let mut buffer = vec![0; client.headroom() + 1 + client.tailroom()];
    let len = client.seal(FrameKind::Keepalive, &mut buffer, 1).unwrap();
    let DatagramOpened::Frame { frame, .. } = server.open(now, &mut buffer[..len]) else {
        panic!("no frame")
    };
    assert_eq!(frame.kind, FrameKind::Keepalive);
}

#[test]
fn late_packets_of_the_previous_keys_are_taken_for_a_while() {
    let now = Instant::now();
    let (mut client, mut server) = pair(ALGORITHMS[1], now);
    establish(&mut client, &mut server, now);
    let inner = packet(4, 40);
    let late: Vec<_> = (0..40).map(|_| seal(&mut client, &inner)).collect();
    let (up, down) = (association(ALGORITHMS[5], 7), association(ALGORITHMS[5], 8));
    server.rekey(now, &up, &down).unwrap();
    client.rekey(now, &down, &up).unwrap();
    assert!(
        server
            .description()
            .is_some_and(|text| text.contains("AES-256-CBC"))
    );
    assert!(
        open(&mut server, now, &late[0]).is_some(),
        "an old packet is taken"
    );
    assert!(open(&mut server, now, &late[0]).is_none(), "but not twice");
    assert!(
        open(&mut server, now, &late[39]).is_none(),
        "nor one far beyond the switch"
    );
    for _ in 0..40 {
        let fresh = seal(&mut client, &inner);
        assert_eq!(open(&mut server, now, &fresh), Some(inner.clone()));
    }
    assert!(
        open(&mut server, now, &late[1]).is_none(),
        "the new keys have been used long"
    );
    server.rekey(now, &association(ALGORITHMS[1], 9), &down).unwrap();
    let fresh = seal(&mut client, &inner);
    assert!(
        open(&mut server, now + 31 * SECOND, &fresh).is_none(),
        "30 s are over"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the network loses, repeats, reorders or changes: nothing is delivered twice, nothing
    /// is delivered that was not sent, and what came in order was delivered.
    #[test]
    fn a_bad_network_delivers_each_packet_at_most_once(
        events in prop::collection::vec((0usize..100, any::<bool>(), any::<prop::sample::Index>()), 1..200)
    ) {
        let now = Instant::now();
        let (mut client, mut server) = pair(ALGORITHMS[1], now);
        establish(&mut client, &mut server, now);
        let sent: Vec<_> = (0..100usize)
            .map(|number| {
                let mut inner = packet(4, 40);
                inner[1] = number as u8;
                (seal(&mut client, &inner), inner)
            })
            .collect();
        let mut delivered = HashSet::new();
        let mut highest = None;
        for (number, damage, at) in events {
            let (datagram, inner) = &sent[number];
            let mut datagram = datagram.clone();
            if damage {
                let at = at.index(datagram.len());
                datagram[at] ^= 1;
            }
            let expected = !damage
                && !delivered.contains(&number)
                && highest.is_none_or(|highest| number + 64 >= highest);
            let opened = open(&mut server, now, &datagram);
            prop_assert_eq!(opened.as_ref(), expected.then_some(inner));
            if expected {
                delivered.insert(number);
                highest = highest.max(Some(number));
            }
        }
    }

    #[test]
    fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..300), with_spi: bool) {
        let now = Instant::now();
        let (_, mut server) = pair(ALGORITHMS[1], now);
        let mut junk = junk;
        if with_spi && junk.len() >= 4 {
            junk[..4].copy_from_slice(&association(ALGORITHMS[1], 1).spi().get().to_be_bytes());
        }
        prop_assert_eq!(open(&mut server, now, &junk), None);
    }

    /// Authentic packets with any content are harmless.
    #[test]
    fn any_content_is_harmless(content in prop::collection::vec(any::<u8>(), 1..200)) {
        let now = Instant::now();
        let (mut client, mut server) = pair(ALGORITHMS[1], now);
        let datagram = seal(&mut client, &content);
        let opened = open(&mut server, now, &datagram);
        if let Some(payload) = opened {
            prop_assert_eq!(payload, content);
        }
    }
}
