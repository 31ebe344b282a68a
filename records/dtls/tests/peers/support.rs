//! Drives a `Connection` over a real UDP socket, and real peers beside it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use culvert_dtls::{Connection, Opened};
use culvert_record::ChannelState;

/// The key that all live tests use.
pub(crate) const PSK_HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// [`PSK_HEX`] as octets.
pub(crate) fn psk() -> culvert_vocab::SecretBytes {
    culvert_vocab::SecretBytes::new((0..32).collect())
}

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Below the range of `net.ipv4.ip_local_port_range`.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// A connection and its socket.
pub(crate) struct Endpoint {
    pub(crate) connection: Connection,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    /// Application data received and not yet taken.
    pub(crate) received: Vec<u8>,
}

impl Endpoint {
    /// One that knows its peer.
    pub(crate) fn connected(connection: Connection, peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self {
            connection,
            socket,
            peer: Some(peer),
            received: Vec::new(),
        }
    }

    /// One that answers whoever sends first.
    pub(crate) fn listening(connection: Connection) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self {
            connection,
            socket,
            peer: None,
            received: Vec::new(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Runs until `done` holds.
    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 65536];
        loop {
            self.transmit();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{what}: not in time; failure: {:?}",
                self.connection.failure()
            );
            let wait = self.connection.poll_timeout().unwrap_or(end).min(end);
            let wait = wait
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            self.socket
                .set_read_timeout(Some(wait.min(Duration::from_millis(50))))
                .unwrap();
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.peer.get_or_insert(from);
                self.receive(&mut buffer[..len]);
            }
            if self
                .connection
                .poll_timeout()
                .is_some_and(|at| at <= Instant::now())
            {
                self.connection.handle_timeout(Instant::now());
            }
        }
    }

    pub(crate) fn establish(&mut self, what: &str) {
        self.run_until(what, |end| end.connection.state() != ChannelState::Connecting);
        assert_eq!(
            self.connection.state(),
            ChannelState::Established,
            "{what}: {:?}",
            self.connection.failure()
        );
    }

    pub(crate) fn send(&mut self, data: &[u8]) {
        let mut record = vec![0; self.connection.headroom()];
        record.extend_from_slice(data);
        record.resize(record.len() + self.connection.tailroom(), 0);
        let len = match self.connection.seal_application(&mut record, data.len()) {
            Ok(len) => len,
            Err(error) => panic!("{error}; failure: {:?}", self.connection.failure()),
        };
        self.socket.send_to(&record[..len], self.peer.unwrap()).unwrap();
    }

    /// Sends `line` and waits until it has come back.
    pub(crate) fn expect_echo(&mut self, what: &str, line: &str) {
        self.received.clear();
        self.send(line.as_bytes());
        self.run_until(what, |end| end.received == line.as_bytes());
    }

    pub(crate) fn transmit(&mut self) {
        while let Some(datagram) = self.connection.poll_transmit() {
            // A peer that is gone (ECONNREFUSED) shows as a timeout.
            let _ = self.socket.send_to(&datagram, self.peer.unwrap());
        }
    }

    fn receive(&mut self, datagram: &mut [u8]) {
        let mut rest = datagram;
        while !rest.is_empty() {
            let consumed = match self.connection.open_record(Instant::now(), rest) {
                Opened::Nothing { consumed } => consumed,
                Opened::Application { consumed, payload } => {
                    self.received.extend_from_slice(&rest[payload]);
                    consumed
                }
            };
            rest = &mut rest[consumed..];
        }
    }
}

/// A real peer; ended when dropped.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Peer {
    /// Starts a program of the Debian packages `gnutls-bin` and `openssl`.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run {program}: {error}; install the packages openssl and gnutls-bin")
            });
        let (sender, lines) = channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
            });
        }
        let input = child.stdin.take().unwrap();
        Self {
            child,
            input,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn write_line(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).unwrap();
        self.input.write_all(b"\n").unwrap();
    }

    /// Whether a line with `text` has been printed so far.
    pub(crate) fn has_printed(&mut self, text: &str) -> bool {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().any(|line| line.contains(text))
    }

    /// Waits for a line with `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.has_printed(text) {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("the peer did not print {text:?} but {:#?}", self.seen),
            }
        }
    }

    pub(crate) fn output(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A UDP port of the loopback interface that is free, and that the kernel gives to nobody who asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (std::process::id() as u16).wrapping_add(next) % PORTS;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
