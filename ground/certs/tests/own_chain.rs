//! A server's own certificate files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use culvert_certs::{Anchors, CertError, CertificateChain};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData};

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

#[test]
fn order_is_repaired_and_strangers_are_left_out() {
    let root = CertifiedIssuer::self_signed(params("Root", true), KeyPair::generate().unwrap()).unwrap();
    let middle =
        CertifiedIssuer::signed_by(params("Middle", true), KeyPair::generate().unwrap(), &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = params("vpn.test", false).signed_by(&key, &middle).unwrap();
    let stranger = params("Stranger", false)
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap();
    let pem = [stranger.pem(), root.pem(), leaf.pem(), middle.pem()].concat();

    let spki = key.subject_public_key_info();
    let chain = CertificateChain::from_pem(pem.as_bytes(), |candidate| candidate == spki).unwrap();
    assert_eq!(
        chain.certificates(),
        [leaf.der().clone(), middle.der().clone(), root.der().clone()]
    );
    assert_eq!(chain.leaf(), leaf.der().as_ref());
    assert_eq!(
        CertificateChain::from_pem(pem.as_bytes(), |_| false),
        Err(CertError::KeyMismatch)
    );
    assert_eq!(
        CertificateChain::from_pem(b"", |_| true),
        Err(CertError::NotFound)
    );
    let nine = leaf.pem().repeat(9);
    assert_eq!(
        CertificateChain::from_pem(nine.as_bytes(), |_| true),
        Err(CertError::TooMany(8))
    );
}

#[test]
fn the_leaf_is_found_without_its_key() {
    let root = CertifiedIssuer::self_signed(params("Root", true), KeyPair::generate().unwrap()).unwrap();
    let middle =
        CertifiedIssuer::signed_by(params("Middle", true), KeyPair::generate().unwrap(), &root).unwrap();
    let leaf = params("vpn.test", false)
        .signed_by(&KeyPair::generate().unwrap(), &middle)
        .unwrap();
    let stranger = params("Stranger", true)
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap();
    let pems = [stranger.pem(), root.pem(), leaf.pem(), middle.pem()];
    let expected = [leaf.der().clone(), middle.der().clone(), root.der().clone()];
    for turn in 0..pems.len() {
        let mut order = pems.clone();
        order.rotate_left(turn);
        for order in [order.clone(), {
            order.reverse();
            order
        }] {
            let chain = CertificateChain::from_pem_without_key(order.concat().as_bytes()).unwrap();
            assert_eq!(chain.certificates(), expected);
        }
    }
    let alone = CertificateChain::from_pem_without_key(stranger.pem().as_bytes()).unwrap();
    assert_eq!(alone.leaf(), stranger.der().as_ref());
    assert_eq!(
        CertificateChain::from_pem_without_key(b"no certificate"),
        Err(CertError::NotFound)
    );
}

#[test]
fn sha1_of_the_leaf() {
    let chain = CertificateChain::from_pem(include_bytes!("vectors/fp-cert.pem"), |_| true).unwrap();
    let hex: String = chain
        .leaf_sha1()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(hex, "e1727070c4c9b307c42cc6c4c98b8aa687d2c017");
}

/// What a client sends: issuers from its own file, else from the anchors, never a root.
#[test]
fn chain_of_a_client() {
    let root = CertifiedIssuer::self_signed(params("Root", true), KeyPair::generate().unwrap()).unwrap();
    let middle =
        CertifiedIssuer::signed_by(params("Middle", true), KeyPair::generate().unwrap(), &root).unwrap();
    // The same name with another key: not the issuer.
    let impostor =
        CertifiedIssuer::signed_by(params("Middle", true), KeyPair::generate().unwrap(), &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = params("alice", false).signed_by(&key, &middle).unwrap();
    let spki = key.subject_public_key_info();
    let is_own = |candidate: &[u8]| candidate == spki;
    let [root_der, middle_der, impostor_der, leaf_der] =
        [root.der(), middle.der(), impostor.der(), leaf.der()].map(Clone::clone);
    let sent = |certificates, anchors: &Anchors| {
        let chain = CertificateChain::for_client(certificates, is_own, anchors);
        chain.map(CertificateChain::into_certificates)
    };
    let none = Anchors::new();
    let mut known = Anchors::new();
    known.add(impostor.der().clone()).unwrap();
    known.add(middle.der().clone()).unwrap();
    known.add(root.der().clone()).unwrap();

    let both = vec![leaf_der.clone(), middle_der.clone()];
    let mixed = vec![
        root_der.clone(),
        impostor_der.clone(),
        middle_der,
        leaf_der.clone(),
    ];
    assert_eq!(sent(mixed, &none).as_ref(), Ok(&both));
    assert_eq!(sent(vec![leaf_der.clone()], &known).as_ref(), Ok(&both));
    assert_eq!(
        sent(vec![leaf_der.clone(), impostor_der], &none),
        Ok(vec![leaf_der])
    );
    assert_eq!(sent(vec![root_der], &known), Err(CertError::KeyMismatch));
    let own = params("alice", false).self_signed(&key).unwrap();
    assert_eq!(sent(vec![own.der().clone()], &known), Ok(vec![own.der().clone()]));
}
