//! Sessions: what a login leaves behind and what a cookie stands for (`specs/server-auth.md` §4).
//!
//! A session outlives its connections, and its limits live here, not in a connection. The table
//! is keyed by the SHA-256 of the session id; the id itself is with the client only. Pure: time
//! is given, nothing is read or written ([`journal`] does that).

pub mod account;
pub mod answered;
pub mod journal;
pub mod pending;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use culvert_vocab::{GroupName, SafeId, SessionId, UserName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::account::{Account, Stops};
use crate::ipc::messages::{ConnectionId, SessionSummary};
use crate::ipc::session::{
    Addresses, Claims, ClientDescription, CloseReason, Counters, GivenSettings, ReportName,
};

/// Cookies live this much longer than `cookie-timeout` says, for slow clients.
const COOKIE_SLACK: Duration = Duration::from_secs(15);
/// A worker ends its tunnel at `session-timeout` by itself; after this much more it is ended.
const OVERDUE_GRACE: Duration = Duration::from_secs(60);
/// Sessions without a connection that one user may have; the one that expires first makes room.
const UNUSED_PER_USER: usize = 64;

/// SHA-256 of a session id: the key of a session. Look-ups by it take no secret-dependent time,
/// since nobody can choose hashes that are close to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of the session with this id.
    pub fn of(id: &SessionId) -> Self {
        Self(Sha256::digest(id.expose()).into())
    }
}

/// One moment on both clocks: limits are computed on the monotonic one, reports and the journal
/// use the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Never steps.
    pub monotonic: Instant,
    /// For people and for the next process.
    pub wall: SystemTime,
}

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// How long a cookie lives; the host's `cookie-timeout` and `persistent-cookies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookiePolicy {
    /// Life of the cookie while no connection uses it, counted anew at each disconnect.
    pub timeout: Duration,
    /// A log-out or the administrator's disconnect does not end the session.
    pub persistent: bool,
}

/// What a successful login leaves behind.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub user: UserName,
    /// Group in force.
    pub group: Option<GroupName>,
    /// Name of the virtual host.
    pub host: String,
    /// Source address of the login.
    pub peer: IpAddr,
    /// The server's address that the client came to.
    pub local: IpAddr,
    /// What the client said about itself.
    pub client: ClientDescription,
    /// Life of the cookie.
    pub cookie: CookiePolicy,
    /// SHA-256 of the public key of the certificate that logged in: its cookie is good only
    /// together with this key.
    pub certificate: Option<[u8; 32]>,
    /// Settings that the method of authentication brought.
    pub given: Option<Box<GivenSettings>>,
    /// A PAM session goes with it.
    pub pam_session: bool,
}

/// A report about a client's host that was taken.
#[derive(Debug, Clone, Copy)]
struct HostReport {
    name: ReportName,
    /// The client's source address.
    from: IpAddr,
    at: Instant,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Printable name.
    pub id: SafeId,
    /// Who.
    pub user: UserName,
    /// Group in force.
    pub group: Option<GroupName>,
    /// Name of the virtual host.
    pub host: String,
    /// Address that logged in or opened the last tunnel.
    pub peer: IpAddr,
    /// The server's address that the client came to for its login.
    pub local: IpAddr,
    /// What the client said about itself.
    pub client: ClientDescription,
    /// When the login succeeded.
    pub authenticated_at: SystemTime,
    /// It comes from the journal of an earlier process and was not opened since: the user must
    /// be looked up again.
    pub restored: bool,
    /// Addresses of the last tunnel.
    pub addresses: Addresses,
    /// What all its closed tunnels carried.
    pub counters: Counters,
    /// SHA-256 of the public key of the certificate that logged in.
    pub certificate: Option<[u8; 32]>,
    /// Settings that the method of authentication brought.
    pub given: Option<Box<GivenSettings>>,
    /// A PAM session goes with it.
    pub pam_session: bool,
    report: Option<HostReport>,
    cookie: CookiePolicy,
    /// `session-timeout` at the last opening.
    limit: Option<Duration>,
    account: Account,
    /// Interval of accounting updates at the last opening.
    update_interval: Option<Duration>,
    /// Age when this process began to know it, and when that was.
    age_then: Duration,
    known_since: Instant,
    /// Counts while no connection holds it.
    expires: Instant,
    /// Connections that hold it, the current one last; older ones are about to be replaced.
    holders: Vec<ConnectionId>,
}

impl Session {
    /// Time since the login.
    pub fn age(&self, now: Instant) -> Duration {
        self.age_then + now.saturating_duration_since(self.known_since)
    }

    /// The last report about its client's host, when it was taken from this address, and how long ago
    /// that was.
    pub fn report(&self, from: IpAddr, now: Instant) -> Option<(ReportName, Duration)> {
        let report = self.report.filter(|report| report.from == from)?;
        Some((report.name, now.saturating_duration_since(report.at)))
    }

    /// True when it is as the client says.
    pub fn is_as_claimed(&self, claims: &Claims) -> bool {
        let Claims { user, computer } = claims;
        user.as_ref()
            .is_none_or(|user| user.as_str() == self.user.as_str())
            && computer
                .as_ref()
                .is_none_or(|computer| *computer == self.client.computer)
    }

    /// True while a connection holds it.
    pub fn in_use(&self) -> bool {
        !self.holders.is_empty()
    }

    fn is_expired(&self, now: Instant) -> bool {
        !self.in_use() && now >= self.expires
    }

    fn release(&mut self, connection: ConnectionId, now: Instant) {
        self.holders.retain(|holder| *holder != connection);
        self.expires = now + self.cookie.timeout + COOKIE_SLACK;
    }
}

/// Limits that apply when a tunnel opens, from the settings of host, group and user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenLimits {
    /// The cookie is good from the session's address only.
    pub deny_roaming: bool,
    /// Most sessions of this user with a connection.
    pub max_same_clients: Option<u32>,
    /// Longest life since the login.
    pub session_timeout: Option<Duration>,
    /// Interval of accounting updates; no limit, but of the same settings.
    pub update_interval: Option<Duration>,
}

/// Why a cookie opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
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
pub struct Opened {
    /// What is left of `session-timeout`.
    pub left: Option<Duration>,
}

/// What happened to a session whose connection closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Which session.
    pub key: SessionKey,
    /// It ended with its connection. Otherwise it can be used again, or is in use by another one.
    pub ended: bool,
    /// Other connections that held the session that ended: they have to end too.
    pub others: Vec<ConnectionId>,
}

/// What [`SessionTable::expire`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Sessions that were removed.
    pub removed: Vec<SessionKey>,
    /// Connections whose session is beyond `session-timeout`.
    pub overdue: Vec<ConnectionId>,
}

/// All sessions after a successful login.
#[derive(Debug, Default)]
pub struct SessionTable {
    sessions: HashMap<SessionKey, Session>,
    users: HashMap<UserName, Vec<SessionKey>>,
    connections: HashMap<ConnectionId, SessionKey>,
    stops: Stops,
}

impl SessionTable {
    /// A table without sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a session for `id` until its cookie expires or it is ended. Returns the key, and the
    /// key of an unused session of the same user that had to make room.
    pub fn insert(
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
        self.enter(
            key,
            Session {
                id: id.safe_id(),
                user: new.user,
                group: new.group,
                host: new.host,
                peer: new.peer,
                local: new.local,
                client: new.client,
                authenticated_at: now.wall,
                restored: false,
                addresses: Addresses::default(),
                counters: Counters::default(),
                certificate: new.certificate,
                given: new.given,
                pam_session: new.pam_session,
                report: None,
                cookie: new.cookie,
                limit: None,
                account: Account::default(),
                update_interval: None,
                age_then: Duration::ZERO,
                known_since: now.monotonic,
                expires: now.monotonic + new.cookie.timeout + COOKIE_SLACK,
                holders: Vec::new(),
            },
        );
        (key, evicted)
    }

    /// The session of a cookie, when it is alive and belongs to this virtual host.
    ///
    /// # Errors
    /// [`CookieError::Unknown`] or [`CookieError::OtherHost`].
    pub fn check(
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
    pub fn open(
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
    pub fn set_addresses(&mut self, connection: ConnectionId, addresses: Addresses) -> Option<SessionKey> {
        let key = *self.connections.get(&connection)?;
        self.sessions.get_mut(&key)?.addresses = addresses;
        Some(key)
    }

    /// Notes that a report about the host of the session's client was taken from this address.
    pub fn keep_report(&mut self, key: SessionKey, name: ReportName, from: IpAddr, at: Instant) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.report = Some(HostReport { name, from, at });
        }
    }

    /// The tunnel of `connection` was not granted: it no longer holds its session.
    pub fn refused(&mut self, connection: ConnectionId, now: Instant) -> Option<SessionKey> {
        let key = self.connections.remove(&connection)?;
        self.sessions.get_mut(&key)?.release(connection, now);
        Some(key)
    }

    /// A connection ended. `None` when it held no session, or one that is gone.
    pub fn close(
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
    pub fn remove(&mut self, key: SessionKey, reason: Option<CloseReason>) -> Vec<ConnectionId> {
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
    pub fn holders(&self, key: SessionKey) -> Vec<ConnectionId> {
        self.sessions
            .get(&key)
            .map(|session| session.holders.clone())
            .unwrap_or_default()
    }

    /// Keys of all sessions of a user.
    pub fn keys_of_user(&self, user: &UserName) -> Vec<SessionKey> {
        self.users.get(user).cloned().unwrap_or_default()
    }

    /// Key of the session with this printable name.
    pub fn key_of(&self, id: &SafeId) -> Option<SessionKey> {
        self.sessions
            .iter()
            .find(|(_, session)| session.id == *id)
            .map(|(key, _)| *key)
    }

    /// The session that a connection holds.
    pub fn of_connection(&self, connection: ConnectionId) -> Option<(SessionKey, &Session)> {
        let key = *self.connections.get(&connection)?;
        self.sessions.get(&key).map(|session| (key, session))
    }

    /// The session with this key.
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(&key)
    }

    /// Removes sessions whose cookie expired, and finds connections that outstayed theirs.
    pub fn expire(&mut self, now: Instant) -> Expired {
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
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True when there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// All sessions, the oldest first, as `occtl` lists them.
    pub fn summaries(&self, now: Instant) -> Vec<SessionSummary> {
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
