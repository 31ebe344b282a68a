//! Parsers of peer bytes never panic and never read beyond what they were given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::LazyLock;

use common::{CIPHERS, Identity, VERSIONS, client_settings, connected, localhost, only, server};
use culvert_tls::{Acceptor, Algorithms, HandOver, Handshake, Opened, PrivateKey, RemoteKey, Version};
use proptest::prelude::*;

/// Keys of one connection, packed, so that every case gets a fresh opener.
static PACKED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let pack = |version| {
        let algorithms = only(version, CIPHERS[1]);
        let config = server(vec![identity.certified()], algorithms.clone());
        let records = connected(&client_settings(algorithms), &config)
            .0
            .into_records()
            .unwrap();
        postcard::to_allocvec(&HandOver::new(records.sealer, records.opener).unwrap()).unwrap()
    };
    VERSIONS.map(pack).to_vec()
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn opener_takes_anything(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), tls12: bool, typ in 20u8..25, len in 0u16..300) {
        let version = if tls12 { Version::Tls12 } else { Version::Tls13 };
        let packed = &PACKED[VERSIONS.iter().position(|known| *known == version).unwrap()];
        let hand_over: HandOver = postcard::from_bytes(packed).unwrap();
        let (_, mut opener) = hand_over.into_halves().unwrap();
        if let Some(header) = bytes.first_chunk_mut::<5>() {
            let [high, low] = len.to_be_bytes();
            *header = [typ, 3, 3, high, low];
        }
        let available = bytes.len();
        match opener.open(&mut bytes) {
            Ok(Opened::Incomplete { need }) => prop_assert!(need > available),
            Ok(other) => prop_assert!(false, "forged record accepted: {:?}", other),
            Err(_) => {}
        }
    }

    #[test]
    fn handshakes_take_anything(bytes in proptest::collection::vec(any::<u8>(), 0..600), framed: bool) {
        let mut input = bytes;
        if framed {
            let [high, low] = (input.len() as u16).to_be_bytes();
            input.splice(0..0, [22, 3, 3, high, low]);
        }
        let mut client = Handshake::client(&client_settings(Algorithms::default()), localhost()).unwrap();
        let _ = client.handle_input(&input);
        prop_assert!(client.is_handshaking());
        let mut acceptor = Acceptor::new();
        let _ = acceptor.handle_input(&input);
        let _ = acceptor.poll_transmit();
    }

    #[test]
    fn keys_take_anything(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(PrivateKey::from_pem(&bytes).is_err());
        let sign = std::sync::Arc::new(|_, _, _: &[u8]| Ok(Vec::new()));
        let _ = RemoteKey::new(culvert_tls::KeyIndex(0), &bytes, sign);
        let _ = postcard::from_bytes::<HandOver>(&bytes).map(HandOver::into_halves);
    }
}
