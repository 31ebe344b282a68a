//! The provider's documents, over HTTPS.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_wire::http::{Request, ResponseError, ResponseReader};
use culvert_wire::url::ServerUrl;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// Time for one document.
const TIME: Duration = Duration::from_secs(5);
/// Longest document with its head, in octets.
const DOCUMENT_MAX: usize = 1 << 20;

/// A document did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No connection, no TLS, or it ended too early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No certificate can be for such a name.
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    /// TLS cannot begin.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The answer is no HTTP.
    #[error("{0}")]
    Http(#[from] ResponseError),
    /// It says something else.
    #[error("the answer is '{0}'")]
    Status(String),
    /// It does not end.
    #[error("the answer is longer than {DOCUMENT_MAX} octets")]
    TooLong,
    /// It takes too long.
    #[error("no answer within {} s", TIME.as_secs())]
    Slow,
}

/// Gets documents from servers that the system's store of certificates knows.
#[derive(Debug)]
pub(super) struct Fetcher {
    tls: Arc<ClientConfig>,
}

impl Fetcher {
    /// Loads the store.
    ///
    /// # Errors
    /// It has no certificate that can be used.
    pub(super) fn new() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found
                .errors
                .first()
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            return Err(format!("the system has no store of certificates{why}"));
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Gets a document; redirects are not followed.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(super) fn get(&self, url: &ServerUrl) -> Result<Vec<u8>, FetchError> {
        let name = ServerName::try_from(url.host_name().to_owned())?;
        let mut tls = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut socket = Timed::connect(url, Instant::now() + TIME)?;
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut request = Request::new("GET", url.request_target());
        for (name, value) in [
            ("Host", url.host_header().as_str()),
            ("User-Agent", "ocserv"),
            ("Accept", "application/json"),
            ("Connection", "close"),
        ] {
            request.headers.push(name, value);
        }
        stream.write_all(&request.to_bytes()).map_err(slow)?;
        let mut reader = ResponseReader::new("GET");
        let mut buffer = [0; 16384];
        let mut total = 0;
        let response = loop {
            let count = stream.read(&mut buffer).map_err(slow)?;
            total += count;
            if total > DOCUMENT_MAX {
                return Err(FetchError::TooLong);
            }
            match buffer.get(..count) {
                None | Some([]) => break reader.handle_eof()?,
                Some(octets) => {
                    if let Some(response) = reader.handle_input(octets)? {
                        break response;
                    }
                }
            }
        };
        if !response.is_success() {
            return Err(FetchError::Status(response.status_line()));
        }
        Ok(response.body)
    }
}

/// A connection that ends at a certain time, however slowly the peer sends.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    /// Tries the addresses of a server one after the other.
    fn connect(url: &ServerUrl, deadline: Instant) -> Result<Self, FetchError> {
        let mut last = FetchError::NoAddress;
        for address in (url.host_name(), url.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(socket) => return Ok(Self { socket, deadline }),
                Err(error) => last = slow(error),
            }
        }
        Err(last)
    }
}

impl io::Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.read(buffer)
    }
}

impl io::Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn slow(error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FetchError::Slow,
        _ => FetchError::Io(error),
    }
}
