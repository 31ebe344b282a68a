//! The end of the server (`specs/server-config.md` §5).

use std::io;
use std::time::Duration;

use super::device;
use super::service_manager;
use super::state::{Event, Server, Stage};
use crate::ipc::messages::ConnectionId;
use crate::ipc::session::CloseReason;
use crate::log::{self, Level};

/// Longest time for clients to be told and scripts to run.
const STOP_TIME: Duration = Duration::from_secs(4);

impl Server {
    /// SIGTERM, SIGINT or `occtl stop now`.
    pub(crate) fn stop(&mut self) {
        match (self.stage, self.config.global.server_drain) {
            (Stage::Serving, Some(time)) => {
                log::write(
                    Level::Notice,
                    &format!("main: draining for {} ms, then stopping", time.as_millis()),
                );
                self.stage = Stage::Draining;
                self.stop_accepting();
                self.remind(Stage::Stopping, time);
            }
            (Stage::Serving | Stage::Draining, _) => self.stop_now(),
            (Stage::Stopping | Stage::Over, _) => {}
        }
    }

    /// A time that [`Server::remind`] set is over.
    pub(crate) fn time_is_up(&mut self, stage: Stage) {
        match stage {
            Stage::Stopping => self.stop_now(),
            Stage::Over => {
                let late: Vec<ConnectionId> = self.connections.keys().copied().collect();
                for id in late {
                    self.log(id, Level::Warning, "killing a worker that does not stop");
                    self.kill(id);
                }
                self.stage = Stage::Over;
            }
            Stage::Serving | Stage::Draining => {}
        }
    }

    /// The broker is gone: nobody can log in or reconnect any more, so the server ends.
    pub(crate) fn handle_broker_gone(&mut self, why: &str) {
        if self.stage >= Stage::Stopping {
            return;
        }
        log::write(
            Level::Error,
            &format!("main: command socket for sec-mod closed: {why}"),
        );
        self.exit_code = 1;
        self.stop_now();
    }

    /// True when nothing is left to wait for.
    pub(crate) fn is_over(&self) -> bool {
        let quiet = self.connections.is_empty() && self.running_scripts == 0 && self.orphans.is_empty();
        self.stage == Stage::Over || (self.stage == Stage::Stopping && quiet)
    }

    fn stop_now(&mut self) {
        if self.stage >= Stage::Stopping {
            return;
        }
        log::write(
            Level::Info,
            "main: termination request received; waiting for sessions to die",
        );
        self.stage = Stage::Stopping;
        service_manager::stopping();
        self.stop_accepting();
        for connection in self.connections.values_mut() {
            connection
                .ended_by_us
                .get_or_insert(CloseReason::ServerDisconnect);
        }
        // All devices at once, before anybody closes one: one by one thousands take minutes, and
        // whoever comes first makes the others wait.
        let (group, events) = (self.fixed.device_group, self.events.clone());
        tokio::task::spawn_local(async move {
            let removed = tokio::task::spawn_blocking(move || device::remove_group(group)).await;
            let _main_is_over = events
                .send(Event::DevicesRemoved(
                    removed.unwrap_or_else(|panic| Err(panic.into())),
                ))
                .await;
        });
        self.remind(Stage::Over, STOP_TIME);
    }

    /// The devices are gone, and packets with them: the clients are told. Those of a server that ends
    /// because it cannot go on are not: their sessions are in the journal, so they may come back to the
    /// next one.
    pub(crate) fn handle_devices_removed(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            log::write(
                Level::Warning,
                &format!("main: cannot remove the tun devices: {error}"),
            );
        }
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in all {
            match self.exit_code {
                0 => self.end(id, CloseReason::ServerDisconnect),
                _ => self.kill(id),
            }
        }
    }

    fn stop_accepting(&mut self) {
        for task in self.accepting.drain(..) {
            // The socket closes with the task that owns it.
            task.abort();
        }
    }

    fn remind(&self, stage: Stage, time: Duration) {
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            let _main_is_over = events.send(Event::TimeIsUp(stage)).await;
        });
    }
}
