//! The gateway's side of a browser sign-in.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use data_encoding::BASE64;

/// What a gateway makes of a token of a browser sign-in for the client that has announced this
/// STRAP-DH key.
pub(crate) fn wrap_token(announced: &str, token: &str) -> String {
    let peer = BASE64.decode(announced.as_bytes()).unwrap();
    let key = PrivateKey::generate(&ECDH_P256).unwrap();
    let public = key.compute_public_key().unwrap();
    let public: PublicKeyX509Der<'_> = public.as_der().unwrap();
    let peer = UnparsedPublicKey::new(&ECDH_P256, &peer[peer.len() - 65..]);
    let secret = agree(&key, peer, (), |shared| {
        let extracted = Salt::new(HKDF_SHA256, &[]).extract(shared);
        let expanded = extracted.expand(&[b"AC_ECIES"], &AES_256_GCM).unwrap();
        Ok(LessSafeKey::new(UnboundKey::from(expanded)))
    });
    let (iv, mut text) = ([7; 12], token.as_bytes().to_vec());
    let tag =
        secret
            .unwrap()
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut text);
    let tag = tag.unwrap();
    let mut blob = vec![0, 1];
    for (number, part) in [
        (1, public.as_ref()),
        (2, &tag.as_ref()[..12]),
        (3, &text),
        (4, &iv),
    ] {
        blob.extend([0, number, 0, part.len() as u8]);
        blob.extend(part);
    }
    BASE64.encode(&blob)
}
