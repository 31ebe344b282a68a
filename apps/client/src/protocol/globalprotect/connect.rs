//! From a cookie to a tunnel: configuration, host check, ESP or the TLS tunnel
//! (`specs/globalprotect.md` §9 to §15).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use culvert_esp::inner_mtu;
use culvert_globalprotect::client::{
    Gateway, Granted, HipAnswer, Refusal, parse_config, parse_hip_check, parse_success,
};
use culvert_globalprotect::data::{GpstClientOpener, GpstClientSealer};
use culvert_globalprotect::wire::{FRAME_HEADER_LEN, START_TUNNEL, parse_frame_header};
use culvert_sys::tcp::{self, PathInfo};
use culvert_vocab::{Mtu, TunnelConfig};
use culvert_wire::http::{Request, Response};

use super::{hip_script, host};
use crate::connect::{ConnectFailure, Connector, DatagramOffer, Stream, Tunnel};
use crate::context::Context;
use crate::net::{ExchangeError, HttpClient, Upgrade};

/// Link MTU when nothing is known of the path.
const LINK_MTU_UNKNOWN: u16 = 1406;
/// Smallest link MTU that is believed.
const LINK_MTU_MIN: u16 = 1280;
/// What a frame and its TLS record cost, as the reference counts.
const STREAM_OVERHEAD: u16 = 5;
/// Headers of IP and UDP.
const DATAGRAM_HEADERS_V4: u16 = 28;
const DATAGRAM_HEADERS_V6: u16 = 48;
/// Headers of IP and TCP.
const STREAM_HEADERS_V4: u16 = 40;
const STREAM_HEADERS_V6: u16 = 60;
/// Time between host checks when no portal says anything else.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Tunnels of one session.
pub(super) struct GpConnector {
    context: Arc<Context>,
    http: HttpClient,
    gateway: Gateway,
    check_interval: Duration,
    /// What was granted last.
    granted: Option<Granted>,
    /// ESP works: connections are only for questions beside it.
    over_datagrams: bool,
}

impl GpConnector {
    /// A connector that goes on with the connection of the login, if there was one.
    pub(super) fn new(
        context: Arc<Context>,
        http: HttpClient,
        gateway: Gateway,
        interval: Option<Duration>,
    ) -> Self {
        let forced = context.options.host_scan.interval.filter(|seconds| *seconds > 0);
        let forced = forced.map(|seconds| Duration::from_secs(seconds.into()));
        Self {
            context,
            http,
            gateway,
            check_interval: forced.or(interval).unwrap_or(CHECK_INTERVAL),
            granted: None,
            over_datagrams: false,
        }
    }

    /// Exchanges a request over the connection that is open, or a new one. Also tells what the
    /// kernel knows of the path.
    fn exchange(&mut self, request: &Request) -> Result<(Response, Option<PathInfo>), ConnectFailure> {
        let mut path = None;
        let output = &self.context.output;
        let url = format!(
            "https://{}{}",
            self.gateway.server.host_header(),
            request.target.split('?').next().unwrap_or_default()
        );
        output.info(&format!("{} {url}", request.method));
        let response = self.http.exchange_built(&self.gateway.server, &mut |connection| {
            path = tcp::path_info(connection.socket()).ok();
            request.clone()
        });
        match response {
            Ok(response) => Ok((response, path)),
            Err(ExchangeError::Response(error)) => {
                self.context
                    .output
                    .error(&format!("Failed to read the gateway's response: {error}"));
                Err(ConnectFailure::Other)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn get_config(&mut self) -> Result<Granted, ConnectFailure> {
        let previous = self.granted.as_ref().map(|granted| &granted.config);
        let request = self.gateway.config_request(previous);
        let (response, path) = self.exchange(&request)?;
        let output = &self.context.output;
        let mut granted = match parse_config(&response, self.gateway.client.ipv6) {
            Ok(granted) => granted,
            Err(error) => {
                output.error(&error.to_string());
                return Err(match error.is_permanent() {
                    true => ConnectFailure::Rejected,
                    false => ConnectFailure::Other,
                });
            }
        };
        for note in &granted.notes {
            output.info(note);
        }
        if let Err(why) = &granted.esp {
            output.info(why);
        }
        if !granted.mtu_given {
            granted.config.mtu = self.mtu(&granted, path);
        }
        Ok(granted)
    }

    /// The MTU that the gateway leaves to the client (`specs/globalprotect.md` §13).
    fn mtu(&self, granted: &Granted, path: Option<PathInfo>) -> Mtu {
        let options = &self.context.options.tunnel;
        let ipv6 = self.http.peer().is_some_and(|peer| peer.address.is_ipv6());
        let octets = |value: u32| u16::try_from(value).ok().filter(|octets| *octets > 0);
        let link = options
            .base_mtu
            .or_else(|| path.and_then(|path| octets(path.path_mtu)))
            .unwrap_or(LINK_MTU_UNKNOWN)
            .max(LINK_MTU_MIN);
        let by_family = |v4: u16, v6: u16| if ipv6 { v6 } else { v4 };
        match &granted.esp {
            Ok(esp) if !options.no_dtls => {
                let headers = by_family(DATAGRAM_HEADERS_V4, DATAGRAM_HEADERS_V6);
                let link = options.mtu.map_or(link, |mtu| mtu.saturating_add(headers));
                inner_mtu(link, ipv6, esp.parameters.up.integrity())
            }
            _ => {
                let mss = path.and_then(|path| octets(path.send_mss.max(path.receive_mss)));
                let headers = by_family(STREAM_HEADERS_V4, STREAM_HEADERS_V6);
                let room = options.mtu.or(mss).unwrap_or(link.saturating_sub(headers));
                Mtu::clamped(room.saturating_sub(STREAM_OVERHEAD).into())
            }
        }
    }

    fn check(&mut self, config: &TunnelConfig) -> Result<(), ConnectFailure> {
        let request = self.gateway.hip_check_request(config);
        let (response, _) = self.exchange(&request)?;
        match parse_hip_check(&response) {
            Ok(HipAnswer::NotNeeded) => return Ok(()),
            Ok(HipAnswer::Needed) => {}
            Err(refusal) => return Err(self.refused(&refusal)),
        }
        self.context
            .output
            .info("The gateway wants a report about this host (HIP); sending one.");
        let report = match &self.context.options.host_scan.wrapper {
            Some(wrapper) => hip_script::report(&self.context, wrapper, &self.gateway, config)?,
            None => host::report(&self.gateway, config).to_xml(),
        };
        let request = self.gateway.hip_report_request(config, &report);
        let (response, _) = self.exchange(&request)?;
        parse_success(&response).map_err(|refusal| self.refused(&refusal))
    }

    fn refused(&self, refusal: &Refusal) -> ConnectFailure {
        self.context.output.error(&refusal.to_string());
        match refusal.is_permanent() {
            true => ConnectFailure::Rejected,
            false => ConnectFailure::Other,
        }
    }

    fn address(&self) -> Result<SocketAddr, ConnectFailure> {
        let peer = self.http.peer().ok_or(ConnectFailure::Other)?;
        Ok(peer.address)
    }

    fn open_stream(&mut self, tunnel_path: Option<&str>) -> Result<Stream, ConnectFailure> {
        let request = self.gateway.tunnel_request(tunnel_path);
        self.over_datagrams = false;
        let upgraded = self.http.upgrade(&self.gateway.server, &request, START_TUNNEL)?;
        let output = &self.context.output;
        let failed = |text: String| {
            output.error(&text);
            ConnectFailure::Other
        };
        let connection = match upgraded {
            Upgrade::Done { connection, rest } if is_whole_frames(&rest) => connection,
            Upgrade::Done { .. } => {
                return Err(failed("Unexpected data at the start of the tunnel".into()));
            }
            Upgrade::Refused(response) if response.status == 502 => {
                output.error("The gateway does not accept the cookie for the tunnel");
                return Err(ConnectFailure::Rejected);
            }
            Upgrade::Refused(response) => {
                return Err(failed(format!(
                    "Failed to open the tunnel: {}",
                    response.status_line()
                )));
            }
            Upgrade::Ended => {
                return Err(failed(
                    "Gateway disconnected immediately after GET-tunnel request.".into(),
                ));
            }
        };
        Stream::take_over(*connection, output, None, |sealer, opener| {
            (
                Box::new(GpstClientSealer::new(sealer)),
                Box::new(GpstClientOpener::new(opener)),
            )
        })
    }
}

impl Connector for GpConnector {
    fn connect(&mut self) -> Result<Tunnel, ConnectFailure> {
        let granted = self.get_config()?;
        self.check(&granted.config)?;
        let esp = match (&granted.esp, self.context.options.tunnel.no_dtls) {
            (Ok(esp), false) => Some(DatagramOffer::Esp(Box::new(esp.clone()))),
            _ => None,
        };
        let stream = match esp {
            Some(_) => None,
            None => Some(self.open_stream(granted.tunnel_path.as_deref())?),
        };
        let tunnel = Tunnel {
            config: granted.config.clone(),
            address: self.address()?,
            stream,
            datagram: esp,
        };
        self.granted = Some(granted);
        Ok(tunnel)
    }

    fn connect_stream(&mut self) -> Result<Stream, ConnectFailure> {
        let path = self
            .granted
            .as_ref()
            .and_then(|granted| granted.tunnel_path.clone());
        self.open_stream(path.as_deref())
    }

    fn datagram_established(&mut self) {
        self.over_datagrams = true;
        if self.http.take_connection().is_some() {
            self.context
                .output
                .info("ESP tunnel connected; exiting HTTPS mainloop.");
        }
    }

    fn check_interval(&self) -> Option<Duration> {
        Some(self.check_interval)
    }

    fn check_host(&mut self) -> Result<(), ConnectFailure> {
        let Some(config) = self.granted.as_ref().map(|granted| granted.config.clone()) else {
            return Ok(());
        };
        let checked = self.check(&config);
        if self.over_datagrams {
            drop(self.http.take_connection());
        }
        checked
    }

    fn log_out(&mut self, _reason: &str) -> Option<Vec<u8>> {
        // The connection may be the tunnel's, or closed long ago.
        drop(self.http.take_connection());
        let request = self.gateway.logout_request();
        let result = self
            .exchange(&request)
            .map(|(response, _)| parse_success(&response));
        let output = &self.context.output;
        match result {
            Ok(Ok(())) => output.info("Logout successful."),
            Ok(Err(refusal)) => output.error(&format!("Logout failed: {refusal}")),
            Err(_) => output.error("Logout failed."),
        }
        None
    }
}

/// True for complete frames, which came before there was a tunnel and are lost like any packet on
/// the way.
fn is_whole_frames(mut rest: &[u8]) -> bool {
    while let Some((header, after)) = rest.split_at_checked(FRAME_HEADER_LEN) {
        let payload = parse_frame_header(header).and_then(|(_, len)| after.get(len..));
        let Some(next) = payload else { return false };
        rest = next;
    }
    rest.is_empty()
}
