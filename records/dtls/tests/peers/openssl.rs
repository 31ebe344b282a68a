//! Against OpenSSL's `s_server` and `s_client`, both ways, all suites. Needs Debian's `openssl`.

use std::net::SocketAddr;
use std::time::Instant;

use crate::support::{Endpoint, PSK_HEX, Peer, free_port, psk};
use culvert_dtls::{CipherSuite, ClientConfig, Connection, Error, Random, ServerConfig, Version};

const SUITES: [(CipherSuite, &str); 7] = [
    (CipherSuite::PskAes256GcmSha384, "PSK-AES256-GCM-SHA384"),
    (CipherSuite::PskChacha20Poly1305Sha256, "PSK-CHACHA20-POLY1305"),
    (CipherSuite::PskAes128GcmSha256, "PSK-AES128-GCM-SHA256"),
    (CipherSuite::PskAes256CbcSha384, "PSK-AES256-CBC-SHA384"),
    (CipherSuite::PskAes128CbcSha256, "PSK-AES128-CBC-SHA256"),
    (CipherSuite::PskAes256CbcSha, "PSK-AES256-CBC-SHA"),
    (CipherSuite::PskAes128CbcSha, "PSK-AES128-CBC-SHA"),
];

fn server(cipher: &str, more: &[&str]) -> (Peer, Endpoint) {
    server_for(cipher, more, ClientConfig::new(psk(), vec![7; 32]))
}

fn server_for(cipher: &str, more: &[&str], config: ClientConfig) -> (Peer, Endpoint) {
    let (peer, address) = start_server(cipher, more);
    let mut end = Endpoint::connected(Connection::client(config, Instant::now()), address);
    end.establish(cipher);
    (peer, end)
}

fn start_server(cipher: &str, more: &[&str]) -> (Peer, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let accept = address.to_string();
    let cipher = format!("{cipher}:@SECLEVEL=0");
    let mut arguments = vec![
        "s_server", "-accept", &accept, "-psk", PSK_HEX, "-cipher", &cipher, "-nocert",
    ];
    if !more.contains(&"-dtls1") {
        arguments.push("-dtls1_2");
    }
    arguments.extend_from_slice(more);
    let mut peer = Peer::start("openssl", &arguments);
    peer.wait_for("ACCEPT");
    (peer, address)
}

fn exchange_with_server(peer: &mut Peer, end: &mut Endpoint, what: &str) {
    end.send(format!("to {what}\n").as_bytes());
    peer.wait_for(&format!("to {what}"));
    end.received.clear();
    peer.write_line(&format!("from {what}"));
    end.run_until(what, |end| end.received == format!("from {what}\n").as_bytes());
}

fn client(cipher: &str, config: ServerConfig, more: &[&str]) -> (Peer, Endpoint) {
    let mut end = Endpoint::listening(Connection::server(config, Instant::now()));
    let connect = format!("127.0.0.1:{}", end.port());
    let cipher = format!("{cipher}:@SECLEVEL=0");
    let mut arguments = vec![
        "s_client", "-dtls1_2", "-connect", &connect, "-psk", PSK_HEX, "-cipher", &cipher,
    ];
    arguments.extend_from_slice(more);
    let peer = Peer::start("openssl", &arguments);
    end.establish(&cipher);
    (peer, end)
}

fn exchange_with_client(peer: &mut Peer, end: &mut Endpoint, what: &str) {
    end.send(format!("to {what}\n").as_bytes());
    peer.wait_for(&format!("to {what}"));
    end.received.clear();
    peer.write_line(&format!("from {what}"));
    end.run_until(what, |end| end.received == format!("from {what}\n").as_bytes());
}

#[test]
fn our_client_every_suite() {
    for (suite, name) in SUITES {
        let (mut peer, mut end) = server(name, &[]);
        assert_eq!(
            end.connection.description(),
            Some(suite.description(Version::Dtls12))
        );
        exchange_with_server(&mut peer, &mut end, name);
    }
}

/// A server that knows nothing newer than DTLS 1.0.
#[test]
fn our_client_in_dtls_10() {
    for (suite, name) in SUITES {
        if suite.description(Version::Dtls10).starts_with("(DTLS1.0)") {
            let (mut peer, mut end) = server(name, &["-dtls1"]);
            assert_eq!(
                end.connection.description(),
                Some(suite.description(Version::Dtls10))
            );
            exchange_with_server(&mut peer, &mut end, name);
        }
    }
}

#[test]
fn our_client_without_extensions() {
    for (_, name) in SUITES {
        let config = ClientConfig {
            extended_master_secret: false,
            encrypt_then_mac: false,
            ..ClientConfig::new(psk(), vec![7; 32])
        };
        let (mut peer, mut end) = server_for(name, &[], config);
        exchange_with_server(&mut peer, &mut end, name);
    }
}

#[test]
fn our_client_with_cookie_exchange_and_identity_hint() {
    let (mut peer, mut end) = server("PSK-AES128-GCM-SHA256", &["-listen", "-psk_hint", "a hint"]);
    exchange_with_server(&mut peer, &mut end, "with hint");
}

/// OpenSSL 3.0's server goes on with the client_random of the first handshake when it derives the
/// keys of the second; its own client repeats the value, so nobody noticed. Ours must do the same here.
struct SameRandom;

impl Random for SameRandom {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        out.fill(0x5a);
        Ok(())
    }
}

#[test]
fn our_client_rehandshakes() {
    for (_, name) in SUITES {
        let (mut peer, address) = start_server(name, &["-client_renegotiation"]);
        let config = ClientConfig::new(psk(), vec![7; 32]);
        let client = Connection::client_with_random(config, Instant::now(), Box::new(SameRandom));
        let mut end = Endpoint::connected(client, address);
        end.establish(name);
        exchange_with_server(&mut peer, &mut end, "before");
        for round in ["after", "once more"] {
            assert!(end.connection.start_rekey(Instant::now()));
            end.run_until("rehandshake", |end| !end.connection.is_rekeying());
            exchange_with_server(&mut peer, &mut end, round);
        }
    }
}

#[test]
fn our_server_every_suite() {
    for (suite, name) in SUITES {
        let (mut peer, mut end) = client(name, ServerConfig::new(psk()), &[]);
        assert_eq!(
            end.connection.description(),
            Some(suite.description(Version::Dtls12))
        );
        exchange_with_client(&mut peer, &mut end, name);
    }
}

#[test]
fn our_server_without_extensions() {
    for (_, name) in SUITES {
        let config = ServerConfig {
            extended_master_secret: false,
            encrypt_then_mac: false,
            ..ServerConfig::new(psk())
        };
        let (mut peer, mut end) = client(name, config, &[]);
        exchange_with_client(&mut peer, &mut end, name);
    }
}

#[test]
fn our_server_with_cookie_exchange() {
    let config = ServerConfig {
        cookie_exchange: true,
        ..ServerConfig::new(psk())
    };
    let (mut peer, mut end) = client("PSK-AES128-GCM-SHA256", config, &[]);
    exchange_with_client(&mut peer, &mut end, "with cookie");
}

#[test]
fn our_server_lets_the_client_rehandshake() {
    for (_, name) in SUITES {
        let (mut peer, mut end) = client(name, ServerConfig::new(psk()), &[]);
        exchange_with_client(&mut peer, &mut end, "before");
        peer.write_line("R");
        end.run_until("rehandshake begins", |end| end.connection.is_rekeying());
        end.run_until("rehandshake", |end| !end.connection.is_rekeying());
        // s_client often reads no more input after a renegotiation; its Finished came in epoch 2.
        end.send(b"to after\n");
        peer.wait_for("to after");
    }
}

#[test]
fn our_server_sees_the_client_close() {
    let (mut peer, mut end) = client("PSK-AES256-GCM-SHA384", ServerConfig::new(psk()), &[]);
    exchange_with_client(&mut peer, &mut end, "before");
    peer.write_line("Q");
    end.run_until("close", |end| {
        end.connection.failure() == Some(&Error::ClosedByPeer)
    });
}

#[test]
fn our_server_closes() {
    let (mut peer, mut end) = client("PSK-AES256-GCM-SHA384", ServerConfig::new(psk()), &[]);
    exchange_with_client(&mut peer, &mut end, "before");
    end.connection.close();
    end.transmit();
    peer.wait_for("closed");
}
