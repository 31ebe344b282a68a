//! What is counted: the steps of a packet, and its whole way.

use std::hint::black_box;
use std::time::Instant;

use culvert_dtls::CipherSuite;
use culvert_record::{DatagramChannel, DatagramOpened, FrameKind, PacketSealer, StreamOpened, StreamOpener};
use culvert_tunnel::offload::{Coalescer, Segmentation, Splitter, VnetHeader};

use crate::{channels, pump};

/// Octets of payload in one packet of bulk data, and packets in one super-packet.
const SEGMENT: usize = 1350;
const SEGMENTS: usize = 47;
/// Octets of IP and TCP header.
const HEADERS: usize = 40;
/// Octets of a whole packet.
const PACKET: usize = HEADERS + SEGMENT;
/// Super-packets that are counted.
const ROUNDS: usize = 20;
const PACKETS: usize = ROUNDS * SEGMENTS;

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Packets that `run` sends through what is counted.
    pub(crate) packets: u32,
    pub(crate) run: fn(),
}

const fn case(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        packets: PACKETS as u32,
        run,
    }
}

pub(crate) const CASES: [Case; 12] = [
    case("split", split),
    case("coalesce", coalesce),
    case("seal DTLS AES-128-GCM", || {
        seal_dtls(CipherSuite::PskAes128GcmSha256)
    }),
    case("open DTLS AES-128-GCM", || {
        open_dtls(CipherSuite::PskAes128GcmSha256)
    }),
    case("seal DTLS AES-256-GCM", || {
        seal_dtls(CipherSuite::PskAes256GcmSha384)
    }),
    case("open DTLS AES-256-GCM", || {
        open_dtls(CipherSuite::PskAes256GcmSha384)
    }),
    case("seal CSTP in TLS 1.3", seal_tls),
    case("open CSTP in TLS 1.3", open_tls),
    case("two ends over DTLS, 1390 octets", || pump::dtls(PACKET, PACKETS)),
    case("two ends over DTLS, 228 octets", || pump::dtls(228, PACKETS)),
    case("two ends over TLS, 1390 octets", || pump::tls(PACKET, PACKETS)),
    case("two ends over TLS, 228 octets", || pump::tls(228, PACKETS)),
];

/// Callgrind counts while this function runs, and finds it by its name.
#[inline(never)]
pub(crate) fn measured(work: impl FnOnce()) {
    work();
}

/// A TCP super-packet with its vnet header's meaning.
fn super_packet() -> (VnetHeader, Vec<u8>) {
    let mut packet = vec![0x5a; HEADERS + SEGMENT * SEGMENTS];
    let [high, low] = (packet.len() as u16).to_be_bytes();
    packet[..20].copy_from_slice(&[
        0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    packet[20..40].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 1, 0, 0, 0, 0]);
    let header = VnetHeader {
        segmentation: Segmentation::Tcp { size: SEGMENT as u16 },
        partial_checksum: Some((20, 16)),
    };
    (header, packet)
}

fn split_into(out: &mut [u8], header: VnetHeader, packet: &mut [u8]) {
    let mut splitter = Splitter::new(header, packet).unwrap();
    let mut at = 0;
    while let Some(len) = splitter.write_next(&mut out[at..]) {
        at += len;
    }
    assert_eq!(at, PACKET * SEGMENTS);
}

fn split() {
    let (header, mut packet) = super_packet();
    let mut out = vec![0; PACKET * SEGMENTS];
    measured(|| {
        for _ in 0..ROUNDS {
            split_into(&mut out, header, black_box(&mut packet));
        }
    });
}

fn coalesce() {
    let (header, mut packet) = super_packet();
    let mut packets = vec![0; PACKET * SEGMENTS];
    split_into(&mut packets, header, &mut packet);
    let mut coalescer = Coalescer::new(true, true);
    let mut joined = 0;
    // Joining changes the first packet's headers, so that every round has its own packets.
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| packets.clone()).collect();
    measured(|| {
        for packets in &mut rounds {
            for at in (0..packets.len()).step_by(PACKET) {
                coalescer.push(black_box(packets), at..at + PACKET);
            }
            coalescer.flush(packets, |run, parts| {
                black_box(parts);
                joined += run.packets;
            });
        }
    });
    assert_eq!(joined, PACKETS);
}

/// Seals packets into one buffer, one behind the other, and returns the length of each record.
fn seal_all(sealer: &mut impl PacketSealer, out: &mut [u8]) -> usize {
    let room = sealer.headroom() + PACKET + sealer.tailroom();
    let mut len = 0;
    for at in 0..PACKETS {
        len = sealer
            .seal(FrameKind::Data, &mut out[at * room..(at + 1) * room], PACKET)
            .unwrap();
        assert_eq!(len, room);
    }
    len
}

/// Room for [`seal_all`], with packets that are IP.
fn room_for_all(sealer: &impl PacketSealer) -> Vec<u8> {
    vec![0x45; (sealer.headroom() + PACKET + sealer.tailroom()) * PACKETS]
}

fn seal_dtls(suite: CipherSuite) {
    let (mut client, _) = channels::dtls(suite);
    let mut out = room_for_all(&client);
    measured(|| {
        seal_all(&mut client, &mut out);
    });
}

fn open_dtls(suite: CipherSuite) {
    let (mut client, mut server) = channels::dtls(suite);
    let mut records = room_for_all(&client);
    let len = seal_all(&mut client, &mut records);
    let now = Instant::now();
    let mut opened = 0;
    measured(|| {
        for record in records.chunks_exact_mut(len) {
            opened += usize::from(matches!(server.open(now, record), DatagramOpened::Frame { .. }));
        }
    });
    assert_eq!(opened, PACKETS);
}

fn seal_tls() {
    let (mut client, _) = channels::tls();
    let mut out = room_for_all(&client.sealer);
    measured(|| {
        seal_all(&mut client.sealer, &mut out);
    });
}

fn open_tls() {
    let (mut client, mut server) = channels::tls();
    let mut records = room_for_all(&client.sealer);
    let len = seal_all(&mut client.sealer, &mut records);
    let mut opened = 0;
    measured(|| {
        for record in records.chunks_exact_mut(len) {
            opened += usize::from(matches!(
                server.opener.open(record),
                Ok(StreamOpened::Frame { .. })
            ));
        }
    });
    assert_eq!(opened, PACKETS);
}
