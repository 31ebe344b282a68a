//! Session tokens that only their owner can use (`specs/cstp-dtls.md` §2.3): a gateway that checks
//! the proof in CONNECT with what it knows of its own end of the TLS connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Fixture, Make, Process, World};
use culvert_sys::netns::NetworkNamespace;
use culvert_wire::http::{Request, RequestReader, Response};
use data_encoding::BASE64;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslRef, SslStream, SslVersion};

use crate::{COMPLETE, document, login};

/// Octets of an uncompressed point, which a SubjectPublicKeyInfo of P-256 ends in.
const POINT_LEN: usize = 65;

/// A CONNECT as the gateway has judged it.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    /// What the signature covers besides the new key; `None`: it fits nothing.
    binding: Option<&'static str>,
    /// The key is the one that was announced before.
    same_key: bool,
}

#[derive(Debug, Default)]
struct Book {
    /// The key announced last.
    key: Option<String>,
    connects: Vec<Judged>,
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).unwrap_or_default()
}

/// The bindings that a verifying server accepts, as this end of the connection knows them.
fn bindings(tls: &SslRef) -> [(&'static str, Vec<u8>); 2] {
    let mut exported = vec![0; 32];
    tls.export_keying_material(&mut exported, "EXPORTER-Channel-Binding", Some(b""))
        .unwrap();
    let mut finished = vec![0; 64];
    let len = tls.peer_finished(&mut finished);
    finished.truncate(len);
    [("exporter", exported), ("Finished", finished)]
}

fn judge(tls: &SslRef, request: &Request, key: &str) -> Judged {
    let announced = header(request, "X-AnyConnect-STRAP-Pubkey");
    let decode = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
    let (signer, new) = (decode(key), decode(announced));
    let signature = decode(header(request, "X-AnyConnect-STRAP-Verify"));
    let signer = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &signer[signer.len() - POINT_LEN..]);
    let fits = |binding: &[u8]| signer.verify(&[binding, &new].concat(), &signature).is_ok();
    let binding = bindings(tls).into_iter().find(|(_, binding)| fits(binding));
    Judged {
        binding: binding.map(|(name, _)| name),
        same_key: announced == key,
    }
}

/// Logs everybody in, and refuses every tunnel once it has been judged.
fn serve(mut stream: SslStream<TcpStream>, book: &Mutex<Book>) {
    let mut reader = RequestReader::new();
    let mut chunk = [0; 16384];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        let Some(request) = reader.handle_input(&chunk[..count]).unwrap() else {
            continue;
        };
        reader = RequestReader::new();
        let mut book = book.lock().unwrap();
        let response = if request.method == "CONNECT" {
            let key = book.key.clone().unwrap();
            let judged = judge(stream.ssl(), &request, &key);
            book.connects.push(judged);
            Response::new(401, "Seen").with_header("Content-Length", "0")
        } else {
            let length = COMPLETE.len().to_string();
            document(COMPLETE).with_header("Content-Length", length)
        };
        book.key = Some(header(&request, "X-AnyConnect-STRAP-Pubkey").to_owned());
        if stream.write_all(&response.to_bytes()).is_err() {
            return;
        }
    }
}

fn gateway(world: &World, fixture: &Fixture, version: SslVersion) -> Arc<Mutex<Book>> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_min_proto_version(Some(version)).unwrap();
    acceptor.set_max_proto_version(Some(version)).unwrap();
    acceptor
        .set_certificate_chain_file(fixture.path("server-cert.pem"))
        .unwrap();
    acceptor
        .set_private_key_file(fixture.path("server-key.pem"), SslFiletype::PEM)
        .unwrap();
    let acceptor = acceptor.build();
    let namespace = NetworkNamespace::open(&Path::new("/run/netns").join(world.server.name())).unwrap();
    let listener = namespace
        .enter(|| TcpListener::bind("0.0.0.0:443"))
        .unwrap()
        .unwrap();
    let book: Arc<Mutex<Book>> = Arc::default();
    let shared = Arc::clone(&book);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            if let Ok(stream) = acceptor.accept(socket) {
                serve(stream, &shared);
            }
        }
    });
    book
}

/// A login and its tunnel, and a tunnel with the cookie in a run of its own. `late` options come
/// after `--cookieonly` and overrule it.
fn proofs(make: Make, version: SslVersion) -> Vec<Judged> {
    let (world, fixture) = (World::new(), Fixture::new());
    let book = gateway(&world, &fixture, version);
    let run = |arguments: &[&str]| -> Process {
        let mut process = login(make, &world, &fixture, arguments, None);
        process.exit_code();
        process
    };
    let both = run(&["--printcookie"]);
    let cookie = both.stdout();
    assert!(cookie.starts_with("openconnect_strapkey="), "{}", both.output());
    let cookie = run(&[]).stdout();
    let second = ["--cookie", cookie.trim(), "--printcookie"];
    let second = run(&second);
    assert!(second.stderr().contains(SERVER_NAME), "{}", second.output());
    std::mem::take(&mut book.lock().unwrap().connects)
}

#[test]
fn the_proof_belongs_to_the_connection() {
    let judged = |binding, same_key| Judged {
        binding: Some(binding),
        same_key,
    };
    for (make, version, binding) in [
        (Make::Real, SslVersion::TLS1_2, "Finished"),
        (Make::Culvert, SslVersion::TLS1_2, "Finished"),
        // Version 9.01 knows nothing else; later ones and ours use the exporter.
        (Make::Real, SslVersion::TLS1_3, "Finished"),
        (Make::Culvert, SslVersion::TLS1_3, "exporter"),
    ] {
        let expected = [judged(binding, false), judged(binding, true)];
        assert_eq!(proofs(make, version), expected, "{make:?} {version:?}");
    }
}
