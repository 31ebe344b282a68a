//! What the server changes for clients of other vendors: user agents and platforms as the real
//! client can claim them, and Cisco's telephones. The real server is the measure.

use culvert_lab::{Client, ClientOptions, Fixture, Make, Raw, Server, ServerOptions, World, probe};

use super::inner_server;

/// Headers of the answer to CONNECT that depend on the client.
const HEADERS: [&str; 10] = [
    "X-CSTP-DPD",
    "X-CSTP-Address",
    "X-CSTP-Address-IP6",
    "X-CSTP-Netmask",
    "X-CSTP-DNS",
    "X-CSTP-DNS-IP6",
    "X-CSTP-Split-Include",
    "X-CSTP-Split-Include-IP6",
    "X-DTLS-DPD",
    "X-DTLS-CipherSuite",
];

/// A client's claims, and what is special in the answer: headers that are there and that are not.
const CLAIMS: [(&[&str], &[&str], &[&str]); 6] = [
    (&[], &["X-CSTP-DNS: fd99:1::53", "X-CSTP-DPD: 20"], &["2000::/3"]),
    (
        &[
            "--os=apple-ios",
            "--useragent=Cisco AnyConnect VPN Agent for Apple iPhone 4.0",
        ],
        &[
            "X-CSTP-Split-Include-IP6: 2000::/3",
            "X-CSTP-DNS-IP6: fd99:1::53",
            "X-CSTP-DPD: 1234",
        ],
        &["X-CSTP-DNS: fd99:1::53"],
    ),
    (
        &["--os=android", "--useragent=AnyConnect Android 4.0"],
        &["X-CSTP-DNS-IP6: fd99:1::53", "X-CSTP-DPD: 1234"],
        &["2000::/3"],
    ),
    (
        &["--useragent=Cisco AnyConnect VPN Agent for Windows 4.10"],
        &["X-CSTP-DNS-IP6: fd99:1::53", "X-CSTP-DPD: 20"],
        &["2000::/3", "X-CSTP-DNS: fd99:1::53"],
    ),
    (
        &["--useragent=Clavister OneConnect VPN 1.0"],
        &["X-CSTP-DNS: fd99:1::53"],
        &["X-CSTP-DNS-IP6"],
    ),
    (
        &["--useragent=AnyLink Secure Client"],
        &["X-CSTP-DNS: fd99:1::53"],
        &["X-CSTP-DNS-IP6"],
    ),
];

/// As many of the last claims are not known to ocserv 1.1.6, which takes them for very old clients.
const NEWER: usize = 2;

/// The lines of the answers to the claims.
fn answers(make: Make) -> Vec<Vec<String>> {
    let (world, fixture) = (World::new(), Fixture::new());
    let options = ServerOptions {
        overrides: &[
            ("dns", "10.99.1.1"),
            ("dns", "fd99:1::53"),
            ("mobile-dpd", "1234"),
        ],
        ..ServerOptions::default()
    };
    let server = Server::start_with(make, &world, &fixture, &options);
    let answer = |claims: &[&str]| {
        let arguments = [claims, &["-v"]].concat();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(Make::Real, &world, &fixture, &options);
        client.process.wait_for("Established DTLS connection");
        probe::ping(&world.client, inner_server());
        if let Some((_, agent)) = claims.last().and_then(|claim| claim.split_once("--useragent=")) {
            let (_, users) = server.occtl(&["-j", "show", "users"]);
            assert!(users.contains(agent), "{users}");
        }
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        // The next one gets the same address.
        server.wait_until_alone();
        let text = client.process.stdout();
        let known = |line: &&str| {
            line.split_once(": ")
                .is_some_and(|(name, _)| HEADERS.contains(&name))
        };
        text.lines().filter(known).map(str::to_owned).collect()
    };
    CLAIMS.iter().map(|(claims, _, _)| answer(claims)).collect()
}

#[test]
fn the_answer_depends_on_the_agent_and_the_platform_as_that_of_the_real_server() {
    let (ours, theirs) = (answers(Make::Culvert), answers(Make::Real));
    let known = CLAIMS.len() - NEWER;
    assert_eq!(ours[..known], theirs[..known]);
    for ((claims, there, not_there), lines) in CLAIMS.iter().zip(&ours) {
        for header in *there {
            assert!(
                lines.iter().any(|line| line == header),
                "{claims:?}: no {header}: {lines:?}"
            );
        }
        for text in *not_there {
            assert!(
                !lines.iter().any(|line| line.contains(text)),
                "{claims:?}: {text}: {lines:?}"
            );
        }
    }
}

/// `/svc`: a name and a password for a cookie, then a tunnel with Cisco's DTLS.
#[test]
fn telephones() {
    const PHONE: &str = "Cisco SVC IPPhone Client v1.0";
    for (compatible, agent, noted) in [
        ("true", "curl", false),
        ("false", PHONE, false),
        ("false", "curl", true),
    ] {
        let (world, fixture) = (World::new(), Fixture::new());
        let options = ServerOptions {
            overrides: &[("cisco-svc-client-compat", compatible), ("dtls-legacy", "false")],
            ..ServerOptions::default()
        };
        let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        let mut phone = Raw::connect(&world, &fixture, "phone");
        let headers = format!("Host: vpn.test\r\nUser-Agent: {agent}\r\n");
        phone.send(format!("GET /svc HTTP/1.1\r\n{headers}\r\n").as_bytes());
        phone.wait_for("Set-Cookie: webvpnlogin=1; secure", 1);
        let body = "username=alice&password=wonderland+7";
        let length = format!("Content-Length: {}\r\n", body.len());
        phone.send(format!("POST /svc HTTP/1.1\r\n{headers}{length}\r\n{body}").as_bytes());
        phone.wait_for("; secure\r\n", 3);
        let answer = phone.answer();
        let cookie = answer
            .rsplit("Set-Cookie: webvpn=")
            .next()
            .and_then(|rest| rest.split(';').next())
            .unwrap();
        let note = "a login as a telephone, without cisco-svc-client-compat";
        assert_eq!(server.log().contains(note), noted, "{}", server.log());

        let cookie = format!("webvpn={cookie}");
        let user_agent = format!("--useragent={PHONE}");
        let arguments = [
            "--cookie",
            &cookie,
            "--dtls-ciphers=AES128-SHA",
            user_agent.as_str(),
        ];
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(Make::Real, &world, &fixture, &options);
        let with_dtls = compatible == "true";
        if with_dtls {
            client
                .process
                .wait_for("Ciphersuite (DTLS0.9)-(RSA)-(AES-128-CBC)-(SHA1)");
        } else {
            client.process.wait_for("DTLS disabled");
        }
        probe::ping(&world.client, inner_server());
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    }
}
