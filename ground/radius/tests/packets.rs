//! Packets against captured ones and those of RFC 2865 §7, and what replies are refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use culvert_radius::accounting::AccountedSession;
use culvert_radius::attribute::*;
use culvert_radius::reply::{self, Discarded};
use culvert_radius::{
    AccessRequest, AccountingRequest, Code, Packet, Profile, Reply, Request, RequestError, Status,
    TerminateCause,
};
use culvert_vocab::{SecretBytes, SecretString};
use data_encoding::HEXLOWER_PERMISSIVE;
use proptest::prelude::*;

const SESSION: &str = include_str!("vectors/radius-session.hex");
const CHALLENGE: &str = include_str!("vectors/radius-challenge.hex");

fn packets(file: &str) -> Vec<Vec<u8>> {
    file.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| HEXLOWER_PERMISSIVE.decode(line.as_bytes()).unwrap())
        .collect()
}

fn secret() -> SecretBytes {
    SecretBytes::new(b"testing123".to_vec())
}

fn attributes(packet: &Packet<'_>) -> Vec<(u8, Vec<u8>)> {
    packet
        .attributes()
        .map(|attribute| (attribute.kind, attribute.value.to_vec()))
        .collect()
}

/// Without what the captured packets do not have.
fn comparable(packet: &Packet<'_>) -> Vec<(u8, Vec<u8>)> {
    let ours = [MESSAGE_AUTHENTICATOR, EVENT_TIMESTAMP, CALLED_STATION_ID];
    let mut list = attributes(packet);
    list.retain(|(kind, _)| !ours.contains(kind));
    list
}

fn accept(octets: &[u8], request: &[u8]) -> Profile {
    let request = Packet::parse(request).unwrap();
    let packet = Packet::parse(octets).unwrap();
    match reply::read(&packet, Code::Access, &request.authenticator(), &secret(), false).unwrap() {
        (Reply::Accept(profile), false) => *profile,
        other => panic!("{other:?}"),
    }
}

#[test]
fn access_request_as_the_captured_one() {
    let packets = packets(SESSION);
    let captured = Packet::parse(&packets[0]).unwrap();
    let access = AccessRequest {
        user: "full".into(),
        password: "good".into(),
        nas_address: Some("10.99.1.1".parse().unwrap()),
        nas_identifier: Some("mynas".into()),
        calling_station: "10.99.1.2".parse().unwrap(),
        session: "x/+RRGatpHxaic+qpF40TVMXDuA=".into(),
        connect_info: "Open AnyConnect VPN Agent v9.01-3".into(),
        state: Vec::new(),
    };
    let sealed = Request::from(access)
        .seal(124, captured.authenticator(), &secret())
        .unwrap();
    let ours = Packet::parse(&sealed.octets).unwrap();
    assert_eq!(ours.attributes().next().unwrap().kind, MESSAGE_AUTHENTICATOR);
    let mut list = comparable(&ours);
    list.retain(|(kind, _)| *kind != ACCT_SESSION_ID);
    assert_eq!(list, attributes(&captured));
}

#[test]
fn accept_with_everything() {
    let packets = packets(SESSION);
    let profile = accept(&packets[1], &packets[0]);
    assert_eq!(profile.service_type, Some(2));
    assert_eq!(profile.ipv4, Some("10.77.5.5".parse().unwrap()));
    assert_eq!(profile.ipv4_prefix, Some(24));
    assert_eq!(profile.ipv6, Some("2001:db8::77/64".parse().unwrap()));
    let routes: Vec<String> = profile.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.55.0.0/16", "10.56.0.0/16", "2001:db8:55::/64"]);
    let dns: Vec<String> = profile.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["192.0.2.1", "192.0.2.2", "2001:db8::53"]);
    assert_eq!(profile.session_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(profile.interim_interval, Some(Duration::from_secs(5)));
    assert_eq!(profile.idle_timeout, Some(Duration::from_secs(77)));
    assert_eq!(profile.message.as_deref(), Some("Hello there"));
    assert!(profile.problems.is_empty());
    let (groups, many) = profile.groups(';', false);
    let groups: Vec<&str> = groups.iter().map(|group| group.as_str()).collect();
    assert_eq!((groups, many), (vec!["rg1", "rg2", "rg3"], false));
}

#[test]
fn challenges() {
    let packets = packets(CHALLENGE);
    for (at, text, state) in [(0, "Enter token 1", "S1"), (2, "Enter token 2", "S2")] {
        let request = Packet::parse(&packets[at]).unwrap();
        let packet = Packet::parse(&packets[at + 1]).unwrap();
        let (reply, _) =
            reply::read(&packet, Code::Access, &request.authenticator(), &secret(), false).unwrap();
        let want = Reply::Challenge {
            state: state.into(),
            message: Some(text.into()),
        };
        assert_eq!(reply, want);
    }
    let profile = accept(&packets[5], &packets[4]);
    assert_eq!(profile.groups(';', false).0[0].as_str(), "g1");
}

/// Start, Interim and Stop of the captured session.
#[test]
fn accounting_as_the_captured_one() {
    let packets = packets(SESSION);
    let session = |time, output, connected: bool| AccountedSession {
        user: "full".into(),
        id: "x/+RRGatpHxaic+qpF40TVMXDuA=".into(),
        multi_id: None,
        calling_station: "10.99.1.2".parse().unwrap(),
        called_station: "default".into(),
        connect_info: "Open AnyConnect VPN Agent v9.01-3".into(),
        ipv4: connected.then(|| "10.77.5.5".parse().unwrap()),
        ipv6: connected.then(|| "2001:db8::77".parse().unwrap()),
        classes: Vec::new(),
        time: Duration::from_secs(time),
        input: 0,
        output,
    };
    for (at, status, session) in [
        (2, Status::Start, session(0, 0, false)),
        (4, Status::Interim, session(10, 536, true)),
        (
            8,
            Status::Stop(TerminateCause::UserRequest),
            session(13, 584, true),
        ),
    ] {
        let captured = Packet::parse(&packets[at]).unwrap();
        let request = Request::from(AccountingRequest {
            status,
            session: Some(session),
            nas_identifier: Some("mynas".into()),
            nas_address: Some("10.99.1.1".parse().unwrap()),
            at: UNIX_EPOCH,
            delay: Duration::ZERO,
        });
        let sealed = request.seal(captured.identifier(), [0; 16], &secret()).unwrap();
        let ours = Packet::parse(&sealed.octets).unwrap();
        assert_eq!(comparable(&ours), attributes(&captured), "{status:?}");
        // The captured reply answers the captured request, not ours.
        let reply = Packet::parse(&packets[at + 1]).unwrap();
        let read = |authenticator| reply::read(&reply, Code::Accounting, &authenticator, &secret(), true);
        assert_eq!(read(captured.authenticator()), Ok((Reply::Acknowledged, false)));
        assert_eq!(read(ours.authenticator()), Err(Discarded::Authenticator));
    }
}

#[test]
fn counters_beyond_four_gigabytes() {
    let session = AccountedSession {
        user: "u".into(),
        id: "i".into(),
        multi_id: Some("m".into()),
        calling_station: IpAddr::from([192, 0, 2, 1]),
        called_station: "default".into(),
        connect_info: String::new(),
        ipv4: None,
        ipv6: None,
        classes: vec![b"c".to_vec()],
        time: Duration::from_secs(1),
        input: (5 << 32) + 7,
        output: u64::MAX,
    };
    let request = Request::from(AccountingRequest {
        status: Status::Interim,
        session: Some(session),
        nas_identifier: None,
        nas_address: None,
        at: UNIX_EPOCH + Duration::from_secs(1_000_000),
        delay: Duration::from_secs(90),
    });
    let sealed = request.seal(1, [0; 16], &secret()).unwrap();
    let packet = Packet::parse(&sealed.octets).unwrap();
    let number = |kind| {
        let value = packet.values(kind).next().unwrap();
        u32::from_be_bytes(value.try_into().unwrap())
    };
    assert_eq!((number(ACCT_INPUT_GIGAWORDS), number(ACCT_INPUT_OCTETS)), (5, 7));
    assert_eq!(
        (number(ACCT_OUTPUT_GIGAWORDS), number(ACCT_OUTPUT_OCTETS)),
        (u32::MAX, u32::MAX)
    );
    assert_eq!(
        (number(EVENT_TIMESTAMP), number(ACCT_DELAY_TIME)),
        (1_000_000, 90)
    );
    assert_eq!(packet.values(ACCT_MULTI_SESSION_ID).next(), Some(&b"m"[..]));
    assert_eq!(packet.values(CLASS).next(), Some(&b"c"[..]));
}

/// RFC 2865 §7.1: user nemo logs in with the password "arctangent".
#[test]
fn rfc_2865_section_7_1() {
    let secret = SecretBytes::new(b"xyzzy5461".to_vec());
    let authenticator: [u8; 16] = hex("0f403f9473978057bd83d5cb98f4227a").try_into().unwrap();
    let mut request = Request::new(Code::Access);
    request.push(USER_NAME, "nemo");
    request.push_password("arctangent".into());
    let sealed = request.seal(0, authenticator, &secret).unwrap();
    let packet = Packet::parse(&sealed.octets).unwrap();
    let hidden = packet.values(USER_PASSWORD).next().unwrap();
    assert_eq!(hidden, hex("0dbe708d93d413ce3196e43f782a0aee"));

    let accept = hex("02000026 86fe220e 7624ba2a 1005f6bf 9b55e0b2 \
         06060000 0001 0f060000 0000 0e06c0a8 0103");
    let packet = Packet::parse(&accept).unwrap();
    let (reply, _) = reply::read(&packet, Code::Access, &authenticator, &secret, false).unwrap();
    assert!(matches!(reply, Reply::Accept(profile) if profile.service_type == Some(1)));
}

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}

/// A reply as a server would make it, with a Message-Authenticator at its end if `signed`.
fn make_reply(code: u8, authenticator: [u8; 16], attributes: &[u8], signed: bool) -> Vec<u8> {
    use hmac::{Hmac, Mac as _};
    use md5::{Digest as _, Md5};
    let mut octets = vec![code, 1, 0, 0];
    octets.extend(authenticator);
    octets.extend(attributes);
    if signed {
        octets.extend([MESSAGE_AUTHENTICATOR, 18]);
        octets.extend([0; 16]);
    }
    let length = (octets.len() as u16).to_be_bytes();
    octets[2..4].copy_from_slice(&length);
    if signed {
        let mut mac = Hmac::<Md5>::new_from_slice(b"testing123").unwrap();
        mac.update(&octets);
        let at = octets.len() - 16;
        octets[at..].copy_from_slice(&mac.finalize().into_bytes());
    }
    let mut hash = Md5::new();
    hash.update(&octets);
    hash.update(b"testing123");
    octets[4..20].copy_from_slice(&hash.finalize());
    octets
}

#[test]
fn authenticators() {
    let asked = [7; 16];
    let read = |octets: &[u8], required| {
        let packet = Packet::parse(octets).unwrap();
        reply::read(&packet, Code::Access, &asked, &secret(), required).map(|(_, signed)| signed)
    };
    let class = [CLASS, 3, b'g'];
    let signed = make_reply(2, asked, &class, true);
    let unsigned = make_reply(2, asked, &class, false);
    assert_eq!(read(&signed, true), Ok(true));
    assert_eq!(read(&unsigned, false), Ok(false));
    assert_eq!(read(&unsigned, true), Err(Discarded::Unsigned));

    let forged = make_reply(2, asked, &[PROXY_STATE, 3, 0], false);
    assert_eq!(read(&forged, false), Err(Discarded::ProxyState));
    let other = make_reply(2, [8; 16], &class, true);
    assert_eq!(read(&other, false), Err(Discarded::Authenticator));
    let wrong_code = make_reply(5, asked, &[], true);
    assert_eq!(read(&wrong_code, false), Err(Discarded::Code(5)));

    // Signed twice, cut short, or over other octets.
    let fake = [&[MESSAGE_AUTHENTICATOR, 18][..], &[0; 16]].concat();
    for attributes in [&fake[..], &[MESSAGE_AUTHENTICATOR, 3, 0]] {
        let octets = make_reply(2, asked, attributes, attributes.len() < 10);
        assert_eq!(read(&octets, false), Err(Discarded::MessageAuthenticator));
    }
    for at in 0..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        if let Ok(packet) = Packet::parse(&changed) {
            let read = reply::read(&packet, Code::Access, &asked, &secret(), false);
            // The identifier is compared by whoever knows the request.
            assert!(read.is_err(), "octet {at}");
        }
    }
}

#[test]
fn passwords() {
    let seal = |password: &str| {
        let mut request = Request::new(Code::Access);
        request.push_password(SecretString::from(password));
        request.seal(1, [1; 16], &secret()).map(|sealed| {
            let packet = Packet::parse(&sealed.octets).unwrap();
            packet.values(USER_PASSWORD).next().unwrap().len()
        })
    };
    assert_eq!(seal(""), Ok(16));
    assert_eq!(seal(&"x".repeat(16)), Ok(16));
    assert_eq!(seal(&"x".repeat(17)), Ok(32));
    assert_eq!(seal(&"x".repeat(128)), Ok(128));
    assert_eq!(seal(&"x".repeat(129)), Err(RequestError::PasswordTooLong));
    let mut request = Request::new(Code::Access);
    request.push(STATE, vec![0; 254]);
    assert_eq!(
        request.seal(1, [1; 16], &secret()).err(),
        Some(RequestError::ValueTooLong(STATE))
    );
    let mut request = Request::new(Code::Access);
    (0..17).for_each(|_| request.push(STATE, vec![0; 253]));
    assert_eq!(
        request.seal(1, [1; 16], &secret()).err(),
        Some(RequestError::TooLong)
    );
}

fn profile_of(attributes: &[u8]) -> Profile {
    let octets = make_reply(2, [7; 16], attributes, true);
    let packet = Packet::parse(&octets).unwrap();
    match reply::read(&packet, Code::Access, &[7; 16], &secret(), true) {
        Ok((Reply::Accept(profile), true)) => *profile,
        other => panic!("{other:?}"),
    }
}

#[test]
fn attributes_of_a_wrong_form() {
    for (attribute, what) in [
        (
            &[FRAMED_IP_ADDRESS, 5, 10, 0, 0][..],
            "three octets of an address",
        ),
        (&[SESSION_TIMEOUT, 2], "an empty number"),
        (&[SESSION_TIMEOUT, 7, 0, 0, 0, 0, 1], "a number of five octets"),
        (&[FRAMED_IP_NETMASK, 6, 255, 0, 255, 0], "a mask with a hole"),
        (
            &[FRAMED_IPV6_ADDRESS, 4, 0x20, 1],
            "two octets of an IPv6 address",
        ),
        (&[FRAMED_IPV6_PREFIX, 4, 0, 64], "a prefix without its octets"),
        (&[FRAMED_IPV6_PREFIX, 4, 0, 129], "a prefix beyond 128"),
        (
            &[FRAMED_ROUTE, 8, b'a', b'/', b'1', b'6', b' ', b'x'],
            "a route to a name",
        ),
        (
            &[FRAMED_ROUTE, 7, b'1', b'/', 0xff, b'6', b' '],
            "a route that is no text",
        ),
        (&[VENDOR_SPECIFIC, 5, 0, 0, 1], "a vendor of three octets"),
        (
            &[VENDOR_SPECIFIC, 10, 0, 0, 1, 55, 28, 4, 1, 2],
            "a DNS server of two octets",
        ),
    ] {
        assert_eq!(profile_of(attribute).problems.len(), 1, "{what}");
    }
    let wrong_service = profile_of(&[SERVICE_TYPE, 3, 2]);
    assert_eq!(wrong_service.service_type, Some(0));
    // Ignored, as ever: a vendor's own format, a route without a length.
    for attribute in [
        &[VENDOR_SPECIFIC, 8, 0, 0, 0, 9, 1, 99][..],
        &[FRAMED_ROUTE, 6, b'h', b'o', b's', b't'],
    ] {
        assert!(profile_of(attribute).problems.is_empty());
    }
    let masked = profile_of(&[&[FRAMED_ROUTE, 24][..], b"10.5.1.0/255.255.0.0 1"].concat());
    assert_eq!(masked.routes, ["10.5.0.0/16".parse().unwrap()]);
    for pool in [255, 254] {
        assert_eq!(
            profile_of(&[FRAMED_IP_ADDRESS, 6, 255, 255, 255, pool]).ipv4,
            None
        );
    }
}

#[test]
fn groups() {
    let class = |text: &str| {
        let mut attribute = vec![CLASS, text.len() as u8 + 2];
        attribute.extend(text.as_bytes());
        attribute
    };
    let names = |text: &str, separator| {
        let (groups, _) = profile_of(&class(text)).groups(separator, false);
        groups.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("OU=a;b,c", ';'), ["a", "b,c"]);
    assert_eq!(names("OU=a;b,c", ','), ["a;b", "c"]);
    assert_eq!(names("staff;x", ';'), ["staff;x"]);
    assert_eq!(names("OU=;a;", ';'), ["a"]);
    assert_eq!(names("OU=", ';'), Vec::<String>::new());
    assert_eq!(names("\u{1}", ';'), Vec::<String>::new());

    let filter = [class("staff"), vec![FILTER_ID, 5, b'v', b'p', b'n']].concat();
    let groups = |filter_id| profile_of(&filter).groups(';', filter_id).0.len();
    assert_eq!((groups(false), groups(true)), (1, 2));

    let full = class(&format!("OU={}", ["g"; 100].join(";")));
    let (groups, many) = profile_of(&full.repeat(6)).groups(';', false);
    assert_eq!((groups.len(), many), (512, true));
}

proptest! {
    #[test]
    fn accepts_never_panic(attributes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let octets = make_reply(2, [7; 16], &attributes, true);
        if let Ok(packet) = Packet::parse(&octets)
            && let Ok((Reply::Accept(profile), _)) = reply::read(&packet, Code::Access, &[7; 16], &secret(), false)
        {
            profile.groups(';', true);
        }
    }

    /// What is hidden can be found again by who knows the secret.
    #[test]
    fn passwords_are_hidden(password in "\\PC{0,40}", random: [u8; 16]) {
        use md5::{Digest as _, Md5};
        prop_assume!(password.len() <= 128);
        let mut request = Request::new(Code::Access);
        request.push_password(password.as_str().into());
        let sealed = request.seal(1, random, &secret()).unwrap();
        let packet = Packet::parse(&sealed.octets).unwrap();
        let hidden = packet.values(USER_PASSWORD).next().unwrap();
        let mut before = random.to_vec();
        let mut found = Vec::new();
        for block in hidden.chunks(16) {
            let mask = Md5::digest([&b"testing123"[..], &before].concat());
            found.extend(mask.iter().zip(block).map(|(a, b)| a ^ b));
            before = block.to_vec();
        }
        found.truncate(password.len());
        prop_assert_eq!(found, password.as_bytes());
    }
}
