//! The vectors of `specs/vectors/esp`.

use std::collections::HashMap;

use culvert_record::{OpenError, PacketSealer};
use culvert_vocab::SecretBytes;
use data_encoding::HEXLOWER;

use crate::association::{Association, Encryption, Integrity, Spi};
use crate::lzo;
use crate::opener::{Opened, Opener};
use crate::packet::{NextHeader, PREFIX_LEN};
use crate::sealer::Sealer;

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.trim().as_bytes()).unwrap()
}

fn encryption(name: &str) -> Encryption {
    match name {
        "aes-128-cbc" => Encryption::Aes128Cbc,
        "aes-256-cbc" => Encryption::Aes256Cbc,
        other => panic!("{other}"),
    }
}

fn integrity(name: &str) -> Integrity {
    match name {
        "md5" => Integrity::HmacMd5,
        "sha1" => Integrity::HmacSha1,
        "sha256" => Integrity::HmacSha256,
        other => panic!("{other}"),
    }
}

fn association(spi: u32, names: (&str, &str), encryption_key: Vec<u8>, mac_key: Vec<u8>) -> Association {
    Association::new(
        Spi::new(spi).unwrap(),
        encryption(names.0),
        SecretBytes::new(encryption_key),
        integrity(names.1),
        SecretBytes::new(mac_key),
    )
    .unwrap()
}

/// `count` octets that count up from `first`.
fn counting(first: u8, count: usize) -> Vec<u8> {
    (first..).take(count).collect()
}

/// The blocks of `key = value` lines between blank lines.
fn blocks(text: &'static str) -> Vec<HashMap<&'static str, &'static str>> {
    text.split("\n\n")
        .map(|block| {
            block
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect::<HashMap<_, _>>()
        })
        .filter(|block| !block.is_empty())
        .collect()
}

#[test]
fn packets_are_built_and_opened_as_computed() {
    let mut pairs = std::collections::HashSet::new();
    for block in blocks(include_str!("../tests/vectors/encrypt.txt")) {
        let names = (block["enc"], block["mac"]);
        pairs.insert(names);
        let spi = u32::from_str_radix(block["spi"], 16).unwrap();
        let association = association(spi, names, hex(block["enc_key"]), hex(block["mac_key"]));
        let next_header = block["next_header"].split(' ').next().unwrap().parse().unwrap();
        let next_header = NextHeader::from_octet(next_header).unwrap();
        let sequence = u32::from_str_radix(block["seq"], 16).unwrap();
        let (inner, packet) = (hex(block["inner"]), hex(block["packet"]));

        let sealer = Sealer::new(&association).unwrap();
        let mut buffer = vec![0xee; PREFIX_LEN + inner.len() + sealer.tailroom()];
        buffer[PREFIX_LEN..PREFIX_LEN + inner.len()].copy_from_slice(&inner);
        let iv = hex(block["iv"]).try_into().unwrap();
        let len = sealer
            .lay_out_with(sequence, iv, next_header, &mut buffer, inner.len())
            .unwrap();
        sealer.protect(&mut buffer[..len]);
        assert_eq!(buffer[..len], packet, "{}", block["name"]);

        let mut opener = Opener::new(&association).unwrap();
        let opened = opener.open(&mut buffer[..len]).unwrap();
        assert_eq!(opened.next_header, next_header);
        assert_eq!(buffer[opened.payload], inner, "{}", block["name"]);
    }
    assert_eq!(pairs.len(), 6, "{pairs:?}");
}

#[test]
fn packets_of_real_sessions_open() {
    let mut openers = HashMap::new();
    let mut packets = 0;
    for line in include_str!("../tests/vectors/captured.txt").lines() {
        if let Some(session) = line.strip_prefix("session = ") {
            let mut names = session.split([' ', ',']);
            let names = (names.next().unwrap(), names.next().unwrap());
            let (key_len, mac_len) = (encryption(names.0).key_len(), integrity(names.1).key_len());
            for (direction, spi, key, mac) in
                [("c2s", 0x1111_0001, 0, 0x80), ("s2c", 0x2222_0001, 0x40, 0xc0)]
            {
                let association = association(spi, names, counting(key, key_len), counting(mac, mac_len));
                openers.insert(direction, Opener::new(&association).unwrap());
            }
        }
        let words: Vec<_> = line.split(' ').collect();
        let [direction @ ("c2s" | "s2c"), _, next_header, _, inner, packet] = words[..] else {
            continue;
        };
        let mut packet = hex(packet);
        let opened = openers.get_mut(direction).unwrap().open(&mut packet).unwrap();
        assert_eq!(
            opened.next_header.octet(),
            next_header.parse::<u8>().unwrap(),
            "{line}"
        );
        assert_eq!(packet[opened.payload], hex(inner), "{line}");
        packets += 1;
    }
    assert!(packets > 30, "only {packets} packets");
}

#[test]
fn bad_packets_are_refused() {
    let association = association(
        0x2222_0001,
        ("aes-128-cbc", "sha1"),
        counting(0, 16),
        counting(0x80, 20),
    );
    let mut blocks_seen = 0;
    for block in blocks(include_str!("../tests/vectors/reject.txt")) {
        let (Some(packet), Some(verdict)) = (block.get("packet"), block.get("verdict")) else {
            continue;
        };
        blocks_seen += 1;
        let name = block["name"];
        let mut opener = Opener::new(&association).unwrap();
        let mut packet = hex(packet);
        let opened = opener.open(&mut packet);
        let number_used = opener.next_expected() > 0;
        match (*verdict, opened) {
            ("accept", Ok(_)) => assert!(number_used, "{name}"),
            ("drop-nomac", Err(error)) => {
                assert_ne!(error, OpenError::Replay, "{name}");
                assert!(!number_used, "{name}");
            }
            ("drop-after-auth", Err(error)) => {
                assert_eq!(error, OpenError::Malformed, "{name}");
                assert!(number_used, "{name}");
            }
            // Authentic, well-formed, and without use: who gets it drops it.
            (
                "drop-after-auth",
                Ok(Opened {
                    next_header: NextHeader::Dummy,
                    ..
                }),
            ) => {}
            (
                "drop-after-auth",
                Ok(Opened {
                    next_header: NextHeader::Lzo,
                    payload,
                }),
            ) => {
                assert!(
                    lzo::decompress(&packet[payload], &mut [0; 2048]).is_err(),
                    "{name}"
                );
            }
            (verdict, opened) => panic!("{name}: {verdict}, {opened:?}"),
        }
    }
    assert!(blocks_seen >= 18, "only {blocks_seen} blocks");
}
