//! What accounting is told of a session (`specs/server-auth.md` §3.1): one account at a time, with
//! exactly one Stop for each Start.
//!
//! An account never outlives the process that opened it: a server that stops closes all of them, one
//! that crashed closes them when it starts again. A session that goes on after that gets another
//! account with another id. A Stop is owed, and stays in the journal, until a server has taken it.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use culvert_radius::accounting::AccountedSession;
use culvert_radius::{Status, TerminateCause};
use culvert_vocab::SafeId;
use serde::{Deserialize, Serialize};

use super::{Moment, Session, SessionKey, SessionTable};
use crate::ipc::messages::ConnectionId;
use crate::ipc::session::{CloseReason, Counters};

/// Something to account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What happened.
    pub(crate) status: Status,
    /// Name of the virtual host.
    pub(crate) host: String,
    /// The server's address that the client came to.
    pub(crate) local: IpAddr,
    /// To which session.
    pub(crate) session: AccountedSession,
}

/// The account of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// Accounts that the session had before.
    number: u32,
    open: bool,
    /// Age of the session when it was opened, and what had been carried.
    since: Duration,
    from: Counters,
    /// Age of the session when it was last heard of.
    until: Duration,
    /// What the tunnel carries that is open.
    live: Counters,
    /// Why the last tunnel ended.
    reason: CloseReason,
    /// Age of the session at the next update; [`WITH_ADDRESSES`].
    next_update: Option<Duration>,
}

/// In place of a time: once the tunnel is open, since the Start could not name its addresses.
const WITH_ADDRESSES: Duration = Duration::MAX;

impl Default for Account {
    fn default() -> Self {
        Self {
            number: 0,
            open: false,
            since: Duration::ZERO,
            from: Counters::default(),
            until: Duration::ZERO,
            live: Counters::default(),
            reason: CloseReason::Unspecified,
            next_update: None,
        }
    }
}

impl Account {
    /// As the journal has it: there `counters` includes what the open tunnel carries.
    pub(super) fn saved(self) -> Self {
        Self {
            live: Counters::default(),
            ..self
        }
    }
}

/// A Stop that no server has taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwedStop {
    /// The record.
    pub(crate) record: Record,
    /// When the session ended.
    pub(crate) at: SystemTime,
}

/// The Stop of a session whose connections have not ended yet.
#[derive(Debug)]
struct Unfinished {
    connections: Vec<ConnectionId>,
    opened: Instant,
    closed: Counters,
}

/// Stops of a table.
#[derive(Debug, Default)]
pub(super) struct Stops {
    owed: std::collections::BTreeMap<String, OwedStop>,
    unfinished: std::collections::HashMap<String, Unfinished>,
    changed: Vec<String>,
}

/// The cause that accounting is told for a reason.
pub(crate) fn cause(reason: CloseReason) -> TerminateCause {
    match reason {
        CloseReason::UserLogout => TerminateCause::UserRequest,
        CloseReason::DpdTimeout => TerminateCause::LostCarrier,
        CloseReason::IdleTimeout => TerminateCause::IdleTimeout,
        CloseReason::SessionTimeout => TerminateCause::SessionTimeout,
        CloseReason::AdminDisconnect | CloseReason::ServerDisconnect => TerminateCause::AdminReset,
        CloseReason::Error => TerminateCause::UserError,
        CloseReason::Unspecified | CloseReason::ClientDisconnect => TerminateCause::LostService,
    }
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        rx: a.rx.saturating_add(b.rx),
        tx: a.tx.saturating_add(b.tx),
    }
}

fn difference(a: Counters, b: Counters) -> Counters {
    Counters {
        rx: a.rx.saturating_sub(b.rx),
        tx: a.tx.saturating_sub(b.tx),
    }
}

/// Acct-Session-Id: the session's printable name, with a number from its second account on.
fn account_id(session: &SafeId, number: u32) -> String {
    match number {
        0 => session.to_string(),
        number => format!("{session}-{number}"),
    }
}

impl Session {
    /// What all its tunnels carried, the open one included.
    pub(super) fn carried(&self) -> Counters {
        sum(self.counters, self.account.live)
    }

    /// A connection carried this much and ended.
    pub(super) fn count_closed(&mut self, counters: Counters, reason: CloseReason, now: Instant) {
        self.counters = sum(self.counters, counters);
        self.account.live = Counters::default();
        self.account.until = self.age(now);
        self.account.reason = reason;
    }

    /// Its account in a process that has not opened it: closed.
    pub(super) fn account_after_restart(account: Account) -> Account {
        Account {
            number: account.number.saturating_add(account.open.into()),
            ..Account::default()
        }
    }

    fn record(&self, status: Status) -> Record {
        let account = &self.account;
        let carried = difference(self.carried(), account.from);
        Record {
            status,
            host: self.host.clone(),
            local: self.local,
            session: AccountedSession {
                user: self.user.to_string(),
                id: account_id(&self.id, account.number),
                multi_id: (account.number > 0).then(|| self.id.to_string()),
                calling_station: self.peer,
                called_station: self.host.clone(),
                connect_info: self.client.user_agent.as_str().to_owned(),
                ipv4: self.addresses.ipv4.map(|address| address.address),
                ipv6: self.addresses.ipv6.map(|address| address.address),
                classes: self
                    .given
                    .iter()
                    .flat_map(|given| &given.classes)
                    .map(|class| class.as_slice().to_vec())
                    .collect(),
                time: account.until.saturating_sub(account.since),
                input: carried.rx,
                output: carried.tx,
            },
        }
    }
}

impl SessionTable {
    /// The tunnel of a connection is open: opens the account of its session, unless it is open, and
    /// returns its Start. `interval` is that of updates.
    pub(crate) fn open_account(&mut self, connection: ConnectionId, now: Instant) -> Option<Record> {
        let session = self.session_of(connection)?;
        let age = session.age(now);
        let interval = session.update_interval;
        let carried = session.carried();
        let account = &mut session.account;
        account.next_update = match account.next_update {
            Some(WITH_ADDRESSES) if account.open => Some(age),
            _ => interval.map(|interval| age + interval),
        };
        if std::mem::replace(&mut account.open, true) {
            return None;
        }
        // The first account begins with the login.
        account.since = if account.number == 0 { Duration::ZERO } else { age };
        account.from = if account.number == 0 {
            Counters::default()
        } else {
            carried
        };
        account.until = age;
        Some(session.record(Status::Start))
    }

    /// The tunnel of a connection shall open when a server has taken the Start of its session: as
    /// [`Self::open_account`], before there are addresses, which the first update tells.
    pub(crate) fn open_account_early(&mut self, connection: ConnectionId, now: Instant) -> Option<Record> {
        let start = self.open_account(connection, now)?;
        self.session_of(connection)?.account.next_update = Some(WITH_ADDRESSES);
        Some(start)
    }

    /// No server has taken the Start of [`Self::open_account_early`]: there is no account.
    pub(crate) fn forget_account(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_of(connection) {
            session.account.open = false;
        }
    }

    /// A connection's tunnel has carried this much so far.
    pub(crate) fn count(
        &mut self,
        connection: ConnectionId,
        counters: Counters,
        now: Instant,
    ) -> Option<SessionKey> {
        let key = *self.connections.get(&connection)?;
        let session = self.session_of(connection)?;
        session.account.live = counters;
        session.account.until = session.age(now);
        Some(key)
    }

    /// The present state of an open account.
    pub(crate) fn update(&self, key: SessionKey) -> Option<Record> {
        let session = self.get(key).filter(|session| session.account.open)?;
        Some(session.record(Status::Interim))
    }

    /// The open accounts whose update is due.
    pub(crate) fn due_updates(&mut self, now: Instant) -> Vec<(SessionKey, Record)> {
        let mut due = Vec::new();
        for (key, session) in &mut self.sessions {
            let age = session.age(now);
            let is_due = session.account.next_update.is_some_and(|next| next <= age);
            if session.account.open && session.in_use() && is_due {
                session.account.next_update = session.update_interval.map(|interval| age + interval);
                session.account.until = age;
                due.push((*key, session.record(Status::Interim)));
            }
        }
        due
    }

    /// Closes all accounts: the server stops. The sessions stay.
    pub(crate) fn close_accounts(&mut self, now: Moment) -> Vec<SessionKey> {
        let mut closed = Vec::new();
        let mut stops = Vec::new();
        for (key, session) in &mut self.sessions {
            if session.account.open {
                if session.in_use() {
                    session.account.until = session.age(now.monotonic);
                }
                stops.push(session.record(Status::Stop(TerminateCause::AdminReset)));
                session.account = Session::account_after_restart(session.account);
                closed.push(*key);
            }
        }
        for record in stops {
            self.owe(record, now.wall);
        }
        closed
    }

    /// A session that is removed for this reason, or for that of its last tunnel's end.
    pub(super) fn account_removed(&mut self, session: &Session, reason: Option<CloseReason>) {
        let account = &session.account;
        if !account.open {
            return;
        }
        let reason = reason.unwrap_or(account.reason);
        let record = session.record(Status::Stop(cause(reason)));
        let id = record.session.id.clone();
        self.owe(record, session.authenticated_at + account.until);
        if session.in_use() {
            let opened = account.since.saturating_sub(session.age_then);
            let unfinished = Unfinished {
                connections: session.holders.clone(),
                opened: session.known_since + opened,
                closed: difference(session.counters, account.from),
            };
            self.stops.unfinished.insert(id, unfinished);
        }
    }

    /// A connection of a session that is already removed has ended: its Stop gets the last numbers.
    pub(super) fn finish_stops(&mut self, connection: ConnectionId, counters: Counters, now: Instant) {
        let mut of_it = self.stops.unfinished.iter_mut();
        let Some((id, unfinished)) = of_it.find(|(_, stop)| stop.connections.contains(&connection)) else {
            return;
        };
        let id = id.clone();
        unfinished.connections.retain(|other| *other != connection);
        unfinished.closed = sum(unfinished.closed, counters);
        if let Some(owed) = self.stops.owed.get_mut(&id) {
            let session = &mut owed.record.session;
            session.input = unfinished.closed.rx;
            session.output = unfinished.closed.tx;
            let longer = now
                .saturating_duration_since(unfinished.opened)
                .saturating_sub(session.time);
            session.time += longer;
            owed.at += longer;
        }
        if unfinished.connections.is_empty() {
            self.stops.unfinished.remove(&id);
        }
        self.stops.changed.push(id);
    }

    /// The account that a session of an earlier process left open.
    pub(super) fn account_of_earlier_process(
        &mut self,
        session: &Session,
        account: Account,
        was_in_use: bool,
    ) {
        if !account.open {
            return;
        }
        let status = match was_in_use {
            true => TerminateCause::NasReboot,
            false => cause(account.reason),
        };
        let session = Session {
            account,
            ..session.clone()
        };
        let record = session.record(Status::Stop(status));
        if !self.stops.owed.contains_key(&record.session.id) {
            let ended = session.authenticated_at.checked_add(account.until);
            self.owe(record, ended.unwrap_or(session.authenticated_at));
        }
    }

    pub(super) fn owe(&mut self, record: Record, at: SystemTime) {
        let id = record.session.id.clone();
        self.stops.changed.push(id.clone());
        self.stops.owed.insert(id, OwedStop { record, at });
    }

    /// Stops that changed since they were last asked for; the second value says whether they are
    /// complete.
    pub(crate) fn take_changed_stops(&mut self) -> Vec<(OwedStop, bool)> {
        let mut changed = std::mem::take(&mut self.stops.changed);
        changed.sort_unstable();
        changed.dedup();
        let stop = |id: &String| {
            let complete = !self.stops.unfinished.contains_key(id);
            Some((self.stops.owed.get(id)?.clone(), complete))
        };
        changed.iter().filter_map(stop).collect()
    }

    /// A server has taken the Stop of this id.
    pub(crate) fn stop_taken(&mut self, id: &str) {
        self.stops.owed.remove(id);
    }

    pub(super) fn owed_stops(&self) -> impl Iterator<Item = &OwedStop> {
        self.stops.owed.values()
    }

    fn session_of(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        let key = self.connections.get(&connection)?;
        self.sessions.get_mut(key)
    }
}

#[cfg(test)]
mod tests;
