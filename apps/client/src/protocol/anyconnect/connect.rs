//! The CONNECT exchange (`specs/cstp-dtls.md` §2, §3).

use std::io;
use std::sync::Arc;

use culvert_anyconnect::client::{
    ConnectOptions, Connected, Cookie, DtlsMode, DtlsRequest, Platform, StrapKey, StrapProof,
    parse_connect_response,
};
use culvert_anyconnect::data::{Compressing, Compression, CstpOpener, CstpSealer};
use culvert_anyconnect::dtls::{MASTER_SECRET_LEN, OfferedCiphers};
use culvert_anyconnect::mtu::{ClientMtu, RequestedMtu, client_request};
use culvert_anyconnect::psk;
use culvert_anyconnect::wire::bye_payload;
use culvert_dtls::ResumptionConfig;
use culvert_sys::{random, tcp};
use culvert_tls::TlsError;
use culvert_vocab::{SecretBytes, TunnelConfig};
use culvert_wire::compress::Method;
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;

use crate::connect::{
    COMPRESS_LIMIT, ConnectFailure, Connector, DatagramOffer, DtlsOffer, Handshake, Stream, Tunnel,
};
use crate::context::Context;
use crate::identity;
use crate::net::{ExchangeError, HttpClient, Https};

/// Base MTU when neither end has named one.
const BASE_MTU_UNKNOWN: u16 = 1406;

/// Repeats CONNECT with one cookie for as long as the session lasts.
pub(super) struct CstpConnector {
    http: HttpClient,
    request: RequestMaker,
}

/// What the CONNECT requests of a session are made of.
struct RequestMaker {
    context: Arc<Context>,
    server: ServerUrl,
    cookie: Cookie,
    strap: Option<Strap>,
    platform: Platform,
    /// Addresses granted before, to be granted again.
    previous: Option<TunnelConfig>,
}

impl RequestMaker {
    fn make(&self, connection: &Https, mtu: RequestedMtu, dtls: Option<&DtlsRequest>) -> Request {
        let options = &self.context.options;
        let identity = &options.identity;
        ConnectOptions {
            server: self.server.clone(),
            user_agent: identity::user_agent_or(identity.user_agent.as_deref()),
            version: identity::version_or(identity.version.as_deref()),
            cookie: self.cookie.webvpn().clone(),
            hostname: identity::host_name_or(identity.host_name.as_deref()),
            strap: self.strap.as_ref().and_then(|strap| strap.prove(connection)),
            platform: self.platform.clone(),
            stream_encodings: self.encodings(),
            mtu,
            ipv6: !options.tunnel.disable_ipv6,
            previous_ipv4: self
                .previous
                .as_ref()
                .and_then(|config| config.ipv4)
                .map(|ip| ip.address),
            previous_ipv6: self
                .previous
                .as_ref()
                .and_then(|config| config.ipv6)
                .map(|ip| ip.address),
            dtls: dtls.cloned(),
        }
        .to_request()
    }

    fn encodings(&self) -> Vec<Method> {
        match self.context.options.tunnel.compression {
            true => vec![Method::Lz4, Method::Lzs],
            false => Vec::new(),
        }
    }

    /// The UDP channel to ask for, with a master secret that was never used before.
    fn dtls(&self) -> io::Result<Option<DtlsRequest>> {
        let options = &self.context.options;
        if options.tunnel.no_dtls {
            return Ok(None);
        }
        let mut secret = zeroize::Zeroizing::new([0; MASTER_SECRET_LEN]);
        random::fill(secret.as_mut_slice())?;
        let ciphers = match (&options.tunnel.dtls_ciphers, &options.tunnel.dtls12_ciphers) {
            (None, None) => {
                OfferedCiphers::usual(options.trust.forward_secrecy, options.trust.allow_insecure_crypto)
            }
            (dtls, dtls12) => OfferedCiphers {
                dtls: dtls.clone(),
                dtls12: dtls12.clone(),
            },
        };
        Ok(Some(DtlsRequest {
            master_secret: SecretBytes::new(secret.to_vec()),
            ciphers,
            encodings: self.encodings(),
        }))
    }
}

/// Keys of session token protection (`specs/cstp-dtls.md` §2.3).
struct Strap {
    /// The key that the server knows.
    current: StrapKey,
    /// The key that the next CONNECT announces; `None` announces the current one again.
    next: Option<StrapKey>,
}

impl Strap {
    /// Keys for a cookie, if it is bound to one. A cookie that the user gave keeps its key in the
    /// first CONNECT.
    fn of_cookie(cookie: &Cookie, given: bool) -> Option<Self> {
        let current = StrapKey::from_secret(cookie.strap_key()?).ok()?;
        let next = if given {
            None
        } else {
            Some(StrapKey::generate().ok()?)
        };
        Some(Self { current, next })
    }

    /// The proof for a connection.
    fn prove(&self, connection: &Https) -> Option<StrapProof> {
        let (_, binding) = connection.tls().channel_binding()?;
        self.current
            .prove(&binding, self.next.as_ref().unwrap_or(&self.current))
            .ok()
    }

    /// The server has accepted the announced key.
    fn advance(&mut self) {
        if let Some(next) = self.next.take() {
            self.current = next;
        }
        self.next = StrapKey::generate().ok();
    }
}

impl CstpConnector {
    /// A connector that goes on with the connection of the login, if there was one. `given` says
    /// that the cookie comes from the user and not from a login of this run.
    pub(super) fn new(
        context: Arc<Context>,
        http: HttpClient,
        server: ServerUrl,
        cookie: Cookie,
        platform: Platform,
    ) -> Self {
        let given = context.options.login.cookie.is_some();
        let strap = Strap::of_cookie(&cookie, given).filter(|_| !context.options.login.no_external_auth);
        let request = RequestMaker {
            context,
            server,
            cookie,
            strap,
            platform,
            previous: None,
        };
        Self { http, request }
    }

    fn connect_once(&mut self) -> Result<Tunnel, ConnectFailure> {
        let mut requested = None;
        let request = &self.request;
        let dtls = request.dtls().map_err(|error| {
            let text = format!("Failed to generate the DTLS master secret: {error}");
            request.context.output.error(&text);
            ConnectFailure::Other
        })?;
        let response = self.http.exchange_built(&request.server, &mut |connection| {
            let mtu = requested_mtu(&request.context, connection);
            requested = Some(mtu);
            request.make(connection, mtu, dtls.as_ref())
        });
        let output = &request.context.output;
        let response = match response {
            Ok(response) => response,
            Err(ExchangeError::Response(error)) => {
                output.error(&format!("Error fetching CONNECT response: {error}"));
                return Err(ConnectFailure::Other);
            }
            Err(error) => return Err(error.into()),
        };
        let connected = match parse_connect_response(&response) {
            Ok(connected) => connected,
            Err(error) => {
                output.error(&error.to_string());
                return Err(if error.is_permission() {
                    ConnectFailure::Rejected
                } else {
                    ConnectFailure::Other
                });
            }
        };
        for note in &connected.notes {
            output.error(note);
        }
        if let Some(strap) = &mut self.request.strap {
            strap.advance();
        }
        let connection = self.http.take_connection().ok_or(ConnectFailure::Other)?;
        self.finish(connection, connected, requested, dtls)
    }

    /// Takes the connection over for packets.
    fn finish(
        &mut self,
        connection: Https,
        connected: Connected,
        requested: Option<RequestedMtu>,
        dtls: Option<DtlsRequest>,
    ) -> Result<Tunnel, ConnectFailure> {
        let offer = match dtls {
            Some(asked) => self.datagram_offer(&connection, &connected, requested, asked)?,
            None => None,
        };
        let compression = connected.stream_encoding;
        let agreed = compression.map(|method| Compression::new(method, COMPRESS_LIMIT));
        let address = connection.address();
        let output = &self.request.context.output;
        let stream = Stream::take_over(connection, output, compression, |sealer, opener| {
            (
                Box::new(Compressing::new(CstpSealer::new(sealer), agreed.clone())),
                Box::new(Compressing::new(CstpOpener::new(opener), agreed)),
            )
        })?;
        self.request.previous = Some(connected.config.clone());
        Ok(Tunnel {
            config: connected.config,
            address,
            stream: Some(stream),
            datagram: offer.map(DatagramOffer::Dtls),
        })
    }

    /// The UDP channel that the server grants, if it is one that was asked for.
    fn datagram_offer(
        &self,
        connection: &Https,
        connected: &Connected,
        requested: Option<RequestedMtu>,
        asked: DtlsRequest,
    ) -> Result<Option<DtlsOffer>, ConnectFailure> {
        let output = &self.request.context.output;
        let refused = |why: &str| {
            output.error(why);
            output.error("Set up UDP failed; using SSL instead");
            Ok(None)
        };
        let granted = match &connected.dtls {
            Ok(granted) if asked.has_offered(&granted.mode) => granted,
            Ok(_) => return refused("No DTLS: the server chose a cipher that was not offered"),
            Err(why) => return refused(why),
        };
        let id = granted.id.clone();
        let handshake = match granted.mode {
            DtlsMode::Psk => Handshake::Psk {
                app_id: id,
                key: psk_of(connection).map_err(|error| {
                    output.error(&format!("Failed to derive the DTLS key: {error}"));
                    ConnectFailure::Other
                })?,
            },
            DtlsMode::Resumed(cipher) => Handshake::Resumption(ResumptionConfig::client(
                cipher.version,
                cipher.suite,
                asked.master_secret,
                id,
            )),
        };
        Ok(Some(DtlsOffer {
            port: granted.port,
            handshake,
            base_mtu: connected
                .base_mtu
                .or(requested.map(|mtu| mtu.base))
                .unwrap_or(BASE_MTU_UNKNOWN),
            compression: connected.datagram_encoding,
        }))
    }
}

impl Connector for CstpConnector {
    /// A server whose name is dynamic is looked up again; the address that worked before is the
    /// fallback.
    fn connect(&mut self) -> Result<Tunnel, ConnectFailure> {
        let dynamic = self
            .request
            .previous
            .as_ref()
            .is_some_and(|config| config.dynamic_dns);
        let server = &self.request.server;
        let Some(known) = dynamic.then(|| self.http.forget_address(server)).flatten() else {
            return self.connect_once();
        };
        match self.connect_once() {
            Err(ConnectFailure::Other) => {
                self.http.remember_address(&self.request.server, known);
                self.connect_once()
            }
            result => result,
        }
    }

    fn log_out(&mut self, reason: &str) -> Option<Vec<u8>> {
        let text = format!("Send BYE packet: {reason}");
        self.request.context.output.info(&text);
        Some(bye_payload(reason))
    }
}

/// The pre-shared key of the UDP channel, from the TLS channel.
fn psk_of(connection: &Https) -> Result<SecretBytes, TlsError> {
    let mut key = zeroize::Zeroizing::new([0; psk::PSK_LEN]);
    let tls = connection.tls();
    tls.exporter(psk::PSK_EXPORTER_LABEL, key.as_mut_slice())?;
    Ok(SecretBytes::new(key.to_vec()))
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
