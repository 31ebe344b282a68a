//! A worker for each new connection: admission, channels, its process (`specs/server-auth.md` §5).

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use culvert_control::messages as control;
use culvert_sys::channel::Channel;
use culvert_sys::process;
use tokio::sync::{mpsc, oneshot};

use super::accept::Arrival;
use super::state::{Connection, Event, Phase, Server, Stage, unix_time};
use crate::ipc::link::{self, LinkError, Receiver};
use crate::ipc::messages::{ConnectionId, MainToBroker, MainToZygote, SpawnRequest, WorkerToMain};
use crate::ipc::pollable;
use crate::ipc::session::{CloseReason, Counters};
use crate::log::{self, Level};

/// Log lines that a worker may write per maintenance interval.
pub(crate) const LOG_BUDGET: u32 = 1000;
/// Messages that a worker may send per maintenance interval. A worker sends log lines, of which it
/// limits itself to fewer than [`LOG_BUDGET`], counters every 10 seconds, and news of its tunnel,
/// which are rare.
pub(crate) const MESSAGE_BUDGET: u32 = 2 * LOG_BUDGET;

/// Time for a worker to end after it has closed its channel.
pub(super) const EXIT_TIME: Duration = Duration::from_secs(2);

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
