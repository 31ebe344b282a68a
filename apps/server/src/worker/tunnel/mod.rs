//! Open tunnels: packets between devices, TLS and UDP. A worker carries the one of the client that
//! logged in through it ([`run`]), a pool process those of many ([`pool`]), by the same code.

mod client;
mod clients;
pub(crate) mod pool;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use culvert_sys::epoll::{Events, Interest};
use culvert_sys::mem;
use culvert_sys::signal::{SIGTERM, SignalFd};

use self::clients::{Clients, Ended, OTHER_TOKENS};
use super::hand_over::HandOver;
use super::log::Reporter;
use crate::confine;
use crate::ipc::messages::{LogLevel, WorkerReason};
use crate::ipc::session::Counters;

const SIGNALS: u64 = OTHER_TOKENS;
/// Events that one wait collects.
const EVENTS: usize = 64;

/// Carries the packets of one client until its session ends; returns why, and what was carried.
pub(super) fn run(
    state: HandOver,
    tcp: OwnedFd,
    tun: OwnedFd,
    reporter: &Arc<Reporter>,
    isolate: bool,
) -> (WorkerReason, Counters) {
    match carry(state, tcp, tun, reporter, isolate) {
        Ok(ended) => (ended.reason, ended.counters),
        Err(error) => {
            reporter.log(LogLevel::Error, &format!("cannot carry the tunnel: {error}"));
            (WorkerReason::Error, Counters::default())
        }
    }
}

fn carry(
    state: HandOver,
    tcp: OwnedFd,
    tun: OwnedFd,
    reporter: &Arc<Reporter>,
    isolate: bool,
) -> io::Result<Ended> {
    let mut clients = Clients::new()?;
    clients.add(state, tcp, tun, Arc::clone(reporter))?;
    let signals = SignalFd::new(&[SIGTERM])?;
    clients.poller().add(&signals, SIGNALS, Interest::READ)?;
    // The login's memory goes back to the system: tunnels live long.
    mem::trim();
    if isolate && let Err(error) = confine::tunnel() {
        reporter.log(
            LogLevel::Notice,
            &format!("system calls are not restricted: {error}"),
        );
    }
    let poller = Arc::clone(clients.poller());
    let mut events = Events::with_capacity(EVENTS);
    loop {
        if let Some(ended) = clients.poll_ended() {
            return Ok(ended);
        }
        poller.wait(&mut events, clients.poll_timeout())?;
        let now = Instant::now();
        for event in events.iter() {
            if event.token == SIGNALS {
                let _consumed = signals.read();
                clients.part(now, WorkerReason::Told);
            } else {
                clients.handle_ready(now, event);
            }
        }
        clients.handle_timeout(now);
        if let Some(rest) = clients.after_turn(now) {
            thread::sleep(rest);
        }
    }
}
