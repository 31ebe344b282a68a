//! CONNECT: from a cookie to an open tunnel.

use std::time::Duration;

use culvert_anyconnect::mtu::{GrantedMtu, Overhead, ServerMtu, server_grant};
use culvert_anyconnect::psk::{PSK_EXPORTER_LABEL, PSK_LEN};
use culvert_anyconnect::server::{
    ConnectRefusal, ConnectRequest, DtlsGrant, DtlsMode, DtlsRules, TunnelGrant as Announcement,
    advertised_rekey, connect_refusal, connect_response,
};
use culvert_dtls::CipherSuite;
use culvert_server_config::{Compression, TlsPriorities};
use culvert_sys::tcp;
use culvert_tls::{Cipher, HandOver as TlsHandOver, Version};
use culvert_vocab::{MTU_MAX, RekeyMethod, SecretBytes, TunnelConfig};
use culvert_wire::compress::Method;

use super::broker::Broker;
use super::front_end::describe;
use super::gateway::Connection;
use super::hand_over::{Carrier, DatagramHandOver, HandOver, Opened, Protocol};
use super::login::{flush, respond, respond_and_close};
use super::stream::{End, Stream};
use crate::ipc::fields::Text;
use crate::ipc::messages::{
    BrokerToWorker, LogLevel, MainToWorker, Refusal, SpawnRequest, TunnelGrant, TunnelReply, TunnelRequest,
    WorkerToBroker, WorkerToMain,
};
use crate::ipc::session::NetPriority;
use crate::ipc::snapshot::HostSnapshot;

/// Largest send buffer of the TCP socket that `output-buffer` may ask for.
const SEND_BUFFER_MAX: usize = 16 << 20;
/// How often main is told what was carried, unless `stats-report-time` wants it more often.
pub(super) const REPORT: Duration = Duration::from_secs(10);

/// Asks for the tunnel and answers the client.
pub(super) fn open(
    spawn: &SpawnRequest,
    connect: Box<ConnectRequest>,
    connection: Connection<'_>,
) -> Result<Opened, End> {
    let Connection {
        snapshot,
        host,
        broker,
        mut handshake,
        mut stream,
        ..
    } = connection;
    let negotiated = handshake
        .negotiated()
        .ok_or(End::Protocol("CONNECT without TLS"))?;
    let of_tls = psk_suite(negotiated.cipher);
    let mode = connect.choose_dtls(&DtlsRules {
        psk: snapshot.dtls_psk,
        legacy: host.dtls_legacy,
        of_tls: of_tls.cipher_and_mac(),
    });
    let request = TunnelRequest {
        cookie: connect.session.clone(),
        client: describe(&connect.client),
        hostname: connect.hostname.as_deref().map(Text::truncated),
        ipv4: connect.ipv4,
        ipv6: connect.ipv6,
        udp: mode.is_some(),
        own_process: false,
        tls: Text::truncated(&negotiated.to_string()),
    };
    let (grant, carrier) = match ask(broker, &mut stream, &request)? {
        Ok(granted) => granted,
        Err(refusal) => {
            respond_and_close(&mut handshake, &mut stream, &connect_refusal(shown(refusal)));
            return Err(End::Refused);
        }
    };

    let tls13 = negotiated.version == Version::Tls13;
    let mode = mode.filter(|_| grant.datagram.is_some());
    let datagram = match (&grant.datagram, mode) {
        (Some(_), Some(DtlsMode::Psk(_))) => {
            let mut psk = vec![0; PSK_LEN];
            let label = PSK_EXPORTER_LABEL;
            handshake.exporter(label, &mut psk)?;
            Some(DatagramHandOver::Dtls {
                psk: SecretBytes::new(psk),
                suites: suites(&host.tls_priorities, host.match_tls_dtls_ciphers, of_tls),
            })
        }
        (Some(datagram), Some(DtlsMode::Resumed(cipher))) => {
            let secret = connect.master_secret.clone();
            let secret = secret.ok_or(End::Protocol("a resumption without master secret"))?;
            Some(DatagramHandOver::ResumedDtls {
                version: cipher.version,
                suite: cipher.suite.id(),
                master_secret: secret,
                session_id: datagram.id,
            })
        }
        _ => None,
    };
    let mtu = server_grant(&ServerMtu {
        configured: grant.config.mtu.get(),
        client_base: connect.base_mtu,
        client_mtu: connect.mtu,
        outer_ipv6: spawn.peer.is_ipv6(),
        inner_ipv6: grant.config.ipv6.is_some(),
        overhead: match mode {
            None => Overhead::NoDatagram,
            Some(DtlsMode::Psk(_)) => overhead(of_tls),
            Some(DtlsMode::Resumed(cipher)) => overhead(cipher.suite),
        },
    });
    let resumed = matches!(mode, Some(DtlsMode::Resumed(_)));
    let config = announced_config(&grant, &mtu, tls13, resumed);
    let compression = Agreed {
        stream: agree(&host.compression, &connect.stream_encodings),
        datagram: agree(&host.compression, &connect.datagram_encodings).filter(|_| datagram.is_some()),
    };
    let mut announcement = announcement(host, &grant, config.clone(), &mtu, mode);
    announcement.stream_encoding = compression.stream.map(method);
    announcement.datagram_encoding = compression.datagram.map(method);
    stream.reporter().tell(&WorkerToMain::SetMtu(mtu.data));
    mark_stream(&stream, &grant, mtu.data.get());
    respond(
        &mut handshake,
        &mut stream,
        &connect_response(&connect, &announcement),
    )?;
    flush(&mut handshake, &mut stream)?;
    let line = format!("opened a tunnel on {} with MTU {}", grant.device, mtu.data.get());
    stream.reporter().log(LogLevel::Debug, &line);

    let records = handshake.into_records()?;
    let renews = tls13 && config.stream.rekey_method == RekeyMethod::Ssl;
    let state = HandOver {
        mtu: config.mtu,
        stream: config.stream,
        datagram_timers: config.datagram,
        idle_timeout: config.idle_timeout,
        session_left: config.session_left,
        protocol: Protocol::AnyConnect,
        tls: Some(TlsHandOver::new(records.sealer, records.opener)?),
        unread: records.unread,
        datagram,
        mtu_limit: mtu.link.min(MTU_MAX),
        own_rekey: if renews { grant.config.stream.rekey } else { None },
        switch_to_stream: grant.switch_to_tcp,
        net_priority: grant.net_priority,
        discover_mtu: snapshot.try_mtu_discovery,
        stream_compression: compression.stream,
        datagram_compression: compression.datagram,
        no_compress_limit: host.no_compress_limit,
        rx_per_second: grant.rx_per_second,
        tx_per_second: grant.tx_per_second,
        output_buffer: grant.output_buffer,
        report: grant.stats_report.map_or(REPORT, |time| time.min(REPORT)),
    };
    Ok(Opened {
        state,
        tcp: stream.into_socket(),
        control: None,
        carrier,
    })
}

/// Asks the broker, then main, for a tunnel.
pub(super) fn ask(
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

/// The grant as it fits this client: its MTU, its TLS version, and that nothing but a new tunnel renews
/// the keys of a resumed DTLS session.
fn announced_config(grant: &TunnelGrant, mtu: &GrantedMtu, tls13: bool, resumed: bool) -> TunnelConfig {
    let mut config = grant.config.clone();
    config.mtu = mtu.data;
    if !mtu.ipv6 {
        config.ipv6 = None;
        config.dns.retain(|server| server.is_ipv4());
        config.includes.retain(|net| matches!(net, ipnet::IpNet::V4(_)));
        config.excludes.retain(|net| matches!(net, ipnet::IpNet::V4(_)));
    }
    if resumed {
        config.datagram.rekey_method = RekeyMethod::None;
    }
    let in_place = tls13 && !resumed;
    let (method, time) = advertised_rekey(in_place, config.stream.rekey_method, config.stream.rekey);
    config.stream.rekey_method = method;
    config.stream.rekey = time;
    config
}

fn announcement(
    host: &HostSnapshot,
    grant: &TunnelGrant,
    config: TunnelConfig,
    mtu: &GrantedMtu,
    mode: Option<DtlsMode>,
) -> Announcement {
    Announcement {
        config,
        link_mtu: mtu.link,
        hostname: grant.hostname.clone(),
        session_timeout: grant.session_timeout,
        dtls: grant
            .datagram
            .as_ref()
            .zip(mode)
            .map(|(datagram, mode)| DtlsGrant {
                port: datagram.port,
                id: datagram.id,
                mode,
            }),
        stream_encoding: None,
        datagram_encoding: None,
        included_headers: host.included_headers.clone(),
        custom_headers: grant.custom_headers.clone(),
    }
}

/// Compression of the two channels.
struct Agreed {
    stream: Option<Compression>,
    datagram: Option<Compression>,
}

/// The first that the client offers.
fn agree(own: &[Compression], offered: &[Method]) -> Option<Compression> {
    own.iter()
        .copied()
        .find(|compression| offered.contains(&method(*compression)))
}

/// The method of a configured name.
pub(super) fn method(compression: Compression) -> Method {
    match compression {
        Compression::OcLz4 => Method::Lz4,
        Compression::Lzs => Method::Lzs,
    }
}

/// The suites that the priorities allow, in their order, authenticated encryption first; with `match-tls-dtls-ciphers` only the one
/// with the cipher of the TLS channel.
fn suites(priorities: &TlsPriorities, match_tls: bool, of_tls: CipherSuite) -> Vec<u16> {
    if match_tls {
        return vec![of_tls.id()];
    }
    let allowed = |cipher: &str, suite: &CipherSuite| {
        let (own, mac) = suite.cipher_and_mac();
        own == cipher && priorities.macs().any(|name| name == mac)
    };
    let mut suites: Vec<CipherSuite> = priorities
        .ciphers()
        .flat_map(|cipher| {
            CipherSuite::PSK
                .into_iter()
                .filter(move |suite| allowed(cipher, suite))
        })
        .collect();
    suites.sort_by_key(|suite| suite.cipher_and_mac().1 != "AEAD");
    suites.into_iter().map(CipherSuite::id).collect()
}

/// The suite with the cipher of the TLS channel.
fn psk_suite(negotiated: Cipher) -> CipherSuite {
    match negotiated {
        Cipher::Aes128Gcm => CipherSuite::PskAes128GcmSha256,
        Cipher::Aes256Gcm => CipherSuite::PskAes256GcmSha384,
        Cipher::ChaCha20Poly1305 => CipherSuite::PskChacha20Poly1305Sha256,
    }
}

/// What a record of the suite adds.
fn overhead(suite: CipherSuite) -> Overhead {
    match suite.cipher_and_mac() {
        ("AES-128-GCM" | "AES-256-GCM", _) => Overhead::AesGcm,
        ("CHACHA20-POLY1305", _) => Overhead::ChaCha20Poly1305,
        ("3DES-CBC", _) => Overhead::TripleDesSha1,
        (_, "SHA1") => Overhead::AesCbcSha1,
        _ => Overhead::AesCbcSha256,
    }
}

/// Marks and send buffer of the TCP socket. A system that refuses them still carries the tunnel.
pub(super) fn mark_stream(stream: &Stream, grant: &TunnelGrant, mtu: u16) {
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

fn shown(refusal: Refusal) -> ConnectRefusal {
    match refusal {
        Refusal::NotAcceptable => ConnectRefusal::CookieNotAcceptable,
        Refusal::Configuration => ConnectRefusal::Configuration,
        Refusal::Server => ConnectRefusal::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_suites_follow_the_priorities() {
        let priorities = TlsPriorities::parse("PERFORMANCE:-CHACHA20-POLY1305").unwrap();
        let by_priority = suites(&priorities, false, CipherSuite::PskAes256GcmSha384);
        let expected = [
            CipherSuite::PskAes128GcmSha256,
            CipherSuite::PskAes256GcmSha384,
            CipherSuite::PskAes128CbcSha,
            CipherSuite::PskAes256CbcSha,
        ];
        assert_eq!(by_priority, expected.map(CipherSuite::id));
        let matching = suites(&priorities, true, CipherSuite::PskAes256GcmSha384);
        assert_eq!(matching, [CipherSuite::PskAes256GcmSha384.id()]);
    }
}
