//! How many datagrams one system call sends: one by one where the system or the path does not
//! segment, for a while.

use crate::batch::{Batch, Run};

/// Datagrams that go one by one before a run is tried again. One call in vain for so many costs
/// nothing, and routes and devices change.
const RETRY: usize = 4096;

/// Which datagrams of one socket go together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    /// Most datagrams of a run.
    max: usize,
    /// Datagrams of this size and larger go one by one.
    refused: usize,
    /// How many of these until runs of them are tried again.
    left: usize,
    told: bool,
}

impl Runs {
    /// Runs of at most `max` datagrams of any size.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            refused: usize::MAX,
            left: 0,
            told: false,
        }
    }

    /// What the next system call sends.
    pub(super) fn next(&self, batch: &Batch) -> Option<Run> {
        let first = batch.next_run(1)?;
        if first.segment >= self.refused {
            Some(first)
        } else {
            batch.next_run(self.max)
        }
    }

    /// A run of datagrams of `size` octets, or any if that is 0, was refused as a whole.
    pub(super) fn refuse(&mut self, size: usize) {
        self.refused = self.refused.min(size);
        self.left = RETRY;
    }

    /// A run is done with, whether it was sent or not.
    pub(super) fn done(&mut self, run: &Run) {
        if run.segment >= self.refused {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                self.refused = usize::MAX;
            }
        }
    }

    /// True for the first datagram that was sent alone although it could have gone with others.
    pub(super) fn is_news(&mut self, run: &Run) -> bool {
        let news = run.segment >= self.refused && !self.told;
        self.told |= news;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{HEADER, batch_of};

    /// Datagrams of `size` octets.
    fn batch(size: usize) -> Batch {
        batch_of(&[size - HEADER; 64])
    }

    fn records(runs: &Runs, size: usize) -> usize {
        runs.next(&batch(size)).unwrap().records
    }

    /// Sends whole batches of datagrams of `size` octets; tells how many there were before the first run.
    fn singles(runs: &mut Runs, size: usize) -> usize {
        let mut waiting = batch(size);
        let mut count = 0;
        while let Some(run) = runs.next(&waiting)
            && run.records == 1
        {
            runs.done(&run);
            waiting.finish_run(&run);
            if waiting.is_empty() {
                waiting = batch(size);
            }
            count += 1;
        }
        count
    }

    #[test]
    fn runs_have_a_limit() {
        assert_eq!(records(&Runs::new(64), 100), 64);
        assert_eq!(records(&Runs::new(5), 100), 5);
    }

    #[test]
    fn only_what_the_path_refuses_goes_one_by_one() {
        let mut runs = Runs::new(64);
        runs.refuse(1000);
        assert_eq!((records(&runs, 999), records(&runs, 1000)), (64, 1));
        runs.refuse(1400);
        assert_eq!((records(&runs, 999), records(&runs, 1000)), (64, 1));
        runs.refuse(0);
        assert_eq!(records(&runs, 10), 1);
    }

    #[test]
    fn runs_are_tried_again() {
        let mut runs = Runs::new(64);
        for size in [1000, 0] {
            runs.refuse(size);
            // Others do not bring the next attempt nearer.
            if size > 0 {
                let other = runs.next(&batch(500)).unwrap();
                runs.done(&other);
            }
            assert_eq!(singles(&mut runs, 1000), RETRY);
            assert_eq!(records(&runs, 1000), 64);
        }
    }

    #[test]
    fn it_is_said_once() {
        let mut runs = Runs::new(64);
        let first = runs.next(&batch(100)).unwrap();
        assert!(!runs.is_news(&first));
        runs.refuse(100);
        let single = runs.next(&batch(100)).unwrap();
        assert!(runs.is_news(&single));
        assert!(!runs.is_news(&single));
        singles(&mut runs, 100);
        runs.refuse(0);
        assert!(!runs.is_news(&single));
    }
}
