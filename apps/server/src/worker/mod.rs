//! The worker: the only process that reads what a client sends. It has the client's connection,
//! a channel to main and one to the broker, and nothing else; all that it is allowed to do is
//! what their messages allow.
//!
//! A login ([`login`], [`connect`]) ends in a [`hand_over::HandOver`], which [`tunnel`] carries on.

mod broker;
mod connect;
mod hand_over;
mod log;
mod login;
mod stream;
mod tls;
mod tunnel;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::ipc::link::Blocking;
use crate::ipc::messages::{LogLevel, SpawnRequest, WorkerReason, WorkerToMain};
use crate::ipc::session::Counters;
use crate::ipc::snapshot::Snapshot;

use self::broker::Broker;
use self::log::Reporter;
use self::stream::{End, Stream};

/// What a worker is given.
pub(crate) struct Links {
    /// The client's connection.
    pub(crate) tcp: OwnedFd,
    /// Channel to main.
    pub(crate) main: Blocking,
    /// Channel to the broker.
    pub(crate) broker: Blocking,
}

/// The whole life of a worker.
pub(crate) fn run(snapshot: &Snapshot, request: &SpawnRequest, links: Links) {
    let reporter = Arc::new(Reporter::new(links.main, snapshot.log_level));
    let witness = Arc::clone(&reporter);
    std::panic::set_hook(Box::new(move |panic| {
        witness.log(LogLevel::Error, &panic.to_string())
    }));
    let deadline = snapshot.auth_timeout.map(|limit| Instant::now() + limit);
    let broker = Arc::new(Broker::new(links.broker, deadline));
    let ended = Stream::new(links.tcp, Arc::clone(&reporter), deadline)
        .map_err(End::Io)
        .and_then(|stream| login::run(snapshot, request, &broker, stream));
    let (reason, counters) = match ended {
        Ok(opened) => {
            // Nothing is asked of the broker any more.
            drop(broker);
            tunnel::run(opened, &reporter, snapshot.isolate_workers)
        }
        Err(end) => (farewell(&end, &reporter), Counters::default()),
    };
    reporter.tell(&WorkerToMain::Closing { reason, counters });
}

fn farewell(end: &End, reporter: &Reporter) -> WorkerReason {
    let (level, reason) = match end {
        End::Refused | End::PeerClosed | End::Answered => (LogLevel::Debug, WorkerReason::Unspecified),
        End::Told => (LogLevel::Debug, WorkerReason::Told),
        End::Io(_) | End::Late => (LogLevel::Info, WorkerReason::Unspecified),
        End::Tls(_) | End::Http(_) => (LogLevel::Info, WorkerReason::Error),
        End::Channel(_) | End::Protocol(_) => (LogLevel::Error, WorkerReason::Error),
    };
    reporter.log(level, &end.to_string());
    reason
}
