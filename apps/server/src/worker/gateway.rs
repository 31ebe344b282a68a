//! GlobalProtect: from a cookie to an open tunnel (`specs/globalprotect.md` §9, §11, §17.2).
//!
//! The configuration opens the session's tunnel, with keys for ESP. The connection goes on with
//! requests ([`super::tunnel::Control`]) until the client closes it, because ESP works, or turns it
//! into the tunnel's TLS channel.

use culvert_esp::inner_mtu;
use culvert_globalprotect::server::{
    ClientInfo, ConfigRequest, Grant, config_answer, config_refusal, start_tunnel, tunnel_refusal,
};
use culvert_globalprotect::wire::EspParameters;
use culvert_sys::{random, tcp};
use culvert_tls::{HandOver as TlsHandOver, Handshake};
use culvert_vocab::{MTU_MAX, Mtu, SessionId, Timers, TunnelConfig};

use super::broker::Broker;
use super::connect::{REPORT, ask, mark_stream};
use super::front_end::{FrontEnds, describe_globalprotect, portal_name};
use super::hand_over::{Carrier, DatagramHandOver, HandOver, Opened, Protocol};
use super::login::{flush, respond, respond_and_close};
use super::stream::{End, Stream};
use super::tunnel::Control;
use crate::first_datagrams::spi;
use crate::ipc::fields::Text;
use crate::ipc::messages::{LogLevel, Refusal, TunnelGrant, TunnelRequest, WorkerToMain};
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// Smallest path MTU that is believed.
const PATH_MTU_MIN: u32 = 1280;

/// A connection on its way to a tunnel.
pub(super) struct Connection<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) host: &'a HostSnapshot,
    pub(super) broker: &'a Broker,
    pub(super) front_end: FrontEnds,
    pub(super) handshake: Handshake,
    pub(super) stream: Stream,
}

impl Connection<'_> {
    /// Answers a request for the configuration.
    pub(super) fn open(mut self, wish: &ConfigRequest) -> Result<Opened, End> {
        let request =
            self.tunnel_request(&wish.session, &wish.client, wish.ipv6, wish.algorithms.is_some())?;
        let (grant, carrier) = match ask(self.broker, &mut self.stream, &request)? {
            Ok(granted) => granted,
            Err(refusal) => {
                let response = config_refusal(refusal == Refusal::NotAcceptable);
                respond_and_close(&mut self.handshake, &mut self.stream, &response);
                return Err(End::Refused);
            }
        };
        let esp = grant.datagram.as_ref().zip(wish.algorithms);
        let esp = match esp {
            Some((datagram, algorithms)) => {
                let mut fill = |octets: &mut [u8]| random::fill(octets).is_ok();
                EspParameters::generate(datagram.port, spi(&datagram.id), algorithms, &mut fill)
            }
            None => None,
        };
        let mtu = self.mtu(&grant, esp.as_ref());
        self.stream.reporter().tell(&WorkerToMain::SetMtu(mtu));
        mark_stream(&self.stream, &grant, mtu.get());
        let answer = Grant {
            config: announced(&grant, mtu),
            portal: portal_name(self.host),
            user: grant.user.to_string(),
            esp: esp.clone(),
        };
        respond(&mut self.handshake, &mut self.stream, &config_answer(&answer))?;
        self.log_opening(&grant, mtu);
        let state = hand_over(self.snapshot, &grant, mtu, None, esp.map(DatagramHandOver::Esp));
        let front_end = self
            .front_end
            .into_globalprotect()
            .ok_or(End::Protocol("a configuration without its protocol"))?;
        let control = Control::new(self.handshake, front_end, wish.session.clone(), answer);
        Ok(Opened {
            state,
            tcp: self.stream.into_socket(),
            control: Some(Box::new(control)),
            carrier: here(carrier)?,
        })
    }

    /// Answers a request for the TLS tunnel on a connection that has got no configuration.
    pub(super) fn open_stream(mut self, session: &SessionId) -> Result<Opened, End> {
        let request = self.tunnel_request(session, &ClientInfo::default(), true, false)?;
        let (grant, carrier) = match ask(self.broker, &mut self.stream, &request)? {
            Ok(granted) => granted,
            Err(_) => {
                respond_and_close(&mut self.handshake, &mut self.stream, &tunnel_refusal());
                return Err(End::Refused);
            }
        };
        let mtu = self.mtu(&grant, None);
        self.stream.reporter().tell(&WorkerToMain::SetMtu(mtu));
        mark_stream(&self.stream, &grant, mtu.get());
        self.handshake.write_plaintext(start_tunnel())?;
        flush(&mut self.handshake, &mut self.stream)?;
        self.log_opening(&grant, mtu);
        let records = self.handshake.into_records()?;
        let tls = TlsHandOver::new(records.sealer, records.opener)?;
        let mut state = hand_over(self.snapshot, &grant, mtu, Some(tls), None);
        state.unread = records.unread;
        Ok(Opened {
            state,
            tcp: self.stream.into_socket(),
            control: None,
            carrier: here(carrier)?,
        })
    }

    fn tunnel_request(
        &self,
        session: &SessionId,
        client: &ClientInfo,
        ipv6: bool,
        esp: bool,
    ) -> Result<TunnelRequest, End> {
        let negotiated = self
            .handshake
            .negotiated()
            .ok_or(End::Protocol("a tunnel without TLS"))?;
        Ok(TunnelRequest {
            cookie: session.clone(),
            client: describe_globalprotect(client),
            hostname: client.computer.as_deref().map(Text::truncated),
            ipv4: true,
            ipv6,
            udp: esp && self.snapshot.dtls_psk,
            own_process: true,
            tls: Text::truncated(&negotiated.to_string()),
        })
    }

    /// What fits a datagram to this client; a tunnel over TLS carries the same, so that the client
    /// may change between the two.
    fn mtu(&self, grant: &TunnelGrant, esp: Option<&EspParameters>) -> Mtu {
        let socket = self.stream.socket();
        let path = tcp::path_info(socket)
            .ok()
            .map(|info| info.path_mtu)
            .filter(|mtu| *mtu >= PATH_MTU_MIN)
            .and_then(|mtu| u16::try_from(mtu).ok());
        let link = path.map_or(grant.config.mtu.get(), |path| path.min(grant.config.mtu.get()));
        let ipv6 = socket2::SockRef::from(socket)
            .peer_addr()
            .ok()
            .and_then(|peer| peer.as_socket())
            .is_some_and(|peer| peer.ip().to_canonical().is_ipv6());
        let integrity = esp.map_or(culvert_esp::Integrity::HmacSha1, |esp| esp.up.integrity());
        inner_mtu(link.min(MTU_MAX), ipv6, integrity)
    }

    fn log_opening(&self, grant: &TunnelGrant, mtu: Mtu) {
        let line = format!("opened a tunnel on {} with MTU {}", grant.device, mtu.get());
        self.stream.reporter().log(LogLevel::Debug, &line);
    }
}

fn here(carrier: Carrier) -> Result<Carrier, End> {
    match carrier {
        Carrier::Here(_) => Ok(carrier),
        Carrier::Pool(_) => Err(End::Protocol("a pool for what cannot be handed over")),
    }
}

fn announced(grant: &TunnelGrant, mtu: Mtu) -> TunnelConfig {
    let mut config = grant.config.clone();
    config.mtu = mtu;
    config
}

fn hand_over(
    snapshot: &Snapshot,
    grant: &TunnelGrant,
    mtu: Mtu,
    tls: Option<TlsHandOver>,
    datagram: Option<DatagramHandOver>,
) -> HandOver {
    // Clients keep ESP alive themselves.
    let datagram_timers = Timers {
        keepalive: None,
        ..grant.config.datagram
    };
    HandOver {
        mtu,
        stream: grant.config.stream,
        datagram_timers,
        idle_timeout: grant.config.idle_timeout,
        session_left: grant.config.session_left,
        protocol: Protocol::GlobalProtect,
        tls,
        unread: Vec::new(),
        datagram,
        mtu_limit: mtu.get(),
        own_rekey: None,
        switch_to_stream: None,
        output_buffer: grant.output_buffer,
        net_priority: grant.net_priority,
        discover_mtu: snapshot.try_mtu_discovery,
        stream_compression: None,
        datagram_compression: None,
        no_compress_limit: 0,
        rx_per_second: grant.rx_per_second,
        tx_per_second: grant.tx_per_second,
        report: grant.stats_report.map_or(REPORT, |time| time.min(REPORT)),
    }
}
