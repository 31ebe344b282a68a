//! New connections: admission, channels, a worker for each (`specs/server-auth.md` §5).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use culvert_control::messages as control;
use culvert_server_config::Global;
use culvert_sys::channel::Channel;
use culvert_sys::process;

use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::listen::unmapped;
use super::state::{Connection, Event, Phase, Server, Stage, unix_time};
use crate::ipc::link::{self, LinkError, Receiver};
use crate::ipc::messages::{ConnectionId, MainToBroker, MainToZygote, SpawnRequest, WorkerToMain};
use crate::ipc::pollable;
use crate::ipc::session::{CloseReason, Counters};
use crate::log::{self, Level};
use crate::proxy_header::{self, Progress};

/// Log lines that a worker may write per maintenance interval.
pub(crate) const LOG_BUDGET: u32 = 1000;
/// Messages that a worker may send per maintenance interval. A worker sends log lines, of which it
/// limits itself to fewer than [`LOG_BUDGET`], counters every 10 seconds, and news of its tunnel,
/// which are rare.
pub(crate) const MESSAGE_BUDGET: u32 = 2 * LOG_BUDGET;

/// Longest time for the header of a proxy.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Most connections whose header is waited for at a time.
const HEADERS_MAX: usize = 1024;
/// Time for a worker to end after it has closed its channel.
pub(super) const EXIT_TIME: Duration = Duration::from_secs(2);

/// A connection before its admission.
pub(crate) struct Arrival {
    stream: TcpStream,
    /// The client, unmapped.
    peer: SocketAddr,
    /// Our address that it connected to, unmapped.
    local: SocketAddr,
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

impl Server {
    /// Admits a connection or closes it without a word.
    pub(crate) fn handle_accepted(&mut self, arrival: Arrival) {
        if self.stage != Stage::Serving {
            return;
        }
        self.follow_certificates(Instant::now());
        if let Some(reloading) = &mut self.reloading {
            return reloading.hold(arrival);
        }
        let peer = arrival.peer;
        let max = self.clients_max();
        if self.connections.len() >= max {
            self.admission.crowded.set(true);
            return log::write(
                Level::Info,
                &format!("main: reached maximum client limit (active: {max})"),
            );
        }
        let points = self.config.global.ban.points_connection;
        let verdict = self.bans.connection(peer.ip(), points, Instant::now());
        if self.bans.is_local(peer.ip()) {
            let text = format!("main: Not applying ban to local IP: {}", peer.ip());
            log::write(Level::Debug, &text);
        } else if verdict.newly_banned || !verdict.banned {
            self.report_points(peer.ip(), points, verdict);
        }
        if verdict.banned {
            return log::write(
                Level::Info,
                &format!("main: rejected connection from banned IP: {}", peer.ip()),
            );
        }
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        if let Err(error) = self.start_worker(id, arrival) {
            log::write(Level::Error, &format!("main: cannot serve {peer}: {error}"));
        }
    }

    /// Most connections at a time: `max-clients`, and never more than there are descriptors for. Without
    /// the latter nothing would be left for scripts, `occtl` and the log.
    pub(crate) fn clients_max(&self) -> usize {
        let configured = self.config.global.max_clients;
        configured.map_or(self.fixed.clients_max, |max| {
            self.fixed.clients_max.min(max as usize)
        })
    }

    /// The broker has more work waiting than it should, or no longer.
    pub(crate) fn handle_load(&mut self, busy: bool) {
        self.admission.busy.set(busy);
        let Some(pause) = self.config.global.rate_limit else {
            return;
        };
        let text = match busy {
            true => format!(
                "too many logins wait: {} ms between connections",
                pause.as_millis()
            ),
            false => "logins wait no longer".to_owned(),
        };
        log::write(Level::Info, &format!("main: {text}"));
    }

    fn start_worker(&mut self, id: ConnectionId, arrival: Arrival) -> Result<(), LinkError> {
        let Arrival { stream, peer, local } = arrival;
        // Over a socket that is not really TCP (preload wrappers) this may be refused.
        let _best_effort = stream.set_nodelay(true);
        let (main_end, worker_main_end) = Channel::pair()?;
        let (broker_end, worker_broker_end) = Channel::pair()?;
        let (sender, receiver) = link::split(main_end)?;
        let spawn = MainToZygote::Spawn(SpawnRequest { id, peer, local });
        let descriptors = vec![
            stream.into(),
            worker_main_end.into_fd(),
            worker_broker_end.into_fd(),
        ];
        self.broker.send(
            &MainToBroker::Connection { id, peer, local },
            vec![broker_end.into_fd()],
        )?;
        let (process, pidfd) = oneshot::channel();
        let shown = control::Connection {
            // With a pool the worker's process is not there for long.
            id: self.pool.as_ref().map_or(0, |_| id.0 as u32),
            vhost: "default".to_owned(),
            remote_ip: Some(peer.ip()),
            local_ip: Some(local.ip()),
            connected_at: unix_time(SystemTime::now()),
            ..control::Connection::default()
        };
        let connection = Connection {
            peer,
            local,
            worker: sender,
            pid: None,
            process: Some(process),
            accepted: Instant::now(),
            shown,
            phase: Phase::Login,
            ended_by_us: None,
            reported: None,
            counters: Counters::default(),
            log_budget: LOG_BUDGET,
            message_budget: MESSAGE_BUDGET,
        };
        self.connections.insert(id, connection);
        tokio::task::spawn_local(watch(id, receiver, pidfd, self.events.clone()));
        if let Err(error) = self.zygotes.sender().send(&spawn, descriptors) {
            // The task sees the process missing and reports the end.
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.process = None;
            }
            return Err(error);
        }
        Ok(())
    }

    /// The zygote has cloned a worker.
    pub(crate) fn handle_spawned(&mut self, id: ConnectionId, pid: u32) {
        let Ok(pid) = i32::try_from(pid) else { return };
        let pidfd = process::pidfd(pid);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.pid = Some(pid);
        if self.pool.is_none() {
            connection.shown.id = pid.unsigned_abs();
        }
        let ended_meanwhile = connection.ended_by_us.is_some();
        match (connection.process.take(), pidfd) {
            (Some(process), Ok(pidfd)) => drop(process.send(pidfd)),
            (_, Err(error)) => {
                self.log(id, Level::Error, &format!("cannot watch worker {pid}: {error}"));
                self.kill(id);
            }
            (None, Ok(_)) => {}
        }
        // Whoever ended it had no process to kill yet.
        if ended_meanwhile {
            self.kill(id);
        }
    }

    /// There is no worker for a connection.
    pub(crate) fn handle_spawn_failed(&mut self, id: ConnectionId, why: &str) {
        self.log(id, Level::Error, &format!("cannot start a worker: {why}"));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ended_by_us = Some(CloseReason::Error);
            connection.process = None;
        }
        // A zygote may die after it has cloned and before it says so.
        self.kill(id);
    }
}

/// Passes on what a worker says, and then its end.
async fn watch(
    id: ConnectionId,
    mut receiver: Receiver,
    process: oneshot::Receiver<OwnedFd>,
    events: mpsc::Sender<Event>,
) {
    let mut exit = pin!(async {
        if let Ok(pidfd) = process.await {
            let _ended = ended(pidfd).await;
        }
    });
    let mut exited = false;
    loop {
        let received = tokio::select! {
            biased;
            received = receiver.receive::<WorkerToMain>() => received,
            () = &mut exit, if !exited => {
                exited = true;
                if events.send(Event::WorkerExited(id)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let event = match received {
            Ok(Some((message, _))) => Event::Worker(id, message),
            Ok(None) => break,
            Err(error) => {
                let _main_is_over = events.send(Event::WorkerBroke(id, error.to_string())).await;
                break;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
    if !exited {
        // One that has closed its channel has nothing left to do.
        let _killed_later = tokio::time::timeout(EXIT_TIME, exit).await;
    }
    let _main_is_over = events.send(Event::WorkerGone(id)).await;
}

/// Waits until the process behind a pidfd has ended.
pub(super) async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    let pidfd = pollable(pidfd)?;
    let _ready = pidfd.readable().await?;
    Ok(())
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
