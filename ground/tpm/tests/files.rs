//! Key files: what the specification shows, and damage.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_tpm::{KeyFile, TpmError};
use proptest::prelude::*;
use x509_parser::pem::Pem;

/// Made by tpm2-tools with a software TPM: EC P-256 under the owner hierarchy.
const EC: &str = include_str!("vectors/ec.key");

fn pem(der: &[u8]) -> String {
    use std::fmt::Write;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN TSS2 PRIVATE KEY-----\n");
    for chunk in der.chunks(48) {
        let mut line = String::new();
        for group in chunk.chunks(3) {
            let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
            for at in 0..4 {
                let index = (bits >> (18 - 6 * at)) & 63;
                match at <= group.len() {
                    true => line.push(char::from(ALPHABET[index as usize])),
                    false => line.push('='),
                }
            }
        }
        writeln!(text, "{line}").unwrap();
    }
    text + "-----END TSS2 PRIVATE KEY-----\n"
}

fn der(file: &str) -> Vec<u8> {
    Pem::iter_from_buffer(file.as_bytes())
        .next()
        .unwrap()
        .unwrap()
        .contents
}

#[test]
fn files_of_tpm2_tools() {
    let key = KeyFile::parse(EC.as_bytes()).unwrap().unwrap();
    // SubjectPublicKeyInfo of a point on P-256.
    assert_eq!((key.spki().len(), key.spki()[26]), (91, 4));
    assert_eq!(KeyFile::parse(pem(&der(EC)).as_bytes()).unwrap(), Some(key));
    assert_eq!(KeyFile::parse(b"-----BEGIN PRIVATE KEY-----\n").unwrap(), None);
    assert_eq!(KeyFile::parse(b"\x30\x82").unwrap(), None);
}

#[test]
fn parents_that_are_none_and_policies() {
    let mut other = der(EC);
    // INTEGER 0x40000001, after OID and emptyAuth.
    let at = other
        .windows(6)
        .position(|window| window == [2, 4, 0x40, 0, 0, 1])
        .unwrap();
    other[at + 2..at + 6].copy_from_slice(&[0x40, 0, 0, 2]);
    let error = KeyFile::parse(pem(&other).as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "Invalid TPM2 parent handle 0x40000002");
    // A persistent parent, by a writer that forgets the zero before a high bit.
    other[at + 2..at + 6].copy_from_slice(&[0x81, 0, 0, 1]);
    assert!(KeyFile::parse(pem(&other).as_bytes()).unwrap().is_some());
    // Newer writers: [1] policy. An empty one asks for nothing.
    for (policy, wanted) in [
        (&[0xa1, 2, 0x30, 0][..], true),
        (&[0xa1, 4, 0x30, 2, 5, 0], false),
    ] {
        let mut newer = der(EC);
        newer.splice(at..at, policy.iter().copied());
        let [_, _, len] = newer[..3] else { panic!() };
        newer[2] = len + policy.len() as u8;
        let parsed = KeyFile::parse(pem(&newer).as_bytes());
        match wanted {
            true => assert!(parsed.unwrap().is_some()),
            false => assert!(matches!(parsed, Err(TpmError::Policy)), "{parsed:?}"),
        }
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        at in 0_usize..243,
        octet in any::<u8>(),
        cut in 0_usize..243,
        junk in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut damaged = der(EC);
        damaged[at] = octet;
        let _ = KeyFile::parse(pem(&damaged).as_bytes());
        let _ = KeyFile::parse(pem(&damaged[..cut]).as_bytes());
        let _ = KeyFile::parse(pem(&junk).as_bytes());
        let _ = KeyFile::parse(&junk);
    }
}
