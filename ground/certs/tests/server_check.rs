//! The standard check: chains, dates, algorithms, host names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use culvert_certs::{Anchors, Host, Policy, PolicySettings, server_end_point};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// 2026-06-01, inside of all validity periods made here unless a test says otherwise.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_780_272_000));

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn root(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(ca_params(name), key()).unwrap()
}

fn intermediate(params: CertificateParams, by: &Issuer) -> Issuer {
    CertifiedIssuer::signed_by(params, key(), by).unwrap()
}

fn leaf_params() -> CertificateParams {
    let mut params = params("vpn.test");
    params.subject_alt_names = vec![SanType::DnsName("vpn.test".try_into().unwrap())];
    params
}

fn issue(params: CertificateParams, by: &Issuer) -> CertificateDer<'static> {
    params.signed_by(&key(), by).unwrap().der().clone()
}

fn der(issuer: &Issuer) -> CertificateDer<'static> {
    issuer.der().clone()
}

fn policy(anchors: &[CertificateDer<'static>], host: &str) -> Policy {
    let mut store = Anchors::new();
    for anchor in anchors {
        store.add(anchor.clone()).unwrap();
    }
    Policy::new(PolicySettings {
        host: Host::new(host),
        host_is_sni: false,
        anchors: Arc::new(store),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    })
}

/// Reason for `vpn.test`; the anchors are the first argument.
fn reason(
    anchors: &[CertificateDer<'static>],
    leaf: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
) -> Option<&'static str> {
    policy(anchors, "vpn.test")
        .verdict(leaf, sent, NOW)
        .unwrap()
        .reason
}

#[test]
fn chains_to_a_root() {
    let root = root("Root");
    let middle = intermediate(ca_params("Middle"), &root);
    let leaf = issue(leaf_params(), &middle);
    assert_eq!(reason(&[der(&root)], &leaf, &[der(&middle)]), None);
    assert_eq!(
        reason(&[der(&root)], &leaf, &[der(&root), der(&middle)]),
        None,
        "order and surplus do not matter"
    );
    assert_eq!(reason(&[der(&root)], &leaf, &[]), Some("signer not found"));
    assert_eq!(
        reason(&[], &leaf, &[der(&middle), der(&root)]),
        Some("signer not found")
    );
}

#[test]
fn intermediates_and_leaves_are_anchors_too() {
    let root = root("Root");
    let middle = intermediate(ca_params("Middle"), &root);
    let leaf = issue(leaf_params(), &middle);
    assert_eq!(reason(&[der(&middle)], &leaf, &[]), None);
    assert_eq!(reason(std::slice::from_ref(&leaf), &leaf, &[]), None);
    let alone = leaf_params().self_signed(&key()).unwrap().der().clone();
    assert_eq!(reason(std::slice::from_ref(&alone), &alone, &[]), None);
    assert_eq!(reason(&[der(&root)], &alone, &[]), Some("signer not found"));
}

#[test]
fn another_ca_of_the_same_name_does_not_do() {
    let (root, other) = (root("Root"), root("Root"));
    let leaf = issue(leaf_params(), &root);
    assert_eq!(
        reason(&[der(&other)], &leaf, &[]),
        Some("signature verification failed")
    );
    assert_eq!(
        reason(&[der(&other), der(&root)], &leaf, &[]),
        None,
        "the right one is found"
    );
}

#[test]
fn a_leaf_cannot_sign() {
    let root = root("Root");
    let fake = intermediate(params("No CA"), &root);
    let leaf = issue(leaf_params(), &fake);
    assert_eq!(
        reason(&[der(&root)], &leaf, &[der(&fake)]),
        Some("signer not a CA certificate")
    );
    assert_eq!(
        reason(&[der(&fake)], &leaf, &[]),
        Some("signer not a CA certificate")
    );

    let mut without_purpose = ca_params("No signer");
    without_purpose.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let middle = intermediate(without_purpose, &root);
    let leaf = issue(leaf_params(), &middle);
    assert_eq!(
        reason(&[der(&root)], &leaf, &[der(&middle)]),
        Some("signer not a CA certificate")
    );
}

#[test]
fn path_length_is_kept() {
    let mut short = ca_params("Short");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = CertifiedIssuer::self_signed(short, key()).unwrap();
    assert_eq!(reason(&[der(&root)], &issue(leaf_params(), &root), &[]), None);
    let middle = intermediate(ca_params("Middle"), &root);
    let leaf = issue(leaf_params(), &middle);
    assert_eq!(
        reason(&[der(&root)], &leaf, &[der(&middle)]),
        Some("signer not a CA certificate")
    );
}

#[test]
fn name_constraints_bind() {
    let root = root("Root");
    for (permitted, expected) in [
        ("test", None),
        ("example.com", Some("signature verification failed")),
    ] {
        let mut narrow = ca_params("Narrow");
        narrow.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(permitted.into())],
            excluded_subtrees: vec![],
        });
        let middle = intermediate(narrow, &root);
        let leaf = issue(leaf_params(), &middle);
        assert_eq!(
            reason(&[der(&root)], &leaf, &[der(&middle)]),
            expected,
            "{permitted}"
        );
    }
}

#[test]
fn dates() {
    let root = root("Root");
    let mut expired = leaf_params();
    expired.not_after = date_time_ymd(2026, 5, 1);
    assert_eq!(
        reason(&[der(&root)], &issue(expired.clone(), &root), &[]),
        Some("certificate expired")
    );
    let mut early = leaf_params();
    early.not_before = date_time_ymd(2026, 7, 1);
    assert_eq!(
        reason(&[der(&root)], &issue(early, &root), &[]),
        Some("certificate not yet activated")
    );

    let mut old_ca = ca_params("Old");
    old_ca.not_after = date_time_ymd(2026, 5, 1);
    let old = intermediate(old_ca, &root);
    let leaf = issue(leaf_params(), &old);
    assert_eq!(
        reason(&[der(&root)], &leaf, &[der(&old)]),
        Some("certificate expired")
    );

    // The signer's absence comes first, the host name last.
    assert_eq!(
        reason(&[], &issue(expired.clone(), &root), &[]),
        Some("signer not found")
    );
    let verdict = policy(&[der(&root)], "other.test")
        .verdict(&issue(expired, &root), &[], NOW)
        .unwrap();
    assert_eq!(verdict.reason, Some("certificate expired"));
}

#[test]
fn a_better_path_wins() {
    let root = root("Root");
    let middle_key = key();
    let mut expired = ca_params("Middle");
    expired.not_after = date_time_ymd(2026, 5, 1);
    let old = expired.signed_by(&middle_key, &root).unwrap().der().clone();
    let fresh = CertifiedIssuer::signed_by(ca_params("Middle"), middle_key, &root).unwrap();
    let leaf = issue(leaf_params(), &fresh);
    assert_eq!(reason(&[der(&root)], &leaf, &[old, der(&fresh)]), None);
}

#[test]
fn a_maze_of_certificates_ends() {
    // Many CAs of one name that all signed each other's keys: the number of paths explodes.
    let issuers: Vec<Issuer> = (0..12).map(|_| root("Maze")).collect();
    let leaf = issue(leaf_params(), &issuers[0]);
    let sent: Vec<_> = issuers.iter().map(der).collect();
    assert!(reason(&[], &leaf, &sent).is_some());
}

#[test]
fn every_signature_algorithm() {
    let algorithms: [&'static SignatureAlgorithm; 9] = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA256,
        &rcgen::PKCS_ECDSA_P521_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_RSA_SHA384,
        &rcgen::PKCS_RSA_SHA512,
    ];
    for algorithm in algorithms {
        let root = CertifiedIssuer::self_signed(ca_params("Root"), KeyPair::generate_for(algorithm).unwrap())
            .unwrap();
        assert_eq!(
            reason(&[der(&root)], &issue(leaf_params(), &root), &[]),
            None,
            "{algorithm:?}"
        );
        let has_no_hash = algorithm == &rcgen::PKCS_ED25519;
        let end_point = server_end_point(&der(&root)).unwrap();
        assert_eq!(end_point.is_none(), has_no_hash, "{algorithm:?}");
    }
}

/// Certificates that only OpenSSL makes. Needs the program `openssl`.
fn openssl(folder: &std::path::Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn read(folder: &std::path::Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(name)).unwrap()
}

#[test]
fn version_1_sha1_and_pss_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=Root",
    );
    openssl(
        folder,
        "req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=vpn.test",
    );
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out";
    openssl(folder, &format!("{sign} v1.pem"));
    openssl(folder, &format!("{sign} sha1.pem -sha1"));
    openssl(folder, &format!("{sign} md5.pem -md5"));
    openssl(folder, &format!("{sign} sha512.pem -sha512"));
    openssl(
        folder,
        &format!("{sign} pss.pem -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
    );
    let now = UnixTime::now();
    let anchors = [read(folder, "ca.pem")];
    let check = |name: &str| {
        policy(&anchors, "vpn.test")
            .verdict(&read(folder, name), &[], now)
            .unwrap()
            .reason
    };
    // RFC 5929 §4.1: the signature's own hash, but SHA-256 for the old ones.
    for (name, hash) in [
        ("v1.pem", "sha256"),
        ("sha1.pem", "sha256"),
        ("md5.pem", "sha256"),
        ("sha512.pem", "sha512"),
        ("pss.pem", "sha384"),
    ] {
        let der = read(folder, name);
        std::fs::write(folder.join("der"), &der).unwrap();
        openssl(folder, &format!("dgst -{hash} -binary -out hash der"));
        let expected = std::fs::read(folder.join("hash")).unwrap();
        assert_eq!(server_end_point(&der), Ok(Some(expected)), "{name}");
    }
    assert_eq!(check("v1.pem"), None, "X.509 v1 with a CN only");
    assert_eq!(check("pss.pem"), None);
    assert_eq!(check("sha1.pem"), Some("insecure algorithm"));
    assert_eq!(check("md5.pem"), Some("insecure algorithm"));

    let mut store = Anchors::new();
    store.add(anchors[0].clone()).unwrap();
    let lenient = Policy::new(PolicySettings {
        host: Host::new("vpn.test"),
        host_is_sni: false,
        anchors: Arc::new(store),
        allow_insecure_crypto: true,
        decide: Arc::new(|_| true),
    });
    assert_eq!(
        lenient
            .verdict(&read(folder, "sha1.pem"), &[], now)
            .unwrap()
            .reason,
        None
    );
    assert_eq!(
        lenient
            .verdict(&read(folder, "md5.pem"), &[], now)
            .unwrap()
            .reason,
        Some("insecure algorithm")
    );
}

#[test]
fn host_names() {
    let root = root("Root");
    let certificate = |common_name: &str, names: Vec<SanType>| {
        let mut params = params(common_name);
        params.subject_alt_names = names;
        issue(params, &root)
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = |address: &str| SanType::IpAddress(address.parse().unwrap());
    let full = certificate(
        "cn.test",
        vec![
            dns("vpn.test"),
            dns("*.wild.test"),
            dns("*.test"),
            dns("v*n.part.test"),
            address("192.0.2.7"),
            address("2001:db8::7"),
        ],
    );
    let only_cn = certificate("cn.test", vec![]);
    let cn_address = certificate("192.0.2.7", vec![]);
    let only_address = certificate("cn.test", vec![address("192.0.2.7")]);
    let uri = certificate(
        "cn.test",
        vec![SanType::URI("https://uri.test".try_into().unwrap())],
    );
    for (certificate, host, matches) in [
        (&full, "vpn.test", true),
        (&full, "VPN.TEST", true),
        (&full, "a.wild.test", true),
        (&full, "a.b.wild.test", false),
        (&full, "wild.test", false),
        (&full, "foo.test", false),
        (&full, "vpn.part.test", false),
        (&full, "vpn.test.", false),
        (&full, "cn.test", false),
        (&full, "192.0.2.7", true),
        (&full, "192.0.2.8", false),
        (&full, "2001:db8::7", true),
        (&full, "[2001:db8:0::7]", true),
        (&only_cn, "cn.test", true),
        (&only_cn, "CN.test", true),
        (&only_cn, "vpn.test", false),
        (&cn_address, "192.0.2.7", false),
        (&only_address, "cn.test", false),
        (&uri, "uri.test", false),
        (&uri, "cn.test", true),
    ] {
        let verdict = policy(&[der(&root)], host)
            .verdict(certificate, &[], NOW)
            .unwrap();
        let expected = if matches {
            None
        } else {
            Some("certificate does not match hostname")
        };
        assert_eq!(verdict.reason, expected, "{host}");
    }
}
