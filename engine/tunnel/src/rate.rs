//! A limit on the octets of one direction: packets beyond it are dropped, not delayed
//! (`specs/server-config.md` §13).

use std::time::{Duration, Instant};

/// How long unused octets are saved up.
const BURST: Duration = Duration::from_secs(1);
/// Octets are counted in millionths: one per second is one per microsecond.
const UNIT: u128 = 1_000_000;

/// A token bucket that holds what may pass in one second.
#[derive(Debug, Clone)]
pub(crate) struct RateLimit {
    /// Octets per second.
    rate: u64,
    /// What may pass now, in millionths of an octet.
    saved: u128,
    updated: Instant,
}

impl RateLimit {
    /// `None` for a `rate` of 0, which means no limit.
    pub(crate) fn new(rate: u64, now: Instant) -> Option<Self> {
        (rate > 0).then(|| Self {
            rate,
            saved: granted(rate, BURST),
            updated: now,
        })
    }

    /// Whether a packet of `octets` may pass at `now`; if so, they are used up.
    pub(crate) fn admit(&mut self, now: Instant, octets: usize) -> bool {
        let passed = now.saturating_duration_since(self.updated).min(BURST);
        self.updated = self.updated.max(now);
        self.saved = (self.saved + granted(self.rate, passed)).min(granted(self.rate, BURST));
        match self.saved.checked_sub(octets as u128 * UNIT) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}

/// What may pass in `time`, in millionths of an octet.
fn granted(rate: u64, time: Duration) -> u128 {
    u128::from(rate) * time.as_micros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_is_saved_and_no_more() {
        let start = Instant::now();
        assert!(RateLimit::new(0, start).is_none());
        let mut limit = RateLimit::new(1000, start).unwrap();
        assert!(limit.admit(start, 600) && limit.admit(start, 400));
        assert!(!limit.admit(start, 1));
        let later = start + Duration::from_millis(500);
        assert!(!limit.admit(later, 501) && limit.admit(later, 500));
        let much_later = start + Duration::from_secs(3600);
        assert!(!limit.admit(much_later, 1001) && limit.admit(much_later, 1000));
    }

    proptest! {
        /// Over any time, at most the rate and one second's savings pass; and a sender that stays
        /// below the rate loses nothing.
        #[test]
        fn the_rate_is_kept(
            rate in 1000u64..10_000_000,
            packets in proptest::collection::vec((0u64..200_000, 1usize..1500), 1..300),
        ) {
            let start = Instant::now();
            let mut limit = RateLimit::new(rate, start).unwrap();
            let (mut now, mut passed) = (start, 0);
            for (pause, octets) in packets {
                now += Duration::from_micros(pause);
                if limit.admit(now, octets) {
                    passed += octets as u128 * UNIT;
                }
                prop_assert!(passed <= granted(rate, now - start + BURST));
            }
            let mut limit = RateLimit::new(rate, start).unwrap();
            for step in 1..100u64 {
                let octets = usize::try_from(rate / 100).unwrap();
                prop_assert!(limit.admit(start + Duration::from_millis(10 * step), octets));
            }
        }
    }
}
