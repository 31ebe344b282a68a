//! What a taken-over worker may try.

use culvert_sys::channel::Channel;
use culvert_vocab::{SecretBytes, SessionId};
use proptest::prelude::*;
use rustls::SignatureScheme;

use super::harness::*;
use crate::ipc::messages::{BrokerToWorker, MainToBroker, WorkerToBroker};
use crate::ipc::{Bytes, SecretField, Text};

/// What a TLS 1.3 server signs: 64 spaces, a context string, a zero octet and a hash.
fn certificate_verify() -> Vec<u8> {
    [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat()
}

fn sign(key: u8, message: Vec<u8>) -> WorkerToBroker {
    let scheme = u16::from(SignatureScheme::ECDSA_NISTP256_SHA256);
    WorkerToBroker::Sign {
        key,
        scheme,
        message: Bytes::new(message).unwrap(),
    }
}

#[test]
fn keys_sign_handshakes_only_and_few_of_them() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        for _ in 0..4 {
            let reply = worker.ask(sign(0, certificate_verify())).await;
            assert!(matches!(reply, BrokerToWorker::Signature(Some(_))), "{reply:?}");
        }
        worker.say(&sign(0, certificate_verify()));
        assert_eq!(main.expect_kill(&mut worker).await, "too many signatures");

        let mut worker = main.connect("198.51.100.1").await;
        worker.say(&sign(0, b"please sign this certificate".to_vec()));
        main.expect_kill(&mut worker).await;

        let mut worker = main.connect("198.51.100.1").await;
        worker.say(&sign(1, certificate_verify()));
        main.expect_kill(&mut worker).await;

        let mut worker = main.connect("198.51.100.1").await;
        let unknown = WorkerToBroker::Sign {
            key: 0,
            scheme: 0xffff,
            message: Bytes::new(certificate_verify()).unwrap(),
        };
        assert_eq!(worker.ask(unknown).await, BrokerToWorker::Signature(None));
    });
}

#[test]
fn requests_out_of_turn_end_the_worker() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let cookie = SessionId::from_bytes([1; 32]);

        let mut worker = main.connect_silent("198.51.100.1");
        worker.say(&WorkerToBroker::CheckCookie(cookie.clone()));
        main.expect_kill(&mut worker).await;

        let mut worker = main.connect("198.51.100.1").await;
        worker.say(&WorkerToBroker::ServerName(Some(Text::truncated("other"))));
        assert_eq!(main.expect_kill(&mut worker).await, "second server name");

        let (mut worker, cookie) = main.log_in("test").await;
        worker.open(&cookie).await;
        main.hear().await;
        worker.say(&WorkerToBroker::OpenTunnel(tunnel_request(&cookie)));
        assert_eq!(main.expect_kill(&mut worker).await, "second tunnel");

        let (mut worker, cookie) = main.log_in("test").await;
        worker.open(&cookie).await;
        main.hear().await;
        worker.say(&WorkerToBroker::Login(start("test", Some("pw"))));
        main.expect_kill(&mut worker).await;

        let mut worker = main.connect("198.51.100.1").await;
        for _ in 0..16 {
            worker.ask(WorkerToBroker::CheckCookie(cookie.clone())).await;
        }
        worker.say(&WorkerToBroker::CheckCookie(cookie));
        assert_eq!(main.expect_kill(&mut worker).await, "too many cookies");
    });
}

#[test]
fn malformed_and_oversized_messages_end_the_worker() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let too_long_name = {
            // The same encoding as ServerName(Some(Text<255>)), beyond its bound.
            let mut bytes = vec![0, 1];
            bytes.extend_from_slice(&postcard::to_stdvec(&"x".repeat(256)).unwrap());
            bytes
        };
        let trailing = [
            &crate::ipc::encode(&WorkerToBroker::ServerName(None)).unwrap()[..],
            &[0],
        ]
        .concat();
        for bytes in [vec![0xee], vec![0], too_long_name, trailing, vec![0; 128 * 1024]] {
            let (near, far) = Channel::pair().unwrap();
            let id = crate::ipc::messages::ConnectionId(900);
            let peer = "198.51.100.1:1".parse().unwrap();
            main.tell_with(
                &MainToBroker::Connection {
                    id,
                    peer,
                    local: peer,
                },
                far.into_fd(),
            );
            near.send(&bytes, &[]).unwrap();
            let crate::ipc::messages::BrokerToMain::Kill { id: killed, .. } = main.hear().await else {
                panic!()
            };
            assert_eq!(killed, id);
            main.tell(&MainToBroker::ConnectionClosed {
                id,
                reason: crate::ipc::session::CloseReason::Error,
                counters: Default::default(),
            });
        }
        let (near, far) = Channel::pair().unwrap();
        let id = crate::ipc::messages::ConnectionId(901);
        let peer = "198.51.100.1:1".parse().unwrap();
        main.tell_with(
            &MainToBroker::Connection {
                id,
                peer,
                local: peer,
            },
            far.into_fd(),
        );
        let valid = crate::ipc::encode(&WorkerToBroker::ServerName(None)).unwrap();
        near.send(&valid, &[std::os::fd::AsFd::as_fd(&near)]).unwrap();
        let heard = main.hear().await;
        assert!(
            matches!(heard, crate::ipc::messages::BrokerToMain::Kill { .. }),
            "a descriptor: {heard:?}"
        );
    });
}

#[test]
fn tls_sessions_are_for_the_same_client_and_host() {
    let files = Files::new("[vhost:two.example.com]\nipv4-network = 10.98.0.0/24");
    run(async {
        let mut main = Main::start(&files).await;
        let data = || SecretField::new(SecretBytes::new(vec![5; 100])).unwrap();
        let id = || Bytes::new(vec![1, 2, 3]).unwrap();
        let fetch = || WorkerToBroker::FetchTlsSession { id: id(), take: true };
        let nothing = BrokerToWorker::TlsSession(None);
        let mut owner = main.connect("198.51.100.1").await;
        let stored = owner
            .ask(WorkerToBroker::StoreTlsSession {
                id: id(),
                data: data(),
            })
            .await;
        assert_eq!(stored, BrokerToWorker::Stored(true));
        assert_eq!(main.connect("198.51.100.2").await.ask(fetch()).await, nothing);
        let mut other_host = main.connect_silent("198.51.100.1");
        other_host
            .ask(WorkerToBroker::ServerName(Some(Text::truncated(
                "two.example.com",
            ))))
            .await;
        assert_eq!(other_host.ask(fetch()).await, nothing);
        let mut again = main.connect("198.51.100.1").await;
        assert_eq!(again.ask(fetch()).await, BrokerToWorker::TlsSession(Some(data())));
        assert_eq!(again.ask(fetch()).await, nothing, "taken");
    });
}

/// Signatures are answered while every hashing thread is busy and more logins wait.
#[test]
fn only_requests_for_tickets_reach_a_kdc() {
    let kdc = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = kdc.local_addr().unwrap().port();
    let files = Files::new(&format!("kkdcp = \"/KdcProxy TEST udp@127.0.0.1:{port}\""));
    let ask = |server: u8, message: &[u8]| WorkerToBroker::AskKdc {
        server,
        message: Bytes::new(message.to_vec()).unwrap(),
    };
    run(async {
        let mut main = Main::start(&files).await;
        for (request, why) in [
            (ask(1, &[0x6a, 0]), "a message for a KDC that does not exist"),
            (
                ask(0, &[0x6e, 0]),
                "a message for a KDC that is no request for a ticket",
            ),
        ] {
            let mut worker = main.connect("198.51.100.1").await;
            worker.say(&request);
            assert_eq!(main.expect_kill(&mut worker).await, why);
        }
        kdc.set_nonblocking(true).unwrap();
        assert!(kdc.recv(&mut [0; 10]).is_err());

        let kdc = tokio::net::UdpSocket::from_std(kdc).unwrap();
        tokio::task::spawn_local(async move {
            let mut message = [0; 10];
            let (length, peer) = kdc.recv_from(&mut message).await.unwrap();
            kdc.send_to(&message[..length], peer).await.unwrap();
        });
        let mut worker = main.connect("198.51.100.1").await;
        let reply = worker.ask(ask(0, &[0x6c, 0])).await;
        assert_eq!(
            reply,
            BrokerToWorker::Kdc(Some(Bytes::new(vec![0x6c, 0]).unwrap()))
        );
    });
}

#[test]
fn logins_do_not_stall_signatures() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut logins = Vec::new();
        for host in 0..40 {
            let worker = main.connect(&format!("198.51.100.{host}")).await;
            worker.say(&WorkerToBroker::Login(start("test", Some("wrong"))));
            logins.push(worker);
        }
        let mut worker = main.connect("203.0.113.1").await;
        let reply = worker.ask(sign(0, certificate_verify())).await;
        assert!(matches!(reply, BrokerToWorker::Signature(Some(_))));
        for login in &mut logins {
            assert!(matches!(login.reply().await, BrokerToWorker::Login(_)));
        }
    });
}

proptest! {
    /// Whatever bytes come from a worker, decoding gives a message within its bounds or an error.
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0u8..12) {
        let _any = crate::ipc::decode::<WorkerToBroker>(&bytes);
        let known_kind = [&[kind][..], &bytes].concat();
        if let Ok(WorkerToBroker::Login(start)) = crate::ipc::decode::<WorkerToBroker>(&known_kind) {
            prop_assert!(start.user.as_str().len() <= 1024);
        }
    }

    /// A message that is damaged anywhere is refused or is another message within its bounds.
    #[test]
    fn damaged_messages(position in 0usize..200, value in any::<u8>()) {
        let login = WorkerToBroker::Login(start("somebody", Some("a password")));
        let mut bytes = crate::ipc::encode(&login).unwrap().to_vec();
        let position = position % bytes.len();
        bytes[position] = value;
        let _checked = crate::ipc::decode::<WorkerToBroker>(&bytes);
        prop_assert!(crate::ipc::decode::<WorkerToBroker>(&bytes[..position]).is_err());
    }
}
