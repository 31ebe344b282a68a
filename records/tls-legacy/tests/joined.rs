//! Our connection with an OpenSSL server in memory: what the two sides must agree on, and octets
//! that are no TLS.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod verifier;

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;

use culvert_tls::{Algorithms, ClientSettings, Handshake, Opened, TlsError};
use culvert_tls_legacy::{LegacyConnection, LegacySettings, OldestVersion};
use ends::Ends;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslStream, SslVersion};
use openssl::x509::X509;
use proptest::prelude::*;
use rustls::Error;
use rustls::pki_types::ServerName;
use verifier::Verifier;

fn server(version: SslVersion) -> SslStream<Ends> {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["vpn.test".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let mut context = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
    context.set_security_level(0);
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    let certificate = X509::from_der(certificate.der()).unwrap();
    context.set_certificate(&certificate).unwrap();
    let key = PKey::private_key_from_pkcs8(&key.serialize_der()).unwrap();
    context.set_private_key(&key).unwrap();
    let mut ssl = Ssl::new(&context.build()).unwrap();
    ssl.set_accept_state();
    SslStream::new(ssl, Ends::default()).unwrap()
}

/// Lets both sides talk until neither has anything to say.
fn join(
    server: &mut SslStream<Ends>,
    send: impl Fn() -> Option<Vec<u8>>,
    receive: impl Fn(&[u8]) -> Result<usize, TlsError>,
) -> Result<(), TlsError> {
    for _ in 0..10 {
        while let Some(bytes) = send() {
            server.get_mut().input.extend(bytes);
        }
        let _ = server.do_handshake();
        receive(&std::mem::take(&mut server.get_mut().output))?;
    }
    Ok(())
}

fn name() -> ServerName<'static> {
    ServerName::try_from("vpn.test").unwrap()
}

fn legacy(accept: bool) -> RefCell<LegacyConnection> {
    let settings = LegacySettings {
        verifier: Arc::new(Verifier(accept)),
        identity: None,
        insecure: false,
        forward_secrecy: true,
        oldest: OldestVersion::Tls10,
    };
    RefCell::new(LegacyConnection::client(&settings, name()).unwrap())
}

fn join_legacy(server: &mut SslStream<Ends>, client: &RefCell<LegacyConnection>) -> Result<(), TlsError> {
    join(
        server,
        || client.borrow_mut().poll_transmit(),
        |bytes| client.borrow_mut().handle_input(bytes),
    )
}

fn peer_finished(server: &SslStream<Ends>) -> Vec<u8> {
    let mut finished = [0; 64];
    let len = server.ssl().peer_finished(&mut finished);
    finished[..len].to_vec()
}

#[test]
fn both_sides_know_the_same_binding_and_exporter() {
    for version in [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2] {
        let mut server = server(version);
        let client = legacy(true);
        join_legacy(&mut server, &client).unwrap();
        let client = client.into_inner();
        assert!(!client.is_handshaking());
        assert_eq!(client.peer_certificates().len(), 1);
        assert_eq!(client.client_finished(), Some(peer_finished(&server).as_slice()));
        let (mut ours, mut theirs) = ([0; 32], [0; 32]);
        client.exporter("EXPORTER-test", &mut ours).unwrap();
        let ssl = server.ssl();
        ssl.export_keying_material(&mut theirs, "EXPORTER-test", None)
            .unwrap();
        assert_eq!(ours, theirs);
    }
}

/// rustls does not tell its Finished message; what is computed from its messages is the same.
#[test]
fn the_finished_message_of_rustls() {
    let mut server = server(SslVersion::TLS1_2);
    let settings = ClientSettings {
        verifier: Arc::new(Verifier(true)),
        identity: None,
        algorithms: Algorithms::default(),
    };
    let client = RefCell::new(Handshake::client(&settings, name()).unwrap());
    assert_eq!(client.borrow().client_finished(), None);
    join(
        &mut server,
        || client.borrow_mut().poll_transmit(),
        |bytes| client.borrow_mut().handle_input(bytes),
    )
    .unwrap();
    let finished = client.borrow().client_finished().unwrap();
    assert_eq!(peer_finished(&server), finished);
}

/// The record after the one that ends the HTTP exchange has begun when the connection is taken over.
#[test]
fn a_take_over_in_the_middle_of_a_record() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for early in [1, 4, 5, 20] {
            let mut server = server(version);
            let client = legacy(true);
            join_legacy(&mut server, &client).unwrap();
            let mut said = |text: &[u8]| {
                server.write_all(text).unwrap();
                std::mem::take(&mut server.get_mut().output)
            };
            let (response, packet) = (said(b"response"), said(b"packet"));
            let mut client = client.into_inner();
            client
                .handle_input(&[&response, &packet[..early]].concat())
                .unwrap();
            assert_eq!(client.poll_plaintext().unwrap().unwrap(), b"response");
            assert_eq!(client.poll_plaintext().unwrap(), None);
            let mut records = client.into_records().unwrap();
            let mut unread = [&records.unread, &packet[early..]].concat();
            let opened = records.opener.open(&mut unread).unwrap();
            let Opened::ApplicationData { payload, .. } = opened else {
                panic!("{opened:?}");
            };
            assert_eq!(&unread[payload], b"packet");
        }
    }
}

#[test]
fn a_refused_certificate_ends_the_handshake() {
    let mut server = server(SslVersion::TLS1_1);
    let error = join_legacy(&mut server, &legacy(false)).unwrap_err();
    assert!(
        matches!(error, TlsError::Tls(Error::InvalidCertificate(_))),
        "{error}"
    );
    assert!(!server.ssl().is_init_finished());
}

proptest! {
    #[test]
    fn octets_that_are_no_tls_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut client = legacy(true).into_inner();
        let _ = client.handle_input(&bytes);
        prop_assert!(client.is_handshaking());
        prop_assert!(client.poll_plaintext().is_ok_and(|plaintext| plaintext.is_none()));
    }
}
