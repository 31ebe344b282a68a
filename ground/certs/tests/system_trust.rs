//! The system's trust store, named by a variable: the tests run themselves once more with it set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

/// 2026-06-01.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_780_272_000));
const FOLDER: &str = "CULVERT_TEST_FOLDER";

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["vpn.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params
}

fn make_store(folder: &Path) {
    for name in ["system", "own"] {
        let mut ca = params(name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let leaf = params("leaf").signed_by(&KeyPair::generate().unwrap(), &ca);
        fs::write(folder.join(format!("{name}-ca.pem")), ca.pem()).unwrap();
        fs::write(folder.join(format!("{name}-leaf.pem")), leaf.unwrap().pem()).unwrap();
    }
}

fn reason(folder: &Path, leaf: &str, allow_system: bool) -> Option<&'static str> {
    let mut anchors = Anchors::new();
    anchors
        .add_pem(&fs::read(folder.join("own-ca.pem")).unwrap())
        .unwrap();
    if allow_system {
        anchors.allow_system();
    }
    let policy = Policy::new(PolicySettings {
        host: Host::new("vpn.test"),
        host_is_sni: false,
        anchors: Arc::new(anchors),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    let leaf = CertificateDer::from_pem_file(folder.join(leaf)).unwrap();
    policy.verdict(&leaf, &[], NOW).unwrap().reason
}

#[test]
fn the_system_counts_where_it_is_allowed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let folder = tempfile::tempdir().unwrap();
        make_store(folder.path());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_system_counts_where_it_is_allowed"])
            .env(FOLDER, folder.path())
            .env("SSL_CERT_FILE", folder.path().join("system-ca.pem"))
            .status()
            .unwrap();
        assert!(status.success());
        return;
    };
    let folder = Path::new(&folder);
    assert_eq!(reason(folder, "system-leaf.pem", true), None);
    assert_eq!(reason(folder, "system-leaf.pem", false), Some("signer not found"));
    assert_eq!(reason(folder, "own-leaf.pem", true), None);
    // The own anchors do without the store.
    fs::remove_file(folder.join("system-ca.pem")).unwrap();
    assert_eq!(reason(folder, "own-leaf.pem", true), None);
    assert_eq!(reason(folder, "system-leaf.pem", true), Some("signer not found"));
}
