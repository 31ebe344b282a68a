//! The system's monotonic clock as a number, which `std` keeps to itself.

use std::mem::MaybeUninit;

/// Microseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_micros() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: all zeroes is a valid timespec, and this clock always exists.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
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
}
