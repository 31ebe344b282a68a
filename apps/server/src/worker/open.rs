//! From a client's wish to an open tunnel, in any protocol.

use std::time::Duration;

use culvert_login::server::{self as login, Demand, Granted, Link, Opening};
use culvert_sys::{random, tcp};
use culvert_tls::{HandOver as TlsHandOver, Handshake, Negotiated};
use culvert_vocab::TunnelConfig;

use super::broker::Broker;
use super::front_end::{describe, said};
use super::hand_over::{Carrier, HandOver, Opened};
use super::log::Reporter;
use super::login::{respond_and_close, send};
use super::protocols::Channels;
use super::stream::{End, Stream};
use crate::ipc::fields::Text;
use crate::ipc::messages::{
    BrokerToWorker, LogLevel, MainToWorker, Refusal, SpawnRequest, TunnelGrant, TunnelReply, TunnelRequest,
    WorkerToBroker, WorkerToMain,
};
use crate::ipc::session::NetPriority;
use crate::ipc::snapshot::Snapshot;

/// Largest send buffer of the TCP socket that `output-buffer` may ask for.
const SEND_BUFFER_MAX: usize = 16 << 20;
/// How often main is told what was carried, unless `stats-report-time` wants it more often.
const REPORT: Duration = Duration::from_secs(10);

/// A connection on its way to a tunnel.
pub(super) struct Connection<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) spawn: &'a SpawnRequest,
    pub(super) broker: &'a Broker,
    pub(super) handshake: Handshake,
    pub(super) stream: Stream,
}

/// Asks for the tunnel and answers the client.
pub(super) fn open<O: Opening>(wish: O, connection: Connection<'_>) -> Result<Opened, End>
where
    Channels: From<O::Channels>,
{
    let Connection {
        snapshot,
        spawn,
        broker,
        mut handshake,
        mut stream,
    } = connection;
    let negotiated = handshake
        .negotiated()
        .ok_or(End::Protocol("a tunnel without TLS"))?;
    let request = tunnel_request(wish.demand(&negotiated), &negotiated);
    let (grant, carrier) = match ask(broker, &mut stream, &request)? {
        Ok(granted) => granted,
        Err(refusal) => {
            let text = "failed cookie authentication attempt";
            stream.reporter().log(LogLevel::Warning, text);
            let response = wish.refuse(shown(refusal));
            respond_and_close(&mut handshake, &mut stream, &response);
            return Err(End::Refused);
        }
    };
    log_granted(stream.reporter(), &grant.config);
    let link = Link {
        tls: &negotiated,
        export: &|label, out| handshake.exporter(label, out),
        ipv6: spawn.peer.is_ipv6(),
        path_mtu: tcp::path_info(stream.socket())
            .ok()
            .and_then(|info| u16::try_from(info.path_mtu).ok()),
        random: &mut |octets| random::fill(octets).is_ok(),
    };
    let opened = wish.open(&granted(&grant), link)?;
    stream.reporter().tell(&WorkerToMain::SetMtu(opened.mtu));
    let channels = Channels::from(opened.channels);
    tell_compression(stream.reporter(), &channels);
    mark_stream(&stream, &grant, opened.mtu.get());
    send(&mut handshake, &mut stream, &opened.answer)?;
    let line = format!(
        "opened a tunnel on {} with MTU {}",
        grant.device,
        opened.mtu.get()
    );
    stream.reporter().log(LogLevel::Debug, &line);

    let records = handshake.into_records()?;
    let state = HandOver {
        mtu: opened.mtu,
        stream: opened.stream,
        datagram_timers: opened.datagram,
        idle_timeout: grant.config.idle_timeout,
        session_timeout: grant.session_timeout,
        session_left: grant.config.session_left,
        tls: TlsHandOver::new(records.sealer, records.opener)?,
        unread: records.unread,
        channels,
        mtu_limit: opened.mtu_limit,
        own_rekey: opened.own_rekey,
        switch_to_stream: opened.switch_to_stream,
        net_priority: grant.net_priority,
        discover_mtu: snapshot.try_mtu_discovery,
        rx_per_second: grant.rx_per_second,
        tx_per_second: grant.tx_per_second,
        output_buffer: grant.output_buffer,
        report: grant.stats_report.map_or(REPORT, |time| time.min(REPORT)),
    };
    Ok(Opened {
        state,
        tcp: stream.into_socket(),
        carrier,
    })
}

/// What is asked of the broker.
fn tunnel_request(demand: Demand, tls: &Negotiated) -> TunnelRequest {
    TunnelRequest {
        cookie: demand.session,
        claims: said(&demand.claims),
        client: describe(&demand.client),
        hostname: demand.hostname.as_deref().map(Text::truncated),
        ipv4: demand.ipv4,
        ipv6: demand.ipv6,
        udp: demand.datagrams,
        tls: Text::truncated(&tls.to_string()),
    }
}

fn tell_compression(reporter: &Reporter, channels: &Channels) {
    let (stream, datagram) = channels.compression();
    if stream.is_some() || datagram.is_some() {
        reporter.tell(&WorkerToMain::Compression { stream, datagram });
    }
}

/// What the client is told, as ocserv's log tells it.
fn log_granted(reporter: &Reporter, config: &TunnelConfig) {
    let say = |level, text: String| reporter.log(level, &text);
    if let Some(dpd) = config.stream.dpd {
        let text = format!("suggesting DPD of {} secs", dpd.as_secs());
        say(LogLevel::Info, text);
    }
    if let Some(ipv4) = config.ipv4 {
        say(LogLevel::Info, format!("sending IPv4 {}", ipv4.address));
    }
    if let Some(ipv6) = config.ipv6 {
        let text = format!("sending IPv6 {}/{}", ipv6.address, ipv6.prefix_len);
        say(LogLevel::Info, text);
    }
    for server in &config.dns {
        say(LogLevel::Info, format!("adding DNS {server}"));
    }
}

/// Asks the broker, then main, for a tunnel.
fn ask(
    broker: &Broker,
    stream: &mut Stream,
    request: &TunnelRequest,
) -> Result<Result<(TunnelGrant, Carrier), Refusal>, End> {
    match broker.patient(&WorkerToBroker::OpenTunnel(request.clone()), stream)? {
        BrokerToWorker::Tunnel(TunnelReply::Accepted) => {}
        BrokerToWorker::Tunnel(TunnelReply::Refused(refusal)) => return Ok(Err(refusal)),
        _ => return Err(End::Protocol("the broker's answer does not fit")),
    }
    match stream.grant()? {
        (MainToWorker::Grant(grant), descriptors) => {
            let descriptor = descriptors
                .into_iter()
                .next()
                .ok_or(End::Protocol("a grant without a descriptor"))?;
            let carrier = match grant.pooled {
                true => Carrier::Pool(descriptor),
                false => Carrier::Here(descriptor),
            };
            Ok(Ok((*grant, carrier)))
        }
        (MainToWorker::Refuse(refusal), _) => Ok(Err(refusal)),
        _ => Err(End::Protocol("main's answer does not fit")),
    }
}

/// What of a grant is the protocol's business.
fn granted(grant: &TunnelGrant) -> Granted {
    Granted {
        config: grant.config.clone(),
        user: grant.user.to_string(),
        networks_behind: grant.networks_behind.clone(),
        report: grant.report,
        datagram: grant.datagram.as_ref().map(|datagram| login::DatagramGrant {
            id: datagram.id,
            port: datagram.port,
        }),
        hostname: grant.hostname.clone(),
        session_timeout: grant.session_timeout,
        custom_headers: grant.custom_headers.clone(),
        switch_to_stream: grant.switch_to_tcp,
    }
}

/// Marks and send buffer of the TCP socket. A system that refuses them still carries the tunnel.
fn mark_stream(stream: &Stream, grant: &TunnelGrant, mtu: u16) {
    let socket = stream.socket();
    let marked = match grant.net_priority {
        Some(NetPriority::Priority(priority)) => tcp::set_priority(socket, priority),
        Some(NetPriority::Tos(tos)) => tcp::set_type_of_service(socket, tos),
        None => Ok(()),
    };
    let packets = usize::try_from(grant.output_buffer).unwrap_or(usize::MAX);
    let size = packets.saturating_mul(mtu.into()).min(SEND_BUFFER_MAX);
    let sized = if size > 0 {
        tcp::set_send_buffer(socket, size)
    } else {
        Ok(())
    };
    // Keeps middleboxes from forgetting an idle connection.
    let kept = tcp::set_keepalive(socket, Duration::from_secs(600));
    if let Err(error) = marked.and(sized).and(kept) {
        stream
            .reporter()
            .log(LogLevel::Debug, &format!("cannot set TCP options: {error}"));
    }
}

fn shown(refusal: Refusal) -> login::Refusal {
    match refusal {
        Refusal::NotAcceptable => login::Refusal::NotAcceptable,
        Refusal::Configuration => login::Refusal::Configuration,
        Refusal::Server => login::Refusal::Internal,
    }
}
