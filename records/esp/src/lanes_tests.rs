//! Many packets at a time give what one after the other gives.

use culvert_record::{FrameKind, PacketSealer};
use culvert_sys::lanes::{LANES, sha1};
use culvert_vocab::SecretBytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::association::{Association, Encryption, Integrity, Spi};
use crate::opener::Opener;
use crate::packet::{NextHeader, PREFIX_LEN};
use crate::sealer::Sealer;

fn association(encryption: Encryption, integrity: Integrity) -> Association {
    Association::new(
        Spi::from_random([9; 4]),
        encryption,
        SecretBytes::new(vec![1; encryption.key_len()]),
        integrity,
        SecretBytes::new(vec![2; integrity.key_len()]),
    )
    .unwrap()
}

fn algorithms() -> impl Strategy<Value = Association> {
    let encryption = prop_oneof![Just(Encryption::Aes128Cbc), Just(Encryption::Aes256Cbc)];
    let integrity = prop_oneof![
        3 => Just(Integrity::HmacSha1),
        1 => Just(Integrity::HmacMd5),
        1 => Just(Integrity::HmacSha256),
    ];
    (encryption, integrity).prop_map(|(encryption, integrity)| association(encryption, integrity))
}

/// An IPv4 packet as far as it matters here.
fn payload(number: usize, len: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; len];
    payload[0] = 0x45;
    payload
}

/// Records one behind the other, and their lengths.
fn prepared(sealer: &mut Sealer, lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let (mut all, mut sealed) = (Vec::new(), Vec::new());
    for (number, len) in lengths.iter().enumerate() {
        let mut buffer = vec![0; PREFIX_LEN];
        buffer.extend(payload(number, *len));
        buffer.resize(buffer.len() + sealer.tailroom(), 0xee);
        let record = sealer.prepare(FrameKind::Data, &mut buffer, *len).unwrap();
        sealed.push(record);
        all.extend_from_slice(&buffer[..record]);
    }
    (all, sealed)
}

proptest! {
    #[test]
    fn prepared_packets_are_those_that_are_sealed(
        association in algorithms(),
        runs in vec((1usize..200, 1usize..40), 1..6),
    ) {
        let lengths: Vec<usize> = runs
            .iter()
            .flat_map(|(len, count)| std::iter::repeat_n(*len, *count))
            .collect();
        let mut sealer = Sealer::new(&association).unwrap();
        let (mut records, sealed) = prepared(&mut sealer, &lengths);
        sealer.complete(&mut records, &mut sealed.iter().copied());
        let mut opener = Opener::new(&association).unwrap();
        let mut rest = records.as_mut_slice();
        for (number, (record, len)) in sealed.iter().zip(&lengths).enumerate() {
            let (packet, behind) = rest.split_at_mut(*record);
            rest = behind;
            let opened = opener.open(packet).unwrap();
            prop_assert_eq!(opened.next_header, NextHeader::Ipv4);
            prop_assert_eq!(&packet[opened.payload], payload(number, *len));
        }
    }

    #[test]
    fn a_run_is_checked_as_its_packets_are(
        count in 1usize..70,
        len in 1usize..200,
        last in 1usize..200,
        damaged in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let association = association(Encryption::Aes128Cbc, Integrity::HmacSha1);
        let mut sealer = Sealer::new(&association).unwrap();
        let mut lengths = vec![len; count];
        lengths.push(last.min(len));
        let (mut records, sealed) = prepared(&mut sealer, &lengths);
        sealer.complete(&mut records, &mut sealed.iter().copied());
        for place in damaged {
            let place = place.index(records.len());
            records[place] ^= 1;
        }
        let segment = sealed[0];
        let opener = Opener::new(&association).unwrap();
        let authentic = opener.check_run(&records, segment);
        for (number, datagram) in records.clone().chunks_mut(segment).enumerate() {
            let says = number < 64 && authentic >> number & 1 == 1;
            let opens = Opener::new(&association).unwrap().open(datagram).is_ok();
            prop_assert!(opens || !says, "{number}");
        }
    }
}

/// Also on a processor where lanes are not worth it.
#[test]
fn lanes_and_single_packets_agree() {
    let association = association(Encryption::Aes256Cbc, Integrity::HmacSha1);
    let mut sealer = Sealer::new(&association).unwrap();
    for (len, count) in [(20, LANES - 1), (1400, LANES - 1), (57, 11), (120, 1)] {
        // The last one shorter by anything: its end falls upon any block of the others, their ends too.
        for last in (1..=len).step_by(if len > 200 { 11 } else { 1 }) {
            let mut lengths = vec![len; count];
            lengths.push(last);
            let (mut records, sealed) = prepared(&mut sealer, &lengths);
            let mut singly = records.clone();
            sealer.protect_lanes(&mut records, sealed[0]);
            singly
                .chunks_mut(sealed[0])
                .for_each(|packet| sealer.protect(packet));
            assert_eq!(records, singly, "{len}, {last}");
        }
    }
}

#[test]
fn whole_runs_are_checked_where_it_is_fast() {
    let association = association(Encryption::Aes128Cbc, Integrity::HmacSha1);
    let mut sealer = Sealer::new(&association).unwrap();
    for last in [1, 37, 99, 100] {
        let mut lengths = vec![100; 42];
        lengths.push(last);
        let (mut records, sealed) = prepared(&mut sealer, &lengths);
        sealer.complete(&mut records, &mut sealed.iter().copied());
        let authentic = Opener::new(&association).unwrap().check_run(&records, sealed[0]);
        let expected = if sha1::worth().is_some() { (1 << 43) - 1 } else { 0 };
        assert_eq!(authentic, expected, "{last}");
    }
}
