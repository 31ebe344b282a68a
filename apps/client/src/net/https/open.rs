//! From a server's URL to a connection with TLS, in as many attempts as it takes.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::libproxy::LibProxy;
use culvert_wire::url::ServerUrl;
use rustls_pki_types::ServerName;

use super::{Https, IoFailure};
use crate::context::Context;
use crate::credentials::LoadFailure;
use crate::net::record_log::RecordLog;
use crate::net::tls::{Tls, may_be_old_gateway};
use crate::net::{Failure, dial, proxy, resolve};
use crate::options::Proxy;
use crate::signals::{Signal, WaitError};

/// Longest silence of the server in a TLS handshake.
const HANDSHAKE_SILENCE_MAX: Duration = Duration::from_secs(40);
/// Longest silence after a ClientHello with a post-quantum key share, which some servers and
/// middleboxes cannot digest because of its size.
const LARGE_HELLO_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Shortest and longest look at a connection before another handshake begins on it.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// An address that was connected to on the way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Of the server, or of its proxy.
    pub(in crate::net) address: SocketAddr,
    /// Host and port of the proxy.
    proxy: Option<(String, u16)>,
}

impl Reached {
    fn new(address: SocketAddr, proxy: Option<&Proxy>) -> Self {
        let proxy = proxy.map(|proxy| (proxy.host.clone(), proxy.port));
        Self { address, proxy }
    }

    /// True when there is a proxy in between.
    pub(in crate::net) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// The address, if it is that of `proxy` or, without one, of the server. What libproxy says changes with
    /// the network.
    fn address_of(&self, proxy: Option<&Proxy>) -> Option<SocketAddr> {
        (*self == Self::new(self.address, proxy)).then_some(self.address)
    }
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

impl From<OpenFailure> for Failure {
    fn from(failure: OpenFailure) -> Self {
        match failure {
            OpenFailure::Interrupted(signal) => Self::Interrupted(signal),
            OpenFailure::NoInput => Self::NoInput,
            OpenFailure::Closed(_)
            | OpenFailure::NoAnswer
            | OpenFailure::Dead
            | OpenFailure::OldServer
            | OpenFailure::Failed => Self::Failed,
        }
    }
}

impl Https {
    /// Connects, negotiates TLS and applies the user's trust. The address that was `known` to lead to the server
    /// is used instead of a name look-up if there is one.
    ///
    /// # Errors
    /// The user has been told.
    pub(in crate::net) fn open(
        context: &Context,
        server: &ServerUrl,
        known: Option<&Reached>,
    ) -> Result<Self, Failure> {
        let mut result = Self::open_once(context, server, known, None);
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
            result = Self::open_once(context, server, known, look.take());
            // It was not that.
            if let Err(OpenFailure::NoAnswer | OpenFailure::Closed(_) | OpenFailure::Dead) = result {
                context.trust.offer_post_quantum(server);
            }
        }
        if let Err(OpenFailure::OldServer | OpenFailure::Closed(_)) = result
            && context.trust.use_legacy(server)
        {
            context.output.info("Retrying with TLS for old servers");
            result = Self::open_once(context, server, known, look.take());
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
        result.map_err(Failure::from)
    }

    /// One attempt. With `look` the connection must last that long before anything is said on it.
    fn open_once(
        context: &Context,
        server: &ServerUrl,
        known: Option<&Reached>,
        look: Option<Duration>,
    ) -> Result<Self, OpenFailure> {
        let (socket, reached) = reach(context, server, known)?;
        if let Some(look) = look {
            must_last(context, &socket, look)?;
        }
        let tls = start_tls(context, server)?;
        let mut connection = Self {
            socket,
            tls,
            server: server.clone(),
            reached,
            log: RecordLog::new(&context.console, context.options.trust.tls_debug),
            ended: false,
        };
        let begun = Instant::now();
        connection
            .shake_hands(context)
            .map_err(|failure| handshake_failure(context, failure, begun.elapsed()))?;
        connection.announce(context);
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

    /// Tells what has been negotiated, and what is weak about it.
    fn announce(&self, context: &Context) {
        let output = &context.output;
        let description = self.tls.description().unwrap_or_default();
        output.info(&format!(
            "Connected to HTTPS on {} with ciphersuite {description}",
            self.server.host
        ));
        let weaknesses = self.tls.weaknesses();
        if !weaknesses.is_empty() {
            let (host, text) = (self.server.host_name(), weaknesses.join(", "));
            output.error(&format!("WARNING: The TLS of server '{host}' is weak: {text}"));
        }
    }
}

/// TCP to the server or to its proxy.
fn reach(
    context: &Context,
    server: &ServerUrl,
    known: Option<&Reached>,
) -> Result<(TcpStream, Reached), Failure> {
    let network = &context.options.network;
    let named = match network.libproxy {
        true => LibProxy::load()
            .ok()
            .and_then(|library| proxy::by_libproxy(library, server)),
        false => None,
    };
    let proxy = network.proxy.as_ref().or(named.as_ref());
    let known = known.and_then(|known| known.address_of(proxy));
    let (socket, address) = match proxy {
        Some(proxy) => proxy::connect(context, proxy, server, known)?,
        None => {
            let addresses = match known {
                Some(address) => vec![address],
                None => resolve::resolve(context, server.host_name(), server.port)?,
            };
            dial::connect(context, "server", &addresses, known.is_some()).inspect_err(|failure| {
                if *failure == Failure::Failed {
                    let text = format!("Failed to connect to host {}", server.host);
                    context.output.error(&text);
                }
            })?
        }
    };
    Ok((socket, Reached::new(address, proxy)))
}

/// A TLS connection that has not said anything yet. The user is told of his certificate, or asked for its
/// passphrase.
fn start_tls(context: &Context, server: &ServerUrl) -> Result<Tls, OpenFailure> {
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
    let identity = context.credentials.identity(context).map_err(load_failure)?;
    let name = context.trust.checked_name(host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| failed(format!("'{host}' is no valid server name")))?;
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
    tls.map_err(|error| failed(format!("SSL connection failure: {error}")))
}

/// Tells the user why a handshake has failed after this time; gives what that means for another attempt.
fn handshake_failure(context: &Context, failure: IoFailure, after: Duration) -> OpenFailure {
    let output = &context.output;
    match failure {
        IoFailure::Interrupted(signal) => {
            output.error("SSL connection cancelled");
            return OpenFailure::Interrupted(signal);
        }
        IoFailure::Tls(_) if context.trust.lacks_input() => return OpenFailure::NoInput,
        _ => output.error(&format!("SSL connection failure: {failure}")),
    }
    match failure {
        IoFailure::Closed => OpenFailure::Closed(after),
        IoFailure::Lost(_) | IoFailure::Silent => OpenFailure::NoAnswer,
        IoFailure::Tls(error) if may_be_old_gateway(&error) => OpenFailure::OldServer,
        _ => OpenFailure::Failed,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What led to the server when there was no proxy is no address of a proxy, and the other way round.
    #[test]
    fn an_address_belongs_to_whom_it_was_found_for() {
        let proxy = |url: &str| Proxy::parse(url).expect("URL of a proxy");
        let (first, second) = (proxy("http://a.test:3128"), proxy("http://b.test:3128"));
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        let direct = Reached::new(address, None);
        assert_eq!(direct.address_of(None), Some(address));
        assert_eq!(direct.address_of(Some(&first)), None);
        let through = Reached::new(address, Some(&first));
        assert_eq!(through.address_of(Some(&first)), Some(address));
        assert_eq!(through.address_of(Some(&second)), None);
        assert_eq!(through.address_of(None), None);
        assert!(through.is_proxied() && !direct.is_proxied());
    }
}
