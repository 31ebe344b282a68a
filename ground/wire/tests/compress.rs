//! Compression against captured and constructed packets, and round trips.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use culvert_wire::compress::{Method, compress, decompress};
use proptest::prelude::*;

const VECTORS: &str = include_str!("vectors/compression.txt");
/// Octets of the CSTP header before the compressed payload of a captured frame.
const FRAME_HEADER: usize = 8;

/// Compressed payloads with their plaintext from the section of the vectors with this heading.
fn section(heading: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let hex = |text: &str| {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .expect("hex in the vectors")
    };
    let mut packets = Vec::new();
    let mut compressed = None;
    let mut inside = false;
    for line in VECTORS.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title.starts_with(heading);
        } else if !inside {
            continue;
        } else if let Some(frame) = line.strip_prefix("frame=") {
            compressed = Some(hex(frame).split_off(FRAME_HEADER));
        } else if let Some(payload) = line.strip_prefix("compressed=") {
            compressed = Some(hex(payload));
        } else if let Some(plain) = line.strip_prefix("plain=") {
            packets.push((
                compressed.take().expect("compressed form before the plain one"),
                hex(plain),
            ));
        }
    }
    assert!(!packets.is_empty(), "no vectors under {heading}");
    packets
}

fn unpack(method: Method, packet: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; room];
    let len = decompress(method, packet, &mut out).ok()?;
    out.truncate(len);
    Some(out)
}

fn pack(method: Method, packet: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; room];
    let len = compress(method, packet, &mut out)?;
    out.truncate(len);
    Some(out)
}

#[test]
fn captured_and_constructed_packets_decompress() {
    let sections = [
        (Method::Lz4, "LZ4 block"),
        (Method::Lzs, "LZS, sent by"),
        (Method::Lzs, "LZS, constructed"),
    ];
    for (method, heading) in sections {
        for (compressed, plain) in section(heading) {
            assert_eq!(
                unpack(method, &compressed, plain.len()).as_ref(),
                Some(&plain),
                "{heading}"
            );
            if !plain.is_empty() {
                assert_eq!(
                    unpack(method, &compressed, plain.len() - 1),
                    None,
                    "room is a limit"
                );
                assert_eq!(
                    unpack(method, &compressed[..compressed.len() - 1], plain.len()),
                    None,
                    "truncated"
                );
            }
        }
    }
}

#[test]
fn lzs_of_constructed_packets_is_the_obvious_one() {
    for (compressed, plain) in section("LZS, constructed") {
        let ours = pack(Method::Lzs, &plain, 1000).expect("room enough");
        assert!(
            ours.len() <= compressed.len(),
            "{} for {}",
            ours.len(),
            compressed.len()
        );
        assert_eq!(unpack(Method::Lzs, &ours, plain.len()), Some(plain));
    }
}

#[test]
fn lzs_malformed() {
    // Long form with offset 0; offset beyond the output; no end marker.
    for bad in [
        &[0b1000_0000, 0, 0, 0][..],
        &[0b1100_0001, 0, 0, 0],
        &[0x30, 0x98],
    ] {
        assert_eq!(unpack(Method::Lzs, bad, 100), None);
    }
}

proptest! {
    #[test]
    fn round_trip(seed in prop::collection::vec(any::<u8>(), 1..300), repeat in 1usize..8) {
        let packet = seed.repeat(repeat);
        for method in [Method::Lz4, Method::Lzs] {
            let packed = pack(method, &packet, packet.len() * 2 + 64).expect("room enough");
            let unpacked = unpack(method, &packed, packet.len());
            prop_assert_eq!(unpacked.as_ref(), Some(&packet));
            prop_assert!(pack(method, &packet, packed.len() - 1).is_none());
        }
    }

    #[test]
    fn never_panics(packet in prop::collection::vec(any::<u8>(), 0..300), room in 0usize..2000) {
        for method in [Method::Lz4, Method::Lzs] {
            unpack(method, &packet, room);
        }
    }
}
