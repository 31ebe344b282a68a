//! Both ends near the end of the sequence numbers (`specs/esp.md` §5, §14.7).

use std::time::Instant;

use culvert_record::{ChannelState, DatagramChannel, DatagramOpened, FrameKind};
use culvert_vocab::SecretBytes;

use crate::{Association, ByteProbe, Channel, Encryption, Integrity, NextHeader, Sealer, Spi};

/// The first number of which a client takes notice.
const NOTICED: u32 = u32::MAX - (1 << 20);

fn association(seed: u8) -> Association {
    Association::new(
        Spi::from_random([seed; 4]),
        Encryption::Aes128Cbc,
        SecretBytes::new(vec![seed; 16]),
        Integrity::HmacSha1,
        SecretBytes::new(vec![seed; 20]),
    )
    .unwrap()
}

/// A data packet with this number, whose last octet is `mark`.
fn datagram(sealer: &Sealer, sequence: u32, mark: u8) -> Vec<u8> {
    let mut inner = [0; 40];
    inner[0] = 0x45;
    inner[39] = mark;
    let mut buffer = vec![0; 24];
    buffer.extend_from_slice(&inner);
    buffer.resize(200, 0);
    let len = sealer
        .lay_out_with(sequence, [7; 16], NextHeader::Ipv4, &mut buffer, inner.len())
        .unwrap();
    buffer.truncate(len);
    sealer.protect(&mut buffer);
    buffer
}

/// The mark of the data that a datagram brings.
fn delivered(end: &mut Channel<ByteProbe>, datagram: &[u8]) -> Option<u8> {
    let mut datagram = datagram.to_vec();
    match end.open(Instant::now(), &mut datagram) {
        DatagramOpened::Frame { frame, .. } if frame.kind == FrameKind::Data => {
            datagram[frame.payload].last().copied()
        }
        _ => None,
    }
}

/// Ends that have proven the channel to each other.
fn pair() -> (Channel<ByteProbe>, Channel<ByteProbe>) {
    let (up, down, now) = (association(1), association(2), Instant::now());
    let mut client = Channel::client(&down, &up, ByteProbe::client(false), now).unwrap();
    let mut server = Channel::server(&up, &down, ByteProbe::server(false)).unwrap();
    while let Some(mut datagram) = client.poll_transmit() {
        server.open(now, &mut datagram);
    }
    while let Some(mut datagram) = server.poll_transmit() {
        client.open(now, &mut datagram);
    }
    assert_eq!(client.state(), ChannelState::Established);
    assert_eq!(server.state(), ChannelState::Established);
    (client, server)
}

/// Whatever the server sends until then arrives; then the client gives the channel up, long before the
/// server can send no more.
#[test]
fn a_client_sees_the_end_of_its_servers_numbers_coming() {
    let (mut client, _) = pair();
    let sealer = Sealer::new(&association(2)).unwrap();
    for (sequence, mark) in [(1000, 1), (NOTICED - 1, 2), (NOTICED - 2, 3)] {
        assert_eq!(
            delivered(&mut client, &datagram(&sealer, sequence, mark)),
            Some(mark)
        );
        assert_eq!(client.state(), ChannelState::Established, "{sequence}");
    }
    assert_eq!(delivered(&mut client, &datagram(&sealer, NOTICED, 4)), Some(4));
    assert_eq!(client.state(), ChannelState::Failed);
    assert_eq!(client.poll_timeout(), None);
    // What is still on its way arrives, too, and once.
    let late = datagram(&sealer, NOTICED + 1, 5);
    assert_eq!(delivered(&mut client, &late), Some(5));
    assert_eq!(delivered(&mut client, &late), None);
}

/// A server takes the last numbers as all others, and nothing after them.
#[test]
fn a_server_takes_all_numbers_and_none_again() {
    let (mut client, mut server) = pair();
    let sealer = Sealer::new(&association(1)).unwrap();
    for (mark, sequence) in (1..).zip([NOTICED, u32::MAX - 2, u32::MAX, u32::MAX - 1]) {
        let datagram = datagram(&sealer, sequence, mark);
        assert_eq!(delivered(&mut server, &datagram), Some(mark), "{sequence}");
        assert_eq!(delivered(&mut server, &datagram), None, "{sequence}");
        assert_eq!(server.state(), ChannelState::Established);
    }
    for sequence in [0, 1, 2, NOTICED, u32::MAX - 66] {
        assert_eq!(
            delivered(&mut server, &datagram(&sealer, sequence, 9)),
            None,
            "{sequence}"
        );
    }
    // The client's own next number is one of those: only new keys help, and they do.
    client.send_probe(Instant::now());
    let mut probe = client.poll_transmit().unwrap();
    assert!(matches!(
        server.open(Instant::now(), &mut probe),
        DatagramOpened::Nothing { .. }
    ));
    let (up, down, now) = (association(3), association(4), Instant::now());
    client.rekey(now, &down, &up).unwrap();
    server.rekey(now, &up, &down).unwrap();
    let sealer = Sealer::new(&up).unwrap();
    assert_eq!(delivered(&mut server, &datagram(&sealer, 1, 10)), Some(10));
}
