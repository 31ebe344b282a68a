//! AnyConnect, with what this server's configuration says about it: the front-end, CONNECT, and the
//! channels of a tunnel.

mod channels;

use std::sync::Arc;

use culvert_anyconnect::mtu::{GrantedMtu, Overhead, ServerMtu, server_grant};
use culvert_anyconnect::psk::{PSK_EXPORTER_LABEL, PSK_LEN};
use culvert_anyconnect::server::{
    Action, ConnectRefusal, ConnectRequest, DtlsGrant, DtlsMode, DtlsRules, FrontEndConfig, GroupOption,
    Profile, TunnelGrant as Announcement, advertised_rekey, connect_refusal, connect_response,
};
use culvert_dtls::CipherSuite;
use culvert_login::server::{self as login, AuthAnswer, ClientDescription, Demand, Granted, Link, Refusal};
use culvert_server_config::{Compression, TlsPriorities};
use culvert_tls::{Cipher, Negotiated, TlsError, Version};
use culvert_vocab::{MTU_MAX, RekeyMethod, SecretBytes, TunnelConfig};
use culvert_wire::compress::Method;
use culvert_wire::http::{Request, Response};
use sha1::{Digest, Sha1};

pub(super) use self::channels::Channels;
use self::channels::{Compressed, Dtls};
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// The requests of one connection.
pub(super) struct FrontEnd<'s> {
    requests: culvert_anyconnect::server::FrontEnd,
    snapshot: &'s Snapshot,
    host: &'s HostSnapshot,
}

impl<'s> FrontEnd<'s> {
    /// At the start of a connection; `certificate`: the client has shown one.
    pub(super) fn new(snapshot: &'s Snapshot, host: &'s HostSnapshot, certificate: bool) -> Self {
        let config = Arc::new(front_end_config(host, certificate));
        Self {
            requests: culvert_anyconnect::server::FrontEnd::new(config),
            snapshot,
            host,
        }
    }

    fn translate(&self, action: Action) -> login::Action<Opening<'s>> {
        match action {
            Action::Respond { response, close } => login::Action::Respond { response, close },
            Action::AskBroker(question) => login::Action::AskBroker(question),
            Action::OpenTunnel(connect) => login::Action::Open(Opening {
                connect,
                snapshot: self.snapshot,
                host: self.host,
            }),
            Action::CloseSilently => login::Action::CloseSilently,
        }
    }
}

impl<'s> login::FrontEnd for FrontEnd<'s> {
    type Opening = Opening<'s>;

    fn serves(&self, _target: &str) -> bool {
        true
    }

    fn handle_request(&mut self, request: Request) -> login::Action<Opening<'s>> {
        let action = self.requests.handle_request(request);
        self.translate(action)
    }

    fn handle_answer(&mut self, answer: AuthAnswer) -> login::Action<Opening<'s>> {
        let action = self.requests.handle_answer(answer);
        self.translate(action)
    }

    fn client(&self) -> ClientDescription {
        describe(self.requests.client())
    }
}

fn describe(client: &culvert_anyconnect::server::ClientInfo) -> ClientDescription {
    ClientDescription {
        user_agent: client.user_agent.clone(),
        device_type: client.device_type.clone(),
        platform: client.platform.clone(),
        computer: String::new(),
    }
}

/// A client's CONNECT.
pub(super) struct Opening<'s> {
    connect: Box<ConnectRequest>,
    snapshot: &'s Snapshot,
    host: &'s HostSnapshot,
}

impl Opening<'_> {
    fn dtls_mode(&self, of_tls: CipherSuite) -> Option<DtlsMode> {
        self.connect.choose_dtls(&DtlsRules {
            psk: self.snapshot.dtls_psk,
            legacy: self.host.dtls_legacy,
            of_tls: of_tls.cipher_and_mac(),
        })
    }
}

impl login::Opening for Opening<'_> {
    type Channels = Channels;

    fn demand(&self, tls: &Negotiated) -> Demand {
        Demand {
            session: self.connect.session.clone(),
            claims: login::Claims::default(),
            client: describe(&self.connect.client),
            hostname: self.connect.hostname.clone(),
            ipv4: self.connect.ipv4,
            ipv6: self.connect.ipv6,
            datagrams: self.dtls_mode(psk_suite(tls.cipher)).is_some(),
        }
    }

    fn refuse(&self, why: Refusal) -> Response {
        connect_refusal(match why {
            Refusal::NotAcceptable => ConnectRefusal::CookieNotAcceptable,
            Refusal::Configuration => ConnectRefusal::Configuration,
            Refusal::Internal => ConnectRefusal::Internal,
        })
    }

    fn open(self, granted: &Granted, link: Link<'_>) -> Result<login::Opened<Channels>, TlsError> {
        let of_tls = psk_suite(link.tls.cipher);
        let tls13 = link.tls.version == Version::Tls13;
        let Self { connect, host, .. } = &self;
        let mode = self.dtls_mode(of_tls).filter(|_| granted.datagram.is_some());
        let dtls = match (&granted.datagram, mode) {
            (Some(_), Some(DtlsMode::Psk(_))) => {
                let mut psk = vec![0; PSK_LEN];
                (link.export)(PSK_EXPORTER_LABEL, &mut psk)?;
                Some(Dtls::Psk {
                    psk: SecretBytes::new(psk),
                    suites: suites(&host.tls_priorities, host.match_tls_dtls_ciphers, of_tls),
                })
            }
            // No such mode is chosen without a master secret.
            (Some(datagram), Some(DtlsMode::Resumed(cipher))) => {
                connect.master_secret.clone().map(|master_secret| Dtls::Resumed {
                    version: cipher.version,
                    suite: cipher.suite.id(),
                    master_secret,
                    session_id: datagram.id,
                })
            }
            _ => None,
        };
        let mtu = server_grant(&ServerMtu {
            configured: granted.config.mtu.get(),
            client_base: connect.base_mtu,
            client_mtu: connect.mtu,
            outer_ipv6: link.ipv6,
            inner_ipv6: granted.config.ipv6.is_some(),
            overhead: match mode {
                None => Overhead::NoDatagram,
                Some(DtlsMode::Psk(_)) => overhead(of_tls),
                Some(DtlsMode::Resumed(cipher)) => overhead(cipher.suite),
            },
        });
        let resumed = matches!(mode, Some(DtlsMode::Resumed(_)));
        let config = announced_config(granted, &mtu, tls13, resumed);
        let stream = agree(&host.compression, &connect.stream_encodings);
        let datagram = agree(&host.compression, &connect.datagram_encodings).filter(|_| dtls.is_some());
        let mut announcement = announcement(host, granted, config.clone(), &mtu, mode);
        announcement.stream_encoding = stream.map(method);
        announcement.datagram_encoding = datagram.map(method);
        let renews = tls13 && config.stream.rekey_method == RekeyMethod::Ssl;
        Ok(login::Opened {
            answer: connect_response(connect, &announcement).to_bytes(),
            mtu: config.mtu,
            mtu_limit: mtu.link.min(MTU_MAX),
            stream: config.stream,
            datagram: config.datagram,
            own_rekey: granted.config.stream.rekey.filter(|_| renews),
            switch_to_stream: granted.switch_to_stream,
            channels: Channels {
                dtls,
                rehandshake: config.datagram.rekey.map(|time| time / 2),
                stream: stream.map(|method| Compressed::new(method, host.no_compress_limit)),
                datagram: datagram.map(|method| Compressed::new(method, host.no_compress_limit)),
            },
        })
    }
}

/// The grant as it fits this client: its MTU, its TLS version, and that nothing but a new tunnel renews
/// the keys of a resumed DTLS session.
fn announced_config(grant: &Granted, mtu: &GrantedMtu, tls13: bool, resumed: bool) -> TunnelConfig {
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
    grant: &Granted,
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

/// The first that the client offers.
fn agree(own: &[Compression], offered: &[Method]) -> Option<Compression> {
    own.iter()
        .copied()
        .find(|compression| offered.contains(&method(*compression)))
}

/// The method of a configured name.
fn method(compression: Compression) -> Method {
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

fn front_end_config(host: &HostSnapshot, certificate: bool) -> FrontEndConfig {
    let asked = host.client_certificates.as_ref().filter(|_| certificate);
    let login = asked.map_or(&host.login, |asked| &asked.login);
    FrontEndConfig {
        without_form: !login.form,
        http: login.http.clone(),
        http_first: login.http_first,
        form_query: host
            .camouflage
            .as_ref()
            .map(|camouflage| camouflage.secret.clone()),
        banner: host.banner.clone(),
        pre_login_banner: host.pre_login_banner.clone(),
        groups: host
            .groups
            .iter()
            .map(|(name, label)| GroupOption {
                name: name.to_string(),
                label: label.clone(),
            })
            .collect(),
        default_group: host.default_group.clone(),
        select_group_by_url: host.select_group_by_url,
        cookie_timeout: host.cookie_timeout,
        included_headers: host.included_headers.clone(),
        profile: host.profile.as_ref().map(|(file, content)| Profile {
            file: file.clone(),
            sha1: Sha1::digest(content).into(),
            content: content.clone(),
        }),
        certificate_sha1: host.certificate_sha1,
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
