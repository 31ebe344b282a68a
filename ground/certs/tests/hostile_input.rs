//! Certificates of hostile peers: no panic, no acceptance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use culvert_certs::{Anchors, CertificateChain, Host, Pins, Policy, PolicySettings, certificate_text};
use proptest::prelude::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

fn certificate() -> Vec<u8> {
    CertificateDer::from_pem_slice(include_bytes!("vectors/fp-cert.pem"))
        .unwrap()
        .to_vec()
}

fn look_at(der: Vec<u8>) -> bool {
    let _ = certificate_text(&der);
    let _ = Pins::new(vec!["ffff".into()]).judge(&der);
    let mut anchors = Anchors::new();
    anchors.add(CertificateDer::from(certificate())).unwrap();
    let policy = Policy::new(PolicySettings {
        host: Host::new("vpn.test"),
        host_is_sni: false,
        anchors: Arc::new(anchors),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_900_000_000));
    let der = CertificateDer::from(der);
    policy
        .verdict(&der, std::slice::from_ref(&der), now)
        .is_ok_and(|verdict| verdict.reason.is_none())
}

#[test]
fn the_unharmed_certificate_is_accepted() {
    assert!(look_at(certificate()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!look_at(bytes.clone()));
        let _ = Anchors::new().add_pem(&bytes);
        let _ = CertificateChain::from_pem(&bytes, |_| true);
        let _ = CertificateChain::from_pem_without_key(&bytes);
    }

    /// A single changed octet in the signed part never leaves a certificate acceptable: it is
    /// neither the anchor any more nor signed by it.
    #[test]
    fn damaged(position in 4usize..359, change in 1u8..) {
        let mut der = certificate();
        der[position] ^= change;
        prop_assert!(!look_at(der));
    }
}
