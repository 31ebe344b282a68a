//! How much work waits for the broker's threads: the queue that `rate-limit-ms` is about
//! (`specs/server-config.md` §8.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Signatures and password hashes that may wait per processor.
const QUEUE: usize = 16;

/// Counts what waits.
#[derive(Debug)]
pub(super) struct Load {
    waiting: AtomicUsize,
    queue: usize,
    busy: watch::Sender<bool>,
}

/// One piece of work that has not been done yet.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Load>);

impl Load {
    /// For this many processors.
    pub(super) fn new(processors: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            queue: QUEUE * processors.max(1),
            busy: watch::Sender::new(false),
        })
    }

    /// Work that has to wait, until the result is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.judge(self.waiting.fetch_add(1, Ordering::Relaxed) + 1);
        Waiting(Arc::clone(self))
    }

    /// Follows whether the queue is more than half full. It has to shrink to a quarter to be called
    /// short again.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn judge(&self, waiting: usize) {
        self.busy.send_if_modified(|busy| {
            let was = *busy;
            *busy = waiting > if was { self.queue / 4 } else { self.queue / 2 };
            *busy != was
        });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.judge(self.0.waiting.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_when_half_full_until_a_quarter_is_left() {
        let load = Load::new(2);
        let busy = load.watch();
        let mut waiting: Vec<Waiting> = (0..QUEUE).map(|_| load.wait()).collect();
        assert!(!*busy.borrow());
        waiting.push(load.wait());
        assert!(*busy.borrow());
        waiting.truncate(QUEUE / 2 + 1);
        assert!(*busy.borrow());
        waiting.pop();
        assert!(!*busy.borrow());
    }
}
