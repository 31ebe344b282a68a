use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// Makes a descriptor that `inner` owns known to the event loop.
///
/// # Errors
/// It cannot be polled.
pub(crate) fn pollable<T: AsRawFd + AsFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // tokio prefers an unsafe constructor, which asks for a promise that `AsFd` types keep by
    // themselves: the descriptor stays open and the same while they live.
    #[expect(deprecated)]
    AsyncFd::new(inner)
}
