//! The sealing half of an association, lent to another thread.

#![allow(clippy::unwrap_used)] // Helpers outside of `#[test]` functions too.

use std::time::Instant;

use culvert_dtls::{ApplicationSealer, CipherSuite, ClientConfig, Connection, Opened, ServerConfig};
use culvert_record::{ChannelState, SealError};
use culvert_vocab::SecretBytes;

fn deliver(from: &mut Connection, to: &mut Connection, now: Instant) {
    while let Some(mut datagram) = from.poll_transmit() {
        let mut rest = &mut datagram[..];
        while !rest.is_empty() {
            let Opened::Nothing { consumed } = to.open_record(now, rest) else {
                panic!("data")
            };
            rest = &mut rest[consumed..];
        }
    }
}

fn handshake(client: &mut Connection, server: &mut Connection, now: Instant) {
    while client.state() != ChannelState::Established || client.is_rekeying() {
        deliver(client, server, now);
        deliver(server, client, now);
    }
}

fn pair(suite: CipherSuite, now: Instant) -> (Connection, Connection) {
    let psk = SecretBytes::new(vec![1; 32]);
    let config = ClientConfig {
        suites: vec![suite],
        ..ClientConfig::new(psk.clone(), Vec::new())
    };
    let mut client = Connection::client(config, now);
    let mut server = Connection::server(ServerConfig::new(psk), now);
    handshake(&mut client, &mut server, now);
    (client, server)
}

/// Seals one packet and gives what the server makes of it.
fn send(
    seal: impl FnOnce(&mut [u8], usize) -> Result<usize, SealError>,
    headroom: usize,
    server: &mut Connection,
) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    buffer[headroom..headroom + 5].copy_from_slice(b"hello");
    let len = seal(&mut buffer, 5).unwrap();
    match server.open_record(Instant::now(), &mut buffer[..len]) {
        Opened::Application { payload, .. } => buffer[payload].to_vec(),
        Opened::Nothing { .. } => panic!("not opened"),
    }
}

fn send_at_home(client: &mut Connection, server: &mut Connection) {
    let headroom = client.headroom();
    let received = send(
        |buffer, len| client.seal_application(buffer, len),
        headroom,
        server,
    );
    assert_eq!(received, b"hello");
}

fn send_lent(sealer: &mut ApplicationSealer, server: &mut Connection) {
    let headroom = sealer.headroom();
    let received = send(
        |buffer, len| sealer.seal_application(buffer, len),
        headroom,
        server,
    );
    assert_eq!(received, b"hello");
}

#[test]
fn numbers_go_on_in_either_place_and_through_a_rehandshake() {
    for suite in CipherSuite::PSK {
        let now = Instant::now();
        let (mut client, mut server) = pair(suite, now);
        let sealed_len = client.sealed_len(1000);
        for round in 0..3 {
            send_at_home(&mut client, &mut server);
            let mut lent = client.take_sealer().unwrap();
            assert_eq!(lent.sealed_len(1000), sealed_len, "{suite:?}");
            for _ in 0..10 {
                send_lent(&mut lent, &mut server);
            }
            let mut buffer = vec![0; 200];
            assert_eq!(
                client.seal_application(&mut buffer, 5),
                Err(SealError::Exhausted),
                "nothing may be sealed in two places"
            );
            assert!(client.take_sealer().is_none(), "it is lent already");
            client.put_sealer(lent);
            send_at_home(&mut client, &mut server);
            if round == 1 {
                assert!(client.start_rekey(now));
                assert!(client.take_sealer().is_none(), "the handshake needs it");
                handshake(&mut client, &mut server, now);
            }
        }
    }
}

#[test]
fn only_an_established_client_lends() {
    let now = Instant::now();
    let psk = SecretBytes::new(vec![1; 32]);
    let mut early = Connection::client(ClientConfig::new(psk, Vec::new()), now);
    assert!(early.take_sealer().is_none());
    let (_, mut server) = pair(CipherSuite::PSK[0], now);
    assert!(server.take_sealer().is_none());
}

#[test]
fn a_farewell_is_noticed_and_answered_with_nothing() {
    let now = Instant::now();
    let (mut client, mut server) = pair(CipherSuite::PSK[0], now);
    let lent = client.take_sealer().unwrap();
    server.close();
    deliver(&mut server, &mut client, now);
    assert_eq!(client.state(), ChannelState::Failed);
    assert_eq!(client.poll_transmit(), None);
    client.put_sealer(lent);
    assert_eq!(client.state(), ChannelState::Failed);
}
