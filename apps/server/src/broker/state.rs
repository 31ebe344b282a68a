//! What the broker knows, and what main tells and asks it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use culvert_server_config::Config;
use culvert_sys::channel::Channel;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::accounting::Outbox;
use super::auth::Workers;
use super::certificate::SignedOnce;
use super::conversation::Conversation;
use super::keys::KeyService;
use super::kkdcp;
use super::loaded::Loaded;
use super::login::Login;
use super::pam_sessions::PamSessions;
use super::places::Places;
use super::repeated::{ORPHANS, StepsUnderWay};
use super::settings::source;
use super::tls_cache::TlsCache;
use super::told;
use crate::ipc::Text;
use crate::ipc::link::{self, LinkError, Sender};
use crate::ipc::messages::{
    BrokerAnswer, BrokerQuery, BrokerStatus, BrokerToMain, ConnectionId, MainToBroker, SessionSummary,
};
use crate::ipc::session::{CloseReason, Counters};
use crate::log::{self, Level};
use crate::sessions::answered::{AnsweredSteps, KEPT};
use crate::sessions::journal::{Journal, JournalError};
use crate::sessions::pending::{GONE, PendingTable};
use crate::sessions::{Moment, Session, SessionKey, SessionTable};

/// Most sessions in one answer to main.
const SESSIONS_PER_ANSWER: usize = 128;

/// What all tasks of the broker share. They run on one thread; `state` is never borrowed across
/// an await.
pub(super) struct Broker {
    pub(super) keys: KeyService,
    pub(super) kdc_places: Places,
    pub(super) state: RefCell<State>,
    config_path: PathBuf,
    workers: Workers,
    main: Sender,
    main_lost: Notify,
}

/// The tables.
pub(super) struct State {
    pub(super) loaded: Rc<Loaded>,
    pub(super) sessions: SessionTable,
    pub(super) pending: PendingTable<Login>,
    pub(super) answered: AnsweredSteps,
    pub(super) under_way: StepsUnderWay,
    pub(super) tls: TlsCache,
    pub(super) signed_once: SignedOnce,
    pub(super) outbox: Outbox,
    pub(super) pam: PamSessions,
    journal: Option<Journal>,
    connections: HashMap<ConnectionId, ConnectionHandle>,
}

struct ConnectionHandle {
    peer: IpAddr,
    barred: Rc<Cell<bool>>,
    task: AbortHandle,
}

impl Broker {
    pub(super) fn new(
        (config_path, loaded): (PathBuf, Loaded),
        (keys, workers): (KeyService, Workers),
        (sessions, journal): (SessionTable, Option<Journal>),
        main: Sender,
        outbox: Outbox,
    ) -> Self {
        let global = &loaded.config.global;
        let state = State {
            pending: PendingTable::new(global.max_clients, global.auth_timeout),
            answered: AnsweredSteps::new(culvert_sys::random::array().ok()),
            under_way: StepsUnderWay::default(),
            tls: TlsCache::new(global.max_clients),
            signed_once: SignedOnce::default(),
            loaded: Rc::new(loaded),
            sessions,
            outbox,
            pam: PamSessions::default(),
            journal,
            connections: HashMap::new(),
        };
        Self {
            keys,
            kdc_places: kkdcp::places(),
            state: RefCell::new(state),
            config_path,
            workers,
            main,
            main_lost: Notify::new(),
        }
    }

    /// Tells main something. Main always reads; if it does not, the broker cannot go on. False
    /// when nothing was said.
    pub(super) fn tell_main(&self, message: &BrokerToMain) -> bool {
        match self.main.send(message, Vec::new()) {
            Ok(()) => true,
            Err(LinkError::Malformed(error)) => {
                log::write(Level::Error, &format!("sec-mod: cannot tell main: {error}"));
                false
            }
            Err(error) => {
                log::write(Level::Error, &format!("sec-mod: cannot speak to main: {error}"));
                self.main_lost.notify_one();
                false
            }
        }
    }

    /// Returns when main can no longer be spoken to.
    pub(super) async fn main_lost(&self) {
        self.main_lost.notified().await;
    }

    /// Does what main says. False when the broker is to end.
    pub(super) fn handle_main(self: &Rc<Self>, message: MainToBroker, descriptors: Vec<OwnedFd>) -> bool {
        match message {
            MainToBroker::Connection { id, peer, local } => self.connect(id, (peer, local), descriptors),
            MainToBroker::ConnectionClosed { id, reason, counters } => self.closed(id, reason, counters),
            MainToBroker::TunnelRefused(id) => {
                let now = Moment::now();
                let mut state = self.state.borrow_mut();
                if let Some(key) = state.sessions.refused(id, now.monotonic) {
                    state.note(key, now);
                }
            }
            MainToBroker::TunnelOpened { id, addresses } => {
                let mut state = self.state.borrow_mut();
                if let Some(key) = state.sessions.set_addresses(id, addresses) {
                    let now = Moment::now();
                    state.open_account(id, now);
                    state.note(key, now);
                }
            }
            MainToBroker::Counters { id, counters } => {
                let now = Moment::now();
                let mut state = self.state.borrow_mut();
                if let Some(key) = state.sessions.count(id, counters, now.monotonic) {
                    state.note(key, now);
                }
            }
            MainToBroker::Report { id, name } => {
                let mut state = self.state.borrow_mut();
                let holder = state.sessions.of_connection(id);
                if let Some((key, from)) = holder.map(|(key, session)| (key, session.peer)) {
                    state.sessions.keep_report(key, name, from, Instant::now());
                }
            }
            MainToBroker::Banned(address) => self.state.borrow_mut().bar(address),
            reload @ (MainToBroker::Reload | MainToBroker::ReloadFiles) => {
                let present =
                    (reload == MainToBroker::ReloadFiles).then(|| self.state.borrow().loaded.config.clone());
                // Keys may be slow to load, and main's queue is bounded. Main sends no new
                // connection before the answer.
                let broker = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let problem = broker.reload(present).await;
                    let problem = problem.map(|text| Text::truncated(&text));
                    broker.tell_main(&BrokerToMain::Reloaded(problem));
                });
            }
            MainToBroker::Control { number, query } => {
                let reply = self.control(query);
                self.tell_main(&BrokerToMain::ControlReply { number, reply });
            }
            MainToBroker::Stop => return false,
        }
        true
    }

    /// True until the connection has gone.
    pub(super) fn is_connected(&self, id: ConnectionId) -> bool {
        self.state.borrow().connections.contains_key(&id)
    }

    /// Maintenance that is due now and then.
    pub(super) fn expire(&self) {
        let now = Moment::now();
        let mut state = self.state.borrow_mut();
        state.pending.expire(now.monotonic);
        state.answered.expire(now.monotonic);
        state.tls.expire(now.monotonic);
        let expired = state.sessions.expire(now.monotonic);
        for key in expired.removed {
            state.note(key, now);
        }
        drop(state);
        if !expired.overdue.is_empty() {
            self.tell_main(&BrokerToMain::Disconnect(expired.overdue));
        }
    }

    fn connect(
        self: &Rc<Self>,
        id: ConnectionId,
        (peer, local): (SocketAddr, SocketAddr),
        mut descriptors: Vec<OwnedFd>,
    ) {
        let Some(channel) = descriptors.pop() else { return };
        let (sender, receiver) = match link::split(Channel::from_fd(channel)) {
            Ok(halves) => halves,
            Err(error) => {
                log::write(
                    Level::Error,
                    &format!("sec-mod: cannot serve a connection: {error}"),
                );
                return;
            }
        };
        let (peer, local) = (source(peer), source(local));
        let barred = Rc::new(Cell::new(false));
        let loaded = Rc::clone(&self.state.borrow().loaded);
        let conversation = Conversation::new(Rc::clone(self), id, (peer, local), loaded, Rc::clone(&barred));
        let task = tokio::task::spawn_local(conversation.run(sender, receiver)).abort_handle();
        let handle = ConnectionHandle { peer, barred, task };
        self.state.borrow_mut().connections.insert(id, handle);
    }

    fn closed(self: &Rc<Self>, id: ConnectionId, reason: CloseReason, counters: Counters) {
        let now = Moment::now();
        let mut state = self.state.borrow_mut();
        if let Some(handle) = state.connections.remove(&id) {
            match state.outlives(id) {
                true => self.end_later(id, handle.task),
                false => handle.task.abort(),
            }
        }
        let held = state.sessions.of_connection(id);
        let held = held.map(|(_, session)| (session.user.clone(), session.id.clone()));
        let closed = state.sessions.close(id, reason, counters, now.monotonic);
        if let (Some(closed), Some((user, session))) = (&closed, held) {
            let left = state.sessions.get(closed.key);
            match left.map(Session::in_use) {
                None => told::ended(&user, &session),
                Some(false) => told::closed(&user, &session),
                // It has moved to another connection.
                Some(true) => {}
            }
        }
        if let Some(closed) = &closed {
            if let Some(update) = state.sessions.update(closed.key) {
                state.outbox.send(update, now.wall);
            }
            state.note(closed.key, now);
        }
        state.send_stops();
        drop(state);
        self.detach_login(id);
        match closed {
            Some(closed) if !closed.others.is_empty() => {
                self.tell_main(&BrokerToMain::Disconnect(closed.others));
            }
            _ => {}
        }
    }

    /// The login of a connection that has gone may go on over another one, but not for ever.
    pub(super) fn detach_login(self: &Rc<Self>, id: ConnectionId) {
        let detached = self.state.borrow_mut().pending.detach(id, Instant::now());
        if detached {
            // A helper process must not wait for the next maintenance.
            let broker = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(GONE).await;
                broker.state.borrow_mut().pending.expire(Instant::now());
            });
        }
    }

    /// Ends the task of a connection that has gone: its step is still being judged, and its client may
    /// send it again.
    fn end_later(self: &Rc<Self>, id: ConnectionId, task: AbortHandle) {
        let broker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                if !broker.state.borrow().under_way.is_waited_for(id) {
                    break;
                }
            }
            task.abort();
        });
    }

    /// Reads the configuration again; says why not, and goes on with the old one, when that fails.
    async fn reload(&self, present: Option<Config>) -> Option<String> {
        let (path, workers) = (self.config_path.clone(), self.workers.clone());
        let load = move || match present {
            Some(config) => Loaded::of(config, &workers),
            None => Loaded::load(&path, &workers),
        };
        let loaded = match tokio::task::spawn_blocking(load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problem)) => return Some(problem),
            Err(error) => return Some(error.to_string()),
        };
        let mut state = self.state.borrow_mut();
        state.pending.set_limits(
            loaded.config.global.max_clients,
            loaded.config.global.auth_timeout,
        );
        loaded.start();
        state.loaded = Rc::new(loaded);
        None
    }

    fn control(&self, query: BrokerQuery) -> BrokerAnswer {
        let now = Moment::now();
        let mut state = self.state.borrow_mut();
        let mut disconnect = Vec::new();
        let answer = match query {
            BrokerQuery::Sessions { offset } => state.list(offset, now),
            BrokerQuery::Status => BrokerAnswer::Status(BrokerStatus {
                entries: number(state.sessions.len() + state.pending.len()),
                tls_sessions: number(state.tls.len()),
            }),
            BrokerQuery::TerminateUser(user) => {
                let keys = state.sessions.keys_of_user(&user);
                for key in &keys {
                    disconnect.extend(state.remove(*key, CloseReason::AdminDisconnect, now));
                }
                BrokerAnswer::Terminated(number(keys.len()))
            }
            BrokerQuery::TerminateConnection(connection) => {
                let key = state.sessions.of_connection(connection).map(|(key, _)| key);
                if let Some(key) = key {
                    disconnect.extend(state.remove(key, CloseReason::AdminDisconnect, now));
                }
                BrokerAnswer::Terminated(number(key.into_iter().count()))
            }
            // The connection of the session, if it has one, goes on.
            BrokerQuery::TerminateSession(id) => {
                let key = state.sessions.key_of(&id);
                if let Some(key) = key {
                    state.remove(key, CloseReason::AdminDisconnect, now);
                }
                BrokerAnswer::Terminated(number(key.into_iter().count()))
            }
        };
        drop(state);
        if !disconnect.is_empty() {
            self.tell_main(&BrokerToMain::Disconnect(disconnect));
        }
        answer
    }
}

impl State {
    /// Writes what became of a session into the journal, and closes the PAM session of one that has
    /// ended. Without a journal the server works on; its sessions then end with it.
    pub(super) fn note(&mut self, key: SessionKey, now: Moment) {
        if self.sessions.get(key).is_none() {
            self.pam.close(key);
        }
        // First what is owed for it: a session that is written off owes nothing any more.
        self.send_stops();
        let noted = self
            .journal
            .as_mut()
            .map(|journal| journal.note(key, &self.sessions, now));
        self.journaled(noted);
    }

    /// Has the Stops of sessions that have ended sent, after they are in the journal.
    pub(super) fn send_stops(&mut self) {
        for (stop, is_complete) in self.sessions.take_changed_stops() {
            let noted = self.journal.as_mut().map(|journal| journal.note_owed(&stop));
            self.journaled(noted);
            if is_complete {
                self.outbox.send(stop.record, stop.at);
            }
        }
    }

    /// A server has taken the Stop of this account.
    pub(super) fn stop_taken(&mut self, id: &str) {
        self.sessions.stop_taken(id);
        let noted = self.journal.as_mut().map(|journal| journal.note_paid(id));
        self.journaled(noted);
    }

    fn journaled(&mut self, noted: Option<Result<(), JournalError>>) {
        if let Some(Err(error)) = noted {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            log::write(
                Level::Error,
                &format!("sec-mod: {error}{cause}; sessions end with the server"),
            );
            self.journal = None;
        }
    }

    /// Begins to account the session whose tunnel has opened, if its host accounts.
    fn open_account(&mut self, connection: ConnectionId, now: Moment) {
        let host = self
            .sessions
            .of_connection(connection)
            .map(|(_, session)| &session.host);
        if host.is_none_or(|host| self.loaded.accounting_of(host).is_none()) {
            return;
        }
        if let Some(start) = self.sessions.open_account(connection, now.monotonic) {
            self.outbox.send(start, now.wall);
        }
    }

    pub(super) fn remove(&mut self, key: SessionKey, why: CloseReason, now: Moment) -> Vec<ConnectionId> {
        if let Some(session) = self.sessions.get(key) {
            told::ended(&session.user, &session.id);
        }
        let holders = self.sessions.remove(key, Some(why));
        self.note(key, now);
        holders
    }

    /// True when a step of a connection that has gone is to be judged nevertheless.
    fn outlives(&self, id: ConnectionId) -> bool {
        let alive = |id: ConnectionId| self.connections.contains_key(&id);
        self.under_way.is_judged_for(id) && self.under_way.orphans(alive) <= ORPHANS
    }

    /// Logins from a banned source fail, also with the right password.
    fn bar(&mut self, banned: IpAddr) {
        self.pending.fail_source(banned);
        let same = |peer: IpAddr| match (peer.to_canonical(), banned.to_canonical()) {
            (IpAddr::V6(peer), IpAddr::V6(banned)) => peer.to_bits() >> 64 == banned.to_bits() >> 64,
            (peer, banned) => peer == banned,
        };
        for connection in self
            .connections
            .values()
            .filter(|connection| same(connection.peer))
        {
            connection.barred.set(true);
        }
    }

    fn list(&self, offset: u32, now: Moment) -> BrokerAnswer {
        let pending = self.pending.iter().map(|pending| SessionSummary {
            id: pending.id.safe_id(),
            user: pending.login.user.clone(),
            group: None,
            host: pending.host.clone(),
            peer: pending.peer,
            client: pending.login.client.clone(),
            authenticated: false,
            in_use: false,
            age_seconds: now.monotonic.saturating_duration_since(pending.started).as_secs(),
            expires_in_seconds: self
                .pending
                .time_left(pending, now.monotonic)
                .map(|left| left.as_secs()),
        });
        let mut all = self.sessions.summaries(now.monotonic);
        all.extend(pending);
        let total = number(all.len());
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        BrokerAnswer::Sessions {
            total,
            list: all.into_iter().skip(skip).take(SESSIONS_PER_ANSWER).collect(),
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
