//! A gateway that a test plays: HTTP over TLS on the server host, answers from a closure.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use culvert_sys::netns::NetworkNamespace;
use culvert_wire::http::{Request, RequestReader, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::fixture::Fixture;
use crate::net::World;

/// Answers requests.
type Answer = Box<dyn FnMut(&Request) -> Response + Send>;

/// TLS with the server's certificate.
///
/// # Panics
/// The fixture's files are gone.
pub fn tls_server(fixture: &Fixture) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(fixture.path("server-cert.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture.path("server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// A gateway on port 443 of the server host, with the server's certificate. Its threads end with
/// the test's program.
#[derive(Debug)]
pub struct Gateway {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Gateway {
    /// Starts it; `answer` gets every request.
    ///
    /// # Panics
    /// The port is taken.
    pub fn start(
        world: &World,
        fixture: &Fixture,
        answer: impl FnMut(&Request) -> Response + Send + 'static,
    ) -> Self {
        let namespace = NetworkNamespace::open(&Path::new("/run/netns").join(world.server.name())).unwrap();
        let listener = namespace
            .enter(|| TcpListener::bind("0.0.0.0:443"))
            .unwrap()
            .unwrap();
        let config = tls_server(fixture);
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(StreamOwned::new(tls, socket), &seen, &answer));
            }
        });
        Self { requests }
    }

    /// All requests so far.
    ///
    /// # Panics
    /// The closure has panicked.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Serves one connection until the client has gone.
fn serve(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    seen: &Mutex<Vec<Request>>,
    answer: &Mutex<Answer>,
) {
    let mut reader = RequestReader::new();
    let mut chunk = [0; 16384];
    let mut input: &[u8] = &[];
    loop {
        if let Some(request) = reader.handle_input(input).unwrap() {
            seen.lock().unwrap().push(request.clone());
            let response = (answer.lock().unwrap())(&request);
            let length = response.body.len().to_string();
            let response = response.with_header("Content-Length", length);
            let gone = stream.write_all(&response.to_bytes()).is_err() || stream.flush().is_err();
            if gone {
                return;
            }
            reader = RequestReader::new();
        }
        input = match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => &chunk[..count],
        };
    }
}
