//! Situations of one side: refused certificates, client certificates, resumption, KeyUpdate
//! during the HTTP phase, keys limited to RSA-PSS or behind a broker, several keys.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{
    CIPHERS, Identity, VERSIONS, client_settings, connected, exchange, handshake_record, localhost, only,
    server,
};
use culvert_certs::{Anchors, CertificateChain, Host, Policy, PolicySettings};
use culvert_tls::{
    Algorithms, ContentType, Handshake, KeyIndex, Opened, PrivateKey, RemoteKey, RemoteSignError,
    ServerSettings, TlsError, Version, server_config,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

#[test]
fn a_refused_certificate_ends_the_handshake_with_an_alert() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for version in VERSIONS {
        let config = server(vec![identity.certified()], only(version, CIPHERS[1]));
        let mut settings = client_settings(only(version, CIPHERS[1]));
        settings.verifier = Arc::new(Policy::new(PolicySettings {
            host: Host::new("localhost"),
            host_is_sni: false,
            anchors: Arc::new(Anchors::new()),
            allow_insecure_crypto: false,
            decide: Arc::new(|presented| {
                assert_eq!(presented.verdict.reason, Some("signer not found"));
                false
            }),
        }));
        let mut client = Handshake::client(&settings, localhost()).unwrap();
        let mut server = Handshake::server(&config).unwrap();
        server.handle_input(&client.poll_transmit().unwrap()).unwrap();
        let refused = client.handle_input(&server.poll_transmit().unwrap());
        let expected = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        assert!(matches!(refused, Err(TlsError::Tls(error)) if error == expected));
        assert!(matches!(
            server.handle_input(&client.poll_transmit().unwrap()),
            Err(TlsError::Tls(Error::AlertReceived(_)))
        ));
    }
}

#[test]
fn client_certificates() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let user = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut anchors = RootCertStore::empty();
    anchors.add(user.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider)
        .allow_unauthenticated()
        .build()
        .unwrap();
    for version in VERSIONS {
        let config = server_config(ServerSettings {
            keys: vec![identity.certified()],
            sessions: None,
            client_verifier: Some(verifier.clone()),
            algorithms: only(version, CIPHERS[1]),
            server_precedence: false,
        })
        .unwrap();
        let mut settings = client_settings(Algorithms::default());
        let (_, anonymous) = connected(&settings, &config);
        assert!(anonymous.peer_certificates().is_empty());
        settings.identity = Some(user.certified());
        let (_, known) = connected(&settings, &config);
        assert_eq!(known.peer_certificates(), [user.certificate.der().clone()]);
    }
}

/// A client of rustls itself, for what ours never does.
fn plain_client(algorithm: Version) -> rustls::ClientConfig {
    let settings = client_settings(Algorithms::default());
    let version = match algorithm {
        Version::Tls12 => &rustls::version::TLS12,
        Version::Tls13 => &rustls::version::TLS13,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(settings.verifier)
        .with_no_client_auth()
}

fn exchange_plain(client: &mut rustls::ClientConnection, server: &mut Handshake) {
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut quiet = flight.is_empty();
        server.handle_input(&flight).unwrap();
        if let Some(answer) = server.poll_transmit() {
            quiet = false;
            let mut answer = answer.as_slice();
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        if quiet {
            return;
        }
    }
}

#[test]
fn sessions_are_resumed_from_the_store() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (version, description) in [
        (Version::Tls12, "(TLS1.2)-(AES-256-GCM)"),
        (Version::Tls13, "(TLS1.3)-(ECDHE-X25519MLKEM768)-(AES-256-GCM)"),
    ] {
        let config = server_config(ServerSettings {
            keys: vec![identity.certified()],
            sessions: Some(ServerSessionMemoryCache::new(16)),
            client_verifier: None,
            algorithms: Algorithms::default(),
            server_precedence: true,
        })
        .unwrap();
        let client_config = Arc::new(plain_client(version));
        for resumed in [false, true] {
            let mut client = rustls::ClientConnection::new(client_config.clone(), localhost()).unwrap();
            let mut server = Handshake::server(&config).unwrap();
            exchange_plain(&mut client, &mut server);
            let negotiated = server.negotiated().unwrap();
            assert_eq!(negotiated.resumed, resumed, "{version:?}");
            assert_eq!(negotiated.signature.is_none(), resumed);
            if resumed {
                assert_eq!(server.description().unwrap(), description);
                server.into_records().unwrap();
            }
        }
    }
}

#[test]
fn keys_that_were_updated_before_the_take_over_are_followed() {
    use std::io::{Read, Write};
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let mut client =
        rustls::ClientConnection::new(Arc::new(plain_client(Version::Tls13)), localhost()).unwrap();
    let mut server = Handshake::server(&config).unwrap();
    exchange_plain(&mut client, &mut server);
    let send = |client: &mut rustls::ClientConnection, data: &[u8]| {
        let mut flight = Vec::new();
        client.writer().write_all(data).unwrap();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        flight
    };
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        let flight = send(&mut client, b"request");
        server.handle_input(&flight).unwrap();
        assert_eq!(server.poll_plaintext().unwrap().unwrap(), b"request");
    }
    // The answer to the KeyUpdate must come out before the take-over, or the peer could not
    // decrypt what follows.
    let mut flight = server.poll_transmit().unwrap();
    let mut records = server.into_records().unwrap();
    let mut down = vec![0; records.sealer.sealed_len(4)];
    let start = records.sealer.headroom();
    down[start..start + 4].copy_from_slice(b"down");
    records
        .sealer
        .seal(ContentType::ApplicationData, &mut down, 4)
        .unwrap();
    flight.extend(down);
    let mut flight = flight.as_slice();
    while !flight.is_empty() {
        client.read_tls(&mut flight).unwrap();
    }
    client.process_new_packets().unwrap();
    let mut received = [0; 4];
    client.reader().read_exact(&mut received).unwrap();
    assert_eq!(&received, b"down");

    client.refresh_traffic_keys().unwrap();
    let mut up = send(&mut client, b"up");
    let Ok(Opened::KeyUpdate {
        consumed,
        requested: true,
    }) = records.opener.open(&mut up)
    else {
        panic!("no KeyUpdate");
    };
    let Ok(Opened::ApplicationData { payload, .. }) = records.opener.open(&mut up[consumed..]) else {
        panic!("no data");
    };
    assert_eq!(&up[consumed..][payload], b"up");
}

/// The end of a message comes after the take-over; rustls has had its beginning.
#[test]
fn messages_that_span_the_take_over() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let algorithms = only(Version::Tls13, CIPHERS[1]);
    let config = server(vec![identity.certified()], algorithms.clone());
    // Lifetime, age_add, nonce, ticket, extensions (RFC 8446 §4.6.1).
    let ticket = [4, 0, 0, 17, 0, 0, 0, 60, 9, 9, 9, 9, 1, 0, 0, 3, 7, 7, 7, 0, 0];
    let update = [24, 0, 0, 1, 1];
    for (message, is_update) in [(&ticket[..], false), (&update, true)] {
        for split in 1..message.len() {
            let (mut client, server) = connected(&client_settings(algorithms.clone()), &config);
            let mut sealer = server.into_records().unwrap().sealer;
            // An earlier message is no matter.
            let mut early = handshake_record(&mut sealer, &ticket);
            early.extend(handshake_record(&mut sealer, &message[..split]));
            client.handle_input(&early).unwrap();
            assert_eq!(client.poll_plaintext().unwrap(), None);
            let mut opener = client.into_records().unwrap().opener;
            let mut late = handshake_record(&mut sealer, &message[split..]);
            let consumed = late.len();
            let expected = match is_update {
                true => Opened::KeyUpdate {
                    consumed,
                    requested: true,
                },
                false => Opened::Ignored { consumed },
            };
            assert_eq!(opener.open(&mut late), Ok(expected), "{split}");
        }
    }
}

/// Needs the program `openssl`.
#[test]
fn keys_limited_to_rsa_pss() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("openssl")
        .args(
            "req -x509 -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -nodes -sigopt rsa_pss_saltlen:32"
                .split(' '),
        )
        .args("-keyout key.pem -out cert.pem -days 30 -subj /CN=localhost".split(' '))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let key = PrivateKey::from_pem(&read("key.pem")).unwrap();
    let chain = CertificateChain::from_pem(&read("cert.pem"), |spki| key.belongs_to(spki)).unwrap();
    let certified = Arc::new(CertifiedKey::new(
        chain.into_certificates(),
        Arc::new(key.into_signing_key().unwrap()),
    ));
    let algorithms = only(Version::Tls13, CIPHERS[1]);
    let (client, _) = connected(
        &client_settings(algorithms.clone()),
        &server(vec![certified], algorithms),
    );
    assert_eq!(
        client.description().unwrap(),
        "(TLS1.3)-(ECDHE-X25519MLKEM768)-(RSA-PSS-SHA256)-(AES-256-GCM)"
    );
}

#[test]
fn much_output_is_not_cut() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let config = server(vec![identity.certified()], Algorithms::default());
    let (mut client, mut server) = connected(&client_settings(Algorithms::default()), &config);
    for _ in 0..8 {
        client.write_plaintext(&[7; 16384]).unwrap();
    }
    let flight = client.poll_transmit().unwrap();
    let mut received = 0;
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        rest = &rest[server.handle_input(rest).unwrap()..];
        while let Some(plaintext) = server.poll_plaintext().unwrap() {
            received += plaintext.len();
        }
    }
    assert_eq!(received, 8 * 16384);
    exchange(&mut client, &mut server);
}

#[test]
fn keys_behind_a_broker() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let identity = Identity::new(algorithm);
        let spki = culvert_certs::spki_of(identity.certificate.der()).unwrap();
        let key = PrivateKey::from_pem(identity.key_pem.as_bytes()).unwrap();
        assert!(key.belongs_to(&spki));
        assert_eq!(key.spki(), spki);
        let asked = Arc::new(Mutex::new(0));
        let counter = asked.clone();
        let remote = RemoteKey::new(
            KeyIndex(3),
            &spki,
            Arc::new(move |index, scheme, message| {
                assert_eq!(index, KeyIndex(3));
                *counter.lock().unwrap() += 1;
                key.sign(scheme, message)
                    .map_err(|error| RemoteSignError(error.to_string()))
            }),
        )
        .unwrap();
        let certified = Arc::new(CertifiedKey::new(
            vec![identity.certificate.der().clone()],
            Arc::new(remote),
        ));
        for version in VERSIONS {
            let algorithms = only(version, CIPHERS[1]);
            let config = server(vec![certified.clone()], algorithms.clone());
            connected(&client_settings(algorithms), &config);
        }
        assert_eq!(*asked.lock().unwrap(), 2);
    }
}

#[test]
fn a_key_signs_nothing_but_handshakes_of_servers() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let key = PrivateKey::from_pem(identity.key_pem.as_bytes()).unwrap();
    let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    assert_eq!(
        key.sign(scheme, b"a certificate request"),
        Err(culvert_tls::KeyError::Message)
    );
}

#[test]
fn the_second_key_serves_clients_that_cannot_use_the_first() {
    let (ecdsa, rsa) = (
        Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256),
        Identity::new(&rcgen::PKCS_RSA_SHA256),
    );
    let config = server(vec![ecdsa.certified(), rsa.certified()], Algorithms::default());
    let mut settings = client_settings(only(Version::Tls12, CIPHERS[1]));
    settings.verifier = Arc::new(RsaOnly(settings.verifier));
    let (client, _) = connected(&settings, &config);
    assert_eq!(client.peer_certificates()[0], *rsa.certificate.der());
}

/// A verifier that offers RSA schemes only.
#[derive(Debug)]
struct RsaOnly(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for RsaOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]
    }
}
