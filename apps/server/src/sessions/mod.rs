//! Sessions: what a login leaves behind and what a cookie stands for (`specs/server-auth.md` §4).
//!
//! A session outlives its connections, and its limits live here, not in a connection. The table
//! is keyed by the SHA-256 of the session id; the id itself is with the client only. Pure: time
//! is given, nothing is read or written ([`journal`] does that).

pub(crate) mod account;
pub(crate) mod answered;
pub(crate) mod journal;
pub(crate) mod pending;
mod session;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use culvert_vocab::{SafeId, SessionId, UserName};

use self::account::Stops;
pub(crate) use self::session::{CookiePolicy, Moment, NewSession, Session, SessionKey};
use crate::ipc::messages::{ConnectionId, SessionSummary};
use crate::ipc::session::{Addresses, CloseReason, Counters, ReportName};

/// A worker ends its tunnel at `session-timeout` by itself; after this much more it is ended.
const OVERDUE_GRACE: Duration = Duration::from_secs(60);
/// Sessions without a connection that one user may have; the one that expires first makes room.
const UNUSED_PER_USER: usize = 64;

/// Limits that apply when a tunnel opens, from the settings of host, group and user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenLimits {
    /// The cookie is good from the session's address only.
    pub(crate) deny_roaming: bool,
    /// Most sessions of this user with a connection.
    pub(crate) max_same_clients: Option<u32>,
    /// Longest life since the login.
    pub(crate) session_timeout: Option<Duration>,
    /// Interval of accounting updates; no limit, but of the same settings.
    pub(crate) update_interval: Option<Duration>,
}

/// Why a cookie opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CookieError {
    /// No such session, or it ended.
    #[error("unknown or expired cookie")]
    Unknown,
    /// The session belongs to another virtual host.
    #[error("cookie of another virtual host")]
    OtherHost,
    /// `session-timeout` has passed since the login; the session is removed.
    #[error("the session timed out")]
    TimedOut,
    /// `deny-roaming`, and the client's address changed.
    #[error("the client's address changed and roaming is denied")]
    Roaming,
    /// `max-same-clients` other sessions of the user are connected.
    #[error("the user has {0} connections already")]
    TooMany(u32),
}

/// An opened session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// What is left of `session-timeout`.
    pub(crate) left: Option<Duration>,
}

/// What happened to a session whose connection closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Which session.
    pub(crate) key: SessionKey,
    /// It ended with its connection. Otherwise it can be used again, or is in use by another one.
    pub(crate) ended: bool,
    /// Other connections that held the session that ended: they have to end too.
    pub(crate) others: Vec<ConnectionId>,
}

/// What [`SessionTable::expire`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Sessions that were removed.
    pub(crate) removed: Vec<SessionKey>,
    /// Connections whose session is beyond `session-timeout`.
    pub(crate) overdue: Vec<ConnectionId>,
}

/// All sessions after a successful login.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    sessions: HashMap<SessionKey, Session>,
    users: HashMap<UserName, Vec<SessionKey>>,
    connections: HashMap<ConnectionId, SessionKey>,
    stops: Stops,
}

impl SessionTable {
    /// A table without sessions.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Keeps a session for `id` until its cookie expires or it is ended. Returns the key, and the
    /// key of an unused session of the same user that had to make room.
    pub(crate) fn insert(
        &mut self,
        id: &SessionId,
        new: NewSession,
        now: Moment,
    ) -> (SessionKey, Option<SessionKey>) {
        let key = SessionKey::of(id);
        let evicted = self.unused_to_evict(&new.user);
        if let Some(evicted) = evicted {
            self.remove(evicted, None);
        }
        self.enter(key, Session::begin(id, new, now));
        (key, evicted)
    }

    /// The session of a cookie, when it is alive and belongs to this virtual host.
    ///
    /// # Errors
    /// [`CookieError::Unknown`] or [`CookieError::OtherHost`].
    pub(crate) fn check(
        &self,
        cookie: &SessionId,
        host: &str,
        now: Instant,
    ) -> Result<(SessionKey, &Session), CookieError> {
        let key = SessionKey::of(cookie);
        let session = self
            .sessions
            .get(&key)
            .filter(|session| !session.is_expired(now))
            .ok_or(CookieError::Unknown)?;
        if session.host != host {
            return Err(CookieError::OtherHost);
        }
        Ok((key, session))
    }

    /// Lets `connection` hold the session. It replaces connections that hold it already, whose
    /// end then changes nothing. Nothing is held after an error.
    ///
    /// # Errors
    /// See [`CookieError`].
    pub(crate) fn open(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        peer: IpAddr,
        limits: OpenLimits,
        now: Instant,
    ) -> Result<Opened, CookieError> {
        let session = self
            .sessions
            .get(&key)
            .filter(|session| !session.is_expired(now))
            .ok_or(CookieError::Unknown)?;
        let left = match limits.session_timeout {
            Some(limit) => match limit.checked_sub(session.age(now)).filter(|left| !left.is_zero()) {
                Some(left) => Some(left),
                None => {
                    self.remove(key, Some(CloseReason::SessionTimeout));
                    return Err(CookieError::TimedOut);
                }
            },
            None => None,
        };
        if limits.deny_roaming && session.peer != peer {
            return Err(CookieError::Roaming);
        }
        if let Some(max) = limits.max_same_clients {
            let others = self
                .sessions_of(&session.user)
                .filter(|(other, s)| *other != key && s.in_use())
                .count();
            if u32::try_from(others).is_ok_and(|others| others >= max) {
                return Err(CookieError::TooMany(max));
            }
        }
        let session = self.sessions.get_mut(&key).ok_or(CookieError::Unknown)?;
        session.holders.retain(|holder| *holder != connection);
        session.holders.push(connection);
        session.peer = peer;
        session.limit = limits.session_timeout;
        session.update_interval = limits.update_interval;
        session.restored = false;
        self.connections.insert(connection, key);
        Ok(Opened { left })
    }

    /// Notes the addresses of the tunnel that `connection` opened.
    pub(crate) fn set_addresses(
        &mut self,
        connection: ConnectionId,
        addresses: Addresses,
    ) -> Option<SessionKey> {
        let key = *self.connections.get(&connection)?;
        self.sessions.get_mut(&key)?.addresses = addresses;
        Some(key)
    }

    /// Notes that a report about the host of the session's client was taken from this address.
    pub(crate) fn keep_report(&mut self, key: SessionKey, name: ReportName, from: IpAddr, at: Instant) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.keep_report(name, from, at);
        }
    }

    /// The tunnel of `connection` was not granted: it no longer holds its session.
    pub(crate) fn refused(&mut self, connection: ConnectionId, now: Instant) -> Option<SessionKey> {
        let key = self.connections.remove(&connection)?;
        self.sessions.get_mut(&key)?.release(connection, now);
        Some(key)
    }

    /// A connection ended. `None` when it held no session, or one that is gone.
    pub(crate) fn close(
        &mut self,
        connection: ConnectionId,
        reason: CloseReason,
        counters: Counters,
        now: Instant,
    ) -> Option<Closed> {
        self.finish_stops(connection, counters, now);
        let key = self.connections.remove(&connection)?;
        let session = self.sessions.get_mut(&key)?;
        session.count_closed(counters, reason, now);
        let is_current = session.holders.last() == Some(&connection);
        session.release(connection, now);
        // What the administrator ends cannot be saved by a quick reconnect.
        let ended = match reason {
            CloseReason::UserLogout => is_current && !session.cookie.persistent,
            CloseReason::AdminDisconnect => !session.cookie.persistent,
            CloseReason::SessionTimeout => is_current,
            CloseReason::Unspecified
            | CloseReason::ClientDisconnect
            | CloseReason::ServerDisconnect
            | CloseReason::IdleTimeout
            | CloseReason::DpdTimeout
            | CloseReason::Error => false,
        };
        let others = if ended { self.remove(key, None) } else { Vec::new() };
        Some(Closed { key, ended, others })
    }

    /// Removes a session, connected or not; its connections go on but cannot come back. Returns
    /// the connections that held it. `reason` is for accounting; `None`: that of the end of its last
    /// tunnel.
    pub(crate) fn remove(&mut self, key: SessionKey, reason: Option<CloseReason>) -> Vec<ConnectionId> {
        let Some(session) = self.sessions.remove(&key) else {
            return Vec::new();
        };
        self.account_removed(&session, reason);
        if let Some(keys) = self.users.get_mut(&session.user) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.users.remove(&session.user);
            }
        }
        for connection in &session.holders {
            self.connections.remove(connection);
        }
        session.holders
    }

    /// Connections that hold a session.
    pub(crate) fn holders(&self, key: SessionKey) -> Vec<ConnectionId> {
        self.sessions
            .get(&key)
            .map(|session| session.holders.clone())
            .unwrap_or_default()
    }

    /// Keys of all sessions of a user.
    pub(crate) fn keys_of_user(&self, user: &UserName) -> Vec<SessionKey> {
        self.users.get(user).cloned().unwrap_or_default()
    }

    /// Key of the session with this printable name.
    pub(crate) fn key_of(&self, id: &SafeId) -> Option<SessionKey> {
        self.sessions
            .iter()
            .find(|(_, session)| session.id == *id)
            .map(|(key, _)| *key)
    }

    /// The session that a connection holds.
    pub(crate) fn of_connection(&self, connection: ConnectionId) -> Option<(SessionKey, &Session)> {
        let key = *self.connections.get(&connection)?;
        self.sessions.get(&key).map(|session| (key, session))
    }

    /// The session with this key.
    pub(crate) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(&key)
    }

    /// Removes sessions whose cookie expired, and finds connections that outstayed theirs.
    pub(crate) fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        for (key, session) in &self.sessions {
            let too_old = |grace: Duration| {
                session
                    .limit
                    .is_some_and(|limit| session.age(now) >= limit + grace)
            };
            if session.in_use() {
                if too_old(OVERDUE_GRACE) {
                    expired.overdue.extend(&session.holders);
                }
            } else if session.is_expired(now) || too_old(Duration::ZERO) {
                expired.removed.push(*key);
            }
        }
        for key in &expired.removed {
            self.remove(*key, None);
        }
        expired
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// All sessions, the oldest first, as `occtl` lists them.
    pub(crate) fn summaries(&self, now: Instant) -> Vec<SessionSummary> {
        let mut list: Vec<SessionSummary> = self
            .sessions
            .values()
            .filter(|session| !session.is_expired(now))
            .map(|session| SessionSummary {
                id: session.id.clone(),
                user: Some(session.user.clone()),
                group: session.group.clone(),
                host: session.host.clone(),
                peer: session.peer,
                client: session.client.clone(),
                authenticated: true,
                in_use: session.in_use(),
                age_seconds: session.age(now).as_secs(),
                expires_in_seconds: (!session.in_use())
                    .then(|| session.expires.saturating_duration_since(now).as_secs()),
            })
            .collect();
        list.sort_by(|a, b| b.age_seconds.cmp(&a.age_seconds).then_with(|| a.id.cmp(&b.id)));
        list
    }

    fn enter(&mut self, key: SessionKey, session: Session) {
        self.users.entry(session.user.clone()).or_default().push(key);
        self.sessions.insert(key, session);
    }

    fn sessions_of(&self, user: &UserName) -> impl Iterator<Item = (SessionKey, &Session)> {
        let keys = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        keys.iter()
            .filter_map(|key| self.sessions.get(key).map(|session| (*key, session)))
    }

    fn unused_to_evict(&self, user: &UserName) -> Option<SessionKey> {
        let unused = || self.sessions_of(user).filter(|(_, session)| !session.in_use());
        if unused().count() < UNUSED_PER_USER {
            return None;
        }
        unused()
            .min_by_key(|(_, session)| session.expires)
            .map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests;
