//! One TLS connection in its HTTP phase.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::libproxy::LibProxy;
use culvert_tls::TlsError;
use culvert_wire::http::{Request, Response, ResponseError, ResponseReader};
use culvert_wire::url::ServerUrl;
use rustls_pki_types::ServerName;

use super::record_log::RecordLog;
use super::tls::{Tls, may_be_old_gateway};
use super::{Failure, dial, proxy, resolve};
use crate::context::Context;
use crate::credentials::LoadFailure;
use crate::prompt::reason;
use crate::signals::{Signal, WaitError};

/// Longest silence of the server in a TLS handshake.
const HANDSHAKE_SILENCE_MAX: Duration = Duration::from_secs(40);
/// Longest silence after a ClientHello with a post-quantum key share, which some servers and
/// middleboxes cannot digest because of its size.
const LARGE_HELLO_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Shortest and longest look at a connection before another handshake begins on it.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Longest silence of the server while an answer is expected.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Most octets of one record's content.
const RECORD_MAX: usize = 16384;
/// Octets per read.
const READ_SIZE: usize = 16384;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum IoFailure {
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke, or nothing comes.
    #[error("{0}")]
    Lost(String),
    /// TLS does not accept what the server sent.
    #[error("{}", tls_text(.0))]
    Tls(TlsError),
    #[error(transparent)]
    Response(#[from] ResponseError),
}

impl From<WaitError> for IoFailure {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted(signal) => Self::Interrupted(signal),
            WaitError::TimedOut => Self::Lost("the server does not answer".into()),
            WaitError::Io(error) => Self::Lost(reason(&error)),
        }
    }
}

/// How a server takes the wish to leave HTTP.
pub(super) enum Greeted {
    /// It agrees; what follows the greeting.
    Agreed {
        rest: Vec<u8>,
    },
    Refused(Response),
    /// It closes the connection without a word.
    Ended,
}

/// Why there is no TLS connection.
enum OpenFailure {
    Interrupted(Signal),
    /// The connection ended during the handshake, this long after its beginning.
    Closed(Duration),
    /// The connection broke or stayed silent during the handshake.
    NoAnswer,
    /// The connection ends before anything is said on it.
    Dead,
    /// The handshake failed as it does with servers that only speak old TLS.
    OldServer,
    NoInput,
    Failed,
}

impl From<Failure> for OpenFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Interrupted(signal) => Self::Interrupted(signal),
            Failure::NoInput => Self::NoInput,
            Failure::Failed => Self::Failed,
        }
    }
}

/// A connected and verified server, before or between HTTP exchanges.
pub(crate) struct Https {
    socket: TcpStream,
    tls: Tls,
    server: ServerUrl,
    address: SocketAddr,
    /// The address is a proxy's.
    proxied: bool,
    /// `--gnutls-debug`
    log: Option<RecordLog>,
    /// Nothing more can be exchanged.
    ended: bool,
}

impl Https {
    /// Connects, negotiates TLS and applies the user's trust. `address` is used instead of a name
    /// look-up if it is given.
    ///
    /// # Errors
    /// The user has been told.
    pub(crate) fn open(
        context: &Context,
        server: &ServerUrl,
        address: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let mut result = Self::open_once(context, server, address, None);
        // How long to see whether the next connection ends by itself.
        let mut look = match result {
            Err(OpenFailure::Closed(after)) => Some((after * 2 + LOOK_MIN).min(LOOK_MAX)),
            _ => None,
        };
        if let Err(OpenFailure::NoAnswer | OpenFailure::Closed(_)) = result
            && context.trust.avoid_post_quantum(server)
        {
            let text = "Retrying without post-quantum key exchange";
            context.output.info(text);
            result = Self::open_once(context, server, address, look.take());
            // It was not that.
            if let Err(OpenFailure::NoAnswer | OpenFailure::Closed(_) | OpenFailure::Dead) = result {
                context.trust.offer_post_quantum(server);
            }
        }
        if let Err(OpenFailure::OldServer | OpenFailure::Closed(_)) = result
            && context.trust.use_legacy(server)
        {
            context.output.info("Retrying with TLS for old servers");
            result = Self::open_once(context, server, address, look.take());
            // A server that was only restarting is no old one.
            let weak = |connection: &Self| !connection.tls.weaknesses().is_empty();
            if !result.as_ref().is_ok_and(weak) {
                context.trust.forget_legacy(server);
            }
            if let Err(OpenFailure::OldServer | OpenFailure::Closed(_)) = result
                && let Some(hint) = context.trust.hint_for_old_servers()
            {
                context.output.error(&hint);
            }
        }
        result.map_err(|failure| match failure {
            OpenFailure::Interrupted(signal) => Failure::Interrupted(signal),
            OpenFailure::NoInput => Failure::NoInput,
            OpenFailure::Closed(_)
            | OpenFailure::NoAnswer
            | OpenFailure::Dead
            | OpenFailure::OldServer
            | OpenFailure::Failed => Failure::Failed,
        })
    }

    /// One attempt. With `look` the connection must last that long before anything is said on it.
    fn open_once(
        context: &Context,
        server: &ServerUrl,
        address: Option<SocketAddr>,
        look: Option<Duration>,
    ) -> Result<Self, OpenFailure> {
        let (socket, address, proxied) = Self::dial(context, server, address)?;
        if let Some(look) = look {
            must_last(context, &socket, look)?;
        }
        let mut connection = Self::negotiate(context, server, socket, address)?;
        connection.proxied = proxied;
        Ok(connection)
    }

    fn dial(
        context: &Context,
        server: &ServerUrl,
        known: Option<SocketAddr>,
    ) -> Result<(TcpStream, SocketAddr, bool), Failure> {
        let network = &context.options.network;
        let named = match network.libproxy {
            true => LibProxy::load()
                .ok()
                .and_then(|library| proxy::by_libproxy(library, server)),
            false => None,
        };
        if let Some(proxy) = network.proxy.as_ref().or(named.as_ref()) {
            return proxy::connect(context, proxy, server, known)
                .map(|(socket, address)| (socket, address, true));
        }
        let addresses = match known {
            Some(address) => vec![address],
            None => resolve::resolve(context, server.host_name(), server.port)?,
        };
        let connected =
            dial::connect(context, "server", &addresses, known.is_some()).inspect_err(|failure| {
                if *failure == Failure::Failed {
                    let text = format!("Failed to connect to host {}", server.host);
                    context.output.error(&text);
                }
            });
        connected.map(|(socket, address)| (socket, address, false))
    }

    fn negotiate(
        context: &Context,
        server: &ServerUrl,
        socket: TcpStream,
        address: SocketAddr,
    ) -> Result<Self, OpenFailure> {
        let output = &context.output;
        let host = server.host_name();
        let failed = |text: String| {
            output.error(&text);
            OpenFailure::Failed
        };
        let load_failure = |failure: LoadFailure| {
            if failure == LoadFailure::Failed {
                output.error("Loading certificate failed. Aborting.");
            }
            OpenFailure::from(Failure::from(failure))
        };
        // The user is told of his certificate, or asked for its passphrase, before TLS begins.
        let identity = context.credentials.identity(context).map_err(load_failure)?;
        let name = context.trust.checked_name(host).to_owned();
        let name =
            ServerName::try_from(name).map_err(|_| failed(format!("'{host}' is no valid server name")))?;
        context.trust.anchors().map_err(failed)?;
        output.info(&format!("SSL negotiation with {}", server.host));
        let tls = match context.trust.wants_legacy(server) {
            #[cfg(feature = "legacy-tls")]
            true => {
                let mut settings = context.trust.legacy_settings(server).map_err(failed)?;
                settings.identity = context
                    .credentials
                    .legacy_identity(context)
                    .map_err(load_failure)?;
                Tls::legacy(&settings, name)
            }
            _ => {
                let mut settings = context.trust.settings(server).map_err(failed)?;
                settings.identity = identity;
                Tls::modern(&settings, name)
            }
        };
        let tls = tls.map_err(|error| failed(format!("SSL connection failure: {error}")))?;
        let mut connection = Self {
            socket,
            tls,
            server: server.clone(),
            address,
            proxied: false,
            log: RecordLog::new(&context.console, context.options.trust.tls_debug),
            ended: false,
        };
        let begun = Instant::now();
        match connection.shake_hands(context) {
            Ok(()) => {}
            Err(IoFailure::Interrupted(signal)) => {
                output.error("SSL connection cancelled");
                return Err(OpenFailure::Interrupted(signal));
            }
            Err(IoFailure::Tls(_)) if context.trust.lacks_input() => return Err(OpenFailure::NoInput),
            Err(error) => {
                output.error(&format!("SSL connection failure: {error}"));
                return Err(match error {
                    IoFailure::Closed => OpenFailure::Closed(begun.elapsed()),
                    IoFailure::Lost(_) => OpenFailure::NoAnswer,
                    IoFailure::Tls(error) if may_be_old_gateway(&error) => OpenFailure::OldServer,
                    _ => OpenFailure::Failed,
                });
            }
        }
        let description = connection.tls.description().unwrap_or_default();
        output.info(&format!(
            "Connected to HTTPS on {} with ciphersuite {description}",
            server.host
        ));
        let weaknesses = connection.tls.weaknesses();
        if !weaknesses.is_empty() {
            let text = weaknesses.join(", ");
            output.error(&format!("WARNING: The TLS of server '{host}' is weak: {text}"));
        }
        Ok(connection)
    }

    fn shake_hands(&mut self, context: &Context) -> Result<(), IoFailure> {
        let mut silence = match context.trust.offers_post_quantum(&self.server) {
            true => LARGE_HELLO_SILENCE_MAX,
            false => HANDSHAKE_SILENCE_MAX,
        };
        // The limits hold for each wait: the user may be asked about the certificate in between.
        self.flush(context, Instant::now() + silence)?;
        while self.tls.is_handshaking() {
            let result = self.receive(context, Instant::now() + silence);
            silence = HANDSHAKE_SILENCE_MAX;
            // The alert for the server, if there is one; the error matters more than its fate.
            let flushed = self.flush(context, Instant::now() + silence);
            if !result? {
                return Err(IoFailure::Closed);
            }
            flushed?;
        }
        Ok(())
    }

    /// True when this connection leads to the host and port of `server` and can carry one more
    /// exchange.
    pub(super) fn serves(&mut self, server: &ServerUrl) -> bool {
        self.server.host == server.host && self.server.port == server.port && !self.ended && self.is_quiet()
    }

    /// False when the server has closed the connection (or sends without being asked).
    fn is_quiet(&mut self) -> bool {
        let mut probe = [0];
        match self.socket.peek(&mut probe) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) | Ok(0) => false,
            // A session ticket, or the end; both are records.
            Ok(_) => {
                let mut record = [0; READ_SIZE];
                let Ok(count) = self.socket.read(&mut record) else {
                    return false;
                };
                let taken = self.tls.handle_input(record.get(..count).unwrap_or_default());
                taken.is_ok() && matches!(self.tls.poll_plaintext(), Ok(None)) && !self.tls.peer_closed()
            }
        }
    }

    fn send(&mut self, context: &Context, request: &Request) -> Result<(), IoFailure> {
        let bytes = zeroize::Zeroizing::new(request.to_bytes());
        for part in bytes.chunks(RECORD_MAX) {
            self.tls
                .write_plaintext(part)
                .map_err(|error| IoFailure::Lost(error.to_string()))?;
            self.flush(context, Instant::now() + SILENCE_MAX)?;
        }
        Ok(())
    }

    /// Sends a request that the server answers with `greeting` instead of HTTP, if it agrees.
    pub(super) fn upgrade(
        &mut self,
        context: &Context,
        request: &Request,
        greeting: &[u8],
    ) -> Result<Greeted, IoFailure> {
        self.send(context, request)?;
        let mut received = Vec::new();
        loop {
            while let Some(plaintext) = self.tls.poll_plaintext().map_err(IoFailure::Tls)? {
                received.extend_from_slice(&plaintext);
                if let Some(rest) = received.strip_prefix(greeting) {
                    return Ok(Greeted::Agreed { rest: rest.to_vec() });
                }
                if !greeting.starts_with(&received) {
                    let mut reader = ResponseReader::new(&request.method);
                    let response = match reader.handle_input(&received)? {
                        Some(response) => response,
                        None => self.read_response(context, &mut reader)?,
                    };
                    self.ended = true;
                    return Ok(Greeted::Refused(response));
                }
            }
            if self.tls.peer_closed() || !self.receive(context, Instant::now() + SILENCE_MAX)? {
                self.ended = true;
                return Ok(Greeted::Ended);
            }
        }
    }

    /// Sends a request and reads its answer.
    pub(super) fn exchange(&mut self, context: &Context, request: &Request) -> Result<Response, IoFailure> {
        self.send(context, request)?;
        let mut reader = ResponseReader::new(&request.method);
        let response = self.read_response(context, &mut reader);
        let rest = reader.take_rest();
        self.ended = match &response {
            Ok(response) => response.closes() || !rest.is_empty(),
            Err(_) => true,
        };
        response
    }

    fn read_response(
        &mut self,
        context: &Context,
        reader: &mut ResponseReader,
    ) -> Result<Response, IoFailure> {
        loop {
            while let Some(plaintext) = self.tls.poll_plaintext().map_err(IoFailure::Tls)? {
                if let Some(response) = reader.handle_input(&plaintext)? {
                    return Ok(response);
                }
            }
            let ended = self.tls.peer_closed() || !self.receive(context, Instant::now() + SILENCE_MAX)?;
            if ended && !reader.has_input() {
                return Err(IoFailure::Closed);
            }
            if ended {
                self.ended = true;
                return Ok(reader.handle_eof()?);
            }
        }
    }

    /// Waits for octets and gives them to TLS. False at the end of the stream.
    fn receive(&mut self, context: &Context, deadline: Instant) -> Result<bool, IoFailure> {
        // Answers in a renegotiation.
        self.flush(context, deadline)?;
        let mut buffer = [0; READ_SIZE];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    // TLS has room for two records and has been read empty before.
                    let received = buffer.get(..count).unwrap_or_default();
                    if let Some(log) = &mut self.log {
                        log.received(received);
                    }
                    let taken = self.tls.handle_input(received).map_err(IoFailure::Tls)?;
                    return match taken == count {
                        true => Ok(true),
                        false => Err(IoFailure::Lost("too much data".into())),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    context
                        .signals
                        .wait(&[(self.socket.as_fd(), Interest::READ)], Some(deadline))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(IoFailure::Closed);
                }
                Err(error) => return Err(IoFailure::Lost(reason(&error))),
            }
        }
    }

    fn flush(&mut self, context: &Context, deadline: Instant) -> Result<(), IoFailure> {
        while let Some(bytes) = self.tls.poll_transmit() {
            if let Some(log) = &mut self.log {
                log.sent(&bytes);
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match self.socket.write(rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        context
                            .signals
                            .wait(&[(self.socket.as_fd(), Interest::WRITE)], Some(deadline))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(IoFailure::Lost(reason(&error))),
                }
            }
        }
        Ok(())
    }

    /// The server's address as connected.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// True when [`Self::address`] is that of a proxy.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxied
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// TLS, for exporters and certificates.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Gives socket and TLS to the tunnel.
    pub(crate) fn into_parts(self) -> (TcpStream, Tls) {
        (self.socket, self.tls)
    }
}

/// Looks whether a connection ends by itself. Some proxies, and load balancers, accept connections to
/// servers that are down: then no other handshake can help.
fn must_last(context: &Context, socket: &TcpStream, look: Duration) -> Result<(), OpenFailure> {
    let ends = [(socket.as_fd(), Interest::READ)];
    match context.signals.wait(&ends, Some(Instant::now() + look)) {
        Err(WaitError::TimedOut) => Ok(()),
        Err(WaitError::Interrupted(signal)) => Err(OpenFailure::Interrupted(signal)),
        Ok(()) | Err(WaitError::Io(_)) => {
            let text = "The server ends connections before anything is said: it may be down";
            context.output.error(text);
            Err(OpenFailure::Dead)
        }
    }
}

fn tls_text(error: &TlsError) -> String {
    match error {
        TlsError::Tls(rustls::Error::InvalidCertificate(_)) => "Error in the certificate.".into(),
        TlsError::Foreign(text) if text == "unsafe legacy renegotiation disabled" => {
            "the server asks for an insecure renegotiation, which needs --allow-insecure-crypto".into()
        }
        other => other.to_string(),
    }
}
