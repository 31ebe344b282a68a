//! Rests between the turns of an event loop, as network cards moderate their interrupts.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// Time over which a rate is measured.
const WINDOW: Duration = Duration::from_millis(10);
/// Packets per second, both directions together, from which on a wake-up for each is too much.
const FAST: u64 = 50_000;
/// Packets per call from which on they come in runs: those are together already.
const RUN: u64 = 4;
/// Packets of a turn that needs no rest to find more.
const MANY: u64 = 32;
/// A rest: short against what packets wait for under such a load.
const REST: Duration = Duration::from_micros(50);

/// What has passed, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets.
    pub packets: u64,
    /// Calls that brought them.
    pub reads: u64,
}

impl Add for Passed {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            reads: self.reads + more.reads,
        }
    }
}

impl Sub for Passed {
    type Output = Self;

    /// What has passed since `before`.
    fn sub(self, before: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            reads: self.reads.saturating_sub(before.reads),
        }
    }
}

/// Tells when a loop does better to rest a moment before it waits again: when packets come fast and
/// yet one by one. A few of them cost hardly more than one, once they are opened, joined, sealed and
/// sent together. Runs, and all slower traffic, never wait.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    /// What had passed then.
    passed: Passed,
    /// What had passed before the present turn.
    before: Passed,
    /// Packets come fast and one by one.
    fast: bool,
}

impl Pace {
    /// A loop that begins `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            passed: Passed::default(),
            before: Passed::default(),
            fast: false,
        }
    }

    /// A turn that began at `now` is over, and so much has `passed` so far. How long to rest before
    /// the next one.
    pub fn after_turn(&mut self, now: Instant, passed: Passed) -> Option<Duration> {
        let time = now.saturating_duration_since(self.since);
        if time >= WINDOW {
            let Passed { packets, reads } = passed - self.passed;
            let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let is_fast = packets.saturating_mul(1_000_000) / microseconds >= FAST;
            self.fast = is_fast && packets < RUN * reads;
            (self.since, self.passed) = (now, passed);
        }
        let turn = passed - self.before;
        self.before = passed;
        (self.fast && turn.packets < MANY).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives a pace for a second with turns every `interval`, each of so many `packets` in so many `reads`;
    /// tells in how many turns of the last half it rested.
    fn rests(
        pace: &mut Pace,
        start: Instant,
        passed: &mut Passed,
        (packets, reads): (u64, u64),
        interval: Duration,
    ) -> u32 {
        let turns = (1_000_000 / interval.as_micros()) as u32;
        let mut rested = 0;
        for turn in 1..=turns {
            *passed = *passed + Passed { packets, reads };
            let rest = pace.after_turn(start + interval * turn, *passed);
            rested += u32::from(rest.is_some() && turn > turns / 2);
        }
        rested
    }

    #[test]
    fn only_fast_single_packets_make_it_rest() {
        let mut start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = Passed::default();
        for (turn, microseconds, expected) in [
            // A ping every 10 ms; slow single packets; fast ones; what rests make of them.
            ((1, 1), 10_000, 0),
            ((1, 1), 100, 0),
            ((1, 1), 10, 50_000),
            ((8, 8), 80, 6_250),
            // So many of them that there is no need; fewer again.
            ((40, 40), 100, 0),
            ((20, 20), 100, 5_000),
            // Runs, with what is acknowledged one by one; few packets of runs.
            ((48, 2), 100, 0),
            ((8, 1), 80, 0),
            // Single packets again; the end of the transfer.
            ((1, 1), 10, 50_000),
            ((1, 1), 10_000, 0),
        ] {
            let interval = Duration::from_micros(microseconds);
            let rested = rests(&mut pace, start, &mut passed, turn, interval);
            assert_eq!(rested, expected, "{turn:?} every {interval:?}");
            start += Duration::from_secs(1);
        }
    }

    #[test]
    fn a_pause_is_noticed_by_the_first_packet() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = Passed::default();
        rests(&mut pace, start, &mut passed, (1, 1), Duration::from_micros(10));
        let one = Passed { packets: 1, reads: 1 };
        assert_eq!(
            pace.after_turn(start + Duration::from_secs(2), passed + one),
            None
        );
    }
}
