//! Nothing in a file makes the parsers panic, whatever was changed in it.

#![allow(clippy::unwrap_used)]

use culvert_credentials::{KeyFile, Passphrase, Pkcs12, certificates};
use proptest::prelude::*;

/// Made by `openssl pkcs12 -export` (`-keypbe PBE-SHA1-3DES -certpbe NONE -iter 1`).
const BUNDLE: &[u8] = include_bytes!("vectors/bundle.p12");
/// Made by `openssl pkcs8 -topk8 -iter 1`.
const LOCKED: &[u8] = include_bytes!("vectors/locked.pem");

fn open_all(file: &[u8]) {
    let passphrase = Passphrase::new("pé".into());
    let _ = certificates(file);
    if let Ok(key) = KeyFile::parse(file) {
        let _ = key.open(&passphrase);
    }
    if let Ok(Some(bundle)) = Pkcs12::parse(file) {
        let _ = bundle.open(&passphrase);
    }
}

#[test]
fn the_files_are_good() {
    let passphrase = Passphrase::new("pass".into());
    assert!(KeyFile::parse(LOCKED).unwrap().open(&passphrase).is_ok());
    let contents = Pkcs12::parse(BUNDLE).unwrap().unwrap().open(&passphrase).unwrap();
    assert_eq!((contents.keys.len(), contents.certificates.len()), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_octets(file in prop::collection::vec(any::<u8>(), 0..400)) {
        open_all(&file);
    }

    #[test]
    fn damaged_files(
        position in any::<prop::sample::Index>(),
        octet in any::<u8>(),
        end in any::<prop::sample::Index>(),
        locked in any::<bool>(),
    ) {
        let mut file = if locked { LOCKED } else { BUNDLE }.to_vec();
        let position = position.index(file.len());
        file[position] = octet;
        open_all(&file);
        file.truncate(end.index(file.len()));
        open_all(&file);
    }
}
