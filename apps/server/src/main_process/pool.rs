//! The processes of the pool (`worker-processes = N`): starting them, giving them tunnels, and what
//! they say.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use culvert_sys::channel::Channel;
use culvert_sys::process::{self, Pid};
use culvert_sys::sandbox;
use culvert_sys::signal::SIGKILL;
use culvert_sys::udp::{Steering, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use super::admit::{EXIT_TIME, ended};
use super::listen::prepare_udp;
use super::state::{Event, Server, Stage};
use super::workers::reap;
use super::{datagrams, filter};
use crate::ipc::link::{self, LinkError, Receiver, Sender};
use crate::ipc::messages::{MainToZygote, PoolNumber};
use crate::ipc::pool::{Adoption, MainToPool, PoolToMain};
use crate::log::{self, Level};

/// A process that ends sooner than this is started again only after [`PAUSE`].
const LIFE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
/// First datagrams per second that a process may ask about.
const STRAYS: u32 = 100;
/// Messages per second that a process may send: first datagrams, of which it limits itself to fewer,
/// and rare log lines.
const MESSAGES: u32 = 500;
/// Octets of buffer of a UDP socket that all clients of a process share: what waits there delays
/// everybody.
const BUFFER: usize = 1 << 20;

/// All processes of the pool and their sockets.
pub(crate) struct Pool {
    steering: Steering,
    /// For each address the sockets of all processes, in the order of the kernel's group. They
    /// stay open here, so that a new process gets the socket of its predecessor.
    groups: Vec<(SocketAddr, Vec<UdpSocket>)>,
    processes: Vec<Process>,
}

struct Process {
    /// `None` while there is no process.
    link: Option<Sender>,
    pid: Option<Pid>,
    /// Tells the watching task about the process; taken when it is known.
    spawned: Option<oneshot::Sender<OwnedFd>>,
    started: Instant,
    strays: Rate,
    messages: Rate,
}

/// How much happened in the present second.
struct Rate {
    since: Instant,
    count: u32,
}

impl Rate {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    /// Counts one more; false above `limit`.
    fn is_below(&mut self, limit: u32) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.count += 1;
        self.count <= limit
    }
}

impl Pool {
    /// A pool of `count` processes, not started yet, that takes over the listening sockets of
    /// `udp`. What the kernel does not let several processes share stays in `udp`, for main. `esp`: ESP
    /// packets come there, too.
    pub(crate) fn new(
        count: u16,
        udp: &mut Vec<(UdpSocket, SocketAddr)>,
        discover_mtu: bool,
        esp: bool,
    ) -> Self {
        let now = Instant::now();
        let mut pool = Self {
            steering: Steering::new(count),
            groups: Vec::new(),
            processes: Vec::new(),
        };
        pool.processes.resize_with(usize::from(count), || Process {
            link: None,
            pid: None,
            spawned: None,
            started: now,
            strays: Rate::new(),
            messages: Rate::new(),
        });
        udp.retain(|(_, address)| match pool.bind(*address, discover_mtu, esp) {
            Ok(group) => {
                pool.groups.push((*address, group));
                false
            }
            Err(error) => {
                log::write(
                    Level::Notice,
                    &format!("main: the pool does not share the UDP port of {address}: {error}"),
                );
                true
            }
        });
        pool
    }

    fn bind(&self, address: SocketAddr, discover_mtu: bool, esp: bool) -> std::io::Result<Vec<UdpSocket>> {
        let mut group = Vec::new();
        for _ in &self.processes {
            let socket = UdpSocket::bind_in_group(address)?;
            prepare_udp(&socket, discover_mtu)?;
            // What is refused leaves the usual sizes, and junk for the process to sort out.
            let _best_effort = socket
                .force_receive_buffer(BUFFER)
                .and_then(|()| socket.force_send_buffer(BUFFER))
                .and_then(|()| socket.set_filter(&filter::records(esp)));
            group.push(socket);
        }
        if let Some(first) = group.first() {
            first.steer_group(self.steering)?;
        }
        Ok(group)
    }

    /// Gives a tunnel to a process: the one that gets the datagrams of this client, if it runs.
    /// Returns which, and the end of the channel on which the login hands the tunnel over.
    ///
    /// # Errors
    /// No process runs, or it cannot be reached.
    pub(crate) fn adopt(
        &self,
        peer: IpAddr,
        datagram_id: Option<[u8; 32]>,
        tun: OwnedFd,
    ) -> Result<(PoolNumber, OwnedFd), LinkError> {
        let home = self.steering.socket_of(peer);
        let count = self.processes.len() as u16;
        let running = (0..count)
            .map(|offset| (home + offset) % count)
            .find_map(|number| Some((number, self.processes.get(usize::from(number))?.link.as_ref()?)));
        let Some((number, link)) = running else {
            return Err(LinkError::Io(std::io::ErrorKind::NotFound.into()));
        };
        let (near, far) = Channel::pair()?;
        let adoption = Adoption { peer, datagram_id };
        link.send(&MainToPool::Adopt(adoption), vec![tun, far.into_fd()])?;
        Ok((PoolNumber(number), near.into_fd()))
    }

    fn get_mut(&mut self, number: PoolNumber) -> Option<&mut Process> {
        self.processes.get_mut(usize::from(number.0))
    }

    /// Is this one of our addresses for datagrams?
    fn listens_on(&self, local: SocketAddr) -> bool {
        self.groups.iter().any(|(bound, _)| {
            bound.port() == local.port()
                && bound.is_ipv4() == local.is_ipv4()
                && (bound.ip().is_unspecified() || bound.ip() == local.ip())
        })
    }

    /// Ends all processes, at the end of the server.
    pub(crate) fn kill_all(&mut self) {
        for process in &mut self.processes {
            process.link = None;
            if let Some(pid) = process.pid.take() {
                let _already_dead = process::kill(pid, SIGKILL);
                let _reaped = process::wait(pid);
            }
        }
    }
}

impl Server {
    /// Starts all processes of the pool.
    pub(crate) fn start_pool(&mut self) {
        let count = self.pool.as_ref().map_or(0, |pool| pool.processes.len() as u16);
        for number in 0..count {
            self.start_pool_process(PoolNumber(number));
        }
    }

    /// Starts one process of the pool.
    pub(crate) fn start_pool_process(&mut self, number: PoolNumber) {
        if self.stage >= Stage::Stopping {
            return;
        }
        if let Err(error) = self.try_start_pool_process(number) {
            log::write(
                Level::Error,
                &format!("main: cannot start a pool process: {error}"),
            );
            self.start_pool_process_later(number);
        }
    }

    fn try_start_pool_process(&mut self, number: PoolNumber) -> Result<(), LinkError> {
        let events = self.events.clone();
        let (near, far) = Channel::pair()?;
        let (sender, receiver) = link::split(near)?;
        let Some(pool) = &mut self.pool else { return Ok(()) };
        for (bound, group) in &pool.groups {
            if let Some(socket) = group.get(usize::from(number.0)) {
                sender.send(&MainToPool::Socket(*bound), vec![socket.try_clone()?.into_fd()])?;
            }
        }
        self.zygotes
            .sender()
            .send(&MainToZygote::SpawnPool(number), vec![far.into_fd()])?;
        let (spawned, pidfd) = oneshot::channel();
        if let Some(process) = pool.get_mut(number) {
            process.link = Some(sender);
            process.spawned = Some(spawned);
            process.started = Instant::now();
        }
        tokio::task::spawn_local(watch(number, receiver, pidfd, events));
        Ok(())
    }

    fn start_pool_process_later(&self, number: PoolNumber) {
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(PAUSE).await;
            let _main_is_over = events.send(Event::StartPool(number)).await;
        });
    }

    /// The zygote has cloned a pool process.
    pub(crate) fn handle_pool_spawned(&mut self, number: PoolNumber, pid: u32) {
        let Ok(pid) = Pid::try_from(pid) else { return };
        let pidfd = process::pidfd(pid);
        let Some(process) = self.pool.as_mut().and_then(|pool| pool.get_mut(number)) else {
            return;
        };
        process.pid = Some(pid);
        if let (Some(spawned), Ok(pidfd)) = (process.spawned.take(), pidfd) {
            drop(spawned.send(pidfd));
        }
    }

    /// What a pool process says.
    pub(crate) fn handle_pool(&mut self, number: PoolNumber, message: PoolToMain) {
        let process = self.pool.as_mut().and_then(|pool| pool.get_mut(number));
        if process.is_none_or(|process| !process.messages.is_below(MESSAGES)) {
            return self.handle_broken_pool(number, "too many messages");
        }
        match message {
            PoolToMain::Log { level, text } => {
                let text = log::printable(text.as_str());
                log::write(level, &format!("pool process {}: {text}", number.0));
            }
            PoolToMain::Stray { local, peer, packet } => {
                self.handle_stray(number, local, peer, packet.as_slice())
            }
            PoolToMain::Forbidden(call) => {
                let call = u32::from_le_bytes(call);
                let name = sandbox::system_call_name(call).unwrap_or("unnamed");
                let why = format!("it tried system call {call} ({name}), which no worker may");
                self.handle_broken_pool(number, &why);
            }
        }
    }

    fn handle_stray(&mut self, number: PoolNumber, local: SocketAddr, peer: SocketAddr, packet: &[u8]) {
        let Some(pool) = &mut self.pool else { return };
        if !pool.listens_on(local) {
            return self.handle_broken_pool(number, "a datagram to an address that is not ours");
        }
        let Some(process) = pool.get_mut(number) else {
            return;
        };
        if !process.strays.is_below(STRAYS) {
            return;
        }
        if let Some(datagram) = datagrams::find(&self.datagram_sessions, local, peer, packet) {
            self.handle_datagram(datagram);
        }
    }

    /// A pool process broke the protocol: it may be in a stranger's hands.
    pub(crate) fn handle_broken_pool(&mut self, number: PoolNumber, why: &str) {
        log::write(
            Level::Error,
            &format!(
                "main: killing pool process {}, which broke the protocol: {why}",
                number.0
            ),
        );
        if let Some(pid) = self
            .pool
            .as_mut()
            .and_then(|pool| pool.get_mut(number))
            .and_then(|process| process.pid)
        {
            let _already_dead = process::kill(pid, SIGKILL);
        }
    }

    /// A pool process has ended. Its clients' channels say so, too; they come back with their cookies.
    pub(crate) fn handle_pool_gone(&mut self, number: PoolNumber) {
        let stopping = self.stage >= Stage::Stopping;
        let Some(process) = self.pool.as_mut().and_then(|pool| pool.get_mut(number)) else {
            return;
        };
        process.link = None;
        process.spawned = None;
        let status = process.pid.take().and_then(reap);
        if stopping {
            return;
        }
        let text = status.map_or_else(|| "it did not start".to_owned(), |status| status.to_string());
        let soon = process.started.elapsed() < LIFE;
        log::write(
            Level::Error,
            &format!("main: pool process {} died: {text}", number.0),
        );
        if soon {
            self.start_pool_process_later(number);
        } else {
            self.start_pool_process(number);
        }
    }
}

/// Passes on what a pool process says, and then its end.
async fn watch(
    number: PoolNumber,
    mut receiver: Receiver,
    process: oneshot::Receiver<OwnedFd>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let event = match receiver.receive::<PoolToMain>().await {
            Ok(Some((message, _))) => Event::Pool(number, message),
            Ok(None) => break,
            Err(error) => {
                let _main_is_over = events.send(Event::PoolBroke(number, error.to_string())).await;
                break;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
    // One that has closed its channel has nothing left to do; there may never have been one.
    let exit = async {
        if let Ok(pidfd) = process.await {
            let _ended = ended(pidfd).await;
        }
    };
    let _killed_later = tokio::time::timeout(EXIT_TIME, exit).await;
    let _main_is_over = events.send(Event::PoolGone(number)).await;
}
