//! `--servercert`: the table that was checked against openconnect 9.01.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use culvert_certs::{Pins, certificate_text, common_name, spki_pin, subject, validity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("vectors/fp-cert.pem")).unwrap()
}

fn judge(pins: &[&str]) -> culvert_certs::PinJudgement {
    Pins::new(pins.iter().map(|pin| (*pin).to_owned()).collect())
        .judge(&certificate())
        .unwrap()
}

#[test]
fn table_of_vectors() {
    let mut rows = 0;
    for line in include_str!("vectors/servercert-match.txt").lines() {
        let (verdict, pin) = line.split_once(' ').unwrap_or((line, ""));
        let expected = match verdict {
            "accept" => true,
            "reject" => false,
            _ => continue,
        };
        assert_eq!(judge(&[pin]).accepted, expected, "{line}");
        rows += 1;
    }
    assert_eq!(rows, 28);
}

#[test]
fn any_pin_accepts() {
    assert!(judge(&["sha1:ffff", "sha512:00", "pin-sha256:XTR65jON"]).accepted);
}

#[test]
fn messages_of_a_mismatch() {
    let none = "None of the 2 fingerprint(s) specified via --servercert match server's certificate: \
                pin-sha256:XTR65jONLLwwW5y8piYE9aHSvyVz4ZgPHra9ToX8too=";
    assert_eq!(
        judge(&["sha512:00", "sha1:1cb"]).messages,
        [
            "Unknown certificate hash: sha512:00.",
            "Could not check server's certificate against sha512:00",
            "The size of the provided fingerprint is less than the minimum required (4).",
            none,
        ]
    );
    assert_eq!(
        judge(&["sha1:fff", "ffff"]).messages,
        [none],
        "a short text that does not match is no matter"
    );
}

#[test]
fn facts_of_a_certificate() {
    let certificate = certificate();
    assert_eq!(
        spki_pin(&certificate).unwrap(),
        "pin-sha256:XTR65jONLLwwW5y8piYE9aHSvyVz4ZgPHra9ToX8too="
    );
    assert_eq!(common_name(&certificate).unwrap(), "vpn.test");
    assert_eq!(subject(&certificate).unwrap(), "CN=vpn.test");
    let validity = validity(&certificate).unwrap();
    assert!(validity.not_before < validity.not_after);
    let text = certificate_text(&certificate).unwrap();
    for line in [
        "\tSubject: CN=vpn.test\n",
        "\tDNSname: *.wild.test\n",
        "\tIPAddress: 2001:db8::7\n",
        "EC (256 bits)",
        "\tSignature Algorithm: ecdsa-with-SHA256\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}
