//! Waiting for conditions instead of sleeping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long [`until`] and friends wait: long enough for a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this process panic soon, so that unwinding cleans up.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// True after [`interrupt`].
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Polls `condition` until it gives a value; `None` when it gives none within `limit`.
///
/// # Panics
/// The process was interrupted meanwhile.
pub fn poll_within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        assert!(!is_interrupted(), "interrupted");
        if Instant::now() >= deadline {
            return None;
        }
        sleep(Duration::from_millis(20));
    }
}

/// [`poll_within`] for conditions that must come true.
///
/// # Panics
/// The condition gives no value within `limit`; the message says what was waited for.
pub fn until_within<T>(limit: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    poll_within(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} in vain for: {what}"))
}

/// [`until_within`] with the usual [`PATIENCE`].
///
/// # Panics
/// See there.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition)
}
