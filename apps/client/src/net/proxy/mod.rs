//! TCP to the server through a proxy (`specs/client.md` §11).

mod http;
mod socks;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use culvert_http_auth::{AuthError, Scheme};
use culvert_sys::epoll::Interest;
use culvert_sys::libproxy::LibProxy;
use culvert_sys::random;
use culvert_wire::url::ServerUrl;

use super::sign_on::{Elsewhere, Protector};
use super::{Failure, dial, resolve};
use crate::context::Context;
use crate::identity;
use crate::options::{Proxy, ProxyKind};
use crate::output::{Level, Output};
use crate::prompt::reason;
use crate::signals::{Signal, WaitError};
use http::HttpConnect;
use socks::Socks;

/// Longest silence of a proxy.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Most connections for one tunnel: schemes of authentication may need one each.
const CONNECTIONS_MAX: usize = 6;

/// The first proxy of a kind that this program speaks among those that libproxy names for a server
/// (`specs/client.md` §11.1).
pub(crate) fn by_libproxy(library: LibProxy, server: &ServerUrl) -> Option<Proxy> {
    let named = library.proxies(&server.to_string());
    let known = |url: &&String| {
        ["http://", "socks://", "socks5://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
    };
    named.iter().find(known).and_then(|url| Proxy::parse(url).ok())
}

/// Why nothing more can be read from a proxy that has closed the connection.
const CLOSED: &str = "Connection reset by peer";

/// Something to tell the user.
#[derive(Debug)]
struct Notice {
    level: Level,
    text: String,
}

/// Notices that nobody has shown yet.
#[derive(Debug, Default)]
struct Notices(VecDeque<Notice>);

impl Notices {
    fn push(&mut self, level: Level, text: String) {
        self.0.push_back(Notice { level, text });
    }

    fn poll(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }

    fn show(&mut self, output: &Output) {
        while let Some(Notice { level, text }) = self.poll() {
            output.progress(level, &text);
        }
    }
}

/// What a proxy's octets mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The negotiation goes on.
    More,
    /// What follows is the server's.
    Open,
    /// The negotiation goes on, on a new connection.
    Reconnect,
}

/// Why a proxy gives no connection to the server.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    #[error("Proxy negotiation failed: {0}")]
    Io(String),
    #[error(transparent)]
    Http(#[from] http::HttpError),
    #[error(transparent)]
    Socks(#[from] socks::SocksError),
    #[error("The proxy sent more than its answer")]
    EarlyData,
    #[error("The proxy asks for a new connection again and again")]
    TooManyConnections,
}

impl From<WaitError> for ProxyError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted(signal) => Self::Interrupted(signal),
            WaitError::TimedOut => Self::Io("the proxy does not answer".into()),
            WaitError::Io(error) => Self::Io(reason(&error)),
        }
    }
}

/// The conversation with the proxy, of either kind.
enum Conversation<'s> {
    Http(Box<HttpConnect<'s>>),
    Socks(Socks<'s>),
}

impl<'s> Conversation<'s> {
    fn new(
        context: &Context,
        elsewhere: &'s Elsewhere<'_>,
        proxy: &Proxy,
        server: &ServerUrl,
    ) -> Result<Self, ProxyError> {
        let network = &context.options.network;
        Ok(match proxy.kind {
            ProxyKind::Http => Self::Http(Box::new(HttpConnect::new(
                server,
                &identity::user_agent_or(context.options.identity.user_agent.as_deref()),
                elsewhere.authenticator(network.proxy_auth, proxy.credentials.as_ref(), None, &proxy.host),
            ))),
            ProxyKind::Socks => {
                let ticket = network.proxy_auth.has(Scheme::Negotiate).then(|| {
                    let ticket = elsewhere.ticket(format!("rcmd@{}", proxy.host));
                    Box::new(ticket) as Box<dyn Protector>
                });
                Self::Socks(Socks::new(server, proxy.credentials.as_ref(), ticket)?)
            }
        })
    }

    /// The first octets on a new connection.
    fn begin(&mut self) -> Vec<u8> {
        match self {
            Self::Http(http) => http.begin(),
            Self::Socks(socks) => socks.begin(),
        }
    }

    /// Takes what the proxy says; gives what to answer, and what that means.
    fn handle_input(&mut self, input: &[u8]) -> Result<(Vec<u8>, Progress), ProxyError> {
        Ok(match self {
            Self::Http(http) => {
                let random = random::array().map_err(|error| ProxyError::Io(reason(&error)))?;
                http.handle_input(input, random, SystemTime::now())?
            }
            Self::Socks(socks) => socks.handle_input(input)?,
        })
    }

    /// The proxy has closed the connection, which may be the end of its answer.
    fn handle_eof(&mut self) -> Result<Progress, ProxyError> {
        let progress = match self {
            Self::Http(http) => {
                let random = random::array().map_err(|error| ProxyError::Io(reason(&error)))?;
                http.handle_eof(random, SystemTime::now())?
            }
            Self::Socks(_) => None,
        };
        progress.ok_or_else(|| self.unread(CLOSED.into()))
    }

    /// The connection has failed while the proxy was to answer.
    fn unread(&self, why: String) -> ProxyError {
        match self {
            Self::Http(_) => http::HttpError::Unread(why).into(),
            Self::Socks(socks) => socks.unread(why).into(),
        }
    }

    fn notices(&mut self) -> &mut Notices {
        match self {
            Self::Http(http) => http.notices(),
            Self::Socks(socks) => socks.notices(),
        }
    }

    /// True when octets are left over after [`Progress::Open`].
    fn has_rest(&self) -> bool {
        match self {
            Self::Http(http) => http.has_rest(),
            Self::Socks(socks) => socks.has_rest(),
        }
    }
}

/// A connection to `server` through `proxy`, and the proxy's address; `known` is its address if
/// one has worked before.
///
/// # Errors
/// The user has been told.
pub(super) fn connect(
    context: &Context,
    proxy: &Proxy,
    server: &ServerUrl,
    known: Option<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let elsewhere = Elsewhere::new(context);
    let failed = |error: ProxyError| match error {
        ProxyError::Http(http::HttpError::Authentication(AuthError::Stopped))
        | ProxyError::Socks(socks::SocksError::Stopped) => {
            context.output.error("Proxy connection cancelled");
            Failure::Interrupted(elsewhere.stopped())
        }
        ProxyError::Interrupted(signal) => {
            context.output.error("Proxy connection cancelled");
            Failure::Interrupted(signal)
        }
        error => {
            context.output.error(&error.to_string());
            Failure::Failed
        }
    };
    let mut conversation = Conversation::new(context, &elsewhere, proxy, server).map_err(failed)?;
    let mut known = known;
    for _ in 0..CONNECTIONS_MAX {
        let (socket, address) = reach(context, proxy, known)?;
        known = Some(address);
        if converse(context, &socket, &mut conversation).map_err(failed)? {
            return Ok((socket, address));
        }
        context
            .output
            .debug(&format!("Reconnecting to proxy {}", proxy.host));
    }
    Err(failed(ProxyError::TooManyConnections))
}

fn reach(
    context: &Context,
    proxy: &Proxy,
    known: Option<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let addresses = match known {
        Some(address) => vec![address],
        None => resolve::resolve(context, &proxy.host, proxy.port)?,
    };
    dial::connect(context, "proxy", &addresses, known.is_some()).inspect_err(|failure| {
        if *failure == Failure::Failed {
            let text = format!("Failed to connect to host {}", proxy.host);
            context.output.error(&text);
        }
    })
}

/// Talks until the way is open (true) or a new connection is needed (false).
fn converse(
    context: &Context,
    socket: &TcpStream,
    conversation: &mut Conversation<'_>,
) -> Result<bool, ProxyError> {
    let output = &context.output;
    let greeting = conversation.begin();
    conversation.notices().show(output);
    send(context, socket, &greeting)?;
    let mut buffer = [0; 4096];
    loop {
        let input = match receive(context, socket, &mut buffer) {
            Ok(input) => input,
            Err(WaitError::Interrupted(signal)) => return Err(ProxyError::Interrupted(signal)),
            Err(WaitError::Io(error)) => return Err(conversation.unread(reason(&error))),
            Err(error @ WaitError::TimedOut) => return Err(conversation.unread(error.to_string())),
        };
        let handled = match input {
            [] => conversation.handle_eof().map(|progress| (Vec::new(), progress)),
            input => conversation.handle_input(input),
        };
        conversation.notices().show(output);
        let (answer, progress) = handled?;
        match progress {
            Progress::More => send(context, socket, &answer)?,
            Progress::Reconnect => return Ok(false),
            // A server speaks only after the client's hello.
            Progress::Open if conversation.has_rest() => return Err(ProxyError::EarlyData),
            Progress::Open => return Ok(true),
        }
    }
}

/// What the proxy says next; nothing when it has closed the connection.
fn receive<'b>(
    context: &Context,
    mut socket: &TcpStream,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], WaitError> {
    let deadline = Instant::now() + SILENCE_MAX;
    loop {
        match socket.read(buffer) {
            Ok(count) => return Ok(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                context
                    .signals
                    .wait(&[(socket.as_fd(), Interest::READ)], Some(deadline))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn send(context: &Context, mut socket: &TcpStream, octets: &[u8]) -> Result<(), ProxyError> {
    let deadline = Instant::now() + SILENCE_MAX;
    let mut rest = octets;
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                context
                    .signals
                    .wait(&[(socket.as_fd(), Interest::WRITE)], Some(deadline))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ProxyError::Io(reason(&error))),
        }
    }
    Ok(())
}
