//! Multiple-certificate authentication against the captured exchange (`specs/anyconnect.md` §6.1).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use culvert_anyconnect::client::{
    HostScanRule, Login, LoginConfig, LoginError, Platform, SecondCertificate, SecondProof, SignatureHash,
};
use culvert_login::client::Step;
use culvert_wire::http::ResponseReader;
use culvert_wire::url::ServerUrl;

const REQUEST: &[u8] = include_bytes!("vectors/multicert-request.xml");
const REPLY: &str = include_str!("vectors/multicert-reply.xml");

/// Remembers what it was asked to sign.
#[derive(Debug, Default)]
struct Signer {
    asked: Mutex<Vec<(Vec<SignatureHash>, Vec<u8>)>>,
    refuses: bool,
}

impl SecondCertificate for Signer {
    fn prove(&self, hashes: &[SignatureHash], challenge: &[u8]) -> Option<SecondProof> {
        self.asked
            .lock()
            .unwrap()
            .push((hashes.to_vec(), challenge.to_vec()));
        (!self.refuses).then(|| SecondProof {
            chain: vec![vec![0x30, 0]],
            hash: SignatureHash::Sha512,
            signature: vec![1, 2, 3],
        })
    }
}

fn login(second: Option<Arc<Signer>>) -> Login {
    Login::new(LoginConfig {
        server: ServerUrl::parse("https://vpn.test/").unwrap(),
        user_agent: "test".into(),
        version: "v9.01-3".into(),
        platform: Platform::new("linux-64").unwrap(),
        group: None,
        xml_post: true,
        external_auth: true,
        strap: None,
        certificate: true,
        second_certificate: second.map(|second| second as Arc<dyn SecondCertificate>),
        token: None,
        passwords: true,
        browser: false,
        host_scan: HostScanRule::Refuse,
        profile: None,
    })
}

/// The body of the request that the login sends.
fn sent(step: Step) -> (bool, String) {
    let Step::Exchange(exchange) = step else {
        panic!("{step:?}");
    };
    (exchange.fresh, String::from_utf8(exchange.request.body).unwrap())
}

fn answer(login: &mut Login, body: &[u8]) -> Result<Step, String> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut reader = ResponseReader::new("POST");
    let response = reader
        .handle_input(&[head.as_bytes(), body].concat())
        .unwrap()
        .unwrap();
    login.handle_response(response).map_err(|error| error.to_string())
}

#[test]
fn the_whole_document_is_signed() {
    let signer = Arc::new(Signer::default());
    let mut login = login(Some(signer.clone()));
    let (_, init) = sent(login.start().unwrap());
    assert!(
        init.contains("<auth-method>multiple-cert</auth-method></capabilities>"),
        "{init}"
    );
    let (_, reply) = sent(answer(&mut login, REQUEST).unwrap());
    let asked = signer.asked.lock().unwrap().clone();
    let all = vec![
        SignatureHash::Sha512,
        SignatureHash::Sha384,
        SignatureHash::Sha256,
    ];
    assert_eq!(asked, [(all, REQUEST.to_vec())]);

    // The reply of the reference, but for certificate and signature.
    let between = |text: &str, start: &str, end: &str| {
        let from = text.find(start).unwrap() + start.len();
        let to = text[from..].find(end).unwrap();
        text[from..from + to].to_owned()
    };
    let blank = |text: &str| {
        let certificate = between(text, "\"pkcs7\">", "</client-cert>");
        let signature = between(text, "\"sha512\">", "</client-cert-auth");
        text.replace(&certificate, "")
            .replace(&signature, "")
            .trim_end()
            .to_owned()
    };
    assert_eq!(blank(&reply), blank(REPLY));
    assert_eq!(between(&reply, "\"sha512\">", "<"), "AQID");
}

#[test]
fn without_or_with_an_unusable_certificate() {
    let mut none = login(None);
    let (_, init) = sent(none.start().unwrap());
    assert!(!init.contains("multiple-cert"), "{init}");
    let refused = answer(&mut none, REQUEST).map(|_| ());
    assert_eq!(refused, Err(LoginError::SecondCertificate.to_string()));

    let unusable = Signer {
        refuses: true,
        ..Signer::default()
    };
    let mut unusable = login(Some(Arc::new(unusable)));
    unusable.start().unwrap();
    let refused = answer(&mut unusable, REQUEST).map(|_| ());
    assert_eq!(refused, Err(LoginError::SecondCertificateUnusable.to_string()));
}

#[test]
fn a_server_that_never_has_enough() {
    let mut login = login(Some(Arc::default()));
    login.start().unwrap();
    let rounds = (0..10)
        .take_while(|_| answer(&mut login, REQUEST).is_ok())
        .count();
    assert_eq!(rounds, 2);
}

/// A certificate that TLS did not ask for is shown on a new connection; then it is missing.
#[test]
fn the_first_certificate_is_asked_for() {
    let wanted = b"<config-auth><client-cert-request/></config-auth>";
    let mut login = login(None);
    login.start().unwrap();
    let (fresh, init) = sent(answer(&mut login, wanted).unwrap());
    assert!(fresh && !init.contains("client-cert-fail"), "{init}");
    let (fresh, init) = sent(answer(&mut login, wanted).unwrap());
    assert!(!fresh && init.contains("<client-cert-fail/>"), "{init}");
}
