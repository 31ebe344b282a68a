//! Requests that no client sends, and frames in the tunnel that no client sends.

use culvert_lab::{Make, PASSWORD, Raw};

use crate::Scene;

/// How a connection ends.
enum Gets {
    /// Nothing but a close.
    Silence,
    /// An answer that begins so, then a close.
    Answer(&'static str),
}
use Gets::{Answer, Silence};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: vpn.test\r\n\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /auth HTTP/1.1\r\nHost: vpn.test\r\n{headers}\r\n{body}")
}

/// What both servers answer.
fn answered_requests() -> Vec<(&'static str, String, Gets)> {
    vec![
        (
            "HTTP/1.0",
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            Answer("HTTP/1.0 200 OK\r\n"),
        ),
        (
            "an unknown method",
            "PUT / HTTP/1.1\r\nHost: vpn.test\r\n\r\n".to_owned(),
            Answer("HTTP/1.1 404 Not found\r\n"),
        ),
        (
            "an unknown page",
            get("/../../etc/passwd"),
            Answer("HTTP/1.1 404 Not found\r\n"),
        ),
        (
            "a tunnel without a cookie",
            "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn.test\r\n\r\n".to_owned(),
            Answer("HTTP/1.1 503 Service Unavailable\r\n"),
        ),
    ]
}

/// What is too much, or is no request. (The real server leaves some of these connections open.)
fn oversized_requests() -> Vec<(&'static str, String, Gets)> {
    vec![
        (
            "a target of 256 octets",
            get(&format!("/{}", "x".repeat(255))),
            Silence,
        ),
        (
            "headers of more than 16384 octets",
            format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "y".repeat(17000)),
            Silence,
        ),
        (
            "headers without end",
            format!("GET / HTTP/1.1\r\n{}", "X-Many: z\r\n".repeat(20_000)),
            Silence,
        ),
        (
            "a body of a megabyte",
            post("Content-Length: 1048576\r\n", &"a".repeat(1 << 20)),
            Silence,
        ),
        ("pipelined requests", get("/") + &get("/"), Silence),
        (
            "bare line feeds",
            "GET / HTTP/1.1\nHost: vpn.test\n\n".to_owned(),
            Silence,
        ),
        (
            "no HTTP at all",
            "\0\u{1}\u{2}nonsense\r\n\r\n".to_owned(),
            Silence,
        ),
    ]
}

/// What could mean different things to different readers, and bodies that are no login.
fn ambiguous_requests() -> Vec<(&'static str, String, Gets)> {
    let refused = "HTTP/1.1 401 Authentication failed\r\n";
    let form = |body: &str| post(&format!("Content-Length: {}\r\n", body.len()), body);
    vec![
        (
            "two lengths",
            post("Content-Length: 3\r\nContent-Length: 5\r\n", "a=b&c"),
            Silence,
        ),
        (
            "a length and chunks",
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            Silence,
        ),
        ("a negative length", post("Content-Length: -1\r\n", ""), Silence),
        (
            "a chunk without an end",
            post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n"),
            Silence,
        ),
        (
            "a document that is none",
            form("<?xml version=\"1.0\"?><"),
            Answer(refused),
        ),
        (
            "a document nested too deeply",
            form(&format!("<?xml version=\"1.0\"?>{}", "<a>".repeat(2000))),
            Answer(refused),
        ),
        (
            "a form with a broken escape",
            form("username=%zz&password=x"),
            Answer(refused),
        ),
        (
            "a user name of a kilobyte",
            form(&format!("username={}&password=x", "u".repeat(1025))),
            Answer(refused),
        ),
    ]
}

fn bad_requests(server: Make, requests: Vec<(&'static str, String, Gets)>) {
    let mut scene = Scene::new(server);
    for (name, request, gets) in requests {
        let mut raw = Raw::connect(&scene.world, &scene.fixture, name);
        raw.send(request.as_bytes());
        let answer = raw.closed();
        match gets {
            Silence => assert_eq!(answer, "", "{name}\n{}", scene.server.log()),
            Answer(start) => assert!(
                answer.starts_with(start),
                "{name}: {answer}\n{}",
                scene.server.log()
            ),
        }
    }
    scene.is_undisturbed();
}

#[test]
fn odd_requests_to_the_real_server() {
    bad_requests(Make::Real, answered_requests());
}

#[test]
fn odd_requests_to_our_server() {
    bad_requests(Make::Culvert, answered_requests());
}

#[test]
fn oversized_requests_to_our_server() {
    bad_requests(Make::Culvert, oversized_requests());
}

#[test]
fn ambiguous_requests_to_our_server() {
    bad_requests(Make::Culvert, ambiguous_requests());
}

/// TCP segments with data that the server has sent on this connection, repetitions apart.
fn sent_segments(scene: &Scene, raw: &Raw) -> u64 {
    let port = format!(":{}", raw.local_port(&scene.world));
    let filter = ["-tinH", "state", "established", "dport", "=", &port];
    let text = scene.world.server.run("ss", &filter);
    let value = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        rest.split(|octet: char| !octet.is_ascii_digit() && octet != '/')
            .next()?
            .rsplit('/')
            .next()?
            .parse::<u64>()
            .ok()
    };
    value("data_segs_out:").unwrap_or_else(|| panic!("{text}")) - value(" retrans:").unwrap_or(0)
}

fn seventeenth_request(server: Make) {
    let mut scene = Scene::new(server);
    let mut raw = Raw::connect(&scene.world, &scene.fixture, "seventeen");
    let mut segments = Vec::new();
    for count in 1..=16 {
        raw.send(get("/").as_bytes());
        raw.wait_for("HTTP/1.1 200 OK", count);
        raw.wait_for("</config-auth>", count);
        if server == Make::Culvert {
            segments.push(sent_segments(&scene, &raw));
        }
    }
    if server == Make::Culvert {
        let each: Vec<u64> = segments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(each, [1; 15], "one write for each answer");
    }
    raw.send(get("/").as_bytes());
    assert_eq!(raw.closed().matches("HTTP/1.1").count(), 16);
    scene.is_undisturbed();
}

#[test]
fn the_real_server_closes_at_the_seventeenth_request() {
    seventeenth_request(Make::Real);
}

#[test]
fn our_server_closes_at_the_seventeenth_request() {
    seventeenth_request(Make::Culvert);
}

/// Half a request, half a handshake, no TLS at all: whoever leaves is forgotten.
#[test]
fn our_server_forgets_connections_that_end_in_the_middle() {
    let mut scene = Scene::new(Make::Culvert);
    let mut raw = Raw::connect(&scene.world, &scene.fixture, "half");
    raw.send(b"POST /auth HTTP/1.1\r\nContent-Length: 100\r\n\r\nusername=b");
    drop(raw);
    for script in [
        "exec 3<>/dev/tcp/192.0.2.1/443; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3 >/dev/null 2>&1; true",
        "exec 3<>/dev/tcp/192.0.2.1/443; printf '\\x16\\x03\\x01\\x02\\x00\\x01' >&3",
        "exec 3<>/dev/tcp/192.0.2.1/443",
    ] {
        scene.world.client.run("bash", &["-c", script]);
    }
    scene.is_undisturbed();
}

/// Frames of a tunnel over TLS: unknown types are ignored, what is no frame ends the connection,
/// with a disconnect frame, and not the session. (The real server also ends it when frames share a TLS record.)
#[test]
fn junk_in_a_tunnel_to_our_server() {
    let mut scene = Scene::new(Make::Culvert);
    let login = scene.login(Make::Real, &["--cookieonly"], PASSWORD);
    let cookie = login.stdout.trim().rsplit("webvpn=").next().unwrap().to_owned();
    let connect = format!(
        "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn.test\r\nUser-Agent: Open AnyConnect VPN Agent v9.01-3\r\n\
         Cookie: webvpn={cookie}\r\nX-CSTP-Version: 1\r\nX-CSTP-Hostname: junk\r\nX-CSTP-Address-Type: IPv4\r\n\
         X-CSTP-Base-MTU: 1500\r\n\r\n"
    );
    let frame = |kind: u8, payload: &[u8]| {
        let length = (payload.len() as u16).to_be_bytes();
        [&[b'S', b'T', b'F', 1, length[0], length[1], kind, 0], payload].concat()
    };
    for (name, junk) in [
        ("no frame", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("the wrong last octet", [b'S', b'T', b'F', 1, 0, 0, 3, 9].to_vec()),
        ("the wrong version", [b'S', b'T', b'F', 2, 0, 0, 3, 0].to_vec()),
    ] {
        let mut raw = Raw::connect(&scene.world, &scene.fixture, name);
        raw.send(connect.as_bytes());
        raw.wait_for("HTTP/1.1 200 CONNECTED", 1);
        raw.wait_for("\r\n\r\n", 1);
        raw.send(&frame(0x42, b"nobody knows this type"));
        raw.send(&frame(0, b"no IP packet"));
        raw.send(&frame(3, b"are you there"));
        // The answer to the probe, among packets that the kernel sends.
        raw.wait_until("the answer to a probe", |answer| {
            let kind = |frame: &str| frame.chars().nth(2);
            answer
                .split("STF\u{1}")
                .skip(1)
                .any(|frame| kind(frame) == Some('\u{4}'))
        });
        raw.send(&junk);
        let answer = raw.closed();
        assert!(answer.ends_with("STF\u{1}\0\0\u{5}\0"), "{name}: {answer:?}");
    }
    scene.is_undisturbed();
}
