//! HTTP requests over connections that are kept and re-used (`specs/client.md` §10.2).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use culvert_certs::spki_pin;
use culvert_http_auth::{Answer, AuthError, Authenticator, Circumstances};
use culvert_sys::random;
use culvert_tls::TlsError;
use culvert_wire::http::{Request, Response, ResponseError};
use culvert_wire::url::ServerUrl;

use super::https::{Greeted, IoFailure, Reached};
use super::sign_on::Elsewhere;
use super::{Failure, Https, dump};
use crate::context::Context;
use crate::output::Level;
use crate::signals::Signal;

/// Header of a server that wants to know who asks.
const CHALLENGE: &str = "WWW-Authenticate";
/// Header that says it.
const AUTHORIZATION: &str = "Authorization";

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// A signal wants the client to end (or to reconnect).
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// Standard input ended when the user was asked something: the program ends.
    #[error("no input")]
    NoInput,
    /// There is no connection. The user has been told why.
    #[error("the server cannot be reached")]
    Unreachable,
    /// The connection broke. The user has been told.
    #[error("the connection failed")]
    Failed,
    /// Something came that is no HTTP response.
    #[error(transparent)]
    Response(ResponseError),
}

impl From<Failure> for ExchangeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Interrupted(signal) => Self::Interrupted(signal),
            Failure::NoInput => Self::NoInput,
            Failure::Failed => Self::Unreachable,
        }
    }
}

/// A server that was connected to.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address, or that of the proxy.
    pub(crate) address: SocketAddr,
    /// The server is behind a proxy.
    pub(crate) proxied: bool,
    /// `pin-sha256:` of its key.
    pub(crate) pin: Option<String>,
    /// Its certificate in DER.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// How a server takes the wish to leave HTTP.
pub(crate) enum Upgrade {
    /// It agrees.
    Done {
        /// The connection, which is not HTTP's any more.
        connection: Box<Https>,
        /// What followed the greeting already.
        rest: Vec<u8>,
    },
    /// It answers with HTTP.
    Refused(Response),
    /// It closes the connection without a word.
    Ended,
}

/// Sends requests, one connection at a time.
pub(crate) struct HttpClient {
    context: Arc<Context>,
    connection: Option<Https>,
    /// Addresses that worked, so that a session stays with one server.
    addresses: HashMap<(String, u16), Reached>,
    peer: Option<Peer>,
}

impl HttpClient {
    /// A client without a connection.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            connection: None,
            addresses: HashMap::new(),
            peer: None,
        }
    }

    /// Announces and sends a request. With `fresh` a connection that is open is not re-used.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(crate) fn exchange(
        &mut self,
        server: &ServerUrl,
        request: &Request,
        fresh: bool,
    ) -> Result<Response, ExchangeError> {
        self.context.output.info(&format!("{} {server}", request.method));
        if fresh {
            self.connection = None;
            self.forget_address(server);
        }
        let context = Arc::clone(&self.context);
        let elsewhere = Elsewhere::new(&context);
        let token = context.options.login.bearer.clone();
        let schemes = context.options.network.http_auth;
        let mut authenticator = elsewhere.authenticator(schemes, None, token, server.host_name());
        let mut request = request.clone();
        loop {
            let response = self
                .exchange_built(server, &mut |_| request.clone())
                .inspect_err(|error| {
                    if matches!(error, ExchangeError::Unreachable) {
                        let text = format!("Failed to open HTTPS connection to {}", server.host);
                        context.output.error(&text);
                    }
                })?;
            let answered = match response.status {
                401 if response.headers.get(CHALLENGE).is_none() => return Ok(response),
                401 => {
                    // A connection that is closed by now is not the one that the answer goes over.
                    elsewhere.bind(self.connection.as_ref().map(Https::tls));
                    self.answer(&mut authenticator, &request, &response).map(Some)
                }
                _ => authenticator
                    .verify(response.headers.get_all(CHALLENGE))
                    .map(|()| None),
            };
            let answer = match answered {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(response),
                Err(AuthError::Stopped) => return Err(ExchangeError::Interrupted(elsewhere.stopped())),
                Err(error @ AuthError::Forged) => {
                    let text = format!("Server '{}': {error}", server.host_name());
                    context.output.error(&text);
                    self.connection = None;
                    return Err(ExchangeError::Failed);
                }
                Err(error) => {
                    context.output.error(&error.to_string());
                    return Ok(response);
                }
            };
            if answer.fresh {
                self.connection = None;
            }
            if let Some(attempt) = answer.attempt {
                let whom = format!("server '{}'", server.host_name());
                context.output.info(&attempt.towards(&whom));
            }
            context.output.info(&format!("{} {server}", request.method));
            request.headers.remove(AUTHORIZATION);
            request.headers.push_first(AUTHORIZATION, answer.header.expose());
        }
    }

    /// Answers the challenge of a server, if that is possible.
    fn answer(
        &self,
        authenticator: &mut Authenticator<'_>,
        request: &Request,
        response: &Response,
    ) -> Result<Answer, AuthError> {
        let circumstances = Circumstances {
            method: &request.method,
            uri: &request.target,
            random: random::array().map_err(|_| AuthError::Exhausted)?,
            now: SystemTime::now(),
        };
        authenticator.answer(response.headers.get_all(CHALLENGE), &circumstances)
    }

    /// Sends the request that `build` makes for the connection it goes over. A request that fails
    /// on a re-used connection is made and sent once more on a new one, unless the server may be busy with it
    /// or has begun to answer: what it was told then counts.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(crate) fn exchange_built(
        &mut self,
        server: &ServerUrl,
        build: &mut dyn FnMut(&Https) -> Request,
    ) -> Result<Response, ExchangeError> {
        let reused = self.keep_connection(server);
        let mut result = self.exchange_once(server, build)?;
        if let (Err(failure), _) = &result
            && self.renegotiates(failure, server)
        {
            self.connection = None;
            result = self.exchange_once(server, build)?;
        }
        if reused
            && let (Err(failure), method) = &result
            && failure.is_unheard()
        {
            let text = format!("Retrying failed {method} request on new connection");
            self.context.output.info(&text);
            self.connection = None;
            result = self.exchange_once(server, build)?;
        }
        result.0.map_err(|failure| self.failed(failure))
    }

    /// Sends a request that the server answers with `greeting` instead of HTTP, if it agrees. A
    /// re-used connection that has ended is replaced by a new one.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(crate) fn upgrade(
        &mut self,
        server: &ServerUrl,
        request: &Request,
        greeting: &[u8],
    ) -> Result<Upgrade, ExchangeError> {
        let mut reused = self.keep_connection(server);
        loop {
            let context = Arc::clone(&self.context);
            let greeted = self.open(server)?.upgrade(&context, request, greeting);
            let ended = match &greeted {
                Ok(greeted) => matches!(greeted, Greeted::Ended),
                Err(failure) => failure.is_unheard(),
            };
            if let Err(failure) = &greeted
                && self.renegotiates(failure, server)
            {
                self.connection = None;
                continue;
            }
            if std::mem::take(&mut reused) && ended {
                self.connection = None;
                continue;
            }
            return match greeted {
                Ok(Greeted::Agreed { rest }) => match self.connection.take() {
                    Some(connection) => Ok(Upgrade::Done {
                        connection: Box::new(connection),
                        rest,
                    }),
                    None => Err(ExchangeError::Failed),
                },
                Ok(Greeted::Refused(response)) => {
                    self.log(&request.method, &response);
                    Ok(Upgrade::Refused(response))
                }
                Ok(Greeted::Ended) => Ok(Upgrade::Ended),
                Err(failure) => Err(self.failed(failure)),
            };
        }
    }

    /// True when the server wants another handshake and the next connection can give it that.
    fn renegotiates(&self, failure: &IoFailure, server: &ServerUrl) -> bool {
        let renegotiates = matches!(failure, IoFailure::Tls(TlsError::Renegotiation))
            && self.context.trust.use_legacy(server);
        if renegotiates {
            let text = "The server asks for another TLS handshake; retrying with TLS for old servers";
            self.context.output.info(text);
        }
        renegotiates
    }

    /// Forgets a connection that cannot carry one more request to `server`; tells whether one is
    /// left.
    fn keep_connection(&mut self, server: &ServerUrl) -> bool {
        let keep = self.context.options.network.http_keepalive;
        let serves = self
            .connection
            .as_mut()
            .is_some_and(|connection| connection.serves(server));
        if !keep || !serves {
            self.connection = None;
        }
        self.connection.is_some()
    }

    fn failed(&mut self, failure: IoFailure) -> ExchangeError {
        self.connection = None;
        match failure {
            IoFailure::Interrupted(signal) => ExchangeError::Interrupted(signal),
            IoFailure::Response(error) => ExchangeError::Response(error),
            failure @ (IoFailure::Closed
            | IoFailure::Lost(_)
            | IoFailure::Silent
            | IoFailure::Broken(_)
            | IoFailure::Tls(_)) => {
                let text = format!("Failed to read from SSL socket: {failure}");
                self.context.output.error(&text);
                ExchangeError::Failed
            }
        }
    }

    /// One attempt, with the method that was tried.
    fn exchange_once(
        &mut self,
        server: &ServerUrl,
        build: &mut dyn FnMut(&Https) -> Request,
    ) -> Result<(Result<Response, IoFailure>, String), ExchangeError> {
        let context = Arc::clone(&self.context);
        let connection = self.open(server)?;
        let request = build(connection);
        if context.options.output.dump_http {
            dump::request(&context.output, &request);
        }
        let result = connection.exchange(&context, &request);
        if let Ok(response) = &result {
            self.log(&request.method, response);
        }
        Ok((result, request.method))
    }

    /// The connection that is open, or a new one.
    fn open(&mut self, server: &ServerUrl) -> Result<&mut Https, ExchangeError> {
        if self.connection.is_none() {
            let key = (server.host.clone(), server.port);
            let connection = Https::open(&self.context, server, self.addresses.get(&key))?;
            self.addresses.insert(key, connection.reached().clone());
            self.peer = Some(Peer {
                address: connection.address(),
                proxied: connection.reached().is_proxied(),
                certificate: connection
                    .tls()
                    .peer_certificates()
                    .first()
                    .map(|leaf| leaf.to_vec()),
                pin: connection
                    .tls()
                    .peer_certificates()
                    .first()
                    .and_then(|leaf| spki_pin(leaf).ok()),
            });
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(ExchangeError::Failed)
    }

    /// Says what has come. That a tunnel is refused is the caller's to say.
    fn log(&self, method: &str, response: &Response) {
        let output = &self.context.output;
        let status = response.status_line();
        match (method, response.is_success()) {
            ("CONNECT", true) => output.info(&format!("Got CONNECT response: {status}")),
            ("CONNECT", false) => {}
            (_, true) => output.debug(&format!("Got HTTP response: {status}")),
            (_, false) => output.info(&format!("Got HTTP response: {status}")),
        }
        if !output.shows(Level::Debug) {
            return;
        }
        for (name, value) in response.headers.iter() {
            output.debug(&dump::header(name, value));
        }
        if method == "CONNECT" {
            return;
        }
        output.debug(&dump::body_length(response));
        if self.context.options.output.dump_http {
            dump::body(output, &response.body);
        }
    }

    /// The server that was connected to last.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Forgets the address at which `server` was, and gives it for [`Self::remember_address`].
    pub(crate) fn forget_address(&mut self, server: &ServerUrl) -> Option<Reached> {
        self.addresses.remove(&(server.host.clone(), server.port))
    }

    /// `server` is at this address after all.
    pub(crate) fn remember_address(&mut self, server: &ServerUrl, reached: Reached) {
        let key = (server.host.clone(), server.port);
        self.addresses.insert(key, reached);
    }

    /// Takes the connection out, for the tunnel.
    pub(crate) fn take_connection(&mut self) -> Option<Https> {
        self.connection.take()
    }
}
