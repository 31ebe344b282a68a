//! The worker: the only process that reads what a client sends. It has the client's connection,
//! a channel to main and one to the broker, and nothing else; all that it is allowed to do is
//! what their messages allow.
//!
//! A login ([`login`], [`open`]) ends in a [`hand_over::HandOver`], which [`tunnel`] carries on, here or
//! in a process of the pool ([`run_pool`]). Everything that differs between protocols is behind
//! [`protocols`].

mod anyconnect;
mod broker;
mod camouflage;
mod front_end;
mod hand_over;
mod log;
mod login;
mod open;
mod protocols;
mod stream;
mod tls;
mod tunnel;

pub(crate) use self::tunnel::pool::run as run_pool;

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use culvert_sys::channel::Channel;

use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, SpawnRequest, WorkerReason, WorkerToMain};
use crate::ipc::session::Counters;
use crate::ipc::snapshot::Snapshot;

use self::broker::Broker;
use self::hand_over::{Carrier, HandOver, Opened};
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
    let broker = Arc::new(Broker::new(links.broker));
    let ended = Stream::new(links.tcp, Arc::clone(&reporter), deadline)
        .map_err(End::Io)
        .and_then(|stream| login::run(snapshot, request, &broker, stream));
    let (reason, counters) = match ended {
        Ok(Opened {
            state,
            tcp,
            carrier: Carrier::Here(tun),
        }) => {
            // Nothing is asked of the broker any more.
            drop(broker);
            tunnel::run(state, tcp, tun, &reporter, snapshot.isolate_workers)
        }
        Ok(Opened {
            state,
            tcp,
            carrier: Carrier::Pool(pool),
        }) => match hand_over(&state, &tcp, &reporter, pool) {
            // From now on the channel to main is the pool process's.
            Ok(()) => return,
            Err(error) => {
                reporter.log(LogLevel::Error, &format!("cannot hand the tunnel over: {error}"));
                (WorkerReason::Error, Counters::default())
            }
        },
        Err(end) => (farewell(&end, &reporter), Counters::default()),
    };
    reporter.tell(&WorkerToMain::Closing { reason, counters });
}

fn hand_over(state: &HandOver, tcp: &OwnedFd, reporter: &Reporter, pool: OwnedFd) -> Result<(), LinkError> {
    let pool = Blocking::new(Channel::from_fd(pool));
    pool.send(state, &[tcp.as_fd(), reporter.as_fd()])
}

fn farewell(end: &End, reporter: &Reporter) -> WorkerReason {
    let (level, reason) = match end {
        End::Refused => (LogLevel::Debug, WorkerReason::Refused),
        End::PeerClosed | End::Answered => (LogLevel::Debug, WorkerReason::Unspecified),
        End::Told => (LogLevel::Debug, WorkerReason::Told),
        End::Io(_) | End::Late => (LogLevel::Info, WorkerReason::Unspecified),
        End::Tls(_) | End::Http(_) => (LogLevel::Info, WorkerReason::Error),
        End::Channel(_) | End::Protocol(_) => (LogLevel::Error, WorkerReason::Error),
    };
    reporter.log(level, &end.to_string());
    reason
}
