//! Keys, settings and a pair of connected handshakes for the tests.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use culvert_tls::{
    Algorithms, Cipher, ClientSettings, ContentType, Group, Handshake, PrivateKey, Sealer, ServerSettings,
    Version, server_config,
};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

pub(crate) const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
pub(crate) const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

pub(crate) struct Identity {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key_pem: String,
}

impl Identity {
    pub(crate) fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Self {
            certificate,
            key_pem: key.serialize_pem(),
        }
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKey::from_pem(self.key_pem.as_bytes())
            .unwrap()
            .into_signing_key()
            .unwrap();
        Arc::new(CertifiedKey::new(
            vec![self.certificate.der().clone()],
            Arc::new(key),
        ))
    }
}

pub(crate) fn only(version: Version, cipher: Cipher) -> Algorithms {
    Algorithms {
        versions: vec![version],
        ciphers: vec![cipher],
        ..Algorithms::default()
    }
}

pub(crate) fn classic(version: Version, cipher: Cipher) -> Algorithms {
    Algorithms {
        groups: vec![Group::Secp256r1, Group::X25519],
        ..only(version, cipher)
    }
}

/// Accepts every certificate; the handshake's signature is still verified.
pub(crate) fn client_settings(algorithms: Algorithms) -> ClientSettings {
    let policy = Policy::new(PolicySettings {
        host: Host::new("localhost"),
        host_is_sni: false,
        anchors: Arc::new(Anchors::new()),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    ClientSettings {
        verifier: Arc::new(policy),
        identity: None,
        algorithms,
    }
}

pub(crate) fn server(keys: Vec<Arc<CertifiedKey>>, algorithms: Algorithms) -> Arc<ServerConfig> {
    server_config(ServerSettings {
        keys,
        sessions: None,
        client_verifier: None,
        algorithms,
        server_precedence: true,
    })
    .unwrap()
}

pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Carries octets both ways until both are quiet.
pub(crate) fn exchange(client: &mut Handshake, server: &mut Handshake) {
    loop {
        let mut quiet = true;
        while let Some(bytes) = client.poll_transmit() {
            assert_eq!(server.handle_input(&bytes).unwrap(), bytes.len());
            quiet = false;
        }
        while let Some(bytes) = server.poll_transmit() {
            assert_eq!(client.handle_input(&bytes).unwrap(), bytes.len());
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}

pub(crate) fn connected(client: &ClientSettings, server: &ServerConfig) -> (Handshake, Handshake) {
    let mut client = Handshake::client(client, localhost()).unwrap();
    let mut server = Handshake::server(server).unwrap();
    exchange(&mut client, &mut server);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

/// A record with (a part of) handshake messages.
pub(crate) fn handshake_record(sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
    let start = sealer.headroom();
    let mut record = vec![0; sealer.sealed_len(message.len())];
    record[start..start + message.len()].copy_from_slice(message);
    sealer
        .seal(ContentType::Handshake, &mut record, message.len())
        .unwrap();
    record
}
