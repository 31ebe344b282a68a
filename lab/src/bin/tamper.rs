//! A man in the middle: relays the TCP connections and datagrams of one client to a server, and
//! tampers with them when it is told to.
//!
//! `tamper LISTEN SERVER`, both `ADDRESS:PORT`. Commands, one a line, on standard input:
//!
//! - `pass`: relay as it is (the beginning)
//! - `duplicate`: every datagram twice
//! - `forge`: before every datagram two copies of it, one with a bit of its header flipped, one with
//!   a bit of its content flipped
//! - `replay`: every datagram so far once more, now
//! - `corrupt-up`, `corrupt-down`: flip a bit in the next TLS record to the server, to the client
//!
//! Each is answered with `done COMMAND`; a record that was corrupted with `corrupted`.

use std::error::Error;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Datagrams kept for `replay`, in each direction.
const KEPT: usize = 4096;

const PASS: u8 = 0;
const DUPLICATE: u8 = 1;
const FORGE: u8 = 2;

/// Where a datagram or a record comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server] = &arguments[..] else {
        return Err("usage: tamper LISTEN SERVER".into());
    };
    let (listen, server): (SocketAddr, SocketAddr) = (listen.parse()?, server.parse()?);
    let datagrams = Arc::new(Datagrams::new(listen, server)?);
    let streams = Arc::new(Streams::default());
    let listener = TcpListener::bind(listen)?;
    for from in [End::Client, End::Server] {
        let datagrams = Arc::clone(&datagrams);
        thread::spawn(move || datagrams.relay(from));
    }
    let acceptor = Arc::clone(&streams);
    thread::spawn(move || acceptor.accept(&listener, server));
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.as_str() {
            "pass" => datagrams.mode.store(PASS, Ordering::SeqCst),
            "duplicate" => datagrams.mode.store(DUPLICATE, Ordering::SeqCst),
            "forge" => datagrams.mode.store(FORGE, Ordering::SeqCst),
            "replay" => datagrams.replay()?,
            "corrupt-up" => streams.corrupt_up.store(true, Ordering::SeqCst),
            "corrupt-down" => streams.corrupt_down.store(true, Ordering::SeqCst),
            other => return Err(format!("unknown command '{other}'").into()),
        }
        println!("done {line}");
    }
    Ok(())
}

/// The datagrams of one client.
struct Datagrams {
    mode: AtomicU8,
    /// Towards the client.
    outside: UdpSocket,
    /// Towards the server.
    inside: UdpSocket,
    client: Mutex<Option<SocketAddr>>,
    kept: Mutex<Vec<(End, Vec<u8>)>>,
}

impl Datagrams {
    fn new(listen: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let inside = UdpSocket::bind(("0.0.0.0", 0))?;
        inside.connect(server)?;
        Ok(Self {
            mode: AtomicU8::new(PASS),
            outside: UdpSocket::bind(listen)?,
            inside,
            client: Mutex::new(None),
            kept: Mutex::new(Vec::new()),
        })
    }

    fn relay(&self, from: End) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = match from {
                End::Client => {
                    let (length, client) = self.outside.recv_from(&mut buffer)?;
                    *self.client.lock().map_err(poisoned)? = Some(client);
                    length
                }
                // The server's port may be closed for a while.
                End::Server => match self.inside.recv(&mut buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(error) => return Err(error),
                },
            };
            let datagram = &buffer[..length];
            match self.mode.load(Ordering::SeqCst) {
                DUPLICATE => self.send(from, datagram)?,
                FORGE => self.send_forgeries(from, datagram)?,
                _ => {}
            }
            self.send(from, datagram)?;
            let mut kept = self.kept.lock().map_err(poisoned)?;
            if kept.len() < 2 * KEPT {
                kept.push((from, datagram.to_vec()));
            }
        }
    }

    fn send_forgeries(&self, from: End, datagram: &[u8]) -> io::Result<()> {
        // Octet 10 is the last of a DTLS record's sequence number.
        for position in [10, datagram.len() - 1] {
            let mut forged = datagram.to_vec();
            if let Some(octet) = forged.get_mut(position) {
                *octet ^= 0x40;
            }
            self.send(from, &forged)?;
        }
        Ok(())
    }

    fn send(&self, from: End, datagram: &[u8]) -> io::Result<()> {
        let client = *self.client.lock().map_err(poisoned)?;
        let sent = match (from, client) {
            (End::Client, _) => self.inside.send(datagram),
            (End::Server, Some(client)) => self.outside.send_to(datagram, client),
            (End::Server, None) => return Ok(()),
        };
        match sent {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    fn replay(&self) -> io::Result<()> {
        let kept = self.kept.lock().map_err(poisoned)?.clone();
        for (from, datagram) in &kept {
            self.send(*from, datagram)?;
        }
        println!("replayed {}", kept.len());
        Ok(())
    }
}

/// The TCP connections.
#[derive(Default)]
struct Streams {
    corrupt_up: AtomicBool,
    corrupt_down: AtomicBool,
}

impl Streams {
    fn accept(self: Arc<Self>, listener: &TcpListener, server: SocketAddr) -> io::Result<()> {
        loop {
            let (client, _) = listener.accept()?;
            let server = TcpStream::connect(server)?;
            for (from, source, sink) in [
                (End::Client, client.try_clone()?, server.try_clone()?),
                (End::Server, server, client),
            ] {
                let streams = Arc::clone(&self);
                thread::spawn(move || {
                    let ended = streams.relay(from, &source, &sink);
                    for socket in [&source, &sink] {
                        // Either end may be gone already.
                        let _ = socket.shutdown(std::net::Shutdown::Both);
                    }
                    ended
                });
            }
        }
    }

    /// Relays record by record: five octets of header, the last two of them its length.
    fn relay(&self, from: End, mut source: &TcpStream, mut sink: &TcpStream) -> io::Result<()> {
        let corrupt = match from {
            End::Client => &self.corrupt_up,
            End::Server => &self.corrupt_down,
        };
        loop {
            let mut record = vec![0; 5];
            source.read_exact(&mut record)?;
            let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
            record.resize(5 + length, 0);
            source.read_exact(&mut record[5..])?;
            if corrupt.swap(false, Ordering::SeqCst)
                && let Some(last) = record.last_mut()
            {
                *last ^= 1;
                println!("corrupted");
            }
            sink.write_all(&record)?;
        }
    }
}

fn poisoned<T>(_: std::sync::PoisonError<T>) -> io::Error {
    io::Error::other("another thread failed")
}
