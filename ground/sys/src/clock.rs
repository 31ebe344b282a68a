//! The system's monotonic clocks as numbers, which `std` keeps to itself.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Microseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_micros() -> u64 {
    micros(libc::CLOCK_MONOTONIC)
}

/// How long the machine has been suspended since it was started.
pub fn suspended() -> Duration {
    let total = micros(libc::CLOCK_BOOTTIME);
    Duration::from_micros(total.saturating_sub(monotonic_micros()))
}

/// Microseconds of a clock that always exists.
fn micros(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: all zeroes is a valid timespec, and the clock exists.
    let time = unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let before = monotonic_micros();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_micros() >= before + 2_000 && before > 0);
    }

    #[test]
    fn nobody_sleeps_during_a_test() {
        let before = suspended();
        assert!(suspended() < before + Duration::from_millis(100));
    }
}
