//! Where a browser brings the result of a sign-in: a small HTTP server on the loopback interface
//! (`specs/anyconnect.md` §7.1).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::prompt::reason;

/// Longest request line.
const LINE_MAX: usize = 4095;
/// Most octets of a request.
const REQUEST_MAX: usize = 64 * 1024;
/// Connections at a time. The oldest makes room for another: browsers open some that they never
/// use, and whoever is on this host may, too.
const CONNECTIONS_MAX: usize = 16;
/// Shown to the user when the browser has no other page to go to.
const SUCCESS: &str = "<html><head><title>Success</title></head><body><p>Success: the sign-in is complete. \
                       You may close this window.</p></body></html>";

/// The server. It answers nobody but this host.
#[derive(Debug)]
pub(super) struct Loopback {
    listeners: Vec<TcpListener>,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
}

/// What came over a connection so far.
enum Progress {
    Incomplete,
    /// Nothing that is answered.
    Junk,
    /// A GET request with this target.
    Target(String),
}

/// What a browser is answered.
#[derive(Debug)]
pub(super) enum Page {
    NotFound,
    Success,
    /// It goes on there.
    Elsewhere(String),
}

impl Loopback {
    /// Listens on this port for IPv6 and IPv4, whichever the host has.
    ///
    /// # Errors
    /// Somebody else listens there, or there is no loopback interface.
    pub(super) fn listen(port: u16) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let reason = reason(&error);
            format!("Failed to listen on local port {port}: {reason}")
        };
        let addresses = [
            IpAddr::from(Ipv6Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ];
        let mut listeners = Vec::new();
        let mut missing = None;
        for address in addresses {
            match TcpListener::bind((address, port)) {
                Ok(listener) => {
                    listener.set_nonblocking(true).map_err(failed)?;
                    listeners.push(listener);
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(failed(error)),
                Err(error) => missing = Some(error),
            }
        }
        match missing {
            Some(error) if listeners.is_empty() => Err(failed(error)),
            _ => Ok(Self {
                listeners,
                connections: Vec::new(),
            }),
        }
    }

    /// What becomes readable when a browser comes or says something.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        listeners
            .chain(
                self.connections
                    .iter()
                    .map(|connection| connection.stream.as_fd()),
            )
            .collect()
    }

    /// Takes what has come and answers what `judge` says to the targets of complete requests.
    pub(super) fn serve(&mut self, judge: &mut dyn FnMut(&str) -> Page) {
        // What is there is answered before it has to make room.
        self.answer_all(judge);
        for listener in &self.listeners {
            for _ in 0..CONNECTIONS_MAX {
                let Ok((stream, _)) = listener.accept() else {
                    break;
                };
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                if self.connections.len() == CONNECTIONS_MAX {
                    self.connections.remove(0);
                }
                self.connections.push(Connection {
                    stream,
                    request: Vec::new(),
                });
            }
        }
        self.answer_all(judge);
    }

    fn answer_all(&mut self, judge: &mut dyn FnMut(&str) -> Page) {
        self.connections.retain_mut(|connection| match connection.read() {
            Progress::Incomplete => true,
            Progress::Junk => false,
            Progress::Target(target) => {
                connection.answer(&judge(&target));
                false
            }
        });
    }
}

impl Connection {
    fn read(&mut self) -> Progress {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Progress::Junk,
                Ok(count) => self
                    .request
                    .extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Incomplete,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Junk,
            }
            match progress(&self.request) {
                Progress::Incomplete => {}
                done => return done,
            }
        }
    }

    /// The answer is short enough for the socket's buffer; who does not read it misses it.
    fn answer(&mut self, page: &Page) {
        let (status, more, body) = match page {
            Page::NotFound => ("404 Not Found", String::new(), ""),
            Page::Success => ("200 OK", String::new(), SUCCESS),
            Page::Elsewhere(url) => ("302 Found", format!("Location: {url}\r\n"), ""),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        let _ = self.stream.write_all(answer.as_bytes());
    }
}

fn progress(request: &[u8]) -> Progress {
    let line_end = request.windows(2).position(|pair| pair == b"\r\n");
    if line_end.unwrap_or(request.len()) > LINE_MAX || request.len() > REQUEST_MAX {
        return Progress::Junk;
    }
    if !request.windows(4).any(|four| four == b"\r\n\r\n") {
        return Progress::Incomplete;
    }
    let line = line_end.and_then(|end| std::str::from_utf8(request.get(..end)?).ok());
    match line.and_then(target) {
        Some(target) => Progress::Target(target.to_owned()),
        None => Progress::Junk,
    }
}

/// The target of a `GET /... HTTP/1.x` line.
fn target(line: &str) -> Option<&str> {
    let (target, version) = line.strip_prefix("GET ")?.rsplit_once(" HTTP/1.")?;
    (target.starts_with('/') && version.len() == 1).then_some(target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_lines() {
        assert_eq!(
            target("GET /api/sso/x?return=y HTTP/1.1"),
            Some("/api/sso/x?return=y")
        );
        for bad in [
            "POST / HTTP/1.1",
            "GET x HTTP/1.1",
            "GET / HTTP/2",
            "GET /",
            "get / HTTP/1.1",
            "",
        ] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }

    #[test]
    fn requests_are_complete_or_junk() {
        let is_target = |request: &str| matches!(progress(request.as_bytes()), Progress::Target(_));
        let is_junk = |request: &str| matches!(progress(request.as_bytes()), Progress::Junk);
        let long = "x".repeat(LINE_MAX);
        assert!(is_target("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(matches!(progress(b"GET / HTTP/1.1\r\n"), Progress::Incomplete));
        assert!(is_junk("BREW / HTTP/1.1\r\n\r\n"));
        assert!(is_junk(&format!("GET /{long}")));
        assert!(is_junk(&format!("GET / HTTP/1.1\r\n{}", long.repeat(20))));
    }

    /// Whoever only connects does not keep the browser out.
    #[test]
    fn silent_connections_make_room() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut loopback = Loopback {
            listeners: vec![listener],
            connections: Vec::new(),
        };
        let mut silent = Vec::new();
        for _ in 0..3 * CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).unwrap());
            loopback.serve(&mut |target| panic!("{target}"));
        }
        assert_eq!(loopback.connections.len(), CONNECTIONS_MAX);
        let mut browser = TcpStream::connect(address).unwrap();
        browser.write_all(b"GET /x HTTP/1.1\r\n\r\n").unwrap();
        let mut targets = Vec::new();
        loopback.serve(&mut |target| {
            targets.push(target.to_owned());
            Page::Success
        });
        assert_eq!(targets, ["/x"]);
        let mut answer = String::new();
        browser.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    proptest! {
        #[test]
        fn never_panics(request in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = progress(&request);
        }
    }
}
