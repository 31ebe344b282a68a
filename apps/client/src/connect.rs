//! From a cookie to a tunnel: what is the same in all protocols.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use culvert_dtls::{ClientConfig, Connection, ResumptionConfig};
use culvert_globalprotect::client::EspOffer;
use culvert_record::{StreamOpener, StreamSealer};
use culvert_tls::{Opener, Records, Sealer, TlsError};
use culvert_vocab::{SecretBytes, TunnelConfig};
use culvert_wire::compress::Method;

use crate::net::{ExchangeError, Https};
use crate::output::Output;
use crate::signals::Signal;

/// Packets of more octets are compressed, where that was agreed on (`specs/cstp-dtls.md` §12.2).
pub(crate) const COMPRESS_LIMIT: usize = 39;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    /// A signal came.
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// The server does not accept the cookie: no attempt with it can succeed.
    #[error("the cookie was rejected")]
    Rejected,
    /// Anything else; the user has been told.
    #[error("the connection failed")]
    Other,
}

impl From<ExchangeError> for ConnectFailure {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Interrupted(signal) => Self::Interrupted(signal),
            ExchangeError::NoInput
            | ExchangeError::Unreachable
            | ExchangeError::Failed
            | ExchangeError::Response(_) => Self::Other,
        }
    }
}

/// A granted tunnel.
pub(crate) struct Tunnel {
    /// What the server grants.
    pub(crate) config: TunnelConfig,
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// The TLS channel; absent where it is opened only when UDP does not work.
    pub(crate) stream: Option<Stream>,
    /// The UDP channel that the server offers.
    pub(crate) datagram: Option<DatagramOffer>,
}

/// A TLS channel, ready for packets.
pub(crate) struct Stream {
    /// The TCP connection.
    pub(crate) socket: TcpStream,
    /// Seals what goes over it.
    pub(crate) sealer: Box<dyn StreamSealer>,
    /// Opens what comes over it.
    pub(crate) opener: Box<dyn StreamOpener>,
    /// Octets received and not opened yet.
    pub(crate) unread: Vec<u8>,
    /// Cipher of the connection.
    pub(crate) cipher: String,
    /// Its keys can be renewed without a new connection (TLS 1.3).
    pub(crate) renews_keys: bool,
    /// How packets are compressed.
    pub(crate) compression: Option<Method>,
}

/// The two ends of a TLS channel, in the framing of a protocol.
pub(crate) type Framed = (Box<dyn StreamSealer>, Box<dyn StreamOpener>);

impl Stream {
    /// Takes a connection over for packets: `frame` puts a protocol's framing around its records.
    ///
    /// # Errors
    /// See [`ConnectFailure`]; the user has been told.
    pub(crate) fn take_over(
        connection: Https,
        output: &Output,
        compression: Option<Method>,
        frame: impl FnOnce(Sealer, Opener) -> Framed,
    ) -> Result<Self, ConnectFailure> {
        let cipher = connection.tls().description().unwrap_or_default();
        let renews_keys = connection.tls().is_tls13();
        let (socket, tls) = connection.into_parts();
        let records = tls.into_records().map_err(|error: TlsError| {
            output.error(&format!("Failed to take over the TLS connection: {error}"));
            ConnectFailure::Other
        })?;
        let Records {
            sealer,
            opener,
            unread,
        } = records;
        let (sealer, opener) = frame(sealer, opener);
        Ok(Self {
            socket,
            sealer,
            opener,
            unread,
            cipher,
            renews_keys,
            compression,
        })
    }
}

/// How to open the UDP channel.
#[derive(Debug, Clone)]
pub(crate) enum DatagramOffer {
    /// DTLS.
    Dtls(DtlsOffer),
    /// ESP with magic pings.
    Esp(Box<EspOffer>),
}

impl DatagramOffer {
    /// Name of the record layer, for the user.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dtls(_) => "DTLS",
            Self::Esp(_) => "ESP",
        }
    }

    /// How packets are compressed.
    pub(crate) fn compression(&self) -> Option<Method> {
        match self {
            Self::Dtls(dtls) => dtls.compression,
            Self::Esp(_) => None,
        }
    }
}

/// How to open the DTLS channel.
#[derive(Debug, Clone)]
pub(crate) struct DtlsOffer {
    /// UDP port of the server.
    pub(crate) port: u16,
    /// How the channel begins.
    pub(crate) handshake: Handshake,
    /// Largest outer packet that both ends assume.
    pub(crate) base_mtu: u16,
    /// How packets are compressed.
    pub(crate) compression: Option<Method>,
}

/// A DTLS handshake.
#[derive(Debug, Clone)]
pub(crate) enum Handshake {
    /// With a pre-shared key.
    Psk {
        /// Names this session in the first datagram.
        app_id: Vec<u8>,
        /// The key.
        key: SecretBytes,
    },
    /// As a resumed session.
    Resumption(ResumptionConfig),
}

impl Handshake {
    /// The client's association.
    pub(crate) fn begin(&self, now: Instant) -> Connection {
        match self {
            Self::Psk { app_id, key } => {
                Connection::client(ClientConfig::new(key.clone(), app_id.clone()), now)
            }
            Self::Resumption(config) => Connection::resuming_client(config.clone(), now),
        }
    }
}

/// Opens the tunnels of a session, with one cookie, for as long as it lasts.
pub(crate) trait Connector {
    /// Asks for the tunnel.
    ///
    /// # Errors
    /// See [`ConnectFailure`].
    fn connect(&mut self) -> Result<Tunnel, ConnectFailure>;

    /// Opens the TLS channel of a tunnel that was granted without one.
    ///
    /// # Errors
    /// See [`ConnectFailure`].
    fn connect_stream(&mut self) -> Result<Stream, ConnectFailure> {
        Err(ConnectFailure::Other)
    }

    /// The UDP channel works.
    fn datagram_established(&mut self) {}

    /// How often the server wants to hear about this host.
    fn check_interval(&self) -> Option<Duration> {
        None
    }

    /// Tells the server about this host. The TLS channel must be closed.
    ///
    /// # Errors
    /// See [`ConnectFailure`].
    fn check_host(&mut self) -> Result<(), ConnectFailure> {
        Ok(())
    }

    /// Ends the session on the server, or gives the frame that does.
    fn log_out(&mut self, reason: &str) -> Option<Vec<u8>>;
}
