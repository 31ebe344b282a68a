//! Signals, and waits that end when one arrives (`specs/client.md` §14.2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::signal::{self, SignalFd};

/// What the user asks for with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT or SIGTERM: log off and end.
    Terminate,
    /// SIGHUP: end, but leave the session to a later run.
    Detach,
    /// SIGUSR1: print statistics.
    Statistics,
    /// SIGUSR2: reconnect now.
    Reconnect,
}

/// Why a wait ended early.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// A signal came.
    #[error("Interrupted system call")]
    Interrupted(Signal),
    /// The deadline has passed.
    #[error("Connection timed out")]
    TimedOut,
    /// The wait itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The signals of this program, blocked and readable as events.
#[derive(Debug)]
pub struct Signals(SignalFd);

const HANDLED: [i32; 5] = [
    signal::SIGINT,
    signal::SIGTERM,
    signal::SIGHUP,
    signal::SIGUSR1,
    signal::SIGUSR2,
];

impl Signals {
    /// Takes the signals over from their default effect. Threads started later inherit that.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn new() -> io::Result<Self> {
        signal::ignore_sigpipe();
        SignalFd::new(&HANDLED).map(Self)
    }

    /// The next pending signal.
    pub fn next(&self) -> Option<Signal> {
        match self.0.read() {
            Ok(Some(signal::SIGINT | signal::SIGTERM)) => Some(Signal::Terminate),
            Ok(Some(signal::SIGHUP)) => Some(Signal::Detach),
            Ok(Some(signal::SIGUSR1)) => Some(Signal::Statistics),
            Ok(Some(signal::SIGUSR2)) => Some(Signal::Reconnect),
            Ok(_) | Err(_) => None,
        }
    }

    /// Waits until one of `descriptors` is ready. While nothing is set up there is nothing to
    /// report, so [`Signal::Statistics`] is swallowed; every other signal ends the wait.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub fn wait(
        &self,
        descriptors: &[(BorrowedFd<'_>, Interest)],
        deadline: Option<Instant>,
    ) -> Result<(), WaitError> {
        let poller = Poller::new()?;
        poller.add(&self.0, 0, Interest::READ)?;
        let mut events = Events::with_capacity(descriptors.len() + 1);
        for (descriptor, interest) in descriptors {
            match poller.add(descriptor, 1, *interest) {
                // A regular file (input from `<file`) is always ready.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
                other => other?,
            }
        }
        loop {
            poller.wait(&mut events, deadline)?;
            match self.next() {
                None | Some(Signal::Statistics) => {}
                Some(other) => return Err(WaitError::Interrupted(other)),
            }
            if events.iter().any(|event| event.token == 1) {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(WaitError::TimedOut);
            }
        }
    }
}

/// True when a read from `descriptor` would not wait.
///
/// # Errors
/// The kernel cannot tell.
pub(crate) fn is_readable(descriptor: &impl AsFd) -> io::Result<bool> {
    let poller = Poller::new()?;
    match poller.add(descriptor, 0, Interest::READ) {
        // A regular file.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(true),
        other => other?,
    }
    let mut events = Events::with_capacity(1);
    poller.wait(&mut events, Some(Instant::now()))?;
    Ok(!events.is_empty())
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
