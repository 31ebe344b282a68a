//! The process that clones workers: started, replaced when it dies, and renewed now and then, so
//! that not all workers ever have the memory layout of one process.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::children::{Started, launch_zygote, start_zygote};
use super::reload::{send_snapshot, snapshot};
use super::state::{Event, Server, Stage};
use crate::ipc::link::{self, Receiver, Sender};
use crate::ipc::messages::{ConnectionId, ZygoteToMain};
use crate::log::{self, Level};

/// A zygote that ends sooner than this after its start is not started again.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// A zygote is renewed at this age, and at every reload.
const LIFE: Duration = Duration::from_secs(24 * 3600);

type Problem = Box<dyn std::error::Error>;

/// A zygote that main talks to.
pub(crate) struct Zygote {
    /// Which one: its messages come with this number.
    number: u64,
    sender: Sender,
    child: Child,
    watch: JoinHandle<()>,
    started: Instant,
}

/// The zygotes of a server. There is one but for the moments of a renewal.
pub(crate) struct Zygotes {
    /// Makes the workers.
    present: Zygote,
    /// Takes over when it is ready.
    next: Option<Zygote>,
    /// Has done its work, but for what it was asked for last.
    retired: Option<Zygote>,
}

impl Zygote {
    fn adopt(number: u64, started: Started, events: &mpsc::Sender<Event>) -> std::io::Result<Self> {
        let (sender, receiver) = link::split(started.channel.into_channel())?;
        Ok(Self {
            number,
            sender,
            child: started.child,
            watch: tokio::task::spawn_local(watch(number, receiver, events.clone())),
            started: Instant::now(),
        })
    }

    /// Ends it and leaves no zombie; says how it ended. It holds nothing, so it may be killed.
    fn end(mut self) -> Option<ExitStatus> {
        self.watch.abort();
        let _already_dead = self.child.kill();
        self.child.wait().ok()
    }
}

impl Zygotes {
    /// With the first one, which is ready and has its snapshot.
    ///
    /// # Errors
    /// Its channel cannot be polled.
    pub(crate) fn new(first: Started, events: &mpsc::Sender<Event>) -> std::io::Result<Self> {
        Ok(Self {
            present: Zygote::adopt(1, first, events)?,
            next: None,
            retired: None,
        })
    }

    /// The channel to the one that makes workers.
    pub(crate) fn sender(&self) -> &Sender {
        &self.present.sender
    }

    /// Ends all of them.
    pub(crate) fn end(self) {
        let Self {
            present,
            next,
            retired,
        } = self;
        for zygote in [Some(present), next, retired].into_iter().flatten() {
            zygote.end();
        }
    }

    fn newest(&self) -> u64 {
        self.next.as_ref().map_or(self.present.number, |next| next.number)
    }

    /// Ends the retired one. By the next call all that it was asked for is long done.
    fn tidy(&mut self) {
        if let Some(retired) = self.retired.take() {
            retired.end();
        }
    }
}

impl Server {
    /// Starts a zygote that takes over when it is ready. One that cannot be started is only a
    /// line in the log: the present one serves on.
    pub(crate) fn renew_zygote(&mut self) {
        let fixed = &self.fixed;
        let number = self.zygotes.newest() + 1;
        let launched = launch_zygote(&fixed.child_arguments, fixed.daemon, &fixed.confinement)
            .map_err(Problem::from)
            .and_then(|started| Ok(Zygote::adopt(number, started, &self.events)?));
        match launched {
            Ok(next) => {
                if let Some(overtaken) = self.zygotes.next.replace(next) {
                    overtaken.end();
                }
            }
            Err(error) => log_not_renewed(&*error),
        }
    }

    /// Maintenance: ends the retired zygote, renews one that has served long.
    pub(crate) fn maintain_zygotes(&mut self) {
        self.zygotes.tidy();
        if self.zygotes.present.started.elapsed() >= LIFE && self.zygotes.next.is_none() {
            self.renew_zygote();
        }
    }

    /// What a zygote says.
    pub(crate) fn handle_zygote(&mut self, number: u64, message: ZygoteToMain) {
        match message {
            ZygoteToMain::Ready => self.succeed(number),
            ZygoteToMain::Log { level, text } => log::write(level, &format!("worker: {text}")),
            ZygoteToMain::Spawned { id, pid } => self.handle_spawned(id, pid),
            ZygoteToMain::PoolSpawned { number, pid } => self.handle_pool_spawned(number, pid),
            ZygoteToMain::SpawnFailed { id, why } => self.handle_spawn_failed(id, why.as_str()),
        }
    }

    /// The next zygote is ready.
    fn succeed(&mut self, number: u64) {
        let Some(next) = self.zygotes.next.take_if(|next| next.number == number) else {
            return;
        };
        // What is in force now, also when there was a reload meanwhile.
        let given = snapshot(&self.config, self.fixed.log_level)
            .and_then(|snapshot| send_snapshot(&snapshot, |message| next.sender.send(message, Vec::new())));
        if let Err(error) = given {
            log_not_renewed(&error);
            next.end();
            return;
        }
        self.zygotes.tidy();
        self.zygotes.retired = Some(std::mem::replace(&mut self.zygotes.present, next));
        log::write(Level::Debug, "main: the process that makes workers was renewed");
    }

    /// Without a zygote nobody new can connect: another one is started.
    pub(crate) fn handle_zygote_gone(&mut self, number: u64, why: &str) {
        if self.stage >= Stage::Stopping {
            return;
        }
        if let Some(failed) = self.zygotes.next.take_if(|next| next.number == number) {
            log_not_renewed(why);
            failed.end();
            return;
        }
        if self.zygotes.present.number != number {
            // The retired one, at the end of its life or before.
            return;
        }
        log::write(
            Level::Error,
            &format!("main: the process that makes workers is gone: {why}"),
        );
        let unborn: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.pid.is_none() && connection.pool().is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in unborn {
            self.handle_spawn_failed(id, why);
        }
        let restarted = if self.zygotes.present.started.elapsed() < SHORTEST_LIFE {
            Err("it ended right after its start".into())
        } else {
            self.restart_zygote()
        };
        match restarted {
            Ok(started) => {
                let gone = std::mem::replace(&mut self.zygotes.present, started);
                if let Some(status) = gone.end() {
                    log::write(Level::Error, &format!("main: zygote ended: {status}"));
                }
            }
            Err(why) => {
                log::write(
                    Level::Error,
                    &format!("main: cannot make workers any more: {why}"),
                );
                self.exit_code = 1;
                self.stop();
            }
        }
    }

    fn restart_zygote(&self) -> Result<Zygote, Problem> {
        let fixed = &self.fixed;
        let started = start_zygote(&fixed.child_arguments, fixed.daemon, &fixed.confinement)?;
        let snapshot = snapshot(&self.config, fixed.log_level)?;
        send_snapshot(&snapshot, |message| started.channel.send(message, &[]))?;
        Ok(Zygote::adopt(self.zygotes.newest() + 1, started, &self.events)?)
    }
}

fn log_not_renewed(why: impl std::fmt::Display) {
    log::write(
        Level::Warning,
        &format!("main: the process that makes workers is not renewed: {why}"),
    );
}

/// Passes on what a zygote says, and then its end.
async fn watch(number: u64, mut receiver: Receiver, events: mpsc::Sender<Event>) {
    let why = loop {
        match receiver.receive::<ZygoteToMain>().await {
            Ok(Some((message, _))) => {
                if events.send(Event::Zygote(number, message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => break "it ended".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let _main_is_over = events.send(Event::ZygoteGone(number, why)).await;
}
