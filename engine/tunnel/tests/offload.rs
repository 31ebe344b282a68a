//! Splitting and joining against a plain reference model.

#![allow(clippy::unwrap_used)]

mod packets;

use std::collections::BTreeMap;

use culvert_tunnel::offload::{Coalescer, HEADER_LEN, PACKETS_MAX, Segmentation, Splitter, VnetHeader};
use packets::{Packet, Transport};
use proptest::prelude::*;

fn split(header: VnetHeader, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(header, &mut packet).unwrap();
    let mut segments = Vec::new();
    while let Some(len) = splitter.next_len() {
        let mut out = vec![0xee; len];
        assert_eq!(splitter.write_next(&mut out), Some(len));
        segments.push(out);
    }
    segments
}

/// Joins packets; every element is a super-packet with its vnet header.
fn join(packets: &[Vec<u8>], coalescer: &mut Coalescer) -> Vec<(usize, Vec<u8>)> {
    let mut buffer = packets.concat();
    let mut at = 0;
    for packet in packets {
        coalescer.push(&buffer, at..at + packet.len());
        at += packet.len();
    }
    let mut joined = Vec::new();
    coalescer.flush(&mut buffer, |what, parts| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        joined.push((what.packets, bytes));
    });
    joined
}

fn resplit(joined: &[(usize, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (count, bytes) in joined {
        let segments = split(VnetHeader::parse(bytes).unwrap(), bytes[HEADER_LEN..].to_vec());
        assert_eq!(segments.len(), *count);
        packets.extend(segments);
    }
    packets
}

/// Without the identification of packets that are never fragmented, which means nothing
/// (RFC 6864 §4.1).
fn canonical(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        let right = packets::ones_sum(&packet[..usize::from(packet[0] & 15) * 4]) == 0xffff;
        packet[4..6].fill(0);
        packet[10..12].copy_from_slice(&[u8::from(right), 0]);
    }
    packet
}

/// Packets by flow, in order.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    for packet in packets {
        let (addresses, protocol, transport) = if packet[0] >> 4 == 4 {
            (&packet[12..20], packet[9], usize::from(packet[0] & 15) * 4)
        } else {
            (&packet[8..40], packet[6], 40)
        };
        let key = [addresses, &[protocol], &packet[transport..transport + 4]].concat();
        flows.entry(key).or_default().push(canonical(packet));
    }
    flows
}

fn transport() -> impl Strategy<Value = Transport> {
    let tcp = (any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>(), 0usize..=10);
    let tcp = tcp.prop_map(|(sequence, ack, flags, window, options)| Transport::Tcp {
        sequence,
        ack,
        flags: flags & !0x06,
        window,
        options: vec![1; options * 4],
    });
    prop_oneof![tcp, Just(Transport::Udp)]
}

fn packet(payload: std::ops::Range<usize>) -> impl Strategy<Value = Packet> {
    let ip = (
        any::<bool>(),
        any::<u8>(),
        any::<u8>(),
        any::<u16>(),
        any::<bool>(),
        0u8..3,
    );
    (ip, transport(), prop::collection::vec(any::<u8>(), payload)).prop_map(|(ip, transport, payload)| {
        let (ipv6, tos, ttl, id, dont_fragment, ip_options) = ip;
        Packet {
            ipv6,
            flow: 1,
            tos,
            ttl,
            id,
            dont_fragment,
            ip_options,
            transport,
            payload,
        }
    })
}

fn header_for(packet: &Packet, size: usize) -> VnetHeader {
    let size = size as u16;
    let (segmentation, field) = match packet.transport {
        Transport::Tcp { .. } => (Segmentation::Tcp { size }, 16),
        Transport::Udp => (Segmentation::Udp { size }, 6),
    };
    VnetHeader {
        segmentation,
        partial_checksum: Some((packet.ip_len() as u16, field)),
    }
}

/// How one packet of a stream differs from what could be joined to the one before.
#[derive(Debug, Clone, Copy)]
enum Change {
    None,
    Flags(u8),
    Ack,
    Window,
    Ttl,
    Tos,
    Gap,
    Id,
    SameId,
    Options,
    Shorter,
    Longer,
    Empty,
    BadChecksum,
    BadIpChecksum,
    IpOptions,
    Fragment,
    Trailer,
    NoUdpChecksum,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        30 => Just(Change::None),
        5 => any::<u8>().prop_map(Change::Flags),
        1 => Just(Change::Ack),
        1 => Just(Change::Window),
        1 => Just(Change::Ttl),
        1 => Just(Change::Tos),
        1 => Just(Change::Gap),
        1 => Just(Change::Id),
        1 => Just(Change::SameId),
        1 => Just(Change::Options),
        2 => Just(Change::Shorter),
        1 => Just(Change::Longer),
        1 => Just(Change::Empty),
        1 => Just(Change::BadChecksum),
        1 => Just(Change::BadIpChecksum),
        1 => Just(Change::IpOptions),
        1 => Just(Change::Fragment),
        1 => Just(Change::Trailer),
        1 => Just(Change::NoUdpChecksum),
    ]
}

/// The next packet of a stream, changed; the stream's state moves on.
fn next_of(stream: &mut Packet, change: Change) -> Vec<u8> {
    let mut packet = stream.clone();
    match (change, &mut packet.transport) {
        (Change::Flags(bits), Transport::Tcp { flags, .. }) => *flags ^= bits,
        (Change::Ack, Transport::Tcp { ack, .. }) => *ack = ack.wrapping_add(1),
        (Change::Window, Transport::Tcp { window, .. }) => *window ^= 1,
        (Change::Gap, Transport::Tcp { sequence, .. }) => *sequence = sequence.wrapping_add(1),
        // A header has room for 40 octets of them (RFC 9293 §3.1).
        (Change::Options, Transport::Tcp { options, .. }) if options.len() < 40 => {
            options.extend_from_slice(&[1; 4]);
        }
        (Change::Ttl, _) => packet.ttl ^= 1,
        (Change::Tos, _) => packet.tos ^= 2,
        (Change::Id, _) => packet.id = packet.id.wrapping_add(9),
        (Change::SameId, _) => packet.id = packet.id.wrapping_sub(1),
        (Change::Shorter, _) => packet.payload.truncate(packet.payload.len() / 2),
        (Change::Longer, _) => packet.payload.push(1),
        (Change::Empty, _) => packet.payload.clear(),
        (Change::IpOptions, _) => packet.ip_options = 1,
        _ => {}
    }
    let mut bytes = packet.bytes();
    let transport = packet.ip_len();
    match change {
        Change::BadChecksum => *bytes.last_mut().unwrap() ^= 1,
        Change::BadIpChecksum if !packet.ipv6 => bytes[10] ^= 1,
        Change::Fragment if !packet.ipv6 => {
            bytes[6] = 0x20;
            let sum = {
                bytes[10..12].fill(0);
                !packets::ones_sum(&bytes[..transport])
            };
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Change::Trailer => bytes.push(0),
        Change::NoUdpChecksum if packet.transport == Transport::Udp => {
            bytes[transport + 6..transport + 8].fill(0);
        }
        _ => {}
    }
    *stream = packet;
    stream.id = stream.id.wrapping_add(1);
    stream.ip_options = 0;
    if let Transport::Tcp { sequence, flags, .. } = &mut stream.transport {
        *sequence = sequence.wrapping_add(stream.payload.len() as u32);
        *flags = 0x10;
    }
    bytes
}

fn stream(flow: u8, ipv6: bool, tcp: bool, dont_fragment: bool) -> Packet {
    let tcp_transport = Transport::Tcp {
        sequence: u32::MAX - 300,
        ack: 5,
        flags: 0x10,
        window: 500,
        options: vec![1; 12],
    };
    Packet {
        ipv6,
        flow,
        tos: 0,
        ttl: 64,
        id: u16::MAX - 2,
        dont_fragment,
        ip_options: 0,
        transport: if tcp { tcp_transport } else { Transport::Udp },
        payload: (0..100u8).collect(),
    }
}

proptest! {
    #[test]
    fn splitting_equals_the_reference(packet in packet(1..4000), size in 1usize..1500) {
        let segments = split(header_for(&packet, size), packet.partial());
        let expected: Vec<_> = packet.cut(size).iter().map(Packet::bytes).collect();
        prop_assert_eq!(segments, expected);
    }

    #[test]
    fn partial_checksums_are_completed(packet in packet(0..300)) {
        let header = VnetHeader { segmentation: Segmentation::None, ..header_for(&packet, 1) };
        prop_assert_eq!(split(header, packet.partial()), vec![packet.bytes()]);
        prop_assert_eq!(split(VnetHeader::PLAIN, packet.bytes()), vec![packet.bytes()]);
    }

    #[test]
    fn joining_what_was_split_gives_it_back(packet in packet(1..4000), size in 100usize..1500) {
        let mut packet = Packet { ip_options: 0, ..packet };
        if let Transport::Tcp { flags, .. } = &mut packet.transport {
            *flags &= 0x59;
        }
        let segments: Vec<_> = packet.cut(size).iter().map(Packet::bytes).collect();
        let joined = join(&segments, &mut Coalescer::new(true, true));
        prop_assert_eq!(joined.len(), 1);
        let (_, bytes) = &joined[0];
        let whole = if segments.len() > 1 { packet.partial() } else { packet.bytes() };
        prop_assert_eq!(&bytes[HEADER_LEN..], &whole[..]);
        if segments.len() > 1 {
            prop_assert_eq!(VnetHeader::parse(bytes).unwrap(), header_for(&packet, size));
        }
    }

    #[test]
    fn joining_changes_nothing_that_matters(
        kinds in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..4),
        steps in prop::collection::vec((0usize..4, change()), 1..PACKETS_MAX),
    ) {
        let mut streams: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(flow, (ipv6, tcp, dont_fragment))| stream(flow as u8, *ipv6, *tcp, *dont_fragment))
            .collect();
        let count = streams.len();
        let packets: Vec<_> =
            steps.iter().map(|(which, change)| next_of(&mut streams[which % count], *change)).collect();
        let mut coalescer = Coalescer::new(true, true);
        let again = resplit(&join(&packets, &mut coalescer));
        prop_assert_eq!(by_flow(&again), by_flow(&packets));
        // Nothing is left behind.
        prop_assert!(join(&[], &mut coalescer).is_empty());
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), others in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut bytes = bytes;
        if let Ok(header) = VnetHeader::parse(&bytes)
            && let Ok(mut splitter) = Splitter::new(header, &mut bytes[HEADER_LEN..])
        {
            let mut written = 0;
            while let Some(len) = splitter.next_len() {
                prop_assert_eq!(splitter.write_next(&mut vec![0; len]), Some(len));
                written += 1;
                prop_assert!(written <= 120, "bounded");
            }
        }
        join(&[bytes, others], &mut Coalescer::new(true, true));
    }

    #[test]
    fn nothing_panics_on_almost_right_packets(
        packet in packet(0..100),
        at in 0usize..80,
        value: u8,
        cut in 0usize..200,
        size in 0u16..100,
    ) {
        let mut bytes = packet.partial();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(cut);
        for segmentation in [Segmentation::None, Segmentation::Tcp { size }, Segmentation::Udp { size }] {
            let header = VnetHeader { segmentation, partial_checksum: Some((u16::from(value), 16)) };
            if let Ok(mut splitter) = Splitter::new(header, &mut bytes.clone()) {
                while let Some(len) = splitter.next_len() {
                    prop_assert_eq!(splitter.write_next(&mut vec![0; len]), Some(len));
                }
            }
        }
        join(&[bytes.clone(), bytes], &mut Coalescer::new(true, true));
    }
}

#[test]
fn four_streams_become_four_super_packets() {
    let mut streams: Vec<_> = (0..4)
        .map(|flow| stream(flow, flow % 2 == 0, flow < 3, true))
        .collect();
    let packets: Vec<_> = (0..40)
        .map(|index| next_of(&mut streams[index % 4], Change::None))
        .collect();
    let joined = join(&packets, &mut Coalescer::new(true, true));
    assert_eq!(
        joined.iter().map(|(count, _)| *count).collect::<Vec<_>>(),
        [10; 4]
    );
}

#[test]
fn kinds_can_be_switched_off() {
    let mut streams = [stream(0, false, true, true), stream(1, false, false, true)];
    let packets: Vec<_> = (0..8)
        .map(|index| next_of(&mut streams[index % 2], Change::None))
        .collect();
    let counts = |tcp, udp| -> Vec<usize> {
        join(&packets, &mut Coalescer::new(tcp, udp))
            .iter()
            .map(|(count, _)| *count)
            .collect()
    };
    assert_eq!(counts(true, true), [4, 4]);
    assert_eq!(counts(false, false), [1; 8]);
    assert_eq!(counts(true, false).len(), 5);
}

#[test]
fn super_packets_have_limits() {
    let mut tiny = stream(0, false, true, true);
    tiny.payload.truncate(1);
    let packets: Vec<_> = (0..100).map(|_| next_of(&mut tiny, Change::None)).collect();
    let joined = join(&packets, &mut Coalescer::new(true, true));
    assert_eq!(
        joined.iter().map(|(count, _)| *count).collect::<Vec<_>>(),
        [64, 36]
    );

    let mut large = stream(0, true, true, true);
    large.payload = vec![7; 9000];
    let packets: Vec<_> = (0..20).map(|_| next_of(&mut large, Change::None)).collect();
    let joined = join(&packets, &mut Coalescer::new(true, true));
    assert!(joined.iter().all(|(_, bytes)| bytes.len() <= HEADER_LEN + 65_535));
    assert_eq!(joined.len(), 3);
}
