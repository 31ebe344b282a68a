//! Waiting for conditions instead of sleeping.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long [`until`] and friends wait: long enough for a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `condition` until it gives a value.
///
/// # Panics
/// It gives none within `limit`; the message says what was waited for.
pub fn until_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// [`until_within`] with the usual [`PATIENCE`].
///
/// # Panics
/// See there.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition)
}
