//! Both phases of both sides, joined in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    CIPHERS, Identity, VERSIONS, client_settings, connected, exchange, handshake_record, localhost, only,
    server,
};
use culvert_record::{OpenError, SealError};
use culvert_tls::{
    Acceptor, Algorithms, ContentType, HandOver, Handshake, Opened, Opener, Records, Sealer, TlsError,
    Version,
};

fn sealed(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0; sealer.sealed_len(payload.len())];
    let start = sealer.headroom();
    record[start..start + payload.len()].copy_from_slice(payload);
    let len = sealer
        .seal(ContentType::ApplicationData, &mut record, payload.len())
        .unwrap();
    assert_eq!(len, record.len());
    record
}

fn opened(opener: &mut Opener, record: &mut [u8]) -> Vec<u8> {
    match opener.open(record).unwrap() {
        Opened::ApplicationData { consumed, payload } => {
            assert_eq!(consumed, record.len());
            record[payload].to_vec()
        }
        other => panic!("{other:?}"),
    }
}

fn taken_over(version: Version, cipher: culvert_tls::Cipher) -> (Records, Records) {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let algorithms = only(version, cipher);
    let config = server(vec![identity.certified()], algorithms.clone());
    let (client, server) = connected(&client_settings(algorithms), &config);
    (client.into_records().unwrap(), server.into_records().unwrap())
}

#[test]
fn http_then_records_both_ways() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let algorithms = only(version, cipher);
            let config = server(vec![identity.certified()], algorithms.clone());
            let (mut client, mut server) = connected(&client_settings(algorithms), &config);
            assert_eq!(server.server_name(), Some("localhost"));
            assert_eq!(client.peer_certificates().len(), 1);
            assert_eq!(client.description(), server.description());

            let (mut ours, mut theirs) = ([0; 32], [1; 32]);
            client.exporter("EXPORTER-openconnect-psk", &mut ours).unwrap();
            server.exporter("EXPORTER-openconnect-psk", &mut theirs).unwrap();
            assert_eq!(ours, theirs);
            // "tls-unique" is for TLS 1.2 alone.
            assert_eq!(client.client_finished(), server.client_finished());
            assert_eq!(client.client_finished().is_some(), version == Version::Tls12);

            client.write_plaintext(b"CONNECT").unwrap();
            exchange(&mut client, &mut server);
            assert_eq!(server.poll_plaintext().unwrap().unwrap(), b"CONNECT");
            assert_eq!(server.poll_plaintext().unwrap(), None);

            // The server's first packet arrives together with its answer and must stay outside
            // of the client's rustls.
            server.write_plaintext(b"HTTP/1.1 200 OK").unwrap();
            let mut flight = server.poll_transmit().unwrap();
            let mut server = server.into_records().unwrap();
            flight.extend(sealed(&mut server.sealer, b"first packet"));
            client.handle_input(&flight).unwrap();
            assert_eq!(client.poll_plaintext().unwrap().unwrap(), b"HTTP/1.1 200 OK");
            let mut client = client.into_records().unwrap();
            assert_eq!(opened(&mut client.opener, &mut client.unread), b"first packet");

            for size in [1, 8, 1400, 16384] {
                let payload = vec![0x45; size];
                assert_eq!(
                    opened(&mut client.opener, &mut sealed(&mut server.sealer, &payload)),
                    payload
                );
                assert_eq!(
                    opened(&mut server.opener, &mut sealed(&mut client.sealer, &payload)),
                    payload
                );
            }
        }
    }
}

#[test]
fn key_updates_of_both_sides() {
    for cipher in CIPHERS {
        let (mut client, mut server) = taken_over(Version::Tls13, cipher);
        for round in 0..40u8 {
            let mut message = Vec::new();
            client.sealer.key_update(true, &mut message).unwrap();
            let consumed = message.len();
            assert_eq!(
                server.opener.open(&mut message),
                Ok(Opened::KeyUpdate {
                    consumed,
                    requested: true
                })
            );
            let mut answer = Vec::new();
            server.sealer.key_update(false, &mut answer).unwrap();
            let consumed = answer.len();
            assert_eq!(
                client.opener.open(&mut answer),
                Ok(Opened::KeyUpdate {
                    consumed,
                    requested: false
                })
            );
            assert_eq!(
                opened(&mut server.opener, &mut sealed(&mut client.sealer, &[round])),
                [round]
            );
            assert_eq!(
                opened(&mut client.opener, &mut sealed(&mut server.sealer, &[round])),
                [round]
            );
        }
    }
}

#[test]
fn key_update_does_not_exist_in_tls12() {
    let (mut client, _) = taken_over(Version::Tls12, CIPHERS[0]);
    let mut out = Vec::new();
    client.sealer.key_update(true, &mut out).unwrap();
    assert!(out.is_empty() && !client.sealer.wants_key_update());
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let (mut client, mut server) = taken_over(Version::Tls13, CIPHERS[0]);
    let mut accepted = 0;
    loop {
        let mut message = Vec::new();
        client.sealer.key_update(false, &mut message).unwrap();
        match server.opener.open(&mut message) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error, OpenError::Malformed);
                break;
            }
        }
        assert!(accepted < 100);
    }
    assert_eq!(accepted, 32);
}

#[test]
fn halves_survive_a_hand_over() {
    for version in VERSIONS {
        for cipher in CIPHERS {
            let (mut client, mut server) = taken_over(version, cipher);
            opened(&mut server.opener, &mut sealed(&mut client.sealer, b"before"));
            let hand_over = HandOver::new(server.sealer, server.opener).unwrap();
            assert_eq!(format!("{hand_over:?}"), "HandOver(..)");
            let bytes = postcard::to_allocvec(&hand_over).unwrap();
            let arrived: HandOver = postcard::from_bytes(&bytes).unwrap();
            let (mut sealer, mut opener) = arrived.into_halves().unwrap();
            assert_eq!(opened(&mut opener, &mut sealed(&mut client.sealer, b"up")), b"up");
            assert_eq!(
                opened(&mut client.opener, &mut sealed(&mut sealer, b"down")),
                b"down"
            );
            let mut message = Vec::new();
            sealer.key_update(false, &mut message).unwrap();
            if version == Version::Tls13 {
                client.opener.open(&mut message).unwrap();
            }
            assert_eq!(
                opened(&mut client.opener, &mut sealed(&mut sealer, b"after")),
                b"after"
            );
        }
    }
}

#[test]
fn close_and_alerts() {
    for version in VERSIONS {
        let (mut client, mut server) = taken_over(version, CIPHERS[1]);
        let mut fatal = vec![0; client.sealer.sealed_len(2)];
        let start = client.sealer.headroom();
        fatal[start..start + 2].copy_from_slice(&[2, 80]);
        client.sealer.seal(ContentType::Alert, &mut fatal, 2).unwrap();
        assert_eq!(server.opener.open(&mut fatal), Err(OpenError::Alert(80)));

        let mut close = Vec::new();
        server.sealer.close_notify(&mut close).unwrap();
        let consumed = close.len();
        assert_eq!(client.opener.open(&mut close), Ok(Opened::Closed { consumed }));
    }
}

#[test]
fn tls12_renegotiation_is_refused() {
    let (mut client, mut server) = taken_over(Version::Tls12, CIPHERS[1]);
    let mut hello_request = vec![0; server.sealer.sealed_len(4)];
    server
        .sealer
        .seal(ContentType::Handshake, &mut hello_request, 4)
        .unwrap();
    assert_eq!(
        client.opener.open(&mut hello_request),
        Err(OpenError::Renegotiation)
    );
}

#[test]
fn tickets_are_skipped_also_over_several_records() {
    let (mut client, mut server) = taken_over(Version::Tls13, CIPHERS[1]);
    let ticket = [&[4, 0, 0x4e, 0x20][..], &[9; 20000]].concat();
    for part in [&ticket[..16000], &[&ticket[16000..], &[4, 0, 0, 1, 7]].concat()] {
        let mut record = handshake_record(&mut server.sealer, part);
        let consumed = record.len();
        assert_eq!(client.opener.open(&mut record), Ok(Opened::Ignored { consumed }));
    }
    assert_eq!(
        opened(&mut client.opener, &mut sealed(&mut server.sealer, b"data")),
        b"data"
    );
    // Clients have no tickets to give.
    let mut record = handshake_record(&mut client.sealer, &[4, 0, 0, 1, 7]);
    assert_eq!(server.opener.open(&mut record), Err(OpenError::Malformed));
}

#[test]
fn key_update_must_stand_alone() {
    for message in [
        &[24, 0, 0, 1, 2][..],
        &[24, 0, 0, 1, 0, 4, 0, 0, 0],
        &[24, 0, 0, 2, 0, 0],
        &[13, 0, 0, 0],
    ] {
        let (mut client, mut server) = taken_over(Version::Tls13, CIPHERS[1]);
        let mut record = handshake_record(&mut server.sealer, message);
        assert_eq!(
            client.opener.open(&mut record),
            Err(OpenError::Malformed),
            "{message:?}"
        );
    }
}

#[test]
fn damaged_replayed_and_reordered_records_are_refused() {
    for version in VERSIONS {
        for cipher in CIPHERS {
            let (mut client, mut server) = taken_over(version, cipher);
            let record = sealed(&mut client.sealer, b"payload");
            opened(&mut server.opener, &mut record.clone());
            assert_eq!(
                server.opener.open(&mut record.clone()),
                Err(OpenError::Authentication)
            );

            let (mut client, mut server) = taken_over(version, cipher);
            let mut record = sealed(&mut client.sealer, b"payload");
            *record.last_mut().unwrap() ^= 1;
            assert_eq!(server.opener.open(&mut record), Err(OpenError::Authentication));
        }
    }
}

#[test]
fn sizes_are_limited() {
    let (mut client, mut server) = taken_over(Version::Tls13, CIPHERS[1]);
    assert_eq!(
        server.opener.open(&mut [23, 3, 3]),
        Ok(Opened::Incomplete { need: 5 })
    );
    assert_eq!(
        server.opener.open(&mut [23, 3, 3, 1, 0, 9]),
        Ok(Opened::Incomplete { need: 5 + 256 })
    );
    assert_eq!(
        server.opener.open(&mut [23, 3, 3, 0x41, 1]),
        Err(OpenError::Malformed)
    );
    assert_eq!(
        server.opener.open(&mut [23, 2, 0, 0, 1]),
        Err(OpenError::Malformed)
    );
    let mut buffer = vec![0; 20000];
    assert_eq!(
        client
            .sealer
            .seal(ContentType::ApplicationData, &mut buffer, 16385),
        Err(SealError::Oversize)
    );
    assert_eq!(
        client
            .sealer
            .seal(ContentType::ApplicationData, &mut buffer[..100], 100),
        Err(SealError::Buffer)
    );
}

#[test]
fn acceptor_gives_the_name_before_the_configuration_is_chosen() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let mut client = Handshake::client(&client_settings(Algorithms::default()), localhost()).unwrap();
    let hello = client.poll_transmit().unwrap();
    let mut acceptor = Acceptor::new();
    let (last, first) = hello.split_last().unwrap();
    assert!(acceptor.handle_input(first).unwrap().is_none());
    let client_hello = acceptor.handle_input(&[*last]).unwrap().unwrap();
    assert_eq!(client_hello.server_name(), Some("localhost"));
    let mut server = client_hello
        .into_handshake(&config)
        .map_err(|(error, _)| error)
        .unwrap();
    exchange(&mut client, &mut server);
    let description = "(TLS1.3)-(ECDHE-X25519MLKEM768)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)";
    assert_eq!(server.description().unwrap(), description);
    assert_eq!(client.description().unwrap(), description);
}

#[test]
fn nothing_in_common_gives_an_alert() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], only(Version::Tls13, CIPHERS[0]));
    let mut client =
        Handshake::client(&client_settings(only(Version::Tls12, CIPHERS[0])), localhost()).unwrap();
    let hello = Acceptor::new()
        .handle_input(&client.poll_transmit().unwrap())
        .unwrap()
        .unwrap();
    let Err((TlsError::Tls(_), alert)) = hello.into_handshake(&config) else {
        panic!("a handshake with nothing in common");
    };
    assert_eq!(alert[0], 21);
    assert!(client.handle_input(&alert).is_err());
}

#[test]
fn what_is_not_tls_is_refused_at_once() {
    assert!(matches!(
        Acceptor::new().handle_input(b"GET / HTTP/1.1\r\n"),
        Err(TlsError::NotTls)
    ));
    let mut client = Handshake::client(&client_settings(Algorithms::default()), localhost()).unwrap();
    assert!(matches!(
        client.handle_input(b"HTTP/1.1 400 Bad\r\n"),
        Err(TlsError::NotTls)
    ));
}

#[test]
fn unread_input_is_bounded() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let (mut client, mut server) = connected(&client_settings(Algorithms::default()), &config);
    let mut flight = Vec::new();
    for _ in 0..10 {
        client.write_plaintext(&[7; 16384]).unwrap();
        flight.extend(client.poll_transmit().unwrap());
    }
    let (mut sent, mut received) = (0, 0);
    while received < 10 * 16384 {
        let taken = server.handle_input(&flight[sent..]).unwrap();
        assert!(taken <= 40000);
        sent += taken;
        while let Some(plaintext) = server.poll_plaintext().unwrap() {
            assert_eq!(plaintext.len(), 16384);
            received += plaintext.len();
        }
    }
    assert_eq!(sent, flight.len());
    assert!(matches!(
        client.write_plaintext(&[0; 16385]),
        Err(TlsError::Oversize(16385))
    ));
}

#[test]
fn close_notify_is_seen() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let (mut client, mut server) = connected(&client_settings(Algorithms::default()), &config);
    assert!(!server.peer_closed());
    client.write_plaintext(b"bye").unwrap();
    client.close_notify();
    exchange(&mut client, &mut server);
    assert_eq!(server.poll_plaintext().unwrap().unwrap(), b"bye");
    assert_eq!(server.poll_plaintext().unwrap(), None);
    assert!(server.peer_closed());
}

#[test]
fn take_over_waits_for_pending_output() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let (mut client, _) = connected(&client_settings(Algorithms::default()), &config);
    client.write_plaintext(b"request").unwrap();
    assert!(matches!(client.into_records(), Err(TlsError::PendingOutput)));
    let fresh = Handshake::client(&client_settings(Algorithms::default()), localhost()).unwrap();
    assert!(matches!(fresh.into_records(), Err(TlsError::Handshaking)));
}
