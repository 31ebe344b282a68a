//! From a cookie to a tunnel: the CONNECT exchange (`specs/cstp-dtls.md` §2, §3).

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use culvert_anyconnect::client::{ConnectError, ConnectOptions, Connected, Cookie, Platform, StrapKeys, parse_connect_response};
use culvert_anyconnect::mtu::{ClientMtu, RequestedMtu, client_request};
use culvert_anyconnect::psk;
use culvert_sys::tcp;
use culvert_tls::{Opener, Records, Sealer, Version};
use culvert_vocab::{SecretBytes, TunnelConfig};
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;

use crate::context::Context;
use crate::identity;
use crate::net::{ExchangeError, HttpClient, Https};
use crate::signals::Signal;

/// Base MTU when neither end has named one.
const BASE_MTU_UNKNOWN: u16 = 1406;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A signal came.
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// The server does not accept the cookie: no attempt with it can succeed.
    #[error("the cookie was rejected")]
    Rejected,
    /// Anything else; the user has been told.
    #[error("the connection failed")]
    Failed,
}

impl From<ExchangeError> for Failed {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Interrupted(signal) => Self::Interrupted(signal),
            ExchangeError::Failed | ExchangeError::Response(_) => Self::Failed,
        }
    }
}

/// A tunnel over TLS, ready for packets.
pub struct Tunnel {
    /// What the server grants.
    pub config: TunnelConfig,
    /// The UDP channel that it offers.
    pub dtls: Option<DtlsOffer>,
    /// The server's address.
    pub address: SocketAddr,
    /// The TCP connection.
    pub socket: TcpStream,
    /// Seals what goes over it.
    pub sealer: Sealer,
    /// Opens what comes over it.
    pub opener: Opener,
    /// Octets received and not opened yet.
    pub unread: Vec<u8>,
    /// Cipher of the TLS connection.
    pub cipher: String,
    /// TLS version: it decides how keys are renewed.
    pub version: Version,
}

/// How to open the UDP channel.
#[derive(Debug, Clone)]
pub struct DtlsOffer {
    /// UDP port of the server.
    pub port: u16,
    /// Names this session in the first datagram.
    pub app_id: Vec<u8>,
    /// Key of the handshake.
    pub psk: SecretBytes,
    /// Largest outer packet that both ends assume.
    pub base_mtu: u16,
}

/// Repeats CONNECT with one cookie for as long as the session lasts.
pub struct Connector {
    context: Arc<Context>,
    http: HttpClient,
    server: ServerUrl,
    cookie: Cookie,
    /// Key pair announced last: the next proof is made with it.
    strap: Option<StrapKeys>,
    /// Addresses granted before, to be granted again.
    previous: Option<TunnelConfig>,
}

impl Connector {
    /// A connector that goes on with the connection of the login, if there was one.
    pub fn new(context: Arc<Context>, http: HttpClient, server: ServerUrl, cookie: Cookie) -> Self {
        let strap = match context.options.login.no_external_auth {
            true => None,
            false => cookie.strap_keys(),
        };
        Self {
            context,
            http,
            server,
            cookie,
            strap,
            previous: None,
        }
    }

    /// Asks for the tunnel.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn connect(&mut self) -> Result<Tunnel, Failed> {
        let mut requested = None;
        let response = {
            let Self {
                context, http, cookie, strap, previous, server, ..
            } = self;
            http.exchange_built(server, &mut |connection| {
                let mtu = requested_mtu(context, connection);
                requested = Some(mtu);
                connect_request(context, server, cookie, strap.as_ref(), previous.as_ref(), mtu, connection)
            })
        };
        let response = match response {
            Ok(response) => response,
            Err(ExchangeError::Response(error)) => {
                self.context.output.error(&format!("Error fetching CONNECT response: {error}"));
                return Err(Failed::Failed);
            }
            Err(error) => return Err(error.into()),
        };
        self.context.output.info(&format!("Got CONNECT response: {}", response.status_line()));
        let connected = match parse_connect_response(&response) {
            Ok(connected) => connected,
            Err(error) => {
                self.context.output.error(&error.to_string());
                return Err(if error.is_permission() { Failed::Rejected } else { Failed::Failed });
            }
        };
        let connection = self.http.take_connection().ok_or(Failed::Failed)?;
        self.finish(connection, connected, requested)
    }

    /// Takes the connection over for packets.
    fn finish(&mut self, connection: Https, connected: Connected, requested: Option<RequestedMtu>) -> Result<Tunnel, Failed> {
        let failed = |text: String| {
            self.context.output.error(&text);
            Failed::Failed
        };
        let address = connection.address();
        let cipher = connection.tls().description().unwrap_or_default();
        let version = connection.tls().negotiated().map(|negotiated| negotiated.version);
        let version = version.ok_or_else(|| failed("The TLS handshake is not complete".into()))?;
        let dtls = match connected.dtls {
            Some(offer) => {
                let mut key = zeroize::Zeroizing::new([0; psk::PSK_LEN]);
                connection
                    .tls()
                    .exporter(psk::PSK_EXPORTER_LABEL, key.as_mut_slice())
                    .map_err(|error| failed(format!("Failed to derive the DTLS key: {error}")))?;
                Some(DtlsOffer {
                    port: offer.port,
                    app_id: offer.app_id,
                    psk: SecretBytes::new(key.to_vec()),
                    base_mtu: connected.base_mtu.or(requested.map(|mtu| mtu.base)).unwrap_or(BASE_MTU_UNKNOWN),
                })
            }
            None => None,
        };
        let (socket, tls) = connection.into_parts();
        let Records { sealer, opener, unread } = tls
            .into_records()
            .map_err(|error| failed(format!("Failed to take over the TLS connection: {error}")))?;
        self.previous = Some(connected.config.clone());
        Ok(Tunnel {
            config: connected.config,
            dtls,
            address,
            socket,
            sealer,
            opener,
            unread,
            cipher,
            version,
        })
    }
}

/// What to ask for, from the options and what the kernel knows of the connection.
fn requested_mtu(context: &Context, connection: &Https) -> RequestedMtu {
    let path = tcp::path_info(connection.socket()).ok();
    let octets = |value: u32| u16::try_from(value).ok();
    client_request(&ClientMtu {
        base_option: context.options.tunnel.base_mtu,
        mtu_option: context.options.tunnel.mtu,
        tcp_path_mtu: path.and_then(|path| octets(path.path_mtu)),
        tcp_mss: path.and_then(|path| octets(path.send_mss.max(path.receive_mss))),
        outer_ipv6: connection.address().is_ipv6(),
    })
}
