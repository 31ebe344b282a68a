//! Both ends of the record layers, connected in memory.

use std::sync::Arc;
use std::time::Instant;

use culvert_anyconnect::data::{CstpOpener, CstpSealer, DtlsChannel};
use culvert_certs::{Anchors, Host, Policy, PolicySettings};
use culvert_dtls::{CipherSuite, ClientConfig, Connection, ServerConfig};
use culvert_record::{ChannelState, DatagramChannel, DatagramOpened};
use culvert_tls::{
    Algorithms, Cipher, ClientSettings, Handshake, PrivateKey, Records, ServerSettings, Version,
    server_config,
};
use culvert_vocab::SecretBytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

/// One end of a stream.
pub(crate) struct Stream {
    pub(crate) sealer: CstpSealer,
    pub(crate) opener: CstpOpener,
}

impl From<Records> for Stream {
    fn from(records: Records) -> Self {
        Self {
            sealer: CstpSealer::new(records.sealer),
            opener: CstpOpener::new(records.opener),
        }
    }
}

/// TLS 1.3 with AES-256-GCM: client and server.
pub(crate) fn tls() -> (Stream, Stream) {
    let algorithms = || Algorithms {
        versions: vec![Version::Tls13],
        ciphers: vec![Cipher::Aes256Gcm],
        ..Algorithms::default()
    };
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["lab".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let signing_key = PrivateKey::from_pem(key.serialize_pem().as_bytes())
        .unwrap()
        .into_signing_key()
        .unwrap();
    let config = server_config(ServerSettings {
        keys: vec![Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            Arc::new(signing_key),
        ))],
        sessions: None,
        client_verifier: None,
        algorithms: algorithms(),
        server_precedence: true,
    });
    let policy = PolicySettings {
        host: Host::new("lab"),
        host_is_sni: false,
        anchors: Arc::new(Anchors::new()),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    };
    let settings = ClientSettings {
        verifier: Arc::new(Policy::new(policy)),
        identity: None,
        algorithms: algorithms(),
    };
    let mut client = Handshake::client(&settings, ServerName::try_from("lab").unwrap()).unwrap();
    let mut server = Handshake::server(&config.unwrap()).unwrap();
    loop {
        let (up, down) = (client.poll_transmit(), server.poll_transmit());
        if up.is_none() && down.is_none() {
            break;
        }
        if let Some(bytes) = up {
            server.handle_input(&bytes).unwrap();
        }
        if let Some(bytes) = down {
            client.handle_input(&bytes).unwrap();
        }
    }
    let records = |handshake: Handshake| Stream::from(handshake.into_records().unwrap());
    (records(client), records(server))
}

/// The two ends of a DTLS channel before the handshake.
pub(crate) fn dtls_ends(suite: CipherSuite, now: Instant) -> (DtlsChannel, DtlsChannel) {
    let psk = SecretBytes::new(vec![7; 32]);
    let config = ClientConfig {
        suites: vec![suite],
        ..ClientConfig::new(psk.clone(), Vec::new())
    };
    (
        DtlsChannel::new(Connection::client(config, now)),
        DtlsChannel::new(Connection::server(ServerConfig::new(psk), now)),
    )
}

/// DTLS 1.2: client and server, established.
pub(crate) fn dtls(suite: CipherSuite) -> (DtlsChannel, DtlsChannel) {
    let now = Instant::now();
    let (mut client, mut server) = dtls_ends(suite, now);
    while client.state() != ChannelState::Established {
        deliver(&mut client, &mut server, now);
        deliver(&mut server, &mut client, now);
    }
    (client, server)
}

fn deliver(from: &mut DtlsChannel, to: &mut DtlsChannel, now: Instant) {
    while let Some(mut datagram) = from.poll_transmit() {
        let mut at = 0;
        while let Some(rest) = datagram.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let DatagramOpened::Nothing { consumed } = to.open(now, rest) else {
                panic!("data in a handshake");
            };
            at += consumed;
        }
    }
}
