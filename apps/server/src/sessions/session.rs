//! One session, and what it is made of.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use culvert_vocab::{GroupName, SafeId, SessionId, UserName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::account::Account;
use crate::ipc::messages::ConnectionId;
use crate::ipc::session::{Addresses, Claims, ClientDescription, Counters, GivenSettings, ReportName};

/// Cookies live this much longer than `cookie-timeout` says, for slow clients.
pub(super) const COOKIE_SLACK: Duration = Duration::from_secs(15);

/// SHA-256 of a session id: the key of a session. Look-ups by it take no secret-dependent time,
/// since nobody can choose hashes that are close to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of the session with this id.
    pub(crate) fn of(id: &SessionId) -> Self {
        Self(Sha256::digest(id.expose()).into())
    }
}

/// One moment on both clocks: limits are computed on the monotonic one, reports and the journal
/// use the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Never steps.
    pub(crate) monotonic: Instant,
    /// For people and for the next process.
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// The present moment.
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// How long a cookie lives; the host's `cookie-timeout` and `persistent-cookies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CookiePolicy {
    /// Life of the cookie while no connection uses it, counted anew at each disconnect.
    pub(crate) timeout: Duration,
    /// A log-out or the administrator's disconnect does not end the session.
    pub(crate) persistent: bool,
}

/// What a successful login leaves behind.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    /// Who.
    pub(crate) user: UserName,
    /// Group in force.
    pub(crate) group: Option<GroupName>,
    /// Name of the virtual host.
    pub(crate) host: String,
    /// Source address of the login.
    pub(crate) peer: IpAddr,
    /// The server's address that the client came to.
    pub(crate) local: IpAddr,
    /// What the client said about itself.
    pub(crate) client: ClientDescription,
    /// Life of the cookie.
    pub(crate) cookie: CookiePolicy,
    /// SHA-256 of the public key of the certificate that logged in: its cookie is good only
    /// together with this key.
    pub(crate) certificate: Option<[u8; 32]>,
    /// Settings that the method of authentication brought.
    pub(crate) given: Option<Box<GivenSettings>>,
    /// A PAM session goes with it.
    pub(crate) pam_session: bool,
}

/// A report about a client's host that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostReport {
    name: ReportName,
    /// The client's source address.
    from: IpAddr,
    at: Instant,
}

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Printable name.
    pub(crate) id: SafeId,
    /// Who.
    pub(crate) user: UserName,
    /// Group in force.
    pub(crate) group: Option<GroupName>,
    /// Name of the virtual host.
    pub(crate) host: String,
    /// Address that logged in or opened the last tunnel.
    pub(crate) peer: IpAddr,
    /// The server's address that the client came to for its login.
    pub(crate) local: IpAddr,
    /// What the client said about itself.
    pub(crate) client: ClientDescription,
    /// When the login succeeded.
    pub(crate) authenticated_at: SystemTime,
    /// It comes from the journal of an earlier process and was not opened since: the user must
    /// be looked up again.
    pub(crate) restored: bool,
    /// Addresses of the last tunnel.
    pub(crate) addresses: Addresses,
    /// What all its closed tunnels carried.
    pub(crate) counters: Counters,
    /// SHA-256 of the public key of the certificate that logged in.
    pub(crate) certificate: Option<[u8; 32]>,
    /// Settings that the method of authentication brought.
    pub(crate) given: Option<Box<GivenSettings>>,
    /// A PAM session goes with it.
    pub(crate) pam_session: bool,
    pub(super) report: Option<HostReport>,
    pub(super) cookie: CookiePolicy,
    /// `session-timeout` at the last opening.
    pub(super) limit: Option<Duration>,
    pub(super) account: Account,
    /// Interval of accounting updates at the last opening.
    pub(super) update_interval: Option<Duration>,
    /// Age when this process began to know it, and when that was.
    pub(super) age_then: Duration,
    pub(super) known_since: Instant,
    /// Counts while no connection holds it.
    pub(super) expires: Instant,
    /// Connections that hold it, the current one last; older ones are about to be replaced.
    pub(super) holders: Vec<ConnectionId>,
}

impl Session {
    /// The session of a login that has just succeeded.
    pub(super) fn begin(id: &SessionId, new: NewSession, now: Moment) -> Self {
        Self {
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
        }
    }

    /// Time since the login.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.age_then + now.saturating_duration_since(self.known_since)
    }

    /// The last report about its client's host, when it was taken from this address, and how long ago
    /// that was.
    pub(crate) fn report(&self, from: IpAddr, now: Instant) -> Option<(ReportName, Duration)> {
        let report = self.report.filter(|report| report.from == from)?;
        Some((report.name, now.saturating_duration_since(report.at)))
    }

    /// Notes that a report about its client's host was taken from this address.
    pub(super) fn keep_report(&mut self, name: ReportName, from: IpAddr, at: Instant) {
        self.report = Some(HostReport { name, from, at });
    }

    /// True when it is as the client says.
    pub(crate) fn is_as_claimed(&self, claims: &Claims) -> bool {
        let Claims { user, computer } = claims;
        user.as_ref()
            .is_none_or(|user| user.as_str() == self.user.as_str())
            && computer
                .as_ref()
                .is_none_or(|computer| *computer == self.client.computer)
    }

    /// True while a connection holds it.
    pub(crate) fn in_use(&self) -> bool {
        !self.holders.is_empty()
    }

    /// True when its cookie opens nothing any more.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        !self.in_use() && now >= self.expires
    }

    /// A connection does not hold it any more.
    pub(super) fn release(&mut self, connection: ConnectionId, now: Instant) {
        self.holders.retain(|holder| *holder != connection);
        self.expires = now + self.cookie.timeout + COOKIE_SLACK;
    }
}
