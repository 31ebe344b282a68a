use std::time::{Duration, Instant};

use culvert_anyconnect::data::{Compressing, Compression, CstpOpener, CstpSealer, DtlsChannel};
use culvert_dtls::{CipherSuite, Connection, ResumptionConfig, ServerConfig, Version};
use culvert_login::server;
use culvert_record::{AnyDatagramChannel, erase};
use culvert_server_config::Compression as Method;
use culvert_tls::{Opener, Sealer};
use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};

use super::method;

/// The channels of a tunnel: frames in TLS, and DTLS.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::worker) struct Channels {
    /// The UDP channel that the client may open.
    pub(super) dtls: Option<Dtls>,
    /// Least time between two handshakes of one association.
    pub(super) rehandshake: Option<Duration>,
    /// Compression of the TLS channel.
    pub(super) stream: Option<Compressed>,
    /// Compression of the UDP channel.
    pub(super) datagram: Option<Compressed>,
}

/// What a DTLS handshake needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Dtls {
    /// A key.
    Psk {
        /// Exported from the TLS channel.
        psk: SecretBytes,
        /// Numbers of the acceptable cipher suites, best first.
        suites: Vec<u16>,
    },
    /// The client's master secret, as if a session were resumed.
    Resumed {
        /// Version of the handshake.
        version: Version,
        /// Number of the cipher suite.
        suite: u16,
        /// The client's master secret.
        master_secret: SecretBytes,
        /// The session's id.
        session_id: [u8; 32],
    },
}

impl Dtls {
    /// `None` when the suite is not known here.
    fn begin(&self, now: Instant, rehandshake: Option<Duration>) -> Option<Connection> {
        Some(match self {
            Self::Psk { psk, suites } => {
                let mut config = ServerConfig::new(psk.clone());
                config.suites = suites.iter().copied().filter_map(CipherSuite::from_id).collect();
                config.min_rehandshake_interval = rehandshake;
                Connection::server(config, now)
            }
            Self::Resumed {
                version,
                suite,
                master_secret,
                session_id,
            } => {
                let suite = CipherSuite::from_id(*suite)?;
                let config =
                    ResumptionConfig::server(*version, suite, master_secret.clone(), session_id.to_vec());
                Connection::resuming_server(config, now)
            }
        })
    }
}

/// An agreed compression.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Compressed {
    method: Method,
    /// Packets of at most this many octets are not compressed.
    limit: u32,
}

impl Compressed {
    pub(super) fn new(method: Method, limit: u32) -> Self {
        Self { method, limit }
    }

    fn begin(self) -> Compression {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        Compression::new(method(self.method), limit)
    }
}

impl Channels {
    /// Compression of the TLS channel and of the UDP channel.
    pub(in crate::worker) fn compression(&self) -> (Option<Method>, Option<Method>) {
        let method = |compressed: Compressed| compressed.method;
        (self.stream.map(method), self.datagram.map(method))
    }
}

impl server::Channels for Channels {
    fn take_connection(&mut self, _now: Instant, sealer: Sealer, opener: Opener) -> server::Connection {
        let compression = self.stream.map(Compressed::begin);
        server::Connection::Stream((
            Box::new(Compressing::new(CstpSealer::new(sealer), compression.clone())),
            Box::new(Compressing::new(CstpOpener::new(opener), compression)),
        ))
    }

    /// A handshake may come again while a channel works: the next one goes beside it.
    fn begin_datagrams(&self, now: Instant, hello: bool, _established: bool) -> Option<AnyDatagramChannel> {
        let handshake = self.dtls.as_ref().filter(|_| hello)?;
        let channel = DtlsChannel::new(handshake.begin(now, self.rehandshake)?);
        let compression = self.datagram.map(Compressed::begin);
        Some(erase(Compressing::new(channel, compression)))
    }

    fn established(&self) -> &'static str {
        "DTLS handshake completed"
    }
}
