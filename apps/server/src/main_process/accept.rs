//! Accepting connections, and the header that a proxy puts before them
//! (`specs/server-config.md` §16).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_server_config::Global;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::listen::unmapped;
use super::state::Event;
use crate::log::{self, Level};
use crate::proxy_header::{self, Progress};

/// Longest time for the header of a proxy.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Most connections whose header is waited for at a time.
const HEADERS_MAX: usize = 1024;

/// A connection before its admission.
pub(crate) struct Arrival {
    /// Not used yet, but for the header.
    pub(super) stream: TcpStream,
    /// The client, unmapped.
    pub(super) peer: SocketAddr,
    /// Our address that it connected to, unmapped.
    pub(super) local: SocketAddr,
}

/// What the tasks that accept share with main.
#[derive(Clone)]
pub(crate) struct Admission {
    /// `max-clients` was reached: accepting pauses.
    pub(crate) crowded: Rc<Cell<bool>>,
    /// Connections begin with the header of a proxy (`listen-proxy-proto`).
    pub(crate) proxied: Rc<Cell<bool>>,
    /// Too much work waits in the broker.
    pub(crate) busy: Rc<Cell<bool>>,
    /// Pause between connections while it does (`rate-limit-ms`).
    rate_limit: Rc<Cell<Option<Duration>>>,
    /// Connections whose header has not come yet.
    headerless: Rc<RefCell<Headerless>>,
}

/// Connections whose header is waited for. There are only so many: the oldest makes room, so that
/// silent ones hold up nobody.
struct Headerless {
    max: usize,
    /// Their tasks, oldest first; also of some that have their header meanwhile.
    tasks: VecDeque<AbortHandle>,
    /// When it was last said that there are too many.
    said: Option<Instant>,
}

impl Headerless {
    fn up_to(max: usize) -> Rc<RefCell<Self>> {
        let (tasks, said) = (VecDeque::new(), None);
        Rc::new(RefCell::new(Self { max, tasks, said }))
    }

    fn add(&mut self, task: AbortHandle) {
        if self.tasks.len() >= self.max {
            self.tasks.retain(|task| !task.is_finished());
        }
        if self.tasks.len() >= self.max
            && let Some(oldest) = self.tasks.pop_front()
        {
            // Its connection closes with it.
            oldest.abort();
            self.say();
        }
        self.tasks.push_back(task);
    }

    /// Not for each: there may be very many.
    fn say(&mut self) {
        if self.said.is_some_and(|said| said.elapsed() < HEADER_TIME) {
            return;
        }
        self.said = Some(Instant::now());
        let text = format!(
            "main: {} connections send no PROXY header: the oldest ones are closed",
            self.max
        );
        log::write(Level::Warning, &text);
    }
}

impl Admission {
    /// `clients_max`: connections that there are descriptors for.
    pub(crate) fn new(global: &Global, clients_max: usize) -> Self {
        let admission = Self {
            crowded: Rc::default(),
            proxied: Rc::default(),
            busy: Rc::default(),
            rate_limit: Rc::default(),
            headerless: Headerless::up_to(HEADERS_MAX.min(clients_max)),
        };
        admission.follow(global);
        admission
    }

    /// Takes over the values of a configuration.
    pub(crate) fn follow(&self, global: &Global) {
        self.proxied.set(global.listen_proxy_proto);
        self.rate_limit.set(global.rate_limit);
    }

    /// The pause before the next connection.
    fn pause(&self) -> Option<Duration> {
        self.rate_limit.get().filter(|_| self.busy.get())
    }
}

/// Accepts on one socket for ever.
pub(crate) async fn accept(listener: TcpListener, events: mpsc::Sender<Event>, admission: Admission) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            return log::write(
                Level::Error,
                &format!("main: cannot poll a listening socket: {error}"),
            );
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if admission.proxied.get() => {
                let events = events.clone();
                let task = tokio::task::spawn_local(async move {
                    match read_header(stream, peer).await {
                        Ok(arrival) => {
                            let _main_is_over = events.send(Event::Accepted(arrival)).await;
                        }
                        Err(why) => log::write(Level::Info, &format!("main: {peer}: {why}")),
                    }
                });
                admission.headerless.borrow_mut().add(task.abort_handle());
            }
            Ok((stream, peer)) => {
                let arrival = stream
                    .into_std()
                    .and_then(|stream| Arrival::new(stream, peer, None));
                let Ok(arrival) = arrival else { continue };
                if events.send(Event::Accepted(arrival)).await.is_err() {
                    return;
                }
            }
            // Descriptors are used up, or the client is gone already: do not spin.
            Err(error) => {
                log::write(Level::Warning, &format!("main: error in accept(): {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if let Some(pause) = admission.pause() {
            tokio::time::sleep(pause).await;
        }
        // Below 90 % of max-clients again, or after a second.
        for _ in 0..20 {
            if !admission.crowded.get() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Arrival {
    /// `stated`: who connected to which address, as the proxy says.
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        stated: Option<(SocketAddr, SocketAddr)>,
    ) -> io::Result<Self> {
        let (peer, local) = match stated {
            Some(addresses) => addresses,
            None => (peer, stream.local_addr()?),
        };
        Ok(Self {
            stream,
            peer: unmapped(peer),
            local: unmapped(local),
        })
    }
}

/// Reads the header of a proxy in good time.
async fn read_header(mut stream: tokio::net::TcpStream, peer: SocketAddr) -> Result<Arrival, String> {
    let stated = match tokio::time::timeout(HEADER_TIME, read_addresses(&mut stream)).await {
        Ok(result) => result?,
        Err(_) => return Err("no PROXY header in time".to_owned()),
    };
    let stream = stream.into_std().map_err(|error| error.to_string())?;
    Arrival::new(stream, peer, stated).map_err(|error| error.to_string())
}

/// Reads the header of a proxy, and no octet beyond it.
async fn read_addresses(
    stream: &mut tokio::net::TcpStream,
) -> Result<Option<(SocketAddr, SocketAddr)>, String> {
    let mut seen = Vec::new();
    loop {
        match proxy_header::parse(&seen).map_err(|error| error.to_string())? {
            Progress::Done(stated) => return Ok(stated),
            Progress::More(count) => {
                let known = seen.len();
                seen.resize(known + count, 0);
                let read = stream.read_exact(seen.get_mut(known..).unwrap_or_default()).await;
                read.map_err(|error| format!("no complete PROXY header: {error}"))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;

    const LIMIT: usize = 8;
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";

    /// Silent connections beyond the limit hold up nobody: the oldest of them make room.
    #[test]
    fn silent_connections_make_room() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let admission = Admission {
                crowded: Rc::default(),
                proxied: Rc::new(Cell::new(true)),
                busy: Rc::default(),
                rate_limit: Rc::default(),
                headerless: Headerless::up_to(LIMIT),
            };
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let (events, mut inbox) = mpsc::channel(1);
            tokio::task::spawn_local(accept(listener, events, admission));

            // As many with a header do not count, whatever they do later.
            let mut served = Vec::new();
            for _ in 0..LIMIT {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(HEADER).await.unwrap();
                let Some(Event::Accepted(arrival)) = inbox.recv().await else {
                    panic!("no arrival");
                };
                assert_eq!(arrival.peer, "192.0.2.7:1234".parse().unwrap());
                served.push((stream, arrival));
            }
            let mut silent = Vec::new();
            for _ in 0..2 * LIMIT {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // The beginning of one is not enough.
                stream.write_all(b"PROXY TCP4 ").await.unwrap();
                silent.push(stream);
            }
            for stream in &mut silent[..LIMIT] {
                let ended = stream.read(&mut [0; 8]).await;
                assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
            }
            // The newest are still waited for, beside another one.
            for stream in &mut silent[LIMIT + 1..] {
                stream.write_all(&HEADER[b"PROXY TCP4 ".len()..]).await.unwrap();
                assert!(matches!(inbox.recv().await, Some(Event::Accepted(_))));
            }
        });
    }
}
