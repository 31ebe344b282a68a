//! Resumed sessions, in both versions.

use std::time::{Duration, Instant};

use culvert_dtls::{CipherSuite, Connection, Error, ResumptionConfig, ServerConfig, Version};
use culvert_record::ChannelState;
use culvert_vocab::SecretBytes;
use proptest::prelude::*;

use crate::network::{Fate, Pair, corrupted, fate, junk};

const ID: [u8; 32] = [7; 32];

fn secret() -> SecretBytes {
    SecretBytes::new(vec![0x42; 48])
}

fn client_config(version: Version, suite: CipherSuite) -> ResumptionConfig {
    ResumptionConfig::client(version, suite, secret(), ID.to_vec())
}

fn server_config(version: Version, suite: CipherSuite) -> ResumptionConfig {
    ResumptionConfig::server(version, suite, secret(), ID.to_vec())
}

fn pair(client: ResumptionConfig, server: ResumptionConfig, fates: Vec<Fate>) -> Pair {
    let now = Instant::now();
    let client = Connection::resuming_client(client, now);
    Pair::new(client, Connection::resuming_server(server, now), now, fates)
}

/// Every version with every suite that it has.
fn modes() -> Vec<(Version, CipherSuite)> {
    let dtls12 = CipherSuite::RESUMED.map(|suite| (Version::Dtls12, suite));
    let dtls09 = CipherSuite::RESUMED_SHA1.map(|suite| (Version::Dtls09, suite));
    dtls12.into_iter().chain(dtls09).collect()
}

fn established(version: Version, suite: CipherSuite) -> Pair {
    let mut pair = pair(
        client_config(version, suite),
        server_config(version, suite),
        Vec::new(),
    );
    pair.run(Duration::from_secs(1));
    assert!(pair.is_established(), "{version:?} {suite:?}");
    pair
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However the first datagrams fare, the handshake completes and data flows.
    #[test]
    fn handshakes_complete_on_a_bad_network(
        fates in prop::collection::vec(fate(), 0..12),
        (version, suite) in prop::sample::select(modes()),
    ) {
        let limit = Duration::from_secs(600);
        let client = ResumptionConfig { handshake_limit: limit, ..client_config(version, suite) };
        let server = ResumptionConfig { handshake_limit: limit, ..server_config(version, suite) };
        let mut pair = pair(client, server, fates);
        pair.run(limit);
        prop_assert!(pair.is_established(), "{:?} {:?}", pair.client.failure(), pair.server.failure());
        pair.exchange();
    }

    #[test]
    fn corrupted_data_is_dropped(
        octet: usize, xor in 1u8.., (version, suite) in prop::sample::select(modes()),
    ) {
        established(version, suite).drops_what_is_corrupted(octet, xor);
    }

    /// A corrupted handshake never ends with different ideas of the keys.
    #[test]
    fn corrupted_handshakes_do_not_mislead(
        which in 0usize..5, octet: usize, xor in 1u8.., (version, suite) in prop::sample::select(modes()),
    ) {
        let fates = corrupted(which, octet, xor);
        pair(client_config(version, suite), server_config(version, suite), fates).is_not_misled();
    }

    /// Arbitrary octets in every state neither panic nor disturb an established association.
    #[test]
    fn junk_never_panics(
        junk in junk(),
        prefix in prop::sample::select(vec![
            &[][..], &[22, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0],
            &[20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[22, 1, 0, 0, 1, 0, 0, 0, 0, 0, 9]]),
        steps in 0usize..4,
        (version, suite) in prop::sample::select(modes()),
    ) {
        let mut pair = pair(client_config(version, suite), server_config(version, suite), Vec::new());
        pair.withstands(&junk, prefix, steps);
    }
}

#[test]
fn there_is_no_rehandshake() {
    for (version, suite) in modes() {
        let mut pair = established(version, suite);
        assert!(!pair.client.start_rekey(pair.now));
        assert_eq!(pair.client.description(), Some(suite.description(version)));
        pair.exchange();
    }
}

/// The client has the last word, so it has to repeat it.
#[test]
fn a_lost_end_of_the_handshake_is_repeated() {
    for (version, suite) in modes() {
        // The client's first datagram and the server's answer arrive.
        let answer = vec![Fate::Deliver; 2];
        let fates = [answer, vec![Fate::Lose]].concat();
        let mut pair = pair(
            client_config(version, suite),
            server_config(version, suite),
            fates,
        );
        pair.run(Duration::from_millis(300));
        assert_eq!(pair.client.state(), ChannelState::Established);
        assert_eq!(pair.server.state(), ChannelState::Connecting);
        assert!(pair.client.take_sealer().is_none(), "it is still needed");
        pair.run(Duration::from_millis(1200));
        assert!(pair.is_established());
        pair.exchange();
        assert!(pair.client.take_sealer().is_some());
    }
}

#[test]
fn another_session_is_refused() {
    for version in [Version::Dtls12, Version::Dtls09] {
        let suite = CipherSuite::RsaAes128CbcSha;
        let other = ResumptionConfig {
            session_id: vec![8; 32],
            ..server_config(version, suite)
        };
        let mut pair = pair(client_config(version, suite), other, Vec::new());
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.server.failure(), Some(&Error::ResumptionRefused));
        assert_eq!(pair.client.state(), ChannelState::Connecting);
    }
}

/// A server that begins a session of its own would have to be believed without any proof.
#[test]
fn a_full_handshake_is_refused() {
    let suite = CipherSuite::PskChacha20Poly1305Sha256;
    let now = Instant::now();
    let client = Connection::resuming_client(client_config(Version::Dtls12, suite), now);
    let server = Connection::server(ServerConfig::new(SecretBytes::new(vec![0x42; 48])), now);
    let mut pair = Pair::new(client, server, now, Vec::new());
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.failure(), Some(&Error::ResumptionRefused));
    assert_eq!(pair.server.state(), ChannelState::Connecting);
}

#[test]
fn another_secret_completes_nothing() {
    for (version, suite) in modes() {
        let other = ResumptionConfig {
            master_secret: SecretBytes::new(vec![1; 48]),
            ..server_config(version, suite)
        };
        let mut pair = pair(client_config(version, suite), other, Vec::new());
        pair.run(Duration::from_secs(100));
        assert_eq!(pair.client.failure(), Some(&Error::Timeout));
        assert_eq!(pair.server.failure(), Some(&Error::Timeout));
    }
}

#[test]
fn versions_do_not_mix() {
    let suite = CipherSuite::RsaAes128CbcSha;
    for (client, server) in [
        (Version::Dtls12, Version::Dtls09),
        (Version::Dtls09, Version::Dtls12),
    ] {
        let mut pair = pair(
            client_config(client, suite),
            server_config(server, suite),
            Vec::new(),
        );
        pair.run(Duration::from_secs(1));
        assert!(matches!(pair.server.failure(), Some(Error::Version(_))));
        assert_eq!(pair.client.state(), ChannelState::Connecting);
    }
}

#[test]
fn unusable_configurations_fail_at_once() {
    let usable = client_config(Version::Dtls09, CipherSuite::RsaAes128CbcSha);
    for config in [
        ResumptionConfig {
            master_secret: SecretBytes::new(vec![0; 47]),
            ..usable.clone()
        },
        ResumptionConfig {
            session_id: Vec::new(),
            ..usable.clone()
        },
        ResumptionConfig {
            suites: vec![CipherSuite::RsaAes128GcmSha256],
            ..usable.clone()
        },
        ResumptionConfig {
            version: Version::Dtls12,
            suites: vec![CipherSuite::PskAes128CbcSha],
            ..usable.clone()
        },
    ] {
        let now = Instant::now();
        for mut end in [
            Connection::resuming_client(config.clone(), now),
            Connection::resuming_server(config, now),
        ] {
            assert!(matches!(end.failure(), Some(Error::Configuration(_))));
            assert_eq!(end.poll_transmit(), None);
        }
    }
}
