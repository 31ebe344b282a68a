use std::sync::Mutex;

use culvert_certs::{check_client_signature, client_schemes};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;

use super::*;
use crate::{Acceptor, Algorithms, ClientSettings, Group, Handshake, ServerSettings, Version, server_config};

fn identity(name: &str) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der.into()).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Trusts every server.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        client_schemes()
    }
}

/// A handshake; gives the proof that the server's verifier saw, and whether the server went on.
fn shake(
    version: Version,
    groups: &[Group],
    client: Option<Arc<CertifiedKey>>,
    mandatory: bool,
    verdict: bool,
) -> (Option<ClientProof>, bool) {
    let seen = Arc::new(Mutex::new(None));
    let judge: JudgeClient = {
        let seen = Arc::clone(&seen);
        Arc::new(move |proof| {
            *seen.lock().unwrap() = Some(proof);
            verdict
        })
    };
    let algorithms = Algorithms {
        versions: vec![version],
        ..Algorithms::default()
    };
    let verifier = RemoteClientVerifier::new(mandatory, &[], client_schemes(), judge);
    let proven = verifier.proven();
    let config = server_config(ServerSettings {
        keys: vec![identity("vpn.test")],
        sessions: None,
        client_verifier: Some(Arc::new(verifier)),
        algorithms: Algorithms {
            groups: groups.to_vec(),
            ..algorithms.clone()
        },
        server_precedence: true,
    })
    .unwrap();
    let settings = ClientSettings {
        verifier: Arc::new(Anybody),
        identity: client,
        algorithms,
    };
    let mut client = Handshake::client(&settings, ServerName::try_from("vpn.test").unwrap()).unwrap();
    let mut acceptor = Acceptor::new();
    let mut hello = None;
    while let Some(bytes) = client.poll_transmit() {
        hello = acceptor.handle_input(&bytes).unwrap();
    }
    let Ok(mut server) = hello.unwrap().into_handshake(&config) else {
        panic!("the hello was refused")
    };
    let mut done = false;
    for _ in 0..10 {
        while let Some(bytes) = server.poll_transmit() {
            let _refused = client.handle_input(&bytes);
        }
        while let Some(bytes) = client.poll_transmit() {
            if server.handle_input(&bytes).is_err() {
                return (seen.lock().unwrap().clone(), false);
            }
        }
        done = !server.is_handshaking();
    }
    let proof = seen.lock().unwrap().clone();
    assert_eq!(proven.load(Ordering::Relaxed), proof.is_some());
    (proof, done)
}

#[test]
fn a_third_party_can_check_the_proof() {
    let both = [Group::X25519MlKem768, Group::X25519];
    for (version, groups) in [
        (Version::Tls13, &both[..]),
        (Version::Tls12, &both[..]),
        // The client offers no share of this group: HelloRetryRequest.
        (Version::Tls13, &[Group::Secp384r1][..]),
    ] {
        let client = identity("alice");
        let (proof, done) = shake(version, groups, Some(Arc::clone(&client)), true, true);
        let proof = proof.unwrap();
        assert!(done && proof.tls13 == (version == Version::Tls13));
        let proven = proof.handshake().unwrap();
        assert_eq!(proven.chain, client.cert);
        assert!(!proven.server_signature.is_empty());
        let check = |signed: &[u8], signature: &[u8]| {
            check_client_signature(&proven.chain[0], proof.scheme, proof.tls13, signed, signature)
        };
        assert!(check(&proven.signed, &proof.signature), "{version:?}");
        assert!(!check(b"other", &proof.signature));
        assert!(!check(&proven.signed, b"other"));
        // Another server signature makes another transcript.
        let mut forged = proof.clone();
        let at = forged
            .transcript
            .windows(proven.server_signature.len())
            .position(|window| window == proven.server_signature)
            .unwrap();
        forged.transcript[at + 10] ^= 1;
        let signed = forged.handshake().unwrap().signed;
        assert!(!check(&signed, &forged.signature));
        for cut in [1, 40, forged.transcript.len() / 2, forged.transcript.len() - 1] {
            forged.transcript.truncate(cut);
            assert_eq!(forged.handshake(), Err(MalformedProof));
        }
    }
}

#[test]
fn without_a_certificate_or_with_a_refused_one() {
    let groups = [Group::X25519];
    for version in [Version::Tls13, Version::Tls12] {
        assert_eq!(shake(version, &groups, None, false, true), (None, true));
        assert_eq!(shake(version, &groups, None, true, true), (None, false));
        let (proof, done) = shake(version, &groups, Some(identity("alice")), false, false);
        assert!(proof.is_some() && !done, "refused");
    }
}

proptest! {
    #[test]
    fn never_panics(transcript in prop::collection::vec(any::<u8>(), 0..200), tls13 in any::<bool>()) {
        let proof = ClientProof { tls13, transcript, scheme: 0, signature: Vec::new() };
        let _ = proof.handshake();
    }

    #[test]
    fn never_panics_on_messages(parts in prop::collection::vec((prop::sample::select(
        vec![1u8, 2, 8, 11, 12, 13, 14, 15, 16, 20, 22, 254]), prop::collection::vec(0u8..4, 0..60)), 0..9), tls13 in any::<bool>()) {
        let mut transcript = Vec::new();
        for (kind, body) in parts {
            transcript.extend([kind, 0, 0, u8::try_from(body.len()).unwrap()]);
            transcript.extend(body);
        }
        let proof = ClientProof { tls13, transcript, scheme: 0, signature: Vec::new() };
        let _ = proof.handshake();
    }
}
