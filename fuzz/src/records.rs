use std::time::{Duration, Instant};

use culvert_dtls::{
    CipherSuite, ClientConfig, Connection, Opened, ResumptionConfig, ServerConfig, Version, hello_identifier,
};
use culvert_esp::{Association, ByteProbe, Channel, Encryption, Integrity, NextHeader, Sealer, Spi};
use culvert_record::{DatagramChannel, DatagramOpened, PacketSealer};
use culvert_tls::Acceptor;
use culvert_vocab::SecretBytes;

/// A ClientHello, in two pieces.
pub(crate) fn tls_accept(data: &[u8]) {
    let mut acceptor = Acceptor::new();
    let (first, second) = data.split_at(data.len() / 2);
    for piece in [first, second] {
        match acceptor.handle_input(piece) {
            Ok(Some(hello)) => {
                let _ = hello.server_name();
                return;
            }
            Ok(None) => {}
            Err(_) => {
                let _ = acceptor.poll_transmit();
                return;
            }
        }
    }
}

/// Datagrams (length, content) to both ends of an association.
pub(crate) fn dtls(data: &[u8]) {
    let _ = hello_identifier(data, true);
    let now = Instant::now();
    let psk = SecretBytes::new(vec![1; 32]);
    let ends = [
        Connection::client(ClientConfig::new(psk.clone(), vec![2; 32]), now),
        Connection::server(ServerConfig::new(psk), now),
    ];
    feed(ends, now, data);
}

/// The same for both ends of resumed sessions, in both versions.
pub(crate) fn dtls_resumption(data: &[u8]) {
    let now = Instant::now();
    let config = |version, suite| {
        let secret = SecretBytes::new(vec![1; 48]);
        ResumptionConfig::client(version, suite, secret, vec![2; 32])
    };
    let older = config(Version::Dtls09, CipherSuite::RsaAes128CbcSha);
    let newer = config(Version::Dtls12, CipherSuite::RsaAes128GcmSha256);
    let ends = [
        Connection::resuming_client(older.clone(), now),
        Connection::resuming_server(older, now),
        Connection::resuming_client(newer.clone(), now),
        Connection::resuming_server(newer, now),
    ];
    feed(ends, now, data);
}

fn feed<const N: usize>(mut ends: [Connection; N], now: Instant, data: &[u8]) {
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        for end in &mut ends {
            let mut copy = datagram.to_vec();
            let mut open = &mut copy[..];
            while !open.is_empty() {
                let consumed = match end.open_record(now, open) {
                    Opened::Nothing { consumed } | Opened::Application { consumed, .. } => consumed,
                };
                assert!(consumed > 0, "no progress");
                open = open.get_mut(consumed..).unwrap_or_default();
            }
            while end.poll_transmit().is_some() {}
        }
    }
    for end in &mut ends {
        end.handle_timeout(now + Duration::from_secs(5));
    }
}

fn association(seed: u8) -> Option<Association> {
    let keys = |len| SecretBytes::new(vec![seed; len]);
    Association::new(
        Spi::from_random([seed; 4]),
        Encryption::Aes128Cbc,
        keys(16),
        Integrity::HmacSha1,
        keys(20),
    )
    .ok()
}

/// A datagram as it is, and the same octets as the authentic content of a packet.
pub(crate) fn esp(data: &[u8]) {
    let now = Instant::now();
    let (Some(up), Some(down)) = (association(1), association(2)) else {
        return;
    };
    let made = (
        Channel::server(&up, &down, ByteProbe::server(false)),
        Channel::server(&up, &down, ByteProbe::server(false)),
        Sealer::new(&up),
    );
    let (Ok(mut stranger), Ok(mut server), Ok(mut sealer)) = made else {
        return;
    };
    let opened = stranger.open(now, &mut data.to_vec());
    assert!(matches!(opened, DatagramOpened::Nothing { consumed } if consumed == data.len()));

    let next_header = match data.first() {
        Some(octet) if octet % 2 == 0 => NextHeader::Lzo,
        _ => NextHeader::of_packet(data),
    };
    let mut packet = vec![0; sealer.headroom()];
    packet.extend_from_slice(data);
    packet.resize(packet.len() + sealer.tailroom(), 0);
    let Ok(len) = sealer.seal_as(next_header, &mut packet, data.len()) else {
        return;
    };
    packet.truncate(len);
    if let DatagramOpened::Frame { frame, .. } = server.open(now, &mut packet) {
        let payload = packet.get(frame.payload).unwrap_or_default();
        assert_eq!(payload, data);
        let _ = server.decompress(payload, &mut [0; 2048]);
    }
    while server.poll_transmit().is_some() {}
}
