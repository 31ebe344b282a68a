//! Rests between the turns of an event loop, as network cards moderate their interrupts.

use std::time::{Duration, Instant};

/// Time over which a rate is measured.
const WINDOW: Duration = Duration::from_millis(10);
/// Packets per second, both directions together, from which on a wake-up for each is too much.
const FAST: u64 = 50_000;
/// Packets per turn that are no run yet, and those that need no rest to become one.
const FEW: u64 = 8;
const MANY: u64 = 64;
/// A rest: short against what packets wait for under such a load.
const REST: Duration = Duration::from_micros(50);

/// Tells when a loop does better to rest a moment before it waits again: when packets come fast and
/// yet one by one. A few of them cost hardly more than one, once they are opened, joined, sealed and
/// sent together. Runs, and all slower traffic, never wait.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    packets: u64,
    turns: u64,
    resting: bool,
}

impl Pace {
    /// A loop that begins `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            packets: 0,
            turns: 0,
            resting: false,
        }
    }

    /// A turn that began at `now` is over, and `packets` have passed so far. How long to rest before
    /// the next one.
    pub fn after_turn(&mut self, now: Instant, packets: u64) -> Option<Duration> {
        self.turns += 1;
        let time = now.saturating_duration_since(self.since);
        if time >= WINDOW {
            let passed = packets.saturating_sub(self.packets);
            let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let is_fast = passed.saturating_mul(1_000_000) / microseconds >= FAST;
            let enough = if self.resting { MANY } else { FEW };
            self.resting = is_fast && passed / self.turns < enough;
            (self.since, self.packets, self.turns) = (now, packets, 0);
        }
        self.resting.then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives a pace with turns of `packets` packets every `interval`, for a second; tells in how
    /// many turns of the last half it rested.
    fn rests(pace: &mut Pace, start: Instant, passed: &mut u64, packets: u64, interval: Duration) -> u32 {
        let turns = (1_000_000 / interval.as_micros()) as u32;
        let mut rested = 0;
        for turn in 1..=turns {
            *passed += packets;
            let rest = pace.after_turn(start + interval * turn, *passed);
            rested += u32::from(rest.is_some() && turn > turns / 2);
        }
        rested
    }

    #[test]
    fn only_fast_single_packets_make_it_rest() {
        let mut start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = 0;
        for (packets, microseconds, expected) in [
            // A ping every 10 ms; slow single packets; fast ones; what rests make of them.
            (1, 10_000, 0),
            (1, 100, 0),
            (1, 10, 50_000),
            (8, 80, 6_250),
            // Runs; single packets again; the end of the transfer.
            (100, 500, 0),
            (1, 10, 50_000),
            (1, 10_000, 0),
        ] {
            let interval = Duration::from_micros(microseconds);
            let rested = rests(&mut pace, start, &mut passed, packets, interval);
            assert_eq!(rested, expected, "{packets} packets every {interval:?}");
            start += Duration::from_secs(1);
        }
    }

    #[test]
    fn a_pause_is_noticed_by_the_first_packet() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = 0;
        rests(&mut pace, start, &mut passed, 1, Duration::from_micros(10));
        let later = start + Duration::from_secs(2);
        assert_eq!(pace.after_turn(later, passed + 1), None);
    }
}
