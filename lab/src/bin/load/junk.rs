//! Strangers: datagrams for the server's UDP port from many addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use culvert_dtls::{ClientConfig, Connection};
use culvert_sys::udp::UdpSocket;
use culvert_vocab::SecretBytes;

use crate::Options;

/// Sockets that send.
const SOCKETS: usize = 64;

/// What strangers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JunkKind {
    /// Nothing like DTLS.
    Random,
    /// A well-formed ClientHello that names no session.
    Hello,
    /// The header of a record.
    Record,
}

impl JunkKind {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "random" => Ok(Self::Random),
            "hello" => Ok(Self::Hello),
            "record" => Ok(Self::Record),
            _ => Err(format!("'{text}' is no kind of junk")),
        }
    }

    fn datagram(self) -> Vec<u8> {
        match self {
            Self::Random => (0..100u8).map(|octet| octet.wrapping_mul(37)).collect(),
            Self::Hello => {
                let config = ClientConfig::new(SecretBytes::new(vec![7; 32]), vec![0x55; 32]);
                Connection::client(config, Instant::now())
                    .poll_transmit()
                    .unwrap()
            }
            Self::Record => {
                let mut record = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 87];
                record.resize(100, 0xaa);
                record
            }
        }
    }
}

/// A running flood.
pub(crate) struct Junk {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    begun: Instant,
    thread: JoinHandle<()>,
}

impl Junk {
    /// Begins to send.
    pub(crate) fn start(options: &Options) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sockets: Vec<UdpSocket> = (0..SOCKETS)
            .map(|number| connect(options.source_of(number), options.server))
            .collect();
        let (rate, datagram) = (options.junk, options.junk_kind.datagram());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let due = (begin.elapsed().as_secs_f64() * rate as f64) as u64;
                let mut done = count.load(Ordering::Relaxed);
                while done < due {
                    // One that is refused counts, too: the flood goes on.
                    let _lost =
                        sockets[(done % SOCKETS as u64) as usize].send(&datagram, datagram.len(), None);
                    done += 1;
                }
                count.store(done, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Self {
            stop,
            sent,
            begun: Instant::now(),
            thread,
        }
    }

    /// Ends the flood; gives the datagrams per second that it had.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.begun.elapsed().as_secs_f64();
        let sent = self.sent.load(Ordering::Relaxed);
        self.thread.join().unwrap();
        (sent as f64 / seconds) as u64
    }
}

fn connect(source: Option<SocketAddr>, server: SocketAddr) -> UdpSocket {
    UdpSocket::connected(source, server).unwrap()
}
