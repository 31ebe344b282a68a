//! Proxies that die, lie or say nothing: one clear line, exit code 1, at once. Where the real client
//! has words for it, they are the same.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use culvert_lab::{Make, process};

/// Answers what a client says on each connection with the next of `answers`, and closes it then, in
/// order: what was not read would be a reset.
fn serve(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, answers) = (socket.unwrap(), answers.clone());
            // The client may have had enough before the last answer.
            thread::spawn(move || answer(socket, &answers));
        }
    });
    address
}

fn answer(mut socket: TcpStream, answers: &[Vec<u8>]) -> std::io::Result<()> {
    let mut said = [0; 4096];
    for answer in answers {
        if socket.read(&mut said)? == 0 {
            break;
        }
        socket.write_all(answer)?;
    }
    socket.shutdown(Shutdown::Write)?;
    while socket.read(&mut said)? > 0 {}
    Ok(())
}

fn command(make: Make, url: &str) -> Command {
    let mut command = match make {
        Make::Culvert => Command::new(env!("CARGO_BIN_EXE_openconnect")),
        Make::Real => Command::new(make.program("openconnect")),
    };
    command
        .args(["--cookieonly", "--non-inter", "-P", url, "https://vpn.test/"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn fails(case: &str, output: &Output, error: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{case}: {errors}");
    assert_eq!(output.stdout, b"", "{case}: {errors}");
    let lines = errors.lines().filter(|line| line.contains(error)).count();
    assert_eq!(lines, 1, "{case}: '{error}' is not in\n{errors}");
    assert!(
        !errors.chars().any(|c| c.is_control() && c != '\n'),
        "{case}: {errors:?}"
    );
}

fn check(case: &str, scheme: &str, answers: &[&[u8]], makes: &[Make], error: &str) {
    let address = serve(answers.iter().map(|answer| answer.to_vec()).collect());
    for make in makes {
        let output = command(*make, &format!("{scheme}://{address}")).output().unwrap();
        fails(&format!("{case} {make:?}"), &output, error);
    }
}

/// What is said of a way through the proxy that leads to no TLS server.
const DEAD: &str = "Failed to open HTTPS connection to vpn.test";
/// What is said of a server that is not there: it is looked for once more.
const DOWN: &str = "The server ends connections before anything is said: it may be down";
const OURS: &[Make] = &[Make::Culvert];
const BOTH: &[Make] = &[Make::Culvert, Make::Real];

#[test]
fn http_proxies() {
    let long = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &vec![b'a'; 1 << 20]].concat();
    let many = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"A: b\r\n".repeat(100_000)].concat();
    let closed = "Error reading HTTP response: Connection reset by peer";
    let malformed = "Failed to parse HTTP response '";
    let cases: [(&str, &[u8], &[Make], &str); 13] = [
        ("closes at once", b"", BOTH, closed),
        ("dies in the first line", b"HTTP/1.1 2", BOTH, closed),
        (
            "dies in the headers",
            b"HTTP/1.1 200 OK\r\nA: b\r\n",
            BOTH,
            closed,
        ),
        ("garbage", b"\x00\xff\x1b[2Jgarbage\r\n\r\n", OURS, malformed),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n", BOTH, malformed),
        ("a long header", &long, OURS, "HTTP response headers are too long"),
        ("many headers", &many, OURS, "HTTP response headers are too long"),
        (
            "refuses",
            b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
            BOTH,
            "Proxy CONNECT request failed: 502",
        ),
        (
            "no scheme",
            b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n",
            OURS,
            "No more authentication methods to try",
        ),
        (
            "an early word",
            b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0",
            OURS,
            "The proxy sent more than its answer",
        ),
        ("a dead tunnel", b"HTTP/1.1 200 OK\r\n\r\n", BOTH, DEAD),
        ("a dead server", b"HTTP/1.1 200 OK\r\n\r\n", OURS, DOWN),
        (
            "one handshake with it",
            b"HTTP/1.1 200 OK\r\n\r\n",
            BOTH,
            "SSL connection failure: ",
        ),
    ];
    for (case, answer, makes, error) in cases {
        check(case, "http", &[answer], makes, error);
    }
    check(
        "no server behind it",
        "http",
        &[b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"],
        OURS,
        DEAD,
    );
}

#[test]
fn socks_proxies() {
    for (code, text) in [
        (1, "general failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused by destination host"),
        (6, "TTL expired"),
        (7, "command not supported / protocol error"),
        (8, "address type not supported"),
    ] {
        let error = format!("SOCKS proxy error 0{code}: {text}");
        let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        check(text, "socks5", &[&[5, 0], &reply], BOTH, &error);
    }
    let closed = "Error reading connect response from SOCKS proxy: Connection reset by peer";
    let cases: [(&str, &[&[u8]], &str); 11] = [
        (
            "closes at once",
            &[],
            "Error reading auth response from SOCKS proxy: Connection reset by peer",
        ),
        ("dies after the method", &[&[5, 0]], closed),
        ("dies in the reply", &[&[5, 0], &[5, 0, 0, 1, 9]], closed),
        (
            "version 4",
            &[&[4, 90]],
            "Unexpected auth response from SOCKS proxy: 04 5a",
        ),
        (
            "garbage",
            &[b"HTTP/1.1 400 Bad\r\n\r\n"],
            "Unexpected auth response from SOCKS proxy: 48 54",
        ),
        (
            "version 4 in the reply",
            &[&[5, 0], &[4, 0, 0, 1, 0, 0, 0, 0, 0, 0]],
            "Unexpected connect response from SOCKS proxy: 04 00...",
        ),
        (
            "an address of no kind",
            &[&[5, 0], &[5, 0, 0, 9, 0, 0, 0, 0, 0, 0]],
            "Unexpected address type 09 in SOCKS connect response",
        ),
        (
            "an error without a name",
            &[&[5, 0], &[5, 9, 0, 1, 0, 0, 0, 0, 0, 0]],
            "SOCKS proxy error 09",
        ),
        (
            "a password that nobody has",
            &[&[5, 2]],
            "SOCKS server requested username/password but we have none",
        ),
        (
            "a method of no kind",
            &[&[5, 7]],
            "SOCKS server requested unknown authentication type 07",
        ),
        ("a dead tunnel", &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]], DEAD),
    ];
    for (case, answers, error) in cases {
        check(case, "socks", answers, BOTH, error);
    }
    // All kinds of addresses in the reply lead to the same: the tunnel, which is dead.
    let name = [&[5, 0, 0, 3, 4][..], b"host\0\x50"].concat();
    let v6 = [&[5, 0, 0, 4][..], &[9; 18]].concat();
    for (case, reply) in [("a name", name), ("an IPv6 address", v6)] {
        check(case, "socks5", &[&[5, 0], &reply], OURS, DEAD);
    }
}

/// A proxy that says nothing holds the client no longer than a signal.
#[test]
fn a_silent_proxy() {
    for scheme in ["http", "socks5"] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let client = command(Make::Culvert, &url).spawn().unwrap();
        let (mut socket, _) = silent.accept().unwrap();
        // The request is there: the client waits for the answer.
        let mut said = [0; 3];
        socket.read_exact(&mut said).unwrap();
        process::kill(client.id(), "INT");
        let output = client.wait_with_output().unwrap();
        fails(scheme, &output, "Proxy connection cancelled");
    }
}
