//! Take-over against OpenSSL and GnuTLS over loopback TCP: every cipher of TLS 1.2 and 1.3, data
//! both ways after the take-over, tickets, and KeyUpdate from either side.
//! Needs the programs `openssl`, `gnutls-cli` and `gnutls-serv` (packages openssl, gnutls-bin).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::net::TcpListener;
use std::path::PathBuf;

use common::{CIPHERS, Identity, VERSIONS, classic, client_settings, localhost, server};
use culvert_tls::{Cipher, Handshake, Version};
use peer::{Peer, Tunnel, connect, free_port, patient, take_over};

struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

fn files(identity: &Identity) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("cert.pem");
    let key = folder.path().join("key.pem");
    std::fs::write(&certificate, identity.certificate.pem()).unwrap();
    std::fs::write(&key, &identity.key_pem).unwrap();
    Files {
        _folder: folder,
        certificate,
        key,
    }
}

fn openssl_version(version: Version) -> &'static str {
    match version {
        Version::Tls12 => "-tls1_2",
        Version::Tls13 => "-tls1_3",
    }
}

fn gnutls_priority(version: Version) -> &'static str {
    match version {
        Version::Tls12 => "NORMAL:-VERS-ALL:+VERS-TLS1.2",
        Version::Tls13 => "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    }
}

/// What GnuTLS 3.7.9 prints for an ECDSA P-256 key.
fn description(version: Version, cipher: Cipher) -> String {
    let cipher = match cipher {
        Cipher::Aes128Gcm => "AES-128-GCM",
        Cipher::Aes256Gcm => "AES-256-GCM",
        Cipher::ChaCha20Poly1305 => "CHACHA20-POLY1305",
    };
    match version {
        Version::Tls12 => format!("(TLS1.2)-(ECDHE-SECP256R1)-(ECDSA-SHA256)-({cipher})"),
        Version::Tls13 => format!("(TLS1.3)-(ECDHE-SECP256R1)-(ECDSA-SECP256R1-SHA256)-({cipher})"),
    }
}

fn our_client(version: Version, cipher: Cipher, port: u16) -> Tunnel {
    let handshake = Handshake::client(&client_settings(classic(version, cipher)), localhost()).unwrap();
    let (tunnel, described) = take_over(handshake, connect(port));
    assert_eq!(described, description(version, cipher));
    tunnel
}

/// Listens, starts the peer with the port, and takes its connection over.
fn our_server(
    identity: &Identity,
    version: Version,
    cipher: Cipher,
    start: impl FnOnce(u16) -> Peer,
) -> (Tunnel, Peer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = start(listener.local_addr().unwrap().port());
    let stream = patient(listener.accept().unwrap().0);
    let config = server(vec![identity.certified()], classic(version, cipher));
    let (tunnel, described) = take_over(Handshake::server(&config).unwrap(), stream);
    (tunnel, peer, described)
}

/// We renew our keys, then OpenSSL does three times; `effect` waits until it has taken the command, which it does
/// only at the start of what it reads at once.
fn renew_keys(tunnel: &mut Tunnel, peer: &mut Peer, effect: impl Fn(&mut Tunnel, &mut Peer, usize)) {
    tunnel.update_keys(true);
    tunnel.send(b"after our update\n");
    peer.wait_for("after our update");
    peer.type_line("answer");
    tunnel.expect("answer");
    assert_eq!(tunnel.key_updates, 1);
    for (round, command) in ["k", "K", "K"].into_iter().enumerate() {
        peer.type_line(command);
        effect(tunnel, peer, round);
        peer.type_line(&format!("from OpenSSL {round}"));
        tunnel.expect(&format!("from OpenSSL {round}"));
        tunnel.send(format!("to OpenSSL {round}\n").as_bytes());
        peer.wait_for(&format!("to OpenSSL {round}"));
    }
    assert_eq!(tunnel.key_updates, 4);
}

#[test]
fn client_and_openssl_s_server() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let files = files(&identity);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let mut peer = Peer::start(
                "openssl",
                &[
                    "s_server",
                    "-accept",
                    "127.0.0.1:0",
                    openssl_version(version),
                    "-cert",
                    files.certificate.to_str().unwrap(),
                    "-key",
                    files.key.to_str().unwrap(),
                ],
            );
            let line = peer.wait_for("ACCEPT 127.0.0.1:");
            let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
            let mut tunnel = our_client(version, cipher, port);
            tunnel.send(b"from the client\n");
            peer.wait_for("from the client");
            peer.type_line("from the server");
            tunnel.expect("from the server");
            if version == Version::Tls13 {
                assert_eq!(tunnel.ignored, 2, "OpenSSL's tickets");
                renew_keys(&mut tunnel, &mut peer, |tunnel, peer, round| {
                    tunnel.send(format!("read {round}\n").as_bytes());
                    peer.wait_for(&format!("read {round}"));
                });
            }
        }
    }
}

#[test]
fn openssl_s_client_and_server() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let (mut tunnel, mut peer, described) = our_server(&identity, version, cipher, |port| {
                Peer::start(
                    "openssl",
                    &[
                        "s_client",
                        "-connect",
                        &format!("127.0.0.1:{port}"),
                        openssl_version(version),
                        "-groups",
                        "P-256",
                    ],
                )
            });
            assert_eq!(described, description(version, cipher));
            tunnel.send(b"from the server\n");
            peer.wait_for("from the server");
            peer.type_line("from the client");
            tunnel.expect("from the client");
            if version == Version::Tls13 {
                renew_keys(&mut tunnel, &mut peer, |_, peer, _| {
                    peer.wait_for("KEYUPDATE");
                });
            }
            peer.type_line("Q");
            tunnel.expect_close();
        }
    }
}

#[test]
fn client_and_gnutls_serv() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let files = files(&identity);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let port = free_port();
            let _peer = Peer::start(
                "gnutls-serv",
                &[
                    "--echo",
                    "--port",
                    &port.to_string(),
                    "--priority",
                    gnutls_priority(version),
                    "--x509certfile",
                    files.certificate.to_str().unwrap(),
                    "--x509keyfile",
                    files.key.to_str().unwrap(),
                ],
            );
            let mut tunnel = our_client(version, cipher, port);
            tunnel.send(b"first\n");
            tunnel.expect("first");
            if version == Version::Tls13 {
                assert!(tunnel.ignored > 0, "GnuTLS' tickets");
            }
            tunnel.update_keys(true);
            tunnel.send(b"second\n");
            tunnel.expect("second");
            assert_eq!(tunnel.key_updates, usize::from(version == Version::Tls13));
        }
    }
}

#[test]
fn gnutls_cli_and_server() {
    let identity = Identity::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for version in VERSIONS {
        for cipher in CIPHERS {
            let (mut tunnel, mut peer, described) = our_server(&identity, version, cipher, |port| {
                Peer::start(
                    "gnutls-cli",
                    &[
                        "--insecure",
                        "--inline-commands",
                        "--priority",
                        gnutls_priority(version),
                        "--port",
                        &port.to_string(),
                        "127.0.0.1",
                    ],
                )
            });
            assert_eq!(described, description(version, cipher));
            // gnutls-cli prints the certificate type after the version; openconnect does not.
            let printed = peer.wait_for("- Description: ").replace("-X.509)", ")");
            assert_eq!(printed.trim(), format!("- Description: {described}"));
            tunnel.send(b"from the server\n");
            peer.wait_for("from the server");
            peer.type_line("from the client");
            tunnel.expect("from the client");
            if version == Version::Tls13 {
                peer.type_line("^rekey^");
                peer.type_line("after the update");
                tunnel.expect("after the update");
                assert_eq!(tunnel.key_updates, 1);
                tunnel.send(b"and back\n");
                peer.wait_for("and back");
            }
        }
    }
}
