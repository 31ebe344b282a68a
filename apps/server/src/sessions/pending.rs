//! Logins in progress: bounded in number, per source and in time (`specs/server-auth.md` §7.3
//! rule 5), so that strangers cannot make the broker grow.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use culvert_vocab::SessionId;

use super::SessionKey;
use crate::bans::source;
use crate::ipc::messages::ConnectionId;

/// Logins that one source (IPv6: its /64) may have in progress.
const PER_SOURCE: usize = 16;
/// Time that a login waits for its client to come back on another connection.
pub(crate) const GONE: Duration = Duration::from_secs(60);
/// Smallest bound of all logins in progress.
const TOTAL_MIN: usize = 1024;

/// A login in progress. `L` is how far the methods have come.
#[derive(Debug)]
pub(crate) struct Pending<L> {
    /// The id that becomes the session's when the login succeeds.
    pub(crate) id: SessionId,
    /// Source address that began it.
    pub(crate) peer: IpAddr,
    /// Name of the virtual host.
    pub(crate) host: String,
    /// When it began.
    pub(crate) started: Instant,
    /// At least one answer was received.
    pub(crate) answered: bool,
    /// State of the methods.
    pub(crate) login: L,
}

/// No room: too many logins in progress from this source or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins in progress")]
pub(crate) struct TooManyLogins;

/// All logins in progress, each known by the connection that began it and by its id.
#[derive(Debug)]
pub(crate) struct PendingTable<L> {
    entries: HashMap<SessionKey, Entry<L>>,
    connections: HashMap<ConnectionId, SessionKey>,
    total: usize,
    lifetime: Option<Duration>,
}

#[derive(Debug)]
struct Entry<L> {
    connection: ConnectionId,
    /// When the connection went away; another one may go on.
    detached: Option<Instant>,
    pending: Pending<L>,
}

impl<L> PendingTable<L> {
    /// An empty table for a server with these `max-clients` and `auth-timeout`.
    pub(crate) fn new(max_clients: Option<u32>, lifetime: Option<Duration>) -> Self {
        let mut table = Self {
            entries: HashMap::new(),
            connections: HashMap::new(),
            total: TOTAL_MIN,
            lifetime,
        };
        table.set_limits(max_clients, lifetime);
        table
    }

    /// Follows a reloaded configuration.
    pub(crate) fn set_limits(&mut self, max_clients: Option<u32>, lifetime: Option<Duration>) {
        let clients = max_clients
            .and_then(|clients| usize::try_from(clients).ok())
            .unwrap_or(TOTAL_MIN);
        self.total = clients.saturating_mul(4).max(TOTAL_MIN);
        self.lifetime = lifetime;
    }

    /// Puts a login (back) into the table for `connection`, in place of an earlier one. When the
    /// source or the table is full, the oldest login without an answer makes room, or else the
    /// oldest one whose connection is gone.
    ///
    /// # Errors
    /// There is no such login to make room.
    pub(crate) fn insert(
        &mut self,
        connection: ConnectionId,
        pending: Pending<L>,
    ) -> Result<(), TooManyLogins> {
        self.take(connection, pending.started);
        let own = source(pending.peer);
        let of_source = self
            .entries
            .values()
            .filter(|entry| source(entry.pending.peer) == own)
            .count();
        if of_source >= PER_SOURCE {
            self.evict(|other| source(other.peer) == own)?;
        } else if self.entries.len() >= self.total {
            self.evict(|_| true)?;
        }
        let key = SessionKey::of(&pending.id);
        self.connections.insert(connection, key);
        self.entries.insert(
            key,
            Entry {
                connection,
                detached: None,
                pending,
            },
        );
        Ok(())
    }

    /// Takes out the login of `connection`, unless its time is over.
    pub(crate) fn take(&mut self, connection: ConnectionId, now: Instant) -> Option<Pending<L>> {
        let key = self.connections.get(&connection).copied()?;
        let pending = self.remove(key)?;
        (!self.is_over(&pending, now)).then_some(pending)
    }

    /// Takes out the login with this id, whichever connection began it, when source address and
    /// virtual host are the same and its time is not over. Otherwise it stays as it is.
    pub(crate) fn resume(
        &mut self,
        id: &SessionId,
        peer: IpAddr,
        host: &str,
        now: Instant,
    ) -> Option<Pending<L>> {
        if self.knows(id, peer, host, now) {
            self.remove(SessionKey::of(id))
        } else {
            None
        }
    }

    /// True when [`Self::resume`] would find such a login.
    pub(crate) fn knows(&self, id: &SessionId, peer: IpAddr, host: &str, now: Instant) -> bool {
        self.entries
            .get(&SessionKey::of(id))
            .is_some_and(|Entry { pending, .. }| {
                pending.peer == peer && pending.host == host && !self.is_over(pending, now)
            })
    }

    /// The connection is gone. Its login may go on over another one for [`GONE`]; false when it has
    /// none.
    pub(crate) fn detach(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let entry = self
            .connections
            .get(&connection)
            .and_then(|key| self.entries.get_mut(key));
        let Some(entry) = entry else { return false };
        entry.detached = Some(now);
        true
    }

    /// Ends all logins of a source that was banned (IPv6: of its /64).
    pub(crate) fn fail_source(&mut self, banned: IpAddr) {
        let banned = source(banned);
        self.retain(|entry| source(entry.pending.peer) != banned);
    }

    /// Forgets logins whose time is over, and those whose clients have gone and not come back.
    pub(crate) fn expire(&mut self, now: Instant) {
        let lifetime = self.lifetime;
        self.retain(|entry| {
            let gone = entry.detached.is_some_and(|since| now >= since + GONE);
            !gone && !is_over(&entry.pending, lifetime, now)
        });
    }

    /// Number of logins in progress.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending<L>> {
        self.entries.values().map(|entry| &entry.pending)
    }

    /// Time that a login has left; `None` without `auth-timeout`.
    pub(crate) fn time_left(&self, pending: &Pending<L>, now: Instant) -> Option<Duration> {
        self.lifetime
            .map(|lifetime| (pending.started + lifetime).saturating_duration_since(now))
    }

    fn is_over(&self, pending: &Pending<L>, now: Instant) -> bool {
        is_over(pending, self.lifetime, now)
    }

    fn remove(&mut self, key: SessionKey) -> Option<Pending<L>> {
        let entry = self.entries.remove(&key)?;
        self.connections.remove(&entry.connection);
        Some(entry.pending)
    }

    fn retain(&mut self, keep: impl Fn(&Entry<L>) -> bool) {
        self.entries.retain(|_, entry| keep(entry));
        let entries = &self.entries;
        self.connections.retain(|_, key| entries.contains_key(key));
    }

    fn evict(&mut self, candidate: impl Fn(&Pending<L>) -> bool) -> Result<(), TooManyLogins> {
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                (!entry.pending.answered || entry.detached.is_some()) && candidate(&entry.pending)
            })
            .min_by_key(|(_, entry)| (entry.pending.answered, entry.pending.started))
            .map(|(key, _)| *key)
            .ok_or(TooManyLogins)?;
        self.remove(oldest);
        Ok(())
    }
}

fn is_over<L>(pending: &Pending<L>, lifetime: Option<Duration>, now: Instant) -> bool {
    lifetime.is_some_and(|lifetime| now >= pending.started + lifetime)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(240);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sid(number: u32) -> SessionId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        SessionId::from_bytes(bytes)
    }

    fn pending(number: u32, peer: &str, started: Instant) -> Pending<u32> {
        Pending {
            id: sid(number),
            peer: ip(peer),
            host: "default".into(),
            started,
            answered: false,
            login: number,
        }
    }

    #[test]
    fn a_login_is_known_by_its_connection() {
        let (mut table, now) = (PendingTable::new(None, Some(LIFETIME)), Instant::now());
        table
            .insert(ConnectionId(1), pending(1, "198.51.100.1", now))
            .unwrap();
        assert!(table.take(ConnectionId(2), now).is_none());
        assert_eq!(table.take(ConnectionId(1), now).map(|p| p.login), Some(1));
        assert!(table.entries.is_empty() && table.connections.is_empty());
        table
            .insert(ConnectionId(1), pending(1, "198.51.100.1", now))
            .unwrap();
        assert!(
            table.take(ConnectionId(1), now + LIFETIME).is_none(),
            "its time is over"
        );
        table
            .insert(ConnectionId(1), pending(2, "198.51.100.1", now))
            .unwrap();
        table
            .insert(ConnectionId(1), pending(3, "198.51.100.1", now))
            .unwrap();
        assert_eq!(table.len(), 1, "one per connection");
    }

    #[test]
    fn resuming_needs_the_same_address_host_and_time() {
        let (mut table, now) = (PendingTable::new(None, Some(LIFETIME)), Instant::now());
        table
            .insert(ConnectionId(1), pending(1, "198.51.100.1", now))
            .unwrap();
        assert!(
            table
                .resume(&sid(1), ip("198.51.100.2"), "default", now)
                .is_none()
        );
        assert!(table.resume(&sid(1), ip("198.51.100.1"), "other", now).is_none());
        assert!(
            table
                .resume(&sid(2), ip("198.51.100.1"), "default", now)
                .is_none()
        );
        assert!(
            table
                .resume(&sid(1), ip("198.51.100.1"), "default", now + LIFETIME)
                .is_none()
        );
        assert_eq!(table.len(), 1, "a wrong attempt takes nothing away");
        assert!(
            table
                .resume(&sid(1), ip("198.51.100.1"), "default", now)
                .is_some()
        );
        assert!(table.take(ConnectionId(1), now).is_none(), "only once");
    }

    #[test]
    fn a_source_is_bounded_and_makes_room_for_itself_only() {
        let (mut table, now) = (PendingTable::new(None, Some(LIFETIME)), Instant::now());
        table
            .insert(ConnectionId(9999), pending(9999, "2001:db8:1::1", now))
            .unwrap();
        for number in 0..100u32 {
            let started = now + Duration::from_secs(u64::from(number));
            let peer = format!("2001:db8:2::{number:x}");
            table
                .insert(ConnectionId(number.into()), pending(number, &peer, started))
                .unwrap();
        }
        assert_eq!(table.len(), PER_SOURCE + 1);
        assert!(
            table.take(ConnectionId(83), now).is_none(),
            "the oldest went first"
        );
        assert!(table.take(ConnectionId(84), now).is_some());
        assert!(table.take(ConnectionId(9999), now).is_some());
    }

    #[test]
    fn answered_logins_are_not_pushed_out() {
        let (mut table, now) = (PendingTable::new(None, Some(LIFETIME)), Instant::now());
        for number in 0..PER_SOURCE as u32 {
            let answered = Pending {
                answered: true,
                ..pending(number, "198.51.100.1", now)
            };
            table.insert(ConnectionId(number.into()), answered).unwrap();
        }
        assert_eq!(
            table.insert(ConnectionId(99), pending(99, "198.51.100.1", now)),
            Err(TooManyLogins)
        );
        assert!(table.detach(ConnectionId(3), now));
        table
            .insert(ConnectionId(99), pending(99, "198.51.100.1", now))
            .unwrap();
        assert!(
            table.take(ConnectionId(3), now).is_none(),
            "unless their connection is gone"
        );
        assert!(table.take(ConnectionId(0), now).is_some());
    }

    #[test]
    fn bans_and_time_end_logins() {
        let (mut table, now) = (PendingTable::new(None, Some(LIFETIME)), Instant::now());
        table
            .insert(ConnectionId(1), pending(1, "2001:db8::1", now))
            .unwrap();
        table
            .insert(ConnectionId(2), pending(2, "198.51.100.1", now))
            .unwrap();
        table.fail_source(ip("2001:db8::ffff"));
        assert!(table.take(ConnectionId(1), now).is_none());
        table.expire(now + LIFETIME - Duration::from_secs(1));
        assert_eq!(table.len(), 1);
        table.expire(now + LIFETIME);
        assert!(table.entries.is_empty() && table.connections.is_empty());
    }

    #[test]
    fn clients_that_do_not_come_back_end_their_logins() {
        let (mut table, now) = (PendingTable::new(None, None), Instant::now());
        for number in [1, 2, 3] {
            table
                .insert(ConnectionId(number.into()), pending(number, "198.51.100.1", now))
                .unwrap();
        }
        assert!(table.detach(ConnectionId(1), now) && table.detach(ConnectionId(2), now));
        assert!(!table.detach(ConnectionId(4), now));
        let back = table.resume(&sid(2), ip("198.51.100.1"), "default", now).unwrap();
        table.insert(ConnectionId(5), back).unwrap();
        table.expire(now + GONE - Duration::from_secs(1));
        assert_eq!(table.len(), 3);
        table.expire(now + GONE);
        assert_eq!(table.len(), 2, "only the first has nobody");
        assert!(table.take(ConnectionId(1), now).is_none());
    }

    proptest! {
        /// However many logins begin, from wherever, the table stays within its bounds.
        #[test]
        fn floods_are_bounded(steps in proptest::collection::vec((0u32..200, 0u8..6, any::<bool>()), 0..200)) {
            let (mut table, now) = (PendingTable::new(Some(1), Some(LIFETIME)), Instant::now());
            table.total = 40;
            for (number, host, answered) in steps {
                let peer = IpAddr::from([10, 0, host, 1]);
                let login = Pending { id: sid(number), peer, host: "default".into(), started: now, answered, login: () };
                let _bounded = table.insert(ConnectionId(number.into()), login);
                prop_assert!(table.len() <= 40);
                prop_assert_eq!(table.connections.len(), table.entries.len());
                prop_assert!(table.iter().filter(|p| p.peer == peer).count() <= PER_SOURCE);
            }
        }
    }
}
