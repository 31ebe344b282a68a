//! The packet path must not allocate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CIPHERS, Identity, VERSIONS, client_settings, connected, only, server};
use culvert_tls::{ContentType, Opened};

#[test]
fn sealing_and_opening_allocate_nothing() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let algorithms = only(version, cipher);
            let config = server(vec![identity.certified()], algorithms.clone());
            let (client, server) = connected(&client_settings(algorithms), &config);
            let mut client = client.into_records().unwrap();
            let mut server = server.into_records().unwrap();
            let mut buffer = vec![0x45; 2048];
            let info = allocation_counter::measure(|| {
                for _ in 0..100 {
                    let len = client
                        .sealer
                        .seal(ContentType::ApplicationData, &mut buffer, 1400)
                        .unwrap();
                    let opened = server.opener.open(&mut buffer[..len]).unwrap();
                    assert!(matches!(opened, Opened::ApplicationData { consumed, .. } if consumed == len));
                }
            });
            assert_eq!(info.count_total, 0, "{version:?} {cipher:?}");
        }
    }
}
