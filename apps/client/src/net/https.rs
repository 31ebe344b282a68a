//! One TLS connection in its HTTP phase.

mod open;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_tls::TlsError;
use culvert_wire::http::{Request, Response, ResponseError, ResponseReader};
use culvert_wire::url::ServerUrl;

use super::record_log::RecordLog;
use super::tls::Tls;
use crate::context::Context;
use crate::prompt::reason;
use crate::signals::{Signal, WaitError};
pub(super) use open::Reached;

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
    /// The connection broke before anything came.
    #[error("{0}")]
    Lost(String),
    /// Nothing comes; the server may be busy with what it was asked.
    #[error("the server does not answer")]
    Silent,
    /// The connection broke, or nothing more comes, in the middle of the answer.
    #[error("{0}")]
    Broken(String),
    /// TLS does not accept what the server sent.
    #[error("{}", tls_text(.0))]
    Tls(TlsError),
    #[error(transparent)]
    Response(#[from] ResponseError),
}

impl IoFailure {
    /// True when the server may never have seen the request: an old connection has ended meanwhile.
    pub(super) fn is_unheard(&self) -> bool {
        match self {
            Self::Closed | Self::Lost(_) | Self::Tls(_) => true,
            Self::Interrupted(_) | Self::Silent | Self::Broken(_) | Self::Response(_) => false,
        }
    }
}

impl From<WaitError> for IoFailure {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted(signal) => Self::Interrupted(signal),
            WaitError::TimedOut => Self::Silent,
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

/// A connected and verified server, before or between HTTP exchanges.
pub(crate) struct Https {
    socket: TcpStream,
    tls: Tls,
    server: ServerUrl,
    reached: Reached,
    /// `--gnutls-debug`
    log: Option<RecordLog>,
    /// Nothing more can be exchanged.
    ended: bool,
}

impl Https {
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
        let response = self.read_to_its_end(context, reader);
        response.map_err(|failure| match failure {
            IoFailure::Closed if reader.has_input() => ResponseError::Truncated.into(),
            IoFailure::Lost(_) | IoFailure::Silent | IoFailure::Tls(_) if reader.has_input() => {
                IoFailure::Broken(failure.to_string())
            }
            other => other,
        })
    }

    fn read_to_its_end(
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

    /// The address of the server or its proxy.
    pub(crate) fn address(&self) -> SocketAddr {
        self.reached.address
    }

    /// What was connected to.
    pub(super) fn reached(&self) -> &Reached {
        &self.reached
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

fn tls_text(error: &TlsError) -> String {
    match error {
        TlsError::Tls(rustls::Error::InvalidCertificate(_)) => "Error in the certificate.".into(),
        TlsError::Foreign(text) if text == "unsafe legacy renegotiation disabled" => {
            "the server asks for an insecure renegotiation, which needs --allow-insecure-crypto".into()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_may_be_busy_with_is_not_asked_again() {
        assert!(IoFailure::from(WaitError::Io(io::Error::other("x"))).is_unheard());
        for heard in [
            IoFailure::from(WaitError::TimedOut),
            IoFailure::from(WaitError::Interrupted(Signal::Reconnect)),
            IoFailure::from(ResponseError::Truncated),
        ] {
            assert!(!heard.is_unheard(), "{heard}");
        }
    }
}
