//! TLS sessions kept for resumption (`specs/server-auth.md` §4.3): bounded in number, size and
//! time, and bound to the client's address and its virtual host.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use culvert_vocab::SecretBytes;

use super::keys::EndPoint;

/// Bound of the number of sessions when `max-clients` is not set.
const DEFAULT_CAPACITY: usize = 4096;
/// Smallest bound.
const CAPACITY_MIN: usize = 64;

/// The sessions. The state of the TLS library is opaque here.
#[derive(Debug)]
pub(super) struct TlsCache {
    entries: HashMap<Key, Entry>,
    /// Keys by age; also of entries that were taken since.
    order: VecDeque<(Key, u64)>,
    counter: u64,
    capacity: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    peer: IpAddr,
    host: String,
    id: Vec<u8>,
}

/// A TLS session that may be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsSession {
    /// The state of the TLS library.
    pub(super) data: SecretBytes,
    /// What the certificate names that its client was shown.
    pub(super) end_point: Option<EndPoint>,
}

#[derive(Debug)]
struct Entry {
    session: TlsSession,
    expires: Instant,
    number: u64,
}

impl TlsCache {
    pub(super) fn new(max_clients: Option<u32>) -> Self {
        let capacity = max_clients
            .and_then(|clients| usize::try_from(clients).ok())
            .map_or(DEFAULT_CAPACITY, |clients| {
                clients.saturating_mul(2).max(CAPACITY_MIN)
            });
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            counter: 0,
            capacity,
        }
    }

    /// Keeps a session for `life`; the oldest one makes room.
    pub(super) fn store(
        &mut self,
        (peer, host): (IpAddr, &str),
        id: Vec<u8>,
        session: TlsSession,
        life: Duration,
        now: Instant,
    ) {
        let key = Key {
            peer,
            host: host.to_owned(),
            id,
        };
        self.counter += 1;
        let number = self.counter;
        self.entries.insert(
            key.clone(),
            Entry {
                session,
                expires: now + life,
                number,
            },
        );
        self.order.push_back((key, number));
        while self.entries.len() > self.capacity || self.order.len() > 2 * self.capacity {
            let Some((oldest, number)) = self.order.pop_front() else {
                return;
            };
            if self
                .entries
                .get(&oldest)
                .is_some_and(|entry| entry.number == number)
            {
                self.entries.remove(&oldest);
            }
        }
    }

    /// The session with this id, of this client and host; with `take` it is gone afterwards.
    pub(super) fn fetch(
        &mut self,
        (peer, host): (IpAddr, &str),
        id: Vec<u8>,
        take: bool,
        now: Instant,
    ) -> Option<TlsSession> {
        let key = Key {
            peer,
            host: host.to_owned(),
            id,
        };
        let entry = self.entries.get(&key)?;
        if now >= entry.expires || take {
            return self
                .entries
                .remove(&key)
                .filter(|entry| now < entry.expires)
                .map(|entry| entry.session);
        }
        Some(entry.session.clone())
    }

    /// Forgets sessions whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.expires);
        let entries = &self.entries;
        self.order
            .retain(|(key, number)| entries.get(key).is_some_and(|entry| entry.number == *number));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);

    fn session(byte: u8) -> TlsSession {
        TlsSession {
            data: SecretBytes::new(vec![byte; 8]),
            end_point: Some([byte].into()),
        }
    }

    #[test]
    fn sessions_are_bound_to_client_host_and_time() {
        let (mut cache, now) = (TlsCache::new(None), Instant::now());
        let (client, other): (IpAddr, IpAddr) = ([198, 51, 100, 1].into(), [198, 51, 100, 2].into());
        cache.store((client, "default"), vec![1], session(1), LIFE, now);
        assert_eq!(cache.fetch((other, "default"), vec![1], true, now), None);
        assert_eq!(cache.fetch((client, "vhost"), vec![1], true, now), None);
        assert_eq!(cache.fetch((client, "default"), vec![2], true, now), None);
        assert_eq!(
            cache.fetch((client, "default"), vec![1], false, now),
            Some(session(1))
        );
        assert_eq!(
            cache.fetch((client, "default"), vec![1], true, now),
            Some(session(1))
        );
        assert_eq!(
            cache.fetch((client, "default"), vec![1], true, now),
            None,
            "single use"
        );
        cache.store((client, "default"), vec![1], session(1), LIFE, now);
        assert_eq!(cache.fetch((client, "default"), vec![1], false, now + LIFE), None);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, now) = (TlsCache::new(Some(1)), Instant::now());
        let client: IpAddr = [198, 51, 100, 1].into();
        for number in 0..10_000u32 {
            cache.store(
                (client, "default"),
                number.to_be_bytes().to_vec(),
                session(1),
                LIFE,
                now,
            );
            if number % 3 == 0 {
                cache.fetch((client, "default"), number.to_be_bytes().to_vec(), true, now);
            }
            cache.store((client, "default"), vec![9], session(2), LIFE, now);
        }
        assert!(cache.len() <= CAPACITY_MIN && cache.order.len() <= 2 * CAPACITY_MIN);
        assert_eq!(
            cache.fetch((client, "default"), vec![9], false, now),
            Some(session(2)),
            "renewed ones stay"
        );
        cache.expire(now + LIFE);
        assert_eq!((cache.len(), cache.order.len()), (0, 0));
    }
}
