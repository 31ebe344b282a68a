//! Tokens of a signer with keys of all kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use culvert_oidc::{Config, KeySet, TokenError, User, verify};
use culvert_vocab::SecretString;
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn config() -> Config {
    let text = json!({
        "openid_configuration_url": "https://id.example/c",
        "user_name_claim": "upn",
        "group_claim": "groups",
        "required_claims": {"aud": "vpn", "iss": "https://id.example", "level": {"a": [1, true]}}
    });
    Config::parse(text.to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({"aud": "vpn", "iss": "https://id.example", "level": {"a": [1, true]}, "upn": "alice@example",
        "nbf": NOW - 10, "iat": NOW - 10, "exp": NOW + 300, "groups": ["staff", "", "ops"]})
}

fn part(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Signer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            p521: EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The public keys; each one's id is its kind.
    fn documents(&self) -> Value {
        let encode = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        let ec = |name: &str, pair: &EcdsaKeyPair| {
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "kid": name, "crv": name, "x": encode(x), "y": encode(y)})
        };
        // RFC 8017 A.1.1: a sequence of two numbers.
        let der = self.rsa.public_key().as_ref();
        let (n, e) = (&der[9..265], &der[267..]);
        json!({"keys": [
            {"kty": "RSA", "kid": "RSA", "n": encode(n), "e": encode(e)},
            {"kty": "RSA", "kid": "only", "alg": "PS256", "use": "sig", "n": encode(n), "e": encode(e)},
            ec("P-256", &self.p256), ec("P-384", &self.p384), ec("P-521", &self.p521),
            {"kty": "OKP", "kid": "Ed25519", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref())},
        ]})
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(self.documents().to_string().as_bytes()).unwrap()
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        let ec = |pair: &EcdsaKeyPair| pair.sign(&random, message).unwrap().as_ref().to_vec();
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => ec(&self.p256),
            "ES384" => ec(&self.p384),
            "ES512" => ec(&self.p521),
            _ => self.ed25519.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> SecretString {
        let signed = format!("{}.{}", part(header), part(claims));
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let signature = BASE64URL_NOPAD.encode(&self.sign(algorithm, signed.as_bytes()));
        SecretString::new(format!("{signed}.{signature}"))
    }
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "P-256", "typ": "JWT"})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn every_algorithm_with_its_own_kind_of_key() {
    let signer = Signer::new();
    let keys = signer.keys();
    let algorithms = [
        ("RSA", &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        ("only", &["PS256"]),
        ("P-256", &["ES256"]),
        ("P-384", &["ES384"]),
        ("P-521", &["ES512"]),
        ("Ed25519", &["EdDSA", "Ed25519"]),
    ];
    let all: Vec<&str> = algorithms.iter().flat_map(|(_, names)| *names).copied().collect();
    for (kid, own) in algorithms {
        for algorithm in &all {
            let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"});
            let judged = verify(&config(), &keys, &signer.token(&header, &claims()), now());
            let expected = if own.contains(algorithm) {
                Ok("alice@example".to_owned())
            } else {
                Err(TokenError::Signature)
            };
            assert_eq!(
                judged.map(|user| user.name.to_string()),
                expected,
                "{kid} {algorithm}"
            );
        }
    }
}

#[test]
fn who_it_is() {
    let signer = Signer::new();
    let judge = |claims| {
        verify(
            &config(),
            &signer.keys(),
            &signer.token(&header(), &claims),
            now(),
        )
    };
    let names = |user: User| user.groups.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        judge(claims()).map(names),
        Ok(vec!["staff".to_owned(), "ops".to_owned()])
    );
    let one = with(claims(), "groups", json!("staff"));
    assert_eq!(judge(one).map(names), Ok(vec!["staff".to_owned()]));
    assert_eq!(judge(without(claims(), "groups")).map(names), Ok(vec![]));
    for (name, taken) in [
        ("x".repeat(63), true),
        ("x".repeat(64), false),
        ("a\nb".into(), false),
        (String::new(), false),
    ] {
        let judged = judge(with(claims(), "upn", json!(name)));
        assert_eq!(judged.is_ok(), taken, "{judged:?}");
        assert!(taken || matches!(judged, Err(TokenError::UserName(_))));
    }
    for claims in [without(claims(), "upn"), with(claims(), "upn", json!(7))] {
        assert_eq!(judge(claims), Err(TokenError::NoUser("upn".into())));
    }
}

#[test]
fn headers() {
    let signer = Signer::new();
    let judge = |header| {
        verify(
            &config(),
            &signer.keys(),
            &signer.token(&header, &claims()),
            now(),
        )
        .err()
    };
    for typ in ["jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(judge(with(header(), "typ", json!(typ))), None, "{typ}");
    }
    assert_eq!(judge(without(header(), "typ")), None);
    for typ in [json!("JWE"), json!("logout+jwt"), json!(null), json!(1)] {
        assert_eq!(judge(with(header(), "typ", typ)), Some(TokenError::Type));
    }
    assert_eq!(
        judge(with(header(), "crit", json!(["b64"]))),
        Some(TokenError::Type)
    );
    assert_eq!(judge(without(header(), "kid")), Some(TokenError::NoKeyId));
    assert_eq!(judge(with(header(), "kid", json!(7))), Some(TokenError::NoKeyId));
    let other = judge(with(header(), "kid", json!("no\n")));
    assert_eq!(other, Some(TokenError::UnknownKey("no\\n".into())));
    for algorithm in ["none", "None", "", "HS256", "RS256", "ES384"] {
        assert_eq!(
            judge(with(header(), "alg", json!(algorithm))),
            Some(TokenError::Signature),
            "{algorithm}"
        );
    }
    assert_eq!(judge(without(header(), "alg")), Some(TokenError::Signature));
}

/// The public key taken for a shared secret.
#[test]
fn a_hash_with_the_public_key_is_no_signature() {
    let signer = Signer::new();
    let document = signer.documents().to_string();
    let header = json!({"alg": "HS256", "kid": "RSA", "typ": "JWT"});
    let signed = format!("{}.{}", part(&header), part(&claims()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, document.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let token = SecretString::new(format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref())));
    assert_eq!(
        verify(&config(), &signer.keys(), &token, now()),
        Err(TokenError::Signature)
    );
    for unsigned in [
        format!("{signed}."),
        format!(
            "{}.{}.",
            part(&json!({"alg": "none", "kid": "RSA"})),
            part(&claims())
        ),
    ] {
        let judged = verify(&config(), &signer.keys(), &unsigned.as_str().into(), now());
        assert_eq!(judged, Err(TokenError::Signature));
    }
}

#[test]
fn times() {
    let signer = Signer::new();
    let judge = |name, time: Value| {
        verify(
            &config(),
            &signer.keys(),
            &signer.token(&header(), &with(claims(), name, time)),
            now(),
        )
        .err()
    };
    assert_eq!(judge("exp", json!(NOW - 60)), None);
    assert_eq!(judge("exp", json!(NOW - 61)), Some(TokenError::Expired));
    assert_eq!(judge("nbf", json!(NOW + 60)), None);
    assert_eq!(judge("nbf", json!(NOW + 61)), Some(TokenError::NotYet));
    assert_eq!(judge("exp", json!(NOW as f64 + 0.5)), None);
    for name in ["nbf", "iat", "exp"] {
        for no_time in [json!(null), json!("1800000000"), json!([1])] {
            assert_eq!(judge(name, no_time), Some(TokenError::NoTime(name)));
        }
    }
}

#[test]
fn required_claims() {
    let signer = Signer::new();
    let judge = |name: &str, value| {
        verify(
            &config(),
            &signer.keys(),
            &signer.token(&header(), &with(claims(), name, value)),
            now(),
        )
        .err()
    };
    assert_eq!(judge("aud", json!(["mail", "vpn"])), None);
    for (name, value) in [
        ("aud", json!("mail")),
        ("aud", json!(["mail"])),
        ("aud", json!("vpn ")),
        ("iss", json!("https://id.example/")),
        ("iss", json!(["https://id.example"])),
        ("level", json!({"a": [1, true], "b": 1})),
        ("level", json!(null)),
    ] {
        assert_eq!(judge(name, value), Some(TokenError::Claim(name.into())));
    }
    let missing = signer.token(&header(), &without(claims(), "aud"));
    assert_eq!(
        verify(&config(), &signer.keys(), &missing, now()),
        Err(TokenError::Claim("aud".into()))
    );
}

#[test]
fn a_changed_token_is_worth_nothing() {
    let signer = Signer::new();
    let token = signer.token(&header(), &claims());
    let (keys, config) = (signer.keys(), config());
    assert!(verify(&config, &keys, &token, now()).is_ok());
    for at in 0..token.expose().len() {
        let mut octets = token.expose().as_bytes().to_vec();
        octets[at] = if octets[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(octets).unwrap();
        assert!(
            verify(&config, &keys, &changed.as_str().into(), now()).is_err(),
            "{at}"
        );
    }
    let other = Signer::new().token(&header(), &claims());
    assert_eq!(verify(&config, &keys, &other, now()), Err(TokenError::Signature));
}

#[test]
fn what_is_no_token() {
    let keys = Signer::new().keys();
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.e30.e30",
        "bnVsbA.e30.",
        &"A".repeat(20_000),
    ] {
        assert_eq!(
            verify(&config(), &keys, &text.into(), now()),
            Err(TokenError::Malformed),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn never_panics(text in "[A-Za-z0-9_.-]{0,200}", json in "\\{\"(alg|kid|typ)\":\"[a-zA-Z0-9]{0,5}\"\\}") {
        let keys = KeySet::default();
        prop_assert!(verify(&config(), &keys, &text.as_str().into(), now()).is_err());
        let token = format!("{}.{}.{text}", BASE64URL_NOPAD.encode(json.as_bytes()), BASE64URL_NOPAD.encode(json.as_bytes()));
        prop_assert!(verify(&config(), &keys, &token.as_str().into(), now()).is_err());
    }
}
