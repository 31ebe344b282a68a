//! CONNECT responses of ocserv 1.5 for five kinds of client: ours must be the same, and the
//! client must read them right. CONNECT requests of openconnect are compared, too.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use culvert_anyconnect::client::{
    ConnectError, ConnectOptions, DtlsMode, DtlsRequest, Platform, StrapProof, parse_connect_response,
};
use culvert_anyconnect::dtls::OfferedCiphers;
use culvert_anyconnect::mtu::{Overhead, RequestedMtu, ServerMtu, server_grant};
use culvert_anyconnect::server::{
    Action, ConnectRequest, DtlsGrant, DtlsRules, FrontEnd, FrontEndConfig, TunnelGrant, connect_response,
};
use culvert_dtls::{CipherSuite, Version};
use culvert_vocab::{AddressV4, AddressV6, RekeyMethod, SecretBytes, SessionId, Timers, TunnelConfig};
use culvert_wire::compress::Method;
use culvert_wire::http::{Request, Response, ResponseReader};
use culvert_wire::url::ServerUrl;
use proptest::prelude::*;

const RESPONSES: &str = include_str!("vectors/connect-ocserv15.txt");
const OCSERV_1_1_6: &str = include_str!("vectors/http-oc901-ocserv116.txt");
const OCSERV_1_5: &str = include_str!("vectors/http-oc921-ocserv15.txt");

const APP_ID: &str = "d531e87f645b6907f075695907bf77c3364670024cb889bdb7b4d9b6e3d9eabf";

fn captured(section: &str) -> String {
    let text = RESPONSES
        .split("### ")
        .find(|part| part.starts_with(section))
        .expect("section");
    let (_, response) = text.split_once('\n').expect("heading");
    format!("{}\r\n\r\n", response.trim_end().replace('\n', "\r\n"))
}

fn read(text: &str) -> Response {
    ResponseReader::new("CONNECT")
        .handle_input(text.as_bytes())
        .expect("a response")
        .expect("complete")
}

/// The request that the headers describe, as the front-end reads it.
fn connect(headers: &[(&str, &str)]) -> ConnectRequest {
    let mut request = Request::new("CONNECT", "/CSCOSSLC/tunnel");
    request.headers.push(
        "Cookie",
        format!("webvpn={}", SessionId::from_bytes([3; 32]).to_cookie().expose()),
    );
    for (name, value) in headers {
        request.headers.push(*name, *value);
    }
    match FrontEnd::new(Arc::new(FrontEndConfig::default())).handle_request(request) {
        Action::OpenTunnel(request) => *request,
        other => panic!("{other:?}"),
    }
}

const USUAL: [(&str, &str); 5] = [
    ("X-CSTP-Version", "1"),
    ("X-CSTP-Hostname", "testhost.example"),
    ("X-CSTP-Base-MTU", "1500"),
    ("X-CSTP-Address-Type", "IPv6,IPv4"),
    ("X-CSTP-Full-IPv6-Capability", "true"),
];

/// The configuration that the capture names, for the client that `request` describes.
fn grant(request: &ConnectRequest, ipv4: &str, ipv6: &str) -> TunnelGrant {
    let mtu = server_grant(&ServerMtu {
        configured: 1420,
        client_base: request.base_mtu,
        client_mtu: request.mtu,
        outer_ipv6: false,
        inner_ipv6: request.ipv6,
        overhead: if request.ciphers.dtls.is_some() {
            Overhead::AesGcm
        } else {
            Overhead::NoDatagram
        },
    });
    let seconds = Duration::from_secs;
    let mut config = TunnelConfig::new(mtu.data);
    config.ipv4 = Some(AddressV4 {
        address: ipv4.parse().unwrap(),
        netmask: Some("255.255.255.0".parse().unwrap()),
    });
    config.ipv6 = request.ipv6.then(|| AddressV6 {
        address: ipv6.parse().unwrap(),
        prefix_len: 128,
    });
    config.dns = ["192.168.77.53", "fd77::53"]
        .map(|server| server.parse().unwrap())
        .to_vec();
    config.nbns = vec!["192.168.77.54".parse().unwrap()];
    config.search_domains = vec!["example.test".into()];
    config.split_dns = vec!["corp.example".into()];
    config.tunnel_all_dns = true;
    config.client_bypass_protocol = true;
    config.includes = ["10.10.10.0/24", "fd88::/32", "10.20.0.0/16"]
        .map(|route| route.parse().unwrap())
        .to_vec();
    config.excludes = ["10.10.10.128/25", "fd88:1::/48"]
        .map(|route| route.parse().unwrap())
        .to_vec();
    config.proxy_pac = Some("http://example.test/test/groupA".into());
    config.banner = Some("Welcome <b>".into());
    config.stream = Timers {
        dpd: Some(seconds(if request.client.mobile { 1800 } else { 30 })),
        keepalive: Some(seconds(60)),
        rekey: Some(seconds(31_536_000)),
        rekey_method: RekeyMethod::Ssl,
    };
    config.datagram = Timers {
        rekey: Some(seconds(172_815)),
        ..config.stream
    };
    config.idle_timeout = Some(seconds(if request.client.mobile { 2400 } else { 1200 }));
    config.session_left = Some(seconds(3600));
    let mode = request.choose_dtls(&DtlsRules {
        psk: true,
        legacy: true,
        of_tls: ("AES-256-GCM", "AEAD"),
    });
    let app_id = data_encoding::HEXLOWER.decode(APP_ID.as_bytes()).unwrap();
    TunnelGrant {
        config,
        link_mtu: mtu.link,
        hostname: request.hostname.clone(),
        session_timeout: Some(seconds(3600)),
        dtls: mode.map(|mode| DtlsGrant {
            port: 443,
            id: app_id.try_into().unwrap(),
            mode,
        }),
        stream_encoding: request.stream_encodings.first().copied(),
        datagram_encoding: request.datagram_encodings.first().copied(),
        included_headers: Vec::new(),
        custom_headers: vec!["X-My-Header: hi test".into()],
    }
}

fn answer(request: &ConnectRequest, ipv4: &str, ipv6: &str) -> String {
    String::from_utf8(connect_response(request, &grant(request, ipv4, ipv6)).to_bytes()).unwrap()
}

const FIRST: (&str, &str) = ("192.168.77.190", "fd77::1950:2c2b:bd9d:6cef");
const SECOND: (&str, &str) = ("192.168.77.76", "fd77::c44b:cdf0:a15e:160d");

#[test]
fn openconnect() {
    let mut headers = USUAL.to_vec();
    headers.extend([
        ("User-Agent", "AnyConnect-compatible OpenConnect VPN Agent v9.21"),
        ("X-CSTP-Accept-Encoding", "oc-lz4,lzs"),
        ("X-DTLS-Accept-Encoding", "lzs"),
        ("X-DTLS-CipherSuite", "PSK-NEGOTIATE"),
    ]);
    assert_eq!(
        answer(&connect(&headers), FIRST.0, FIRST.1),
        captured("v6 openconnect UA")
    );
}

#[test]
fn anyconnect() {
    let mut headers = USUAL.to_vec();
    headers.extend([
        ("User-Agent", "Cisco AnyConnect VPN Agent for Windows 4.10"),
        ("X-CSTP-Accept-Encoding", "lzs"),
        ("X-DTLS-Accept-Encoding", "oc-lz4"),
    ]);
    assert_eq!(
        answer(&connect(&headers), SECOND.0, SECOND.1),
        captured("AnyConnect UA")
    );
}

#[test]
fn ios() {
    let mut headers = USUAL.to_vec();
    headers.extend([
        ("User-Agent", "Cisco AnyConnect VPN Agent for Apple iPhone"),
        ("X-AnyConnect-Identifier-Platform", "apple-ios"),
        ("X-AnyConnect-Identifier-DeviceType", "iPhone"),
    ]);
    assert_eq!(answer(&connect(&headers), FIRST.0, FIRST.1), captured("iOS UA"));
}

#[test]
fn minimal_headers() {
    assert_eq!(
        answer(&connect(&[]), SECOND.0, SECOND.1),
        captured("minimal headers")
    );
}

#[test]
fn old_client() {
    let request = connect(&[("X-CSTP-MTU", "1300"), ("X-CSTP-Address-Type", "IPv4")]);
    assert_eq!(
        answer(&request, FIRST.0, FIRST.1),
        captured("old client MTU hdr only")
    );
}

#[test]
fn a_default_route_sends_no_routes_and_all_dns() {
    let request = connect(&USUAL);
    let mut grant = grant(&request, FIRST.0, FIRST.1);
    grant.config.includes.clear();
    grant.config.tunnel_all_dns = false;
    grant.session_timeout = None;
    let response = connect_response(&request, &grant);
    assert_eq!(response.headers.get("X-CSTP-Split-Include"), None);
    assert_eq!(response.headers.get("X-CSTP-Tunnel-All-DNS"), Some("true"));
    assert_eq!(response.headers.get("X-CSTP-Session-Timeout"), Some("none"));
    assert_eq!(response.headers.get("X-CSTP-Session-Timeout-Remaining"), None);
}

#[test]
fn configured_text_cannot_add_lines() {
    let request = connect(&USUAL);
    let mut grant = grant(&request, FIRST.0, FIRST.1);
    grant.config.banner = Some("a\r\nX-CSTP-MTU: 1\r\n\r\nSTF".into());
    grant.custom_headers = vec!["X-A: b\r\nX-CSTP-Address: 1.1.1.1".into()];
    let read_back = parse_connect_response(&connect_response(&request, &grant)).unwrap();
    assert_eq!(read_back.config.mtu.get(), 1392);
    assert_eq!(read_back.config.ipv4.unwrap().address.to_string(), FIRST.0);
}

#[test]
fn the_client_reads_what_the_server_meant() {
    let request = connect(&[USUAL.as_slice(), &[("X-DTLS-CipherSuite", "PSK-NEGOTIATE")]].concat());
    let sent = grant(&request, FIRST.0, FIRST.1);
    let connected = parse_connect_response(&read(&captured("v6 openconnect UA"))).unwrap();
    let mut config = connected.config.clone();
    let lines = captured("v6 openconnect UA");
    assert_eq!(config.options.len(), lines.matches("\nX-CSTP-").count());
    assert_eq!(config.options[0], ("X-CSTP-Version".into(), "1".into()));
    config.options.clear();
    assert_eq!(config, sent.config);
    let dtls = connected.dtls.unwrap();
    assert_eq!(
        (dtls.port, data_encoding::HEXLOWER.encode(&dtls.id).as_str()),
        (443, APP_ID)
    );
    assert_eq!(connected.base_mtu, Some(1420));
    assert_eq!(
        (connected.stream_encoding, connected.datagram_encoding),
        (Some(Method::Lz4), Some(Method::Lzs))
    );
    assert!(connected.notes.is_empty());

    let minimal = parse_connect_response(&read(&captured("minimal headers"))).unwrap();
    assert_eq!(
        minimal.config.ipv6.unwrap(),
        AddressV6 {
            address: SECOND.1.parse().unwrap(),
            prefix_len: 128
        }
    );
    assert_eq!(minimal.dtls, Err("No DTLS address".into()));
}

#[test]
fn real_responses_of_both_servers() {
    for (capture, mtu) in [(OCSERV_1_1_6, 1434), (OCSERV_1_5, 1354)] {
        let exchange = common::prefixed(capture).pop().unwrap();
        let connected = parse_connect_response(&exchange.response).unwrap();
        assert_eq!(connected.config.mtu.get(), mtu);
        assert!(connected.dtls.is_ok());
    }
}

#[test]
fn our_connect_request_is_that_of_openconnect() {
    let exchange = common::prefixed(OCSERV_1_5).pop().unwrap();
    let header = |name: &str| exchange.request.headers.get(name).unwrap().to_owned();
    let request = ConnectOptions {
        server: ServerUrl::parse("10.99.0.1").unwrap(),
        user_agent: header("User-Agent"),
        version: "v9.21-unknown".into(),
        cookie: header("Cookie").trim_start_matches("webvpn=").into(),
        hostname: "vm".into(),
        strap: Some(StrapProof {
            verify: header("X-AnyConnect-STRAP-Verify"),
            public_key: header("X-AnyConnect-STRAP-Pubkey"),
        }),
        platform: Platform::new("linux-64").unwrap(),
        stream_encodings: vec![Method::Lz4, Method::Lzs],
        mtu: RequestedMtu {
            base: 1500,
            mtu: 1390,
        },
        ipv6: true,
        previous_ipv4: None,
        previous_ipv6: None,
        dtls: Some(DtlsRequest {
            master_secret: SecretBytes::new(
                data_encoding::HEXUPPER
                    .decode(header("X-DTLS-Master-Secret").as_bytes())
                    .unwrap(),
            ),
            ciphers: OfferedCiphers::usual(false, false),
            encodings: vec![Method::Lz4, Method::Lzs],
        }),
    }
    .to_request();
    assert_eq!(
        request.headers.iter().collect::<Vec<_>>(),
        exchange.request.headers.iter().collect::<Vec<_>>()
    );
}

fn response(headers: &[(&str, &str)]) -> Response {
    let mut response = Response::new(200, "CONNECTED");
    response.headers = headers.iter().copied().collect();
    response
}

#[test]
fn resumed_sessions() {
    let secret = "0f".repeat(48);
    let mut headers = USUAL.to_vec();
    headers.extend([
        ("X-DTLS-Master-Secret", secret.as_str()),
        ("X-DTLS-CipherSuite", "AES256-SHA:AES128-SHA"),
    ]);
    let old = connect(&headers);
    headers.push(("X-DTLS12-CipherSuite", "AES128-SHA:AES128-GCM-SHA256"));
    let newer = connect(&headers);
    for (request, header, name, suite, version) in [
        (
            old,
            "X-DTLS-CipherSuite",
            "AES256-SHA",
            CipherSuite::RsaAes256CbcSha,
            Version::Dtls09,
        ),
        (
            newer,
            "X-DTLS12-CipherSuite",
            "AES128-GCM-SHA256",
            CipherSuite::RsaAes128GcmSha256,
            Version::Dtls12,
        ),
    ] {
        let response = connect_response(&request, &grant(&request, FIRST.0, FIRST.1));
        assert_eq!(response.headers.get(header), Some(name));
        assert_eq!(response.headers.get("X-DTLS-Session-ID"), Some(APP_ID));
        assert_eq!(response.headers.get("X-DTLS-App-ID"), None);
        assert_eq!(
            response.headers.get("X-DTLS-MTU"),
            response.headers.get("X-CSTP-MTU")
        );
        let dtls = parse_connect_response(&response).unwrap().dtls.unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&dtls.id), APP_ID);
        let DtlsMode::Resumed(cipher) = dtls.mode else {
            panic!("{:?}", dtls.mode);
        };
        assert_eq!((cipher.suite, cipher.version), (suite, version));
    }
    // The header decides about the version, and the larger MTU counts.
    let headers = [
        ("X-CSTP-Address", "10.0.0.1"),
        ("X-CSTP-MTU", "1300"),
        ("X-DTLS-Port", "443"),
        ("X-DTLS-Session-ID", APP_ID),
        ("X-DTLS12-CipherSuite", "AES128-SHA"),
        ("X-DTLS-MTU", "1350"),
    ];
    let connected = parse_connect_response(&response(&headers)).unwrap();
    assert_eq!(connected.config.mtu.get(), 1350);
    let mode = connected.dtls.map(|dtls| dtls.mode);
    assert!(matches!(mode, Ok(DtlsMode::Resumed(cipher)) if cipher.version == Version::Dtls12));
}

#[test]
fn refusals() {
    let parse = |text: &str| parse_connect_response(&read(text)).unwrap_err();
    let rejected = parse("HTTP/1.1 401 Cookie is not acceptable\r\n\r\n");
    assert!(rejected.is_permission());
    assert_eq!(
        parse("HTTP/1.1 503 Service Unavailable\r\nX-Reason: Server error\r\n\r\n").to_string(),
        "VPN service unavailable; reason: Server error"
    );
    assert_eq!(
        parse("HTTP/1.1 503 Service Unavailable\r\n\r\n").to_string(),
        "VPN service unavailable; reason: <unknown>"
    );
    assert!(matches!(
        parse("HTTP/1.1 404 Not found\r\n\r\n"),
        ConnectError::Status(_)
    ));
    assert!(matches!(
        parse("HTTP/1.0 200 OK\r\n\r\n"),
        ConnectError::Status(_)
    ));
}

#[test]
fn hostile_headers() {
    let parse = |headers: &[(&str, &str)]| parse_connect_response(&response(headers));
    let address = ("X-CSTP-Address", "10.0.0.1");
    let mtu = ("X-CSTP-MTU", "1400");
    for bad in ["0", "-1", "", "x", "99999999999999999999999"] {
        assert_eq!(
            parse(&[address, ("X-CSTP-MTU", bad)]),
            Err(ConnectError::NoMtu),
            "{bad}"
        );
    }
    assert_eq!(parse(&[mtu]), Err(ConnectError::NoAddress));
    assert_eq!(
        parse(&[mtu, ("X-CSTP-Address", "10.0.0.256")]),
        Err(ConnectError::NoAddress)
    );
    for bad in ["", "abc", "zz", &"00".repeat(33)] {
        assert_eq!(
            parse(&[address, mtu, ("X-DTLS-App-ID", bad)]),
            Err(ConnectError::AppId),
            "{bad}"
        );
    }
    for bad in ["", "abc", &"zz".repeat(32), &"00".repeat(31), &"00".repeat(33)] {
        assert_eq!(
            parse(&[address, mtu, ("X-DTLS-Session-ID", bad)]),
            Err(ConnectError::DtlsSessionId(bad.into())),
        );
    }
    let unknown = parse(&[address, mtu, ("X-CSTP-Content-Encoding", "deflate")]);
    assert!(matches!(unknown, Err(ConnectError::Encoding { .. })));

    let odd = parse(&[
        address,
        ("X-CSTP-MTU", "65535"),
        ("x-cstp-mtu", "10"),
        ("X-CSTP-Banner", "a\u{1b}[2Jb"),
        ("X-CSTP-Split-Include", "10.1.2.3/24"),
        ("X-CSTP-Split-Include", "nonsense"),
        ("X-CSTP-DNS", "evil.example"),
        ("X-CSTP-Session-Timeout", "100"),
        ("X-CSTP-Session-Timeout-Remaining", "50"),
        ("X-CSTP-Lease-Duration", "0"),
        ("X-CSTP-DPD", "-5"),
        ("X-CSTP-Rekey-Time", "0"),
        ("X-CSTP-Rekey-Method", "ssl"),
        ("X-DTLS-CipherSuite", "AES129-SHA"),
        ("X-DTLS-Port", "443"),
    ])
    .unwrap();
    assert_eq!(odd.config.mtu.get(), culvert_vocab::MTU_MAX);
    assert_eq!(odd.config.banner.as_deref(), Some("a?[2Jb"));
    assert_eq!(odd.config.session_left, Some(Duration::from_secs(50)));
    assert_eq!(odd.config.stream, Timers::default());
    let why = odd.dtls.unwrap_err();
    assert_eq!(
        why,
        "No DTLS: the server chose cipher AES129-SHA, which is not available"
    );
    assert_eq!(odd.notes.len(), 3);
    assert_eq!(
        odd.notes[0],
        "WARNING: Split include \"10.1.2.3/24\" has host bits set, replacing with \"10.1.2.0/24\"."
    );
}

proptest! {
    #[test]
    fn never_panics(headers in prop::collection::vec(
        ("X-(CSTP|DTLS|DTLS12)-(Address|Netmask|Address-IP6|MTU|DNS|Split-Include|Rekey-Time|App-ID|Session-ID|CipherSuite|Port|Banner|Base-MTU)", "[0-9a-f.:/ -]{0,24}"),
        0..12,
    )) {
        let mut response = Response::new(200, "CONNECTED");
        response.headers = headers.into_iter().collect();
        let _ = parse_connect_response(&response);
    }
}
