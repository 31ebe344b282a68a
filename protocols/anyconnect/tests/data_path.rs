//! Frames over real TLS and DTLS records, both ends in memory.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Instant;

use culvert_anyconnect::data::{CstpOpener, CstpSealer, DtlsChannel};
use culvert_anyconnect::psk::{PSK_EXPORTER_LABEL, PSK_LEN};
use culvert_anyconnect::wire::{FRAME_HEADER_LEN, FRAME_PAYLOAD_MAX, frame_header};
use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use culvert_record::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenError, PacketSealer, SealError,
    StreamOpened, StreamOpener, StreamSealer,
};
use culvert_tls::{
    Algorithms, ClientSettings, ContentType, Handshake, PrivateKey, Records, Sealer, ServerSettings, Version,
    server_config,
};
use culvert_vocab::SecretBytes;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

/// Both ends of a TLS connection and the exported key of the UDP channel.
fn connected(version: Version) -> (Records, Records, SecretBytes) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let signing = PrivateKey::from_pem(key.serialize_pem().as_bytes())
        .unwrap()
        .into_signing_key()
        .unwrap();
    let algorithms = Algorithms {
        versions: vec![version],
        ..Algorithms::default()
    };
    let server = server_config(ServerSettings {
        keys: vec![Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            Arc::new(signing),
        ))],
        sessions: None,
        client_verifier: None,
        algorithms: algorithms.clone(),
        server_precedence: true,
    })
    .unwrap();
    let policy = Policy::new(PolicySettings {
        host: Host::new("localhost"),
        host_is_sni: false,
        anchors: Arc::new(Anchors::new()),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    let settings = ClientSettings {
        verifier: Arc::new(policy),
        identity: None,
        algorithms,
    };
    let mut client = Handshake::client(&settings, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut server = Handshake::server(&server).unwrap();
    loop {
        let to_server = client.poll_transmit();
        let to_client = server.poll_transmit();
        if to_server.is_none() && to_client.is_none() {
            break;
        }
        if let Some(bytes) = to_server {
            server.handle_input(&bytes).unwrap();
        }
        if let Some(bytes) = to_client {
            client.handle_input(&bytes).unwrap();
        }
    }
    let mut keys = [[0; PSK_LEN]; 2];
    client.exporter(PSK_EXPORTER_LABEL, &mut keys[0]).unwrap();
    server.exporter(PSK_EXPORTER_LABEL, &mut keys[1]).unwrap();
    assert_eq!(keys[0], keys[1]);
    (
        client.into_records().unwrap(),
        server.into_records().unwrap(),
        SecretBytes::new(keys[0].to_vec()),
    )
}

fn seal(sealer: &mut impl PacketSealer, kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let headroom = sealer.headroom();
    let mut buffer = vec![0; headroom + payload.len() + sealer.tailroom()];
    buffer[headroom..headroom + payload.len()].copy_from_slice(payload);
    let len = sealer.seal(kind, &mut buffer, payload.len()).unwrap();
    assert_eq!(len, sealer.sealed_len(payload.len()));
    buffer.truncate(len);
    buffer
}

/// One record with these octets, which need not be a frame.
fn record(sealer: &mut Sealer, octets: &[u8]) -> Vec<u8> {
    let headroom = sealer.headroom();
    let mut buffer = vec![0; sealer.sealed_len(octets.len())];
    buffer[headroom..headroom + octets.len()].copy_from_slice(octets);
    let len = sealer
        .seal(ContentType::ApplicationData, &mut buffer, octets.len())
        .unwrap();
    buffer.truncate(len);
    buffer
}

fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    [&frame_header(kind, payload.len()).unwrap()[..], payload].concat()
}

/// Feeds a stream in pieces of `step` octets and returns its frames.
fn open_all(
    opener: &mut CstpOpener,
    stream: &[u8],
    step: usize,
) -> Result<Vec<(FrameKind, Vec<u8>)>, OpenError> {
    let mut frames = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match opener.open(&mut buffer)? {
                StreamOpened::Incomplete { need } => {
                    assert!(need > buffer.len());
                    break;
                }
                StreamOpened::Frame { consumed, frame } => {
                    frames.push((frame.kind, buffer[frame.payload].to_vec()));
                    buffer.drain(..consumed);
                }
                StreamOpened::Skipped { consumed } | StreamOpened::KeyUpdateRequested { consumed } => {
                    buffer.drain(..consumed);
                }
                StreamOpened::Closed { .. } => return Ok(frames),
            }
        }
    }
    Ok(frames)
}

#[test]
fn one_frame_per_record_both_ways() {
    for version in [Version::Tls12, Version::Tls13] {
        let (client, server, _) = connected(version);
        for (sealer, opener) in [(client.sealer, server.opener), (server.sealer, client.opener)] {
            let (mut sealer, mut opener) = (CstpSealer::new(sealer), CstpOpener::new(opener));
            let frames = [
                (FrameKind::Data, vec![0x45; 1400]),
                (FrameKind::ProbeRequest, Vec::new()),
                (FrameKind::ProbeResponse, b"hello".to_vec()),
                (FrameKind::Other(0x42), b"zz".to_vec()),
                (FrameKind::Data, vec![0x60; FRAME_PAYLOAD_MAX - FRAME_HEADER_LEN]),
                (FrameKind::Disconnect, b"\xb0bye".to_vec()),
            ];
            let mut stream: Vec<u8> = Vec::new();
            for (kind, payload) in &frames {
                stream.extend(seal(&mut sealer, *kind, payload));
            }
            assert_eq!(open_all(&mut opener, &stream, 1000), Ok(frames.to_vec()));
        }
    }
}

#[test]
fn key_updates_and_closing() {
    let (client, server, _) = connected(Version::Tls13);
    let (mut sealer, mut opener) = (CstpSealer::new(client.sealer), CstpOpener::new(server.opener));
    let mut stream = seal(&mut sealer, FrameKind::Data, b"one");
    sealer.rekey(true, &mut stream).unwrap();
    stream.extend(seal(&mut sealer, FrameKind::Data, b"two"));
    sealer.close(&mut stream).unwrap();
    let expected = [b"one", b"two"].map(|payload| (FrameKind::Data, payload.to_vec()));
    assert_eq!(
        open_all(&mut opener, &stream, stream.len()),
        Ok(expected.to_vec())
    );
}

#[test]
fn frames_that_share_records_or_are_spread_over_them() {
    let frames = [
        (FrameKind::Data, vec![1; 300]),
        (FrameKind::Keepalive, Vec::new()),
        (FrameKind::Data, vec![2; 200]),
        (FrameKind::ProbeRequest, vec![3; 100]),
    ];
    let plain: Vec<u8> = frames
        .iter()
        .flat_map(|(kind, payload)| frame(*kind, payload))
        .collect();
    for cut in [3, 8, 120, 310, 320, 500, plain.len()] {
        for step in [1, 37, 4096] {
            let (client, server, _) = connected(Version::Tls13);
            let (mut sealer, mut opener) = (client.sealer, CstpOpener::new(server.opener));
            let (first, second) = plain.split_at(cut);
            let mut stream = record(&mut sealer, first);
            sealer.key_update(true, &mut stream).unwrap();
            if !second.is_empty() {
                stream.extend(record(&mut sealer, second));
            }
            let mut sealer = CstpSealer::new(sealer);
            stream.extend(seal(&mut sealer, FrameKind::Data, b"after"));
            let mut expected = frames.to_vec();
            expected.push((FrameKind::Data, b"after".to_vec()));
            assert_eq!(
                open_all(&mut opener, &stream, step),
                Ok(expected),
                "cut {cut}, step {step}"
            );
        }
    }
}

#[test]
fn what_ends_the_stream() {
    let long = [&b"STF\x01"[..], &u16::MAX.to_be_bytes(), b"\0\0"].concat();
    for bad in [
        b"XTF\x01\0\0\x03\0".to_vec(),
        b"STF\x01\0\0\x03\x01".to_vec(),
        long,
    ] {
        let (client, server, _) = connected(Version::Tls13);
        let (mut sealer, mut opener) = (client.sealer, CstpOpener::new(server.opener));
        let stream = record(&mut sealer, &bad);
        assert_eq!(
            open_all(&mut opener, &stream, stream.len()),
            Err(OpenError::Malformed)
        );
    }
    // A frame in crumbs would make the receiver buffer without end.
    let (client, server, _) = connected(Version::Tls13);
    let (mut sealer, mut opener) = (client.sealer, CstpOpener::new(server.opener));
    let stream: Vec<u8> = frame(FrameKind::Data, &[0; 20])
        .iter()
        .flat_map(|octet| record(&mut sealer, &[*octet]))
        .collect();
    assert_eq!(
        open_all(&mut opener, &stream, stream.len()),
        Err(OpenError::Malformed)
    );
    // Junk instead of a record.
    let (_, server, _) = connected(Version::Tls13);
    let mut opener = CstpOpener::new(server.opener);
    assert!(open_all(&mut opener, &[0xff; 64], 64).is_err());
}

#[test]
fn oversize_frames_are_not_sealed() {
    let (client, _, _) = connected(Version::Tls13);
    let mut sealer = CstpSealer::new(client.sealer);
    let mut buffer = vec![0; 70_000];
    assert_eq!(
        sealer.seal(FrameKind::Data, &mut buffer, FRAME_PAYLOAD_MAX),
        Err(SealError::Oversize)
    );
    assert_eq!(
        sealer.seal(FrameKind::Data, &mut buffer, 65_536),
        Err(SealError::Oversize)
    );
    assert_eq!(
        sealer.seal(FrameKind::Data, &mut [0; 4], 0),
        Err(SealError::Buffer)
    );
}

/// Both ends of a UDP channel whose key comes from the TLS connection.
fn udp_channel(now: Instant) -> (DtlsChannel, DtlsChannel) {
    let (_, _, psk) = connected(Version::Tls13);
    let client = culvert_dtls::ClientConfig::new(psk.clone(), vec![7; 32]);
    let server = culvert_dtls::ServerConfig::new(psk);
    let mut client = DtlsChannel::new(culvert_dtls::Connection::client(client, now));
    let mut server = DtlsChannel::new(culvert_dtls::Connection::server(server, now));
    while client.state() != ChannelState::Established || server.state() != ChannelState::Established {
        let to_server: Vec<_> = std::iter::from_fn(|| client.poll_transmit()).collect();
        to_server
            .into_iter()
            .for_each(|mut datagram| assert_eq!(open_datagram(&mut server, now, &mut datagram), []));
        let to_client: Vec<_> = std::iter::from_fn(|| server.poll_transmit()).collect();
        assert!(!to_client.is_empty(), "the handshake is stuck");
        to_client
            .into_iter()
            .for_each(|mut datagram| assert_eq!(open_datagram(&mut client, now, &mut datagram), []));
    }
    (client, server)
}

fn open_datagram(channel: &mut DtlsChannel, now: Instant, datagram: &mut [u8]) -> Vec<(FrameKind, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < datagram.len() {
        let rest = &mut datagram[at..];
        at += match channel.open(now, rest) {
            DatagramOpened::Nothing { consumed } => consumed,
            DatagramOpened::Frame { consumed, frame } => {
                frames.push((frame.kind, rest[frame.payload].to_vec()));
                consumed
            }
        };
    }
    frames
}

#[test]
fn frames_in_datagrams() {
    let now = Instant::now();
    let (mut client, mut server) = udp_channel(now);
    assert_eq!(client.description(), server.description());
    let mut datagram = seal(&mut client, FrameKind::Data, &[0x45; 1200]);
    assert!(datagram.len() <= 1200 + client.record_overhead());
    datagram.extend(seal(&mut client, FrameKind::ProbeRequest, &[0x5a; 40]));
    let replay = datagram.clone();
    let expected = vec![
        (FrameKind::Data, vec![0x45; 1200]),
        (FrameKind::ProbeRequest, vec![0x5a; 40]),
    ];
    assert_eq!(open_datagram(&mut server, now, &mut datagram), expected);
    assert_eq!(
        open_datagram(&mut server, now, &mut replay.clone()),
        [],
        "replayed"
    );

    let mut corrupted = seal(&mut server, FrameKind::ProbeResponse, b"");
    let mut good = corrupted.clone();
    *corrupted.last_mut().unwrap() ^= 1;
    assert_eq!(open_datagram(&mut client, now, &mut corrupted), []);
    assert_eq!(
        open_datagram(&mut client, now, &mut good),
        [(FrameKind::ProbeResponse, Vec::new())]
    );
    assert_eq!(open_datagram(&mut client, now, &mut [0xff; 100]), []);
}
