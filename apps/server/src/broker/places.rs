//! How many clients may have something slow done for them at a time: a bounded number, with a bounded
//! line before it. A source gets a share of both, so that it cannot keep the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bans::source;

/// The part of places and line that one source (IPv6: its /64) gets.
const SHARE: usize = 8;

/// All places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Queue>,
    /// Places and line of one source.
    share: (usize, usize),
    sources: Arc<Mutex<HashMap<IpAddr, Weak<Queue>>>>,
}

#[derive(Debug)]
struct Queue {
    places: Arc<Semaphore>,
    line: Semaphore,
}

impl Queue {
    fn new(places: usize, line: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            line: Semaphore::new(line),
        })
    }

    /// Waits in line; `None` when the line is too long.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let _in_line = self.line.try_acquire().ok()?;
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_source: OwnedSemaphorePermit,
    /// Keeps the source's count.
    _source: Arc<Queue>,
}

impl Places {
    /// So many at a time, and so many who wait for one of them to end.
    pub(super) fn new(places: usize, line: usize) -> Self {
        Self {
            all: Queue::new(places, line),
            share: (places / SHARE, line / SHARE),
            sources: Arc::default(),
        }
    }

    /// Waits for a place, first behind the logins of the same source, then behind all; `None` when
    /// too many wait.
    pub(super) async fn take(&self, peer: IpAddr) -> Option<Place> {
        let own = self.source(source(peer));
        let _of_source = own.take().await?;
        let _of_all = self.all.take().await?;
        Some(Place {
            _of_all,
            _of_source,
            _source: own,
        })
    }

    fn source(&self, source: IpAddr) -> Arc<Queue> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = sources.get(&source).and_then(Weak::upgrade) {
            return queue;
        }
        // As many remain as have places or wait.
        sources.retain(|_, queue| queue.strong_count() > 0);
        let (places, line) = self.share;
        let queue = Queue::new(places, line);
        sources.insert(source, Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PLACES: usize = 64;
    const LINE: usize = 256;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn fill(places: &Places, peer: &str) -> Vec<Place> {
        let mut taken = Vec::new();
        while let Ok(place) = timeout(Duration::from_millis(20), places.take(ip(peer))).await {
            taken.push(place.unwrap());
        }
        taken
    }

    #[tokio::test]
    async fn a_source_has_its_share() {
        let places = Places::new(PLACES, LINE);
        let mut taken = fill(&places, "2001:db8::1").await;
        assert_eq!(taken.len(), PLACES / SHARE);
        // Another address of the same network waits, until one of them ends.
        let mut waiting = Box::pin(places.take(ip("2001:db8::2")));
        assert!(timeout(Duration::from_millis(20), &mut waiting).await.is_err());
        assert!(places.take(ip("2001:db8:0:1::2")).await.is_some());
        assert!(places.take(ip("192.0.2.1")).await.is_some());
        taken.pop();
        assert!(waiting.await.is_some());
    }

    #[tokio::test]
    async fn all_places_and_no_more() {
        let places = Places::new(PLACES, LINE);
        let mut taken = Vec::new();
        for source in 0..SHARE {
            taken.extend(fill(&places, &format!("192.0.2.{source}")).await);
        }
        assert_eq!(taken.len(), PLACES);
        assert!(fill(&places, "198.51.100.1").await.is_empty());
        drop(taken);
        assert!(places.take(ip("198.51.100.1")).await.is_some());
        assert_eq!(
            places.sources.lock().unwrap().len(),
            1,
            "nothing is kept of the others"
        );
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let places = Places::new(PLACES, LINE);
        let _taken = fill(&places, "192.0.2.1").await;
        let mut waiting = Vec::new();
        for _ in 0..LINE / SHARE {
            let mut one = Box::pin(places.take(ip("192.0.2.1")));
            assert!(timeout(Duration::ZERO, &mut one).await.is_err());
            waiting.push(one);
        }
        assert!(places.take(ip("192.0.2.1")).await.is_none());
        assert!(places.take(ip("192.0.2.2")).await.is_some());
    }
}
