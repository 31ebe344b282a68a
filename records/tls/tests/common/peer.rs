//! Real peers as child processes, and a blocking driver for both phases.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use culvert_tls::{ContentType, Handshake, Opened, Records};

/// Longest wait for anything a peer does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child process whose output is collected line by line. It ends with this object.
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs the program {program}: {error}"));
        let stdin = child.stdin.take().unwrap();
        let (sender, lines) = channel();
        collect(child.stdout.take().unwrap(), sender.clone());
        collect(child.stderr.take().unwrap(), sender);
        Self { child, stdin, lines }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        // One write: the peer must not see half a line.
        self.stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("the peer did not print {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(output: impl Read + Send + 'static, lines: Sender<String>) {
    let mut output = BufReader::new(output);
    thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// A port that is free, and that the kernel gives to nobody who asks for any.
pub(crate) fn free_port() -> u16 {
    // Below the range of `net.ipv4.ip_local_port_range`.
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id() as u16).wrapping_add(next) % COUNT;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Connects as soon as the peer listens.
pub(crate) fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return patient(stream),
            Err(error) => assert!(Instant::now() < deadline, "cannot connect to the peer: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection in its second phase.
pub(crate) struct Tunnel {
    stream: TcpStream,
    records: Records,
    /// KeyUpdates and uninteresting records received.
    pub(crate) key_updates: usize,
    pub(crate) ignored: usize,
}

/// Completes the handshake and takes over at once; tickets that follow go to the opener.
pub(crate) fn take_over(mut handshake: Handshake, mut stream: TcpStream) -> (Tunnel, String) {
    let mut buffer = [0; 4096];
    loop {
        if let Some(bytes) = handshake.poll_transmit() {
            stream.write_all(&bytes).unwrap();
        }
        if !handshake.is_handshaking() {
            break;
        }
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the peer hung up in the handshake");
        handshake.handle_input(&buffer[..read]).unwrap();
    }
    let description = handshake.description().unwrap();
    let records = handshake.into_records().unwrap();
    (
        Tunnel {
            stream,
            records,
            key_updates: 0,
            ignored: 0,
        },
        description,
    )
}

impl Tunnel {
    pub(crate) fn send(&mut self, payload: &[u8]) {
        let sealer = &mut self.records.sealer;
        let start = sealer.headroom();
        let mut record = vec![0; sealer.sealed_len(payload.len())];
        record[start..start + payload.len()].copy_from_slice(payload);
        let len = sealer
            .seal(ContentType::ApplicationData, &mut record, payload.len())
            .unwrap();
        self.stream.write_all(&record[..len]).unwrap();
    }

    pub(crate) fn update_keys(&mut self, request: bool) {
        let mut message = Vec::new();
        self.records.sealer.key_update(request, &mut message).unwrap();
        self.stream.write_all(&message).unwrap();
    }

    /// Receives until a line of data ends with `text`; answers KeyUpdates.
    pub(crate) fn expect(&mut self, text: &str) {
        let mut line = Vec::new();
        while !String::from_utf8_lossy(&line).trim_end().ends_with(text) {
            match self.receive() {
                Received::Data(data) => line.extend(data),
                Received::KeyUpdate => {}
                Received::Closed => panic!("the peer closed the connection"),
            }
        }
    }

    /// Receives until the peer closes in an orderly way.
    pub(crate) fn expect_close(&mut self) {
        while !matches!(self.receive(), Received::Closed) {}
    }

    fn receive(&mut self) -> Received {
        loop {
            let buffer = &mut self.records.unread;
            match self.records.opener.open(buffer).unwrap() {
                Opened::Incomplete { .. } => {
                    let mut part = [0; 4096];
                    let read = self.stream.read(&mut part).unwrap();
                    assert_ne!(read, 0, "the peer hung up");
                    buffer.extend_from_slice(&part[..read]);
                }
                Opened::ApplicationData { consumed, payload } => {
                    let data = buffer[payload].to_vec();
                    buffer.drain(..consumed);
                    return Received::Data(data);
                }
                Opened::KeyUpdate { consumed, requested } => {
                    self.key_updates += 1;
                    buffer.drain(..consumed);
                    if requested {
                        self.update_keys(false);
                    }
                    return Received::KeyUpdate;
                }
                Opened::Ignored { consumed } => {
                    self.ignored += 1;
                    buffer.drain(..consumed);
                }
                Opened::Closed { .. } => return Received::Closed,
            }
        }
    }
}

enum Received {
    Data(Vec<u8>),
    KeyUpdate,
    Closed,
}
