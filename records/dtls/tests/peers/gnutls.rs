//! Against `gnutls-serv` and `gnutls-cli`, both ways, all suites. Needs Debian's `gnutls-bin`.

use std::time::Instant;

use culvert_dtls::{CipherSuite, ClientConfig, Connection, ServerConfig, Version};

use crate::support::{Endpoint, PSK_HEX, Peer, free_port, psk};

/// Cipher and MAC as GnuTLS priorities.
const SUITES: [(CipherSuite, &str); 7] = [
    (CipherSuite::PskAes256GcmSha384, "+AES-256-GCM:+AEAD"),
    (CipherSuite::PskChacha20Poly1305Sha256, "+CHACHA20-POLY1305:+AEAD"),
    (CipherSuite::PskAes128GcmSha256, "+AES-128-GCM:+AEAD"),
    (CipherSuite::PskAes256CbcSha384, "+AES-256-CBC:+SHA384"),
    (CipherSuite::PskAes128CbcSha256, "+AES-128-CBC:+SHA256"),
    (CipherSuite::PskAes256CbcSha, "+AES-256-CBC:+SHA1"),
    (CipherSuite::PskAes128CbcSha, "+AES-128-CBC:+SHA1"),
];

fn priority(cipher: &str) -> String {
    format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:-MAC-ALL:{cipher}")
}

fn server(cipher: &str, config: ClientConfig) -> (Peer, Endpoint) {
    let port = free_port();
    let passwords = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(passwords.path(), format!("psk:{PSK_HEX}\n")).unwrap();
    let arguments = [
        "--udp",
        "--echo",
        "--port",
        &port.to_string(),
        "--pskpasswd",
        passwords.path().to_str().unwrap(),
        "--priority",
        &priority(cipher),
    ];
    let mut peer = Peer::start("gnutls-serv", &arguments);
    peer.wait_for("UDP Echo Server listening on IPv4");
    let client = Connection::client(config, Instant::now());
    let mut end = Endpoint::connected(client, ([127, 0, 0, 1], port).into());
    end.establish(cipher);
    (peer, end)
}

fn client(cipher: &str, config: ServerConfig, more: &[&str]) -> (Peer, Endpoint) {
    let mut end = Endpoint::listening(Connection::server(config, Instant::now()));
    let port = end.port().to_string();
    let priority = priority(cipher);
    let mut arguments = vec![
        "--udp",
        "--pskusername",
        "psk",
        "--pskkey",
        PSK_HEX,
        "--priority",
        &priority,
        "--port",
        &port,
        "127.0.0.1",
    ];
    arguments.extend_from_slice(more);
    let peer = Peer::start("gnutls-cli", &arguments);
    end.establish(cipher);
    (peer, end)
}

fn exchange_with_client(peer: &mut Peer, end: &mut Endpoint, what: &str) {
    peer.wait_for("Simple Client Mode");
    end.received.clear();
    peer.write_line(&format!("from {what}"));
    end.run_until(what, |end| end.received == format!("from {what}\n").as_bytes());
    end.send(format!("to {what}\n").as_bytes());
    peer.wait_for(&format!("to {what}"));
}

#[test]
fn our_client_every_suite() {
    for (suite, cipher) in SUITES {
        let (_peer, mut end) = server(cipher, ClientConfig::new(psk(), vec![7; 32]));
        assert_eq!(
            end.connection.description(),
            Some(suite.description(Version::Dtls12))
        );
        end.expect_echo(cipher, "hello\n");
    }
}

/// A server that knows nothing newer than DTLS 1.0.
#[test]
fn our_client_in_dtls_10() {
    for (suite, cipher) in [
        (
            CipherSuite::PskAes256CbcSha,
            "+AES-256-CBC:+SHA1:-VERS-ALL:+VERS-DTLS1.0",
        ),
        (
            CipherSuite::PskAes128CbcSha,
            "+AES-128-CBC:+SHA1:-VERS-ALL:+VERS-DTLS1.0",
        ),
    ] {
        let (_peer, mut end) = server(cipher, ClientConfig::new(psk(), vec![7; 32]));
        assert_eq!(
            end.connection.description(),
            Some(suite.description(Version::Dtls10))
        );
        end.expect_echo(cipher, "hello\n");
    }
}

#[test]
fn our_client_without_extensions() {
    for (_, cipher) in SUITES {
        let config = ClientConfig {
            extended_master_secret: false,
            encrypt_then_mac: false,
            ..ClientConfig::new(psk(), vec![7; 32])
        };
        let (_peer, mut end) = server(cipher, config);
        end.expect_echo(cipher, "hello\n");
    }
}

#[test]
fn our_server_every_suite() {
    for (suite, cipher) in SUITES {
        let (mut peer, mut end) = client(cipher, ServerConfig::new(psk()), &[]);
        assert_eq!(
            end.connection.description(),
            Some(suite.description(Version::Dtls12))
        );
        exchange_with_client(&mut peer, &mut end, cipher);
        // gnutls-cli has certificates too and says so in place of plain "(DTLS1.2)".
        let (_, tail) = suite.description(Version::Dtls12).split_once('-').unwrap();
        assert!(peer.has_printed(tail), "{}", peer.output());
    }
}

#[test]
fn our_server_without_extensions() {
    for (_, cipher) in SUITES {
        let config = ServerConfig {
            extended_master_secret: false,
            encrypt_then_mac: false,
            ..ServerConfig::new(psk())
        };
        let (mut peer, mut end) = client(cipher, config, &[]);
        exchange_with_client(&mut peer, &mut end, cipher);
    }
}

#[test]
fn our_server_with_cookie_exchange() {
    let config = ServerConfig {
        cookie_exchange: true,
        ..ServerConfig::new(psk())
    };
    let (mut peer, mut end) = client("+AES-256-GCM:+AEAD", config, &[]);
    exchange_with_client(&mut peer, &mut end, "with cookie");
}

#[test]
fn our_server_lets_the_client_rehandshake() {
    for (_, cipher) in SUITES {
        let (mut peer, mut end) = client(cipher, ServerConfig::new(psk()), &["--rehandshake"]);
        end.run_until("rehandshake begins", |end| end.connection.is_rekeying());
        end.run_until("rehandshake", |end| !end.connection.is_rekeying());
        peer.wait_for("ReHandshake was completed");
        exchange_with_client(&mut peer, &mut end, cipher);
    }
}
