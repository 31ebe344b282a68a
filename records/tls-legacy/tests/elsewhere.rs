//! Client keys that OpenSSL knows only the public half of, with an OpenSSL server in memory that
//! wants a certificate: every version and kind of signature, and a key that fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod verifier;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use culvert_tls::TlsError;
use culvert_tls_legacy::{
    KeyElsewhere, LegacyConnection, LegacyIdentity, LegacyKey, LegacySettings, OldestVersion, Operation,
};
use ends::Ends;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509NameBuilder};
use rustls::pki_types::ServerName;
use verifier::Verifier;

fn rsa_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn ec_key(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(key: &PKey<Private>) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "somebody").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// Wants a certificate and takes every one whose key has signed.
fn server(version: SslVersion, signatures: Option<&str>) -> SslStream<Ends> {
    let key = rsa_key();
    let mut context = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
    context.set_security_level(0);
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context.set_certificate(&certificate(&key)).unwrap();
    context.set_private_key(&key).unwrap();
    if let Some(signatures) = signatures {
        context.set_sigalgs_list(signatures).unwrap();
    }
    let verify = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    context.set_verify_callback(verify, |_, _| true);
    let mut ssl = Ssl::new(&context.build()).unwrap();
    ssl.set_accept_state();
    SslStream::new(ssl, Ends::default()).unwrap()
}

/// The bare operations of `key`, as a token does them.
fn operate(key: &PKey<Private>, operation: Operation<'_>) -> Vec<u8> {
    let rsa = |input: &[u8], padding| {
        let rsa = key.rsa().unwrap();
        let mut signature = vec![0; rsa.size() as usize];
        let len = rsa.private_encrypt(input, &mut signature, padding).unwrap();
        signature.truncate(len);
        signature
    };
    match operation {
        Operation::RsaPkcs1(info) => rsa(info, Padding::PKCS1),
        Operation::RsaBare(block) => rsa(block, Padding::NONE),
        Operation::Ecdsa(digest) => EcdsaSig::sign(digest, &key.ec_key().unwrap())
            .unwrap()
            .to_der()
            .unwrap(),
    }
}

fn shake_hands(
    server: &mut SslStream<Ends>,
    certificate: &X509,
    key: KeyElsewhere,
    insecure: bool,
) -> Result<(), TlsError> {
    let settings = LegacySettings {
        verifier: Arc::new(Verifier(true)),
        identity: Some(LegacyIdentity {
            chain: vec![certificate.to_der().unwrap().into()],
            key: LegacyKey::Elsewhere(Arc::new(key)),
        }),
        insecure,
        forward_secrecy: false,
        oldest: OldestVersion::Tls10,
    };
    let name = ServerName::try_from("vpn.test").unwrap();
    let mut client = LegacyConnection::client(&settings, name)?;
    for _ in 0..6 {
        while let Some(bytes) = client.poll_transmit() {
            server.get_mut().input.extend(bytes);
        }
        // What is wrong with it shows in its state.
        let _ = server.do_handshake();
        client.handle_input(&std::mem::take(&mut server.get_mut().output))?;
    }
    Ok(())
}

/// A handshake of a client with this key; the kinds of operations that it took.
fn signs(
    key: PKey<Private>,
    version: SslVersion,
    signatures: Option<&str>,
    insecure: bool,
) -> Vec<&'static str> {
    let mut server = server(version, signatures);
    let certificate = certificate(&key);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kinds = Arc::clone(&seen);
    let key = KeyElsewhere::new(move |operation| {
        kinds.lock().unwrap().push(match operation {
            Operation::RsaPkcs1(_) => "PKCS #1",
            Operation::RsaBare(_) => "RSA",
            Operation::Ecdsa(_) => "ECDSA",
        });
        Ok(operate(&key, operation))
    });
    shake_hands(&mut server, &certificate, key, insecure).unwrap();
    assert!(server.ssl().is_init_finished(), "{version:?} {signatures:?}");
    assert_eq!(
        server.ssl().peer_certificate().unwrap().to_der().unwrap(),
        certificate.to_der().unwrap()
    );
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[test]
fn every_version_gets_its_signature() {
    use SslVersion as V;
    for version in [V::TLS1, V::TLS1_1] {
        assert_eq!(signs(rsa_key(), version, None, false), ["PKCS #1"]);
        assert_eq!(
            signs(ec_key(Nid::X9_62_PRIME256V1), version, None, false),
            ["ECDSA"]
        );
    }
    for (signatures, operation) in [("RSA+SHA512", "PKCS #1"), ("RSA-PSS+SHA256", "RSA")] {
        assert_eq!(signs(rsa_key(), V::TLS1_2, Some(signatures), false), [operation]);
    }
    assert_eq!(signs(rsa_key(), V::TLS1_2, Some("RSA+SHA1"), true), ["PKCS #1"]);
    assert_eq!(signs(rsa_key(), V::TLS1_3, None, false), ["RSA"]);
    for curve in [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1] {
        for version in [V::TLS1_2, V::TLS1_3] {
            assert_eq!(signs(ec_key(curve), version, None, false), ["ECDSA"]);
        }
    }
}

/// A card that was pulled out, one that answers with too much, and one with nothing.
#[test]
fn a_key_that_fails_says_why() {
    let key = rsa_key();
    let certificate = certificate(&key);
    for (answer, words) in [
        (Err("the card is gone".to_owned()), "the card is gone"),
        (Ok(vec![1; 257]), "a signature of 257 octets"),
        (Ok(Vec::new()), "a signature of 0 octets"),
    ] {
        let mut server = server(SslVersion::TLS1_1, None);
        let key = KeyElsewhere::new(move |_| answer.clone());
        let error = shake_hands(&mut server, &certificate, key, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the client's key cannot sign: {words}")
        );
        assert!(!server.ssl().is_init_finished());
    }
}

/// What a key was given is dropped with the last connection that has it.
#[test]
fn keys_are_given_back() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for key in [rsa_key(), ec_key(Nid::SECP384R1)] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counted = Counted(Arc::clone(&dropped));
        let certificate = certificate(&key);
        let key = KeyElsewhere::new(move |operation| {
            let _held = &counted;
            Ok(operate(&key, operation))
        });
        shake_hands(&mut server(SslVersion::TLS1_2, None), &certificate, key, false).unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}
