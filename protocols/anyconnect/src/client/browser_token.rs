//! The token of a browser sign-in: how the gateway wraps it for this client
//! (`specs/anyconnect.md` §7.1).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use culvert_vocab::SecretString;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::strap::StrapError;

/// First word of a wrapped token.
const VERSION: [u8; 2] = [0, 1];
/// Context of the key derivation.
const KEY_INFO: &[u8] = b"AC_ECIES";
/// Octets of the authentication tag that are sent.
const TAG_LEN: usize = 12;
/// What a DER SubjectPublicKeyInfo of an uncompressed P-256 point begins with.
const P256_SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The parts of a wrapped token.
#[derive(Debug, PartialEq, Eq)]
struct Wrapped<'a> {
    /// DER SubjectPublicKeyInfo.
    public_key: &'a [u8],
    tag: [u8; TAG_LEN],
    ciphertext: &'a [u8],
    iv: [u8; NONCE_LEN],
}

impl<'a> Wrapped<'a> {
    /// `None`: another version, unknown, repeated or missing parts, wrong lengths.
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let mut rest = blob.strip_prefix(&VERSION)?;
        let mut parts: [Option<&[u8]>; 4] = [None; 4];
        while !rest.is_empty() {
            let (&[tag_high, tag_low, len_high, len_low], after) = rest.split_first_chunk()?;
            let tag = u16::from_be_bytes([tag_high, tag_low]);
            let len = u16::from_be_bytes([len_high, len_low]);
            let (value, after) = after.split_at_checked(len.into())?;
            let part = parts.get_mut(usize::from(tag).checked_sub(1)?)?;
            if part.replace(value).is_some() {
                return None;
            }
            rest = after;
        }
        let [Some(public_key), Some(tag), Some(ciphertext), Some(iv)] = parts else {
            return None;
        };
        Some(Self {
            public_key,
            tag: tag.try_into().ok()?,
            ciphertext,
            iv: iv.try_into().ok()?,
        })
    }
}

/// Unwraps the token for which `key` was announced, as base64 of the parts. `None` if it is not
/// for this key, was tampered with, or is no token.
pub(super) fn unwrap_token(key: &PrivateKey, blob: &str) -> Option<SecretString> {
    let blob = BASE64.decode(blob.as_bytes()).ok()?;
    let wrapped = Wrapped::parse(&blob)?;
    let point = wrapped.public_key.strip_prefix(P256_SPKI_PREFIX)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, point);
    let secret = agree(key, peer, StrapError::Crypto, |shared| {
        let extracted = Salt::new(HKDF_SHA256, &[]).extract(shared);
        let expanded = extracted
            .expand(&[KEY_INFO], &AES_256_GCM)
            .map_err(|_| StrapError::Crypto)?;
        Ok(LessSafeKey::new(UnboundKey::from(expanded)))
    })
    .ok()?;
    let token = decrypt(&secret, &wrapped)?;
    let token = std::str::from_utf8(&token).ok()?;
    let usable = !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_alphanumeric());
    usable.then(|| token.into())
}

/// AES-256-GCM with a short tag, which the library does not open by itself. Encryption is an XOR
/// with the key stream, so it also decrypts; encrypting the result again gives the tag that the
/// sender had.
fn decrypt(key: &LessSafeKey, wrapped: &Wrapped<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let seal = |text: &mut [u8]| {
        let nonce = Nonce::assume_unique_for_key(wrapped.iv);
        key.seal_in_place_separate_tag(nonce, Aad::empty(), text).ok()
    };
    let mut plain = Zeroizing::new(wrapped.ciphertext.to_vec());
    let _tag_of_nothing = seal(&mut plain)?;
    let tag = seal(&mut plain.clone())?;
    verify_slices_are_equal(tag.as_ref().get(..TAG_LEN)?, &wrapped.tag).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    use super::*;

    const VECTOR: &str = include_str!("../../tests/vectors/sso-external-browser.txt");

    fn value(name: &str) -> Vec<u8> {
        let line = VECTOR.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        HEXLOWER_PERMISSIVE.decode(line.as_bytes()).unwrap()
    }

    fn key() -> PrivateKey {
        PrivateKey::from_private_key(&ECDH_P256, &value("client_strap_dh_private_scalar=")).unwrap()
    }

    fn unwrapped(blob: &[u8]) -> Option<SecretString> {
        unwrap_token(&key(), &BASE64.encode(blob))
    }

    #[test]
    fn the_captured_token_is_unwrapped() {
        let token = String::from_utf8(value("plaintext_token=")).unwrap();
        assert_eq!(unwrapped(&value("blob=")), Some(token.as_str().into()));
    }

    #[test]
    fn tokens_for_others_and_changed_ones_are_refused() {
        let other = PrivateKey::generate(&ECDH_P256).unwrap();
        let blob = value("blob=");
        assert_eq!(unwrap_token(&other, &BASE64.encode(&blob)), None);
        for position in 0..blob.len() {
            let mut changed = blob.clone();
            changed[position] ^= 1;
            assert_eq!(unwrapped(&changed), None, "{position}");
            assert_eq!(unwrapped(&blob[..position]), None, "{position}");
        }
        assert_eq!(unwrap_token(&key(), "not base64"), None);
    }

    #[test]
    fn parts_are_there_once_in_any_order() {
        let part = |tag: u8, value: &[u8]| {
            let mut part = vec![0, tag, 0, value.len() as u8];
            part.extend(value);
            part
        };
        let blob = |parts: &[Vec<u8>]| [&VERSION[..], &parts.concat()].concat();
        let (key, tag, text, iv) = (part(1, b"k"), part(2, &[1; 12]), part(3, b"x"), part(4, &[2; 12]));
        let all = [iv.clone(), text.clone(), tag.clone(), key.clone()];
        assert!(Wrapped::parse(&blob(&all)).is_some());
        assert!(Wrapped::parse(&blob(&all[1..])).is_none());
        assert!(Wrapped::parse(&blob(&[all.to_vec(), vec![key.clone()]].concat())).is_none());
        assert!(Wrapped::parse(&blob(&[all.to_vec(), vec![part(5, b"")]].concat())).is_none());
        assert!(Wrapped::parse(&blob(&[all.to_vec(), vec![part(0, b"")]].concat())).is_none());
        for short in [part(2, &[1; 11]), part(2, &[1; 16])] {
            assert!(Wrapped::parse(&blob(&[key.clone(), short, text.clone(), iv.clone()])).is_none());
        }
        assert!(Wrapped::parse(&blob(&[key, tag, text, part(4, &[2; 16])])).is_none());
    }

    proptest! {
        #[test]
        fn never_panics(blob in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Wrapped::parse(&[&VERSION[..], &blob].concat());
            let _ = unwrapped(&blob);
        }
    }
}
