//! What workers say, and how they end.

use std::process::ExitStatus;
use std::time::Duration;

use culvert_control::messages as control;
use culvert_server_config::Compression;
use culvert_sys::process::{self, Pid};
use culvert_sys::sandbox;
use culvert_sys::signal::SIGKILL;
use culvert_vocab::{Mtu, SafeId};

use super::device;
use super::firewall::Firewall;
use super::iroutes::RouteCommands;
use super::scripts::{self, Reason, Subject};
use super::state::{Connection, Event, Phase, Server};
use crate::ipc::messages::{
    ConnectionId, LogLevel, MainToBroker, MainToWorker, Refusal, WorkerReason, WorkerToMain,
};
use crate::ipc::session::{CloseReason, Counters};
use crate::log::{self, Level};

/// Connections that are remembered after their end, for what the broker says of them later.
const DEPARTED_MAX: usize = 1024;
/// Time for a worker to say goodbye to its client.
const GOODBYE: Duration = Duration::from_secs(2);

impl Server {
    /// What a worker says. Everything that needs a tunnel is refused without one: such a worker
    /// is not ours any more.
    pub(crate) fn handle_worker(&mut self, id: ConnectionId, message: WorkerToMain) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(left) = connection.message_budget.checked_sub(1) else {
            // What it had sent before it was killed still comes.
            if connection.ended_by_us.is_none() {
                self.handle_broken_worker(id, "too many messages");
            }
            return;
        };
        connection.message_budget = left;
        let open = matches!(connection.phase, Phase::Open(_));
        match message {
            WorkerToMain::Log { level, text } => self.worker_log(id, level, text.as_str()),
            WorkerToMain::Closing { reason, counters } => {
                connection.reported = Some(reason);
                grow(&mut connection.counters, counters);
                // Otherwise main has refused, and said so.
                let by_broker = matches!(connection.phase, Phase::Login);
                if reason == WorkerReason::Refused && by_broker {
                    let user = connection.shown.username.as_deref().unwrap_or_default();
                    let text = format!("failed authentication attempt for user '{user}'");
                    self.log(id, Level::Info, "could not open session");
                    self.log(id, Level::Info, &text);
                }
            }
            WorkerToMain::Forbidden(call) => self.handle_forbidden(id, u32::from_le_bytes(call)),
            // It may still say this while it is being told to end.
            _ if matches!(connection.phase, Phase::Ending) => {}
            _ if !open => self.handle_broken_worker(id, "a message about a tunnel without one"),
            WorkerToMain::SetMtu(mtu) => self.set_mtu(id, mtu),
            WorkerToMain::Compression { stream, datagram } => {
                let shown = |method: Compression| method.name().to_owned();
                connection.shown.cstp_compression = stream.map(shown);
                connection.shown.dtls_compression = datagram.map(shown);
            }
            WorkerToMain::DatagramChannel(description) => {
                connection.shown.dtls_cipher = description.map(|text| log::printable(text.as_str()));
            }
            WorkerToMain::Report(name) => self.tell_broker(&MainToBroker::Report { id, name }),
            WorkerToMain::Counters(counters) => {
                grow(&mut connection.counters, counters);
                connection.shown.traffic = Some(traffic(connection.counters));
                if let Phase::Open(tunnel) = &connection.phase
                    && tunnel.subject.session.accounted
                {
                    let counters = connection.counters;
                    self.tell_broker(&MainToBroker::Counters { id, counters });
                }
            }
        }
    }

    fn set_mtu(&mut self, id: ConnectionId, mtu: Mtu) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Phase::Open(tunnel) = &connection.phase else {
            return;
        };
        connection.shown.mtu = Some(mtu.get());
        self.statistics.mtu(mtu.get());
        if let Err(error) = device::set_mtu(tunnel.device_index, mtu.get()) {
            let device = &tunnel.subject.device;
            let text = format!("cannot set the MTU of {device} to {}: {error}", mtu.get());
            self.log(id, Level::Warning, &text);
        }
    }

    fn worker_log(&mut self, id: ConnectionId, level: LogLevel, text: &str) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(left) = connection.log_budget.checked_sub(1) else {
            return;
        };
        connection.log_budget = left;
        let text = if left == 0 {
            "too many log lines; the rest is dropped"
        } else {
            text
        };
        let line = format!("worker{}: {} {text}", connection.label(), connection.peer.ip());
        log::write_for(connection.shown.id, level, &line);
    }

    /// A worker broke the protocol: it may be in a stranger's hands.
    pub(crate) fn handle_broken_worker(&mut self, id: ConnectionId, why: &str) {
        // While the login's process is there, it may be the one that speaks.
        if let Some(connection) = self.connections.get(&id)
            && connection.pid.is_none()
            && let Some(number) = connection.pool()
        {
            return self.handle_broken_pool(number, why);
        }
        self.log(
            id,
            Level::Error,
            &format!("killing a worker that broke the protocol: {why}"),
        );
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ended_by_us.get_or_insert(CloseReason::Error);
        }
        self.kill(id);
    }

    /// A worker tried what no worker does: it is in a stranger's hands, or this system's libraries
    /// need more than is allowed. It ends by SIGSYS.
    fn handle_forbidden(&mut self, id: ConnectionId, call: u32) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.ended_by_us.get_or_insert(CloseReason::Error);
        let worker = connection.shown.id;
        let name = sandbox::system_call_name(call).unwrap_or("unnamed");
        let text =
            format!("worker {worker} tried system call {call} ({name}), which no worker may: it is killed");
        self.log(id, Level::Error, &text);
        self.kill(id);
    }

    /// Has a connection end: its worker tells the client and exits.
    pub(crate) fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.ended_by_us.get_or_insert(reason);
        self.tell_worker(id, &MainToWorker::Terminate, Vec::new());
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(GOODBYE).await;
            let _main_is_over = events.send(Event::ReplacedTooLong(id)).await;
        });
    }

    /// The process of a worker has ended. One that has handed its tunnel over is reaped now; for
    /// others their channel says so.
    pub(crate) fn handle_worker_exited(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.pool().is_some()
            && let Some(pid) = connection.pid.take()
        {
            let _status_of_a_finished_login = reap(pid);
        }
    }

    /// Nobody carries a connection any more: clean up after this client, and only this one.
    pub(crate) fn handle_worker_gone(&mut self, id: ConnectionId) {
        if self.close_pooled_device(id) {
            return;
        }
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let status = connection.pid.and_then(reap);
        let reason = close_reason(connection, status);
        if let Some(status) = status.filter(|status| !status.success())
            && connection.ended_by_us.is_none()
        {
            self.log(
                id,
                Level::Error,
                &format!("worker {} died: {status}", connection.shown.id),
            );
        }
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if self.departed.len() == DEPARTED_MAX {
            self.departed.pop_front();
        }
        self.departed.push_back((id, connection.peer.ip()));
        log_closed(&connection, reason);
        let closed = MainToBroker::ConnectionClosed {
            id,
            reason,
            counters: connection.counters,
        };
        self.tell_broker(&closed);
        if self.connections.len() * 10 < self.clients_max() * 9 {
            self.admission.crowded.set(false);
        }
        self.take_down(id, connection, reason);
        self.successors.retain(|_, successor| *successor != id);
        if let Some(successor) = self.successors.remove(&id) {
            self.resume_open(successor);
        }
    }

    /// Closes main's copy of a pooled tunnel's device. True when there is one: then the end of the
    /// connection comes again when it is closed, since the device must be gone before its addresses are
    /// given to anybody else.
    fn close_pooled_device(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let Phase::Open(tunnel) = &mut connection.phase else {
            return false;
        };
        let Some(device) = tunnel.pool.as_mut().and_then(|pool| pool.device.take()) else {
            return false;
        };
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            let _closed = tokio::task::spawn_blocking(move || drop(device)).await;
            let _main_is_over = events.send(Event::WorkerGone(id)).await;
        });
        true
    }

    /// Takes down what a connection that is gone had, as far as it was set up.
    fn take_down(&mut self, id: ConnectionId, connection: Connection, reason: CloseReason) {
        match connection.phase {
            Phase::Open(tunnel) => {
                let lasted = tunnel.opened.elapsed();
                self.datagram_sessions.borrow_mut().remove(id);
                self.release(id, &tunnel.subject);
                self.statistics.closed(reason, connection.counters, lasted);
                self.announce(
                    control::EventKind::Disconnect {
                        reason: shown_reason(reason),
                        duration: lasted.as_secs(),
                    },
                    connection.shown,
                );
                self.run_disconnect_script(&tunnel.subject, connection.counters, lasted);
                self.note_login(&tunnel.subject, false);
            }
            // The device is gone, the script may still run: see `handle_connect_script`.
            Phase::Opening(opening) => {
                self.release(id, &opening.subject);
                self.orphans.insert(id, opening.subject);
            }
            Phase::Pinging(pinging) => self.release_session(id, &pinging.session.id),
            Phase::Login | Phase::Waiting(_) | Phase::Ending => {}
        }
    }

    /// Gives back what a session holds, unless it lives on with another connection.
    pub(crate) fn release(&mut self, id: ConnectionId, subject: &Subject) {
        self.release_session(id, &subject.session.id);
    }

    /// The same by the session's name.
    pub(crate) fn release_session(&mut self, id: ConnectionId, session: &SafeId) {
        if self.sessions.get(session) != Some(&id) {
            return;
        }
        self.sessions.remove(session);
        let moves_on = self.successors.contains_key(&id);
        if !moves_on {
            self.leases.release(session);
        }
    }

    /// Runs the disconnect script without waiting for it.
    pub(crate) fn run_disconnect_script(&mut self, subject: &Subject, counters: Counters, lasted: Duration) {
        let config = self.config.clone();
        let script = config.global.disconnect_script.as_deref();
        let reason = Reason::Disconnect(counters, lasted);
        if let Some(command) = scripts::command(subject, reason, script, scripts::firewall_program()) {
            self.run_detached(command);
        }
        if let Some(firewall) = Firewall::of(subject) {
            self.detach(async move {
                firewall.remove().await;
                Ok(())
            });
        }
        let routes = RouteCommands::new(&config.global, subject);
        if !routes.is_empty() {
            let scripts = self.scripts.clone();
            self.detach(async move {
                routes.remove(&scripts).await;
                Ok(())
            });
        }
    }

    /// Runs a script without waiting for it; a stop of the server does.
    pub(crate) fn run_detached(&mut self, command: std::process::Command) {
        let scripts = self.scripts.clone();
        self.detach(async move { scripts.run(command).await });
    }

    /// Lets something happen aside; a stop of the server waits for it.
    pub(crate) fn detach(&mut self, work: impl Future<Output = Result<(), String>> + 'static) {
        self.running_scripts += 1;
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            let result = work.await;
            let _main_is_over = events.send(Event::ScriptEnded(result)).await;
        });
    }

    /// Refuses a tunnel that the broker has verified.
    pub(crate) fn refuse(&mut self, id: ConnectionId, refusal: Refusal) {
        self.tell_broker(&MainToBroker::TunnelRefused(id));
        self.statistics.login_failed();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = Phase::Ending;
            let user = connection.shown.username.as_deref().unwrap_or_default();
            let text = format!("failed authentication attempt for user '{user}'");
            self.log(id, Level::Info, &text);
        }
        self.tell_worker(id, &MainToWorker::Refuse(refusal), Vec::new());
    }

    /// Ends what has taken too long: logins beyond `auth-timeout`.
    pub(crate) fn expire_logins(&mut self) {
        let Some(limit) = self.config.global.auth_timeout else {
            return;
        };
        // The worker ends itself on time; this is for one that does not.
        let limit = limit + Duration::from_secs(10);
        let late: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                !matches!(connection.phase, Phase::Open(_)) && connection.accepted.elapsed() > limit
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.log(
                id,
                Level::Info,
                "killing a worker that has not logged in by auth-timeout",
            );
            self.kill(id);
        }
    }
}

fn log_closed(connection: &Connection, reason: CloseReason) {
    let (ip, port) = (connection.peer.ip(), connection.peer.port());
    let name = format!("main{}:{ip}:{port}", connection.label());
    log::write(Level::Debug, &format!("{name} worker terminated"));
    let level = match connection.phase {
        Phase::Open(_) => Level::Info,
        _ => Level::Debug,
    };
    let Counters { rx, tx } = connection.counters;
    let text = format!(
        "{name} user disconnected (reason: {}, rx: {rx}, tx: {tx})",
        reason.text()
    );
    log::write(level, &text);
}

/// How a worker ended. One that could not be watched may still be about to: it is killed.
pub(super) fn reap(pid: Pid) -> Option<ExitStatus> {
    if let Ok(Some(status)) = process::try_wait(pid) {
        return Some(status);
    }
    let _already_dead = process::kill(pid, SIGKILL);
    process::wait(pid).ok()
}

fn close_reason(connection: &Connection, status: Option<ExitStatus>) -> CloseReason {
    if let Some(reason) = connection.ended_by_us {
        return reason;
    }
    match connection.reported {
        Some(WorkerReason::UserLogout) => CloseReason::UserLogout,
        Some(WorkerReason::ClientDisconnect) => CloseReason::ClientDisconnect,
        Some(WorkerReason::IdleTimeout) => CloseReason::IdleTimeout,
        Some(WorkerReason::DpdTimeout) => CloseReason::DpdTimeout,
        Some(WorkerReason::SessionTimeout) => CloseReason::SessionTimeout,
        Some(WorkerReason::Error) => CloseReason::Error,
        Some(WorkerReason::Told) => CloseReason::ServerDisconnect,
        Some(WorkerReason::Unspecified | WorkerReason::Refused) => CloseReason::Unspecified,
        None if status.is_some_and(|status| status.success()) => CloseReason::Unspecified,
        None => CloseReason::Error,
    }
}

/// Counters only grow, whatever a worker says.
fn grow(counters: &mut Counters, reported: Counters) {
    counters.rx = counters.rx.max(reported.rx);
    counters.tx = counters.tx.max(reported.tx);
}

pub(super) fn traffic(counters: Counters) -> control::Traffic {
    control::Traffic {
        rx: counters.rx,
        tx: counters.tx,
    }
}

fn shown_reason(reason: CloseReason) -> control::DisconnectReason {
    use control::DisconnectReason as Shown;
    match reason {
        CloseReason::Unspecified => Shown::Unspecified,
        CloseReason::UserLogout => Shown::User,
        CloseReason::ClientDisconnect => Shown::AnyConnectClient,
        CloseReason::ServerDisconnect | CloseReason::AdminDisconnect => Shown::Server,
        CloseReason::IdleTimeout => Shown::IdleTimeout,
        CloseReason::DpdTimeout => Shown::DpdTimeout,
        CloseReason::SessionTimeout => Shown::SessionTimeout,
        CloseReason::Error => Shown::Error,
    }
}
