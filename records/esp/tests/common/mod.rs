//! Two ends of a channel.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::time::Instant;

use culvert_esp::{Association, ByteProbe, Channel, Encryption, Integrity, Spi};
use culvert_record::{ChannelState, DatagramChannel, DatagramOpened, FrameKind, PacketSealer};
use culvert_vocab::SecretBytes;

pub(crate) type End = Channel<ByteProbe>;

pub(crate) const ALGORITHMS: [(Encryption, Integrity); 6] = [
    (Encryption::Aes128Cbc, Integrity::HmacMd5),
    (Encryption::Aes128Cbc, Integrity::HmacSha1),
    (Encryption::Aes128Cbc, Integrity::HmacSha256),
    (Encryption::Aes256Cbc, Integrity::HmacMd5),
    (Encryption::Aes256Cbc, Integrity::HmacSha1),
    (Encryption::Aes256Cbc, Integrity::HmacSha256),
];

/// An association whose keys depend on `seed`.
pub(crate) fn association((encryption, integrity): (Encryption, Integrity), seed: u8) -> Association {
    Association::new(
        Spi::from_random([seed; 4]),
        encryption,
        SecretBytes::new(vec![seed; encryption.key_len()]),
        integrity,
        SecretBytes::new(vec![!seed; integrity.key_len()]),
    )
    .unwrap()
}

/// A client's and a server's end.
pub(crate) fn pair(algorithms: (Encryption, Integrity), now: Instant) -> (End, End) {
    let (up, down) = (association(algorithms, 1), association(algorithms, 2));
    let client = Channel::client(&down, &up, ByteProbe::client(false), now).unwrap();
    let server = Channel::server(&up, &down, ByteProbe::server(false)).unwrap();
    (client, server)
}

/// Carries what each end wants to send to the other.
pub(crate) fn exchange(client: &mut End, server: &mut End, now: Instant) {
    while let Some(mut datagram) = client.poll_transmit() {
        server.open(now, &mut datagram);
    }
    while let Some(mut datagram) = server.poll_transmit() {
        client.open(now, &mut datagram);
    }
}

/// Exchanges the first probes.
pub(crate) fn establish(client: &mut End, server: &mut End, now: Instant) {
    exchange(client, server, now);
    assert_eq!(client.state(), ChannelState::Established);
    assert_eq!(server.state(), ChannelState::Established);
}

/// An inner packet of this IP version and length.
pub(crate) fn packet(version: u8, len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|at| at as u8).collect();
    packet[0] = version << 4;
    packet
}

/// Seals a data packet.
pub(crate) fn seal(end: &mut End, inner: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; end.headroom()];
    buffer.extend_from_slice(inner);
    buffer.resize(buffer.len() + end.tailroom(), 0);
    let len = end.seal(FrameKind::Data, &mut buffer, inner.len()).unwrap();
    assert_eq!(len, end.sealed_len(inner.len()));
    buffer.truncate(len);
    buffer
}

/// Opens a datagram; the payload of a data packet, if it is one.
pub(crate) fn open(end: &mut End, now: Instant, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut datagram = datagram.to_vec();
    match end.open(now, &mut datagram) {
        DatagramOpened::Frame { frame, .. } if frame.kind == FrameKind::Data => {
            Some(datagram[frame.payload].to_vec())
        }
        DatagramOpened::Frame { .. } => None,
        DatagramOpened::Nothing { consumed } => {
            assert_eq!(consumed, datagram.len());
            None
        }
    }
}
