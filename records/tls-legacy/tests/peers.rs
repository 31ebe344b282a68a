//! GnuTLS as an old server that wants a certificate when the connection is there already: it renegotiates.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod verifier;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use culvert_tls::TlsError;
use culvert_tls_legacy::{LegacyConnection, LegacyIdentity, LegacyKey, LegacySettings, OldestVersion};
use rustls::pki_types::ServerName;
use verifier::Verifier;

/// A folder with a key and a certificate of its own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("culvert-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["vpn.test".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(path.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(path.join("key.pem"), key.serialize_pem()).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that is free, and that the kernel gives to nobody who asks for any: below the range of
/// `net.ipv4.ip_local_port_range`.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (std::process::id() as u16).wrapping_add(next) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path, priorities: &str) -> Self {
        let port = free_port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/renegotiating_server.py");
        let child = Command::new("python3")
            .args([script, &port.to_string()])
            .arg(folder.join("cert.pem"))
            .arg(folder.join("key.pem"))
            .arg(priorities)
            .spawn()
            .expect("python3");
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client on a socket.
struct Client {
    socket: TcpStream,
    tls: LegacyConnection,
}

impl Client {
    fn connect(server: &Server, folder: &Path, insecure: bool) -> Self {
        let pem = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let certificate = openssl::x509::X509::from_pem(&pem("cert.pem")).unwrap();
        let key = openssl::pkey::PKey::private_key_from_pem(&pem("key.pem")).unwrap();
        let settings = LegacySettings {
            verifier: Arc::new(Verifier(true)),
            identity: Some(LegacyIdentity {
                chain: vec![certificate.to_der().unwrap().into()],
                key: LegacyKey::Memory(key.private_key_to_pkcs8().unwrap().into()),
            }),
            insecure,
            forward_secrecy: false,
            oldest: OldestVersion::Tls10,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let socket = loop {
            match TcpStream::connect(("127.0.0.1", server.port)) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name = ServerName::try_from("vpn.test").unwrap();
        let mut client = Self {
            socket,
            tls: LegacyConnection::client(&settings, name).unwrap(),
        };
        while client.tls.is_handshaking() {
            client.receive().unwrap();
        }
        client
    }

    fn flush(&mut self) {
        while let Some(bytes) = self.tls.poll_transmit() {
            self.socket.write_all(&bytes).unwrap();
        }
    }

    fn receive(&mut self) -> Result<(), TlsError> {
        self.flush();
        let mut buffer = [0; 16384];
        let len = self.socket.read(&mut buffer).unwrap();
        if len == 0 {
            return Err(TlsError::Foreign("the end".into()));
        }
        let result = self.tls.handle_input(&buffer[..len]);
        self.flush();
        result.map(drop)
    }

    fn say(&mut self, text: &str) {
        self.tls.write_plaintext(text.as_bytes()).unwrap();
        self.flush();
    }

    /// The next line.
    fn hear(&mut self) -> Result<String, TlsError> {
        loop {
            if let Some(plaintext) = self.tls.poll_plaintext()? {
                return Ok(String::from_utf8(plaintext).unwrap());
            }
            self.receive()?;
        }
    }
}

/// What the server says of a second handshake on the same connection, and of a third.
fn renegotiate(folder: &Path, priorities: &str, insecure: bool) -> Result<[String; 2], TlsError> {
    let server = Server::start(folder, priorities);
    let mut client = Client::connect(&server, folder, insecure);
    let before = client.tls.description();
    client.say("hello");
    let said = [client.hear()?, client.hear()?];
    assert_eq!(client.tls.description(), before);
    Ok(said)
}

const DONE: &str = "handshake: 0, certificates: 1\n";

#[test]
fn renegotiation_with_gnutls() {
    let folder = Folder::new("renegotiation");
    for version in ["TLS1.0", "TLS1.1", "TLS1.2"] {
        let priorities = format!("NORMAL:-VERS-ALL:+VERS-{version}");
        let said = renegotiate(&folder.0, &priorities, false).unwrap();
        assert_eq!(said, [DONE, DONE], "{version}");
    }
}

/// With a server without secure renegotiation (RFC 5746) there is one only if the user allows it.
#[test]
fn insecure_renegotiation() {
    let folder = Folder::new("insecure-renegotiation");
    let priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.2:%DISABLE_SAFE_RENEGOTIATION";
    let said = renegotiate(&folder.0, priorities, true).unwrap();
    assert_eq!(said, [DONE, DONE]);
    let error = renegotiate(&folder.0, priorities, false).unwrap_err();
    assert_eq!(error.to_string(), "unsafe legacy renegotiation disabled");
}
