//! What a broken or hostile server gets: one clear line, exit code 1, and no harm. The client talks
//! over loopback to a TLS server that answers with whatever a case says.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Fixture, gateway};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Answers every request on every connection with the next of `answers`, the last one again and
/// again, and closes the connection after each. Connections whose ClientHello has more than
/// `largest_hello` octets are closed at once.
fn serve(fixture: &Fixture, answers: Vec<Vec<u8>>, largest_hello: u16) -> SocketAddr {
    let config = gateway::tls_server(fixture);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut next = 0;
        for socket in listener.incoming() {
            if socket
                .as_ref()
                .is_ok_and(|socket| hello_len(socket) > largest_hello)
            {
                continue;
            }
            let answer = &answers[next.min(answers.len() - 1)];
            next += 1;
            answer_one(&config, socket.unwrap(), answer);
        }
    });
    address
}

/// Length of the record with the ClientHello.
fn hello_len(socket: &TcpStream) -> u16 {
    let mut header = [0; 5];
    while socket
        .peek(&mut header)
        .is_ok_and(|count| (1..5).contains(&count))
    {
        thread::yield_now();
    }
    u16::from_be_bytes([header[3], header[4]])
}

/// Whatever the client does meanwhile is its own business: errors end the connection.
fn answer_one(config: &Arc<ServerConfig>, socket: TcpStream, answer: &[u8]) {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), socket);
    let mut request = [0; 16384];
    if stream.read(&mut request).is_ok_and(|count| count > 0) {
        let _ = stream.write_all(answer).and_then(|()| stream.flush());
        stream.conn.send_close_notify();
        let _ = stream.conn.complete_io(&mut stream.sock);
    }
}

fn client(fixture: &Fixture, server: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openconnect"));
    command
        .args([
            "--resolve",
            &format!("{SERVER_NAME}:127.0.0.1"),
            "--non-inter",
            "--no-proxy",
        ])
        .arg("--cafile")
        .arg(fixture.path("ca.pem"))
        .args(arguments)
        .arg(format!("{SERVER_NAME}:{}", server.port()));
    command.stdin(Stdio::null()).output().unwrap()
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn check(case: &str, answers: Vec<Vec<u8>>, arguments: &[&str], error: &str) {
    let fixture = Fixture::new();
    let server = serve(&fixture, answers, u16::MAX);
    let output = client(&fixture, server, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{case}: {errors}");
    assert!(errors.contains(error), "{case}: '{error}' is not in\n{errors}");
    assert!(
        !errors.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
        "{case}: {errors:?}"
    );
}

#[test]
fn responses_that_are_none() {
    let login_failed = "Failed to complete authentication";
    for (case, answer) in [
        ("nothing", b"".to_vec()),
        ("garbage", b"\x00\xff\x1b[2Jgarbage\r\n\r\n".to_vec()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        (
            "half a body",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".to_vec(),
        ),
        (
            "negative length",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec(),
        ),
        (
            "huge length",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        ),
        (
            "huge chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n".to_vec(),
        ),
        (
            "endless header",
            [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; 300_000]].concat(),
        ),
        (
            "endless body",
            [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'a'; 17 << 20]].concat(),
        ),
        ("no XML", http("200 OK", "", "Hello")),
        (
            "truncated XML",
            http("200 OK", "", "<config-auth><auth id=\"main\"><form>"),
        ),
        ("deep XML", http("200 OK", "", &"<a>".repeat(100_000))),
        (
            "cookie without value",
            http("200 OK", "Set-Cookie: nothing\r\n", "<auth/>"),
        ),
        ("teapot", http("418 I'm a \x1b[31mteapot", "", "<auth/>")),
        ("forbidden", http("403 Forbidden", "", "no")),
        (
            "redirect to http",
            http("302 Found", "Location: http://other.test/\r\n", ""),
        ),
        (
            "redirect to itself",
            http("302 Found", "Location: /again\r\n", ""),
        ),
    ] {
        check(case, vec![answer], &["--cookieonly"], login_failed);
    }
}

#[test]
fn refusals_are_named() {
    let moved = http("302 Found", "Location: http://other.test/\r\n", "");
    check(
        "redirect",
        vec![moved],
        &["--cookieonly"],
        "Cannot follow redirection to non-https URL 'http://other.test/'",
    );
    let form = |inside: &str| {
        http(
            "200 OK",
            "",
            &format!("<config-auth><auth id=\"main\">{inside}</auth></config-auth>"),
        )
    };
    let password = form(
        "<message>a\x1b[2Jb</message><form><input type=\"password\" name=\"password\" label=\"P\x07W:\"/></form>",
    );
    check(
        "no input",
        vec![password.clone()],
        &["--cookieonly"],
        "User input required in non-interactive mode",
    );
    check(
        "no password",
        vec![password],
        &["--no-passwd", "--cookieonly"],
        "Asked for password but '--no-passwd' set",
    );
}

#[test]
fn cookies_with_quotes_are_not_printed_for_a_shell() {
    let success = http(
        "200 OK",
        "",
        "<config-auth><session-token>x'; touch /tmp/pwned; '</session-token><auth id=\"success\"/></config-auth>",
    );
    check(
        "quote",
        vec![success],
        &["--authenticate"],
        "with quotes or control characters; not printing it",
    );
}

#[test]
fn connect_responses_that_are_none() {
    let ok = |headers: &str| format!("HTTP/1.1 200 CONNECTED\r\n{headers}\r\n").into_bytes();
    let arguments = ["--cookie", "abc", "--script", "false"];
    for (case, answer, error) in [
        ("nothing", b"".to_vec(), "Creating SSL connection failed"),
        (
            "garbage",
            b"garbage\r\n\r\n".to_vec(),
            "Error fetching CONNECT response",
        ),
        (
            "unavailable",
            http("503 Service Unavailable", "X-Reason: no\x1b room\r\n", ""),
            "VPN service unavailable; reason: no",
        ),
        (
            "no MTU",
            ok("X-CSTP-Address: 10.0.0.1\r\n"),
            "No MTU received. Aborting",
        ),
        (
            "no address",
            ok("X-CSTP-MTU: 1400\r\n"),
            "No IP address received. Aborting",
        ),
        (
            "bad App-ID",
            ok(
                "X-CSTP-MTU: 1400\r\nX-CSTP-Address: 10.0.0.1\r\nX-DTLS-Port: 443\r\nX-DTLS-CipherSuite: PSK-NEGOTIATE\r\nX-DTLS-App-ID: zz\r\n",
            ),
            "X-DTLS-App-ID from the server is invalid",
        ),
    ] {
        check(case, vec![answer], &arguments, error);
    }
    let fixture = Fixture::new();
    let server = serve(
        &fixture,
        vec![http("401 Cookie is not acceptable", "", "")],
        u16::MAX,
    );
    let output = client(&fixture, server, &arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("Cookie was rejected by server; exiting.\n"));
}

/// What the server has begun to answer, it has been told: a password that counts once is not sent again, though
/// the connection was an old one.
#[test]
fn half_an_answer_is_not_asked_for_again() {
    let fixture = Fixture::new();
    let config = gateway::tls_server(&fixture);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (asked, requests) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut request = [0; 16384];
            while let Ok(count @ 1..) = stream.read(&mut request) {
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let is_reply = request.contains("auth-reply");
                asked.send(is_reply).unwrap();
                if is_reply {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap();
                    stream.flush().unwrap();
                    stream.sock.write_all(b"no record of TLS").unwrap();
                    break;
                }
                let form = "<config-auth><auth id=\"main\"><form><input type=\"password\" name=\"password\" \
                            label=\"P:\"/></form></auth></config-auth>";
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", form.len());
                stream
                    .write_all(&[head.as_bytes(), form.as_bytes()].concat())
                    .unwrap();
                stream.flush().unwrap();
            }
        }
    });
    let output = client(
        &fixture,
        server,
        &["--cookieonly", "--form-entry", "main:password=once"],
    );
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("Failed to read from SSL socket: "), "{errors}");
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), [false, true], "{errors}");
}

#[test]
fn servers_that_cannot_take_a_large_client_hello() {
    let fixture = Fixture::new();
    let server = serve(&fixture, vec![http("403 Forbidden", "", "no")], 1000);
    let output = client(&fixture, server, &["--cookieonly"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("Retrying without post-quantum key exchange\n"),
        "{errors}"
    );
    assert!(
        errors.contains("Connected to HTTPS on vpn.test with ciphersuite (TLS1.3)-"),
        "{errors}"
    );
}
