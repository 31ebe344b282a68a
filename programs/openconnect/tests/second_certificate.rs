//! Multiple-certificate authentication: the real client and ours against a server that asks for a
//! second certificate. OpenSSL unpacks and verifies what they send.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Fixture, Make, gateway};
use rustls::{ServerConnection, StreamOwned};

/// Asks for a signature with one of two hash functions.
const CHALLENGE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"auth-request\" \
    aggregate-auth-version=\"2\"><opaque is-for=\"sg\"/><multiple-client-cert-request><hash-algorithm>sha256</hash-algorithm>\
    <hash-algorithm>sha512</hash-algorithm></multiple-client-cert-request><random>FA40</random>\
    <cert-authenticated/></config-auth>\n";
const SUCCESS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"complete\" \
    aggregate-auth-version=\"2\"><session-token>T0K3N</session-token><auth id=\"success\"/></config-auth>\n";

/// A server that asks, then is content. It reports the bodies of requests.
fn serve(fixture: &Fixture) -> (SocketAddr, Receiver<String>) {
    let config = gateway::tls_server(fixture);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (bodies, received) = channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            while let Some(body) = read_request(&mut stream) {
                let answer = if body.contains("type=\"init\"") {
                    CHALLENGE
                } else {
                    SUCCESS
                };
                bodies.send(body).unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
                    answer.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        }
    });
    (address, received)
}

/// The body of the next request; `None` at the end of the connection.
fn read_request(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut chunk = [0; 16384];
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |len| len.parse().unwrap());
            if body.len() >= len {
                return Some(body.to_owned());
            }
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start}: {text}"));
    rest.split_once(end)
        .unwrap_or_else(|| panic!("no {end}: {text}"))
        .0
}

/// Logs in with the second certificate, whose key has a passphrase, and checks what was sent.
fn logs_in(client: &Path) {
    let fixture = Fixture::new();
    fixture.openssl(
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=second -days 90 -keyout key.pem -out second.pem",
    );
    fixture.openssl("pkcs8 -topk8 -in key.pem -passout pass:secret -out locked.pem");
    let (address, bodies) = serve(&fixture);
    let mut command = Command::new(client);
    let child = command
        .current_dir(fixture.dir())
        .args(["--cafile", "ca.pem", "--cookieonly", "--no-proxy"])
        .args(["--resolve", &format!("{SERVER_NAME}:127.0.0.1")])
        .args(["--mca-certificate", "second.pem", "--mca-key", "locked.pem"])
        .args(["--mca-key-password", "secret"])
        .arg(format!("https://{SERVER_NAME}:{}/", address.port()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr).into_owned();
    assert_eq!(child.status.code(), Some(0), "{said}");
    let cookie = String::from_utf8_lossy(&child.stdout);
    assert!(cookie.ends_with("webvpn=T0K3N\n"), "{cookie}{said}");

    let init = bodies.recv().unwrap();
    assert!(
        init.contains("<auth-method>multiple-cert</auth-method>"),
        "{init}"
    );
    let reply = bodies.recv().unwrap();
    fixture.write_file(
        "chain.b64",
        &format!("{}\n", between(&reply, "\"pkcs7\">", "</client-cert>")),
    );
    let signature = between(
        &reply,
        "hash-algorithm-chosen=\"sha512\">",
        "</client-cert-auth-signature>",
    );
    fixture.write_file("signature.b64", &format!("{signature}\n"));
    fixture.write_file("challenge", CHALLENGE);
    fixture.openssl("base64 -d -in chain.b64 -out chain.p7");
    fixture.openssl("base64 -d -in signature.b64 -out signature");
    fixture.openssl("pkcs7 -inform DER -in chain.p7 -print_certs -out sent.pem");
    fixture.openssl("x509 -in sent.pem -noout -pubkey -out public.pem");
    assert_eq!(
        fixture.openssl("x509 -in sent.pem -outform PEM"),
        fs::read_to_string(fixture.path("second.pem")).unwrap()
    );
    let verdict = fixture.openssl("dgst -sha512 -verify public.pem -signature signature challenge");
    assert_eq!(verdict, "Verified OK\n");
}

/// What a client says about its second certificate, made with these extensions.
fn said_about(client: &Path, extensions: &str) -> Vec<String> {
    let fixture = Fixture::new();
    fixture.write_file(
        "openssl.cnf",
        &format!("[req]\ndistinguished_name = dn\nx509_extensions = ext\n[dn]\n[ext]\n{extensions}\n"),
    );
    fixture.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=second -days 90 -keyout key.pem \
         -out second.pem -config openssl.cnf",
    );
    let (address, _bodies) = serve(&fixture);
    let output = Command::new(client)
        .current_dir(fixture.dir())
        .args(["--cafile", "ca.pem", "--cookieonly", "--no-proxy"])
        .args(["--resolve", &format!("{SERVER_NAME}:127.0.0.1")])
        .args(["--mca-certificate", "second.pem", "--mca-key", "key.pem"])
        .arg(format!("https://{SERVER_NAME}:{}/", address.port()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let about = said
        .lines()
        .filter(|line| line.to_lowercase().contains("certificate"));
    about.map(str::to_owned).collect()
}

/// Certificates that are for something else are used, with a warning.
#[test]
fn purposes_of_the_second_certificate() {
    for extensions in [
        "",
        "extendedKeyUsage = clientAuth",
        "extendedKeyUsage = msSmartcardLogin",
        "extendedKeyUsage = serverAuth",
        "keyUsage = nonRepudiation",
        "keyUsage = keyEncipherment",
        "keyUsage = digitalSignature\nextendedKeyUsage = serverAuth",
    ] {
        let real = said_about(&Make::Real.program("openconnect"), extensions);
        let ours = said_about(Path::new(env!("CARGO_BIN_EXE_openconnect")), extensions);
        assert_eq!(ours, real, "{extensions}");
    }
}

#[test]
fn real_client_with_a_second_certificate() {
    logs_in(&Make::Real.program("openconnect"));
}

#[test]
fn our_client_with_a_second_certificate() {
    logs_in(Path::new(env!("CARGO_BIN_EXE_openconnect")));
}
