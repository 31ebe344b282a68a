//! Handshakes with a pre-shared key.

use std::time::{Duration, Instant};

use culvert_dtls::{CipherSuite, ClientConfig, Connection, Error, ServerConfig};
use culvert_record::{ChannelState, SealError};
use culvert_vocab::SecretBytes;
use proptest::prelude::*;

use crate::network::{Fate, Pair, corrupted, fate, junk};

fn psk() -> SecretBytes {
    SecretBytes::new(vec![0x42; 32])
}

fn client_config() -> ClientConfig {
    ClientConfig::new(psk(), vec![7; 32])
}

fn pair(client: ClientConfig, server: ServerConfig, fates: Vec<Fate>) -> Pair {
    let now = Instant::now();
    Pair::new(
        Connection::client(client, now),
        Connection::server(server, now),
        now,
        fates,
    )
}

fn established(client: ClientConfig, server: ServerConfig) -> Pair {
    let now = Instant::now();
    Pair::established(
        Connection::client(client, now),
        Connection::server(server, now),
        now,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However the first datagrams fare, the handshake completes, and so do two rehandshakes.
    #[test]
    fn handshakes_complete_on_a_bad_network(
        fates in prop::collection::vec(fate(), 0..12),
        later in prop::collection::vec(fate(), 0..8),
        suite in prop::sample::select(CipherSuite::PSK.to_vec()),
        cookie_exchange: bool,
        extensions: bool,
        small in prop::sample::select(vec![256usize, 1232]),
    ) {
        let limit = Duration::from_secs(600);
        let client = ClientConfig {
            suites: vec![suite],
            extended_master_secret: extensions,
            handshake_limit: limit,
            identity: vec![b'x'; 600],
            mtu: small,
            ..client_config()
        };
        let server = ServerConfig { cookie_exchange, handshake_limit: limit, ..ServerConfig::new(psk()) };
        let mut pair = pair(client, server, fates);
        pair.run(limit);
        prop_assert!(pair.is_established(), "{:?} {:?}", pair.client.failure(), pair.server.failure());
        pair.exchange();
        pair.fates = later;
        for _ in 0..2 {
            prop_assert!(pair.client.start_rekey(pair.now));
            pair.run(limit);
            prop_assert!(pair.is_established() && !pair.client.is_rekeying() && !pair.server.is_rekeying());
            pair.exchange();
        }
    }

    /// A corrupted datagram of an established association is as good as lost.
    #[test]
    fn corrupted_data_is_dropped(octet: usize, xor in 1u8.., suite in prop::sample::select(CipherSuite::PSK.to_vec())) {
        let client = ClientConfig { suites: vec![suite], ..client_config() };
        established(client, ServerConfig::new(psk())).drops_what_is_corrupted(octet, xor);
    }

    /// A corrupted handshake never ends with different ideas of the keys: both ends are
    /// established and understand each other, or not both are.
    #[test]
    fn corrupted_handshakes_do_not_mislead(which in 0usize..5, octet: usize, xor in 1u8..) {
        let fates = corrupted(which, octet, xor);
        pair(client_config(), ServerConfig::new(psk()), fates).is_not_misled();
    }

    /// Arbitrary octets in every state neither panic nor disturb an established association.
    #[test]
    fn junk_never_panics(
        junk in junk(),
        prefix in prop::sample::select(vec![
            &[][..], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0], &[22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9],
            &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0], &[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 99]]),
        steps in 0usize..4,
    ) {
        pair(client_config(), ServerConfig::new(psk()), Vec::new()).withstands(&junk, prefix, steps);
    }

    #[test]
    fn hello_identifier_never_panics(junk in prop::collection::vec(any::<u8>(), 0..300), psk: bool) {
        let mut datagram = vec![22, 0xfe, 0xfd, 0, 0];
        datagram.extend_from_slice(&junk);
        let _ = culvert_dtls::hello_identifier(&junk, psk);
        if let Ok(identifier) = culvert_dtls::hello_identifier(&datagram, psk) {
            prop_assert!((1..=32).contains(&identifier.len()));
        }
    }
}

#[test]
fn replayed_and_reordered_data() {
    let mut pair = established(client_config(), ServerConfig::new(psk()));
    let records: Vec<_> = (0..70u8).map(|number| pair.seal(false, &[number])).collect();
    for number in [69, 6, 68, 69, 6, 5, 30, 30] {
        pair.deliver(true, records[number].clone());
    }
    let expected: [&[u8]; 4] = [&[69], &[6], &[68], &[30]];
    assert_eq!(pair.to_server, expected, "5 is too old, the others once");
}

#[test]
fn data_of_the_old_epoch_is_taken_for_a_while() {
    let mut pair = established(client_config(), ServerConfig::new(psk()));
    let late = [pair.seal(false, b"late"), pair.seal(false, b"too late")];
    assert!(pair.client.start_rekey(pair.now));
    pair.run(Duration::from_secs(1));
    assert!(!pair.client.is_rekeying());
    pair.deliver(true, late[0].clone());
    assert_eq!(pair.to_server, [b"late"]);
    pair.run(Duration::from_secs(11));
    pair.deliver(true, late[1].clone());
    assert_eq!(pair.to_server, [b"late"]);
}

#[test]
fn a_too_early_rehandshake_ends_the_association() {
    let server = ServerConfig {
        min_rehandshake_interval: Some(Duration::from_secs(60)),
        ..ServerConfig::new(psk())
    };
    let mut pair = established(client_config(), server);
    pair.run(Duration::from_secs(70));
    assert!(pair.client.start_rekey(pair.now));
    pair.run(Duration::from_secs(1));
    assert!(pair.is_established());
    assert!(pair.client.start_rekey(pair.now));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.server.failure(), Some(&Error::RehandshakeTooEarly));
    assert!(matches!(pair.client.failure(), Some(Error::Alert(_))));
}

#[test]
fn only_an_established_client_starts_a_rehandshake() {
    let now = Instant::now();
    assert!(!Connection::client(client_config(), now).start_rekey(now));
    let mut pair = established(client_config(), ServerConfig::new(psk()));
    assert!(!pair.server.start_rekey(pair.now));
    assert!(pair.client.start_rekey(pair.now));
    assert!(!pair.client.start_rekey(pair.now), "one at a time");
}

#[test]
fn different_keys_time_out() {
    let server = ServerConfig::new(SecretBytes::new(vec![1; 32]));
    let mut pair = pair(client_config(), server, Vec::new());
    pair.run(Duration::from_secs(11));
    assert_eq!(pair.client.state(), ChannelState::Connecting);
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.client.failure(), Some(&Error::Timeout));
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.server.failure(), Some(&Error::Timeout));
}

#[test]
fn no_common_suite() {
    let client = ClientConfig {
        suites: vec![CipherSuite::PskAes128CbcSha],
        ..client_config()
    };
    let server = ServerConfig {
        suites: vec![CipherSuite::PskAes128GcmSha256],
        ..ServerConfig::new(psk())
    };
    let mut pair = pair(client, server, Vec::new());
    pair.run(Duration::from_secs(13));
    assert_eq!(pair.server.failure(), Some(&Error::NoCommonSuite));
    assert!(matches!(pair.client.failure(), Some(Error::TimeoutAfterAlert(_))));
}

#[test]
fn unusable_configurations_fail_at_once() {
    let now = Instant::now();
    for config in [
        ClientConfig {
            app_id: vec![0; 33],
            ..client_config()
        },
        ClientConfig {
            suites: Vec::new(),
            ..client_config()
        },
        ClientConfig {
            psk: SecretBytes::default(),
            ..client_config()
        },
        ClientConfig {
            identity: vec![0; 65536],
            ..client_config()
        },
    ] {
        let mut client = Connection::client(config, now);
        assert!(matches!(client.failure(), Some(Error::Configuration(_))));
        assert_eq!(client.poll_transmit(), None);
    }
}

#[test]
fn the_client_retransmits_at_1_3_and_7_seconds() {
    let start = Instant::now();
    let mut client = Connection::client(client_config(), start);
    let mut seconds = Vec::new();
    let mut now = start;
    loop {
        while client.poll_transmit().is_some() {
            seconds.push((now - start).as_secs());
        }
        let Some(next) = client.poll_timeout() else { break };
        now = next;
        client.handle_timeout(now);
    }
    assert_eq!(seconds, [0, 1, 3, 7]);
    assert_eq!((now - start).as_secs(), 12);
    assert_eq!(client.failure(), Some(&Error::Timeout));
}

#[test]
fn closing_tells_the_peer() {
    let mut pair = established(client_config(), ServerConfig::new(psk()));
    pair.client.close();
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.failure(), Some(&Error::Closed));
    assert_eq!(pair.server.failure(), Some(&Error::ClosedByPeer));
}

#[test]
fn sealing_checks_its_arguments() {
    let mut pair = established(client_config(), ServerConfig::new(psk()));
    let room = pair.client.record_overhead();
    assert_eq!(
        pair.client.seal_application(&mut vec![0; room + 9], 10),
        Err(SealError::Buffer)
    );
    assert_eq!(
        pair.client.seal_application(&mut vec![0; 20000], 16385),
        Err(SealError::Oversize)
    );
    assert!(
        pair.client
            .seal_application(&mut vec![0; 16384 + room], 16384)
            .is_ok()
    );
    let mut idle = Connection::server(ServerConfig::new(psk()), pair.now);
    assert_eq!(idle.seal_application(&mut [0; 100], 1), Err(SealError::Exhausted));
}
