//! Client certificates, proven by handshakes like those of a worker.

use std::sync::{Arc, Mutex};

use culvert_certs::client_schemes;
use culvert_server_config::Config;
use culvert_tls::{
    Acceptor, Algorithms, ClientProof, ClientSettings, Handshake, KeyIndex, PrivateKey, RemoteClientVerifier,
    RemoteKey, RemoteSignError, ServerSettings, server_config,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;

use super::super::auth::Certificates;
use super::super::load::Load;
use super::harness::*;
use crate::ipc::Bytes;
use crate::ipc::messages::{BrokerToWorker, CertificateProof, LoginFailure, LoginReply, WorkerToBroker};

const METHODS: &str =
    "auth = certificate\nca-cert = @/users.pem\ncert-user-oid = 2.5.4.3\ncert-group-oid = 2.5.4.11";

/// A server that asks for certificates, and a user's one.
fn files(methods: &str, name: &str) -> (Files, Arc<CertifiedKey>) {
    let files = Files::new("");
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&authority).unwrap();
    std::fs::write(files.path("users.pem"), certificate.pem()).unwrap();
    files.authenticate(methods);
    let key = KeyPair::generate().unwrap();
    let mut user = CertificateParams::default();
    user.distinguished_name.push(DnType::CommonName, name);
    user.distinguished_name
        .push(DnType::OrganizationalUnitName, "staff");
    let issued = user
        .signed_by(&key, &Issuer::from_params(&params, &authority))
        .unwrap();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der.into()).unwrap();
    (
        files,
        Arc::new(CertifiedKey::new(vec![issued.der().clone()], key)),
    )
}

fn certificates(files: &Files) -> Certificates {
    let (config, _) = Config::load(&files.path("ocserv.conf")).unwrap();
    let host = config.hosts().next().unwrap();
    Certificates::load(host).unwrap().unwrap()
}

/// A handshake with this user: the proof, and the server's signatures.
fn shake(files: &Files, user: &Arc<CertifiedKey>) -> (ClientProof, Vec<Vec<u8>>) {
    let pem = |name: &str| std::fs::read(files.path(name)).unwrap();
    let key = PrivateKey::from_pem(&pem("key.pem")).unwrap();
    let chain = culvert_certs::CertificateChain::from_pem_without_key(&pem("cert.pem")).unwrap();
    let chain: Vec<CertificateDer<'static>> = chain.certificates().to_vec();
    let spki = culvert_certs::spki_of(&chain[0]).unwrap();
    let signed = Arc::new(Mutex::new(Vec::new()));
    let sign = {
        let signed = Arc::clone(&signed);
        move |_: KeyIndex, scheme, message: &[u8]| {
            let signature = key
                .sign(scheme, message)
                .map_err(|error| RemoteSignError(error.to_string()))?;
            signed.lock().unwrap().push(signature.clone());
            Ok(signature)
        }
    };
    let remote = RemoteKey::new(KeyIndex(0), &spki, Arc::new(sign)).unwrap();
    let proven = Arc::new(Mutex::new(None));
    let judge = {
        let proven = Arc::clone(&proven);
        move |proof| proven.lock().unwrap().replace(proof).is_none()
    };
    let verifier = RemoteClientVerifier::new(true, &[], client_schemes(), Arc::new(judge));
    let config = server_config(ServerSettings {
        keys: vec![Arc::new(CertifiedKey::new(chain, Arc::new(remote)))],
        sessions: None,
        client_verifier: Some(Arc::new(verifier)),
        algorithms: Algorithms::default(),
        server_precedence: true,
    })
    .unwrap();
    let mut anchors = culvert_certs::Anchors::new();
    anchors.add_pem(&pem("cert.pem")).unwrap();
    let policy = culvert_certs::Policy::new(culvert_certs::PolicySettings {
        host: culvert_certs::Host::new("vpn.example.com"),
        host_is_sni: false,
        anchors: Arc::new(anchors),
        allow_insecure_crypto: false,
        decide: Arc::new(|_| true),
    });
    let settings = ClientSettings {
        verifier: Arc::new(policy),
        identity: Some(Arc::clone(user)),
        algorithms: Algorithms::default(),
    };
    let mut client = Handshake::client(&settings, ServerName::try_from("vpn.example.com").unwrap()).unwrap();
    let hello = Acceptor::new()
        .handle_input(&client.poll_transmit().unwrap())
        .unwrap();
    let Ok(mut server) = hello.unwrap().into_handshake(&config) else {
        panic!("the hello was refused")
    };
    while server.is_handshaking() {
        while let Some(bytes) = server.poll_transmit() {
            client.handle_input(&bytes).unwrap();
        }
        while let Some(bytes) = client.poll_transmit() {
            server.handle_input(&bytes).unwrap();
        }
    }
    let proof = proven.lock().unwrap().take().unwrap();
    let signed = signed.lock().unwrap().clone();
    (proof, signed)
}

fn message(proof: &ClientProof) -> WorkerToBroker {
    WorkerToBroker::Certificate(Box::new(CertificateProof {
        tls13: proof.tls13,
        transcript: Bytes::new(proof.transcript.clone()).unwrap(),
        scheme: proof.scheme,
        signature: Bytes::new(proof.signature.clone()).unwrap(),
    }))
}

#[test]
fn a_proof_is_good_for_the_connection_that_it_was_made_on() {
    let (files, alice) = files(METHODS, "alice");
    let certificates = certificates(&files);
    let (proof, signed) = shake(&files, &alice);
    let identity = certificates.judge(&proof, &signed).unwrap();
    assert_eq!(identity.user.as_ref().unwrap().as_str(), "alice");
    assert_eq!(identity.groups.as_ref().unwrap()[0].as_str(), "staff");
    let (again, _) = shake(&files, &alice);
    let refusal = "the handshake is not that of this connection";
    assert_eq!(certificates.judge(&again, &signed).unwrap_err(), refusal);
    assert_eq!(certificates.judge(&proof, &[]).unwrap_err(), refusal);
    // Somebody else's handshake cannot be made to fit, and neither can its signature.
    let mut forged = proof.clone();
    forged.signature = again.signature;
    let refusal = "the client does not have the key of its certificate";
    assert_eq!(certificates.judge(&forged, &signed).unwrap_err(), refusal);
    let strangers = certificates_of_others();
    assert!(
        strangers
            .judge(&proof, &signed)
            .unwrap_err()
            .contains("signer not found")
    );
}

fn certificates_of_others() -> Certificates {
    let (files, _) = files(METHODS, "other");
    // Another name, too: not only another key.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "others");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(files.path("users.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    certificates(&files)
}

/// What is accepted of the methods for a client with and without a certificate.
#[test]
fn the_entry_follows_the_certificate() {
    use super::super::auth::{Methods, Workers};
    for (methods, with, without) in [
        ("auth = certificate", Some((true, false)), None),
        (
            "auth = certificate\nauth = plain[passwd=@/passwd]",
            Some((true, true)),
            None,
        ),
        (
            "auth = plain[passwd=@/passwd]\nenable-auth = certificate",
            Some((true, false)),
            Some((false, true)),
        ),
        (
            "auth = certificate\nauth = plain[passwd=@/passwd]\nenable-auth = certificate",
            Some((true, true)),
            None,
        ),
        ("auth = plain[passwd=@/passwd]", None, Some((false, true))),
    ] {
        let (files, _) = files(
            &format!("{methods}\nca-cert = @/users.pem\ncert-user-oid = 2.5.4.3"),
            "x",
        );
        let (config, _) = Config::load(&files.path("ocserv.conf")).unwrap();
        let host = config.hosts().next().unwrap();
        let entries = Methods::new(host, &config.global, &Workers::new(1, Load::new(1))).unwrap();
        let shape = |certificate| {
            let entry = entries.select(certificate, None)?;
            Some((entry.certificate, entry.method.is_some()))
        };
        assert_eq!((shape(true), shape(false)), (with, without), "{methods}");
    }
}

#[test]
fn names_that_nobody_can_have() {
    for name in ["a\u{1b}b", " x", &"x".repeat(64)] {
        let (files, user) = files(METHODS, name);
        let (proof, signed) = shake(&files, &user);
        let identity = certificates(&files).judge(&proof, &signed).unwrap();
        assert!(identity.user.is_err(), "{name:?}");
    }
}

#[test]
fn a_list_that_cannot_be_read_lets_nobody_in() {
    let methods = format!("{METHODS}\ncrl = @/crl.pem");
    let (files, alice) = files(&methods, "alice");
    let (config, _) = Config::load(&files.path("ocserv.conf")).unwrap();
    assert!(
        Certificates::load(config.hosts().next().unwrap())
            .unwrap_err()
            .contains("crl.pem")
    );
    files.authenticate(METHODS);
    let (proof, signed) = shake(&files, &alice);
    assert!(certificates(&files).judge(&proof, &signed).is_ok());
}

#[test]
fn the_broker_does_not_believe_its_workers() {
    let (files, alice) = files(METHODS, "alice");
    let (proof, _) = shake(&files, &alice);
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        // The handshake was another connection's.
        assert_eq!(
            worker.ask(message(&proof)).await,
            BrokerToWorker::Certificate(false)
        );
        main.hear_failure(&worker, false).await;
        let refused = LoginReply::Failed(LoginFailure::NoCertificate);
        assert_eq!(worker.login("alice", Some("pw")).await, refused);
        worker.say(&message(&proof));
        assert_eq!(main.expect_kill(&mut worker).await, "second client certificate");
    });
}

#[test]
fn a_certificate_that_was_not_asked_for_ends_the_worker() {
    let (files, alice) = files(METHODS, "alice");
    let (proof, _) = shake(&files, &alice);
    files.configure("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        worker.say(&message(&proof));
        assert_eq!(
            main.expect_kill(&mut worker).await,
            "a certificate that was not asked for"
        );
    });
}
