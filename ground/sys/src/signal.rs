//! Signals as events: blocked, and read from a descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::cvt::{cvt, cvt_len, retry};

pub use libc::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Signals of this thread, delivered through a non-blocking descriptor.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in this thread (and the threads it starts later) and opens a descriptor
    /// that delivers them.
    ///
    /// # Errors
    /// A number is no signal, or descriptors are used up.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let set = signal_set(signals)?;
        block(signals)?;
        // SAFETY: `set` is an initialised signal set; -1 asks for a new descriptor.
        let fd = cvt(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal, or `None`.
    ///
    /// # Errors
    /// Reading the descriptor failed.
    pub fn read(&self) -> io::Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has room for `size` octets.
        match retry(|| cvt_len(unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) })) {
            // SAFETY: the kernel fills in whole structures only.
            Ok(length) if length == size => {
                Ok(i32::try_from(unsafe { info.assume_init_ref() }.ssi_signo).ok())
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks `signals` in this thread.
///
/// # Errors
/// A number is no signal.
pub fn block(signals: &[i32]) -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, &signal_set(signals)?)
}

/// Unblocks `signals` in this thread.
///
/// # Errors
/// A number is no signal.
pub fn unblock(signals: &[i32]) -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, &signal_set(signals)?)
}

/// Unblocks every signal in this thread.
///
/// # Errors
/// None in practice.
pub fn unblock_all() -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, &signal_set(&[])?)
}

/// Makes writes to a closed peer an error instead of a signal.
pub fn ignore_sigpipe() {
    set_disposition(libc::SIGPIPE, libc::SIG_IGN);
}

/// Gives `signal` its default effect.
pub fn reset(signal: i32) {
    set_disposition(signal, libc::SIG_DFL);
}

fn set_disposition(signal: i32, disposition: libc::sighandler_t) {
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours in signal context.
    unsafe {
        libc::signal(signal, disposition);
    }
}

fn signal_set(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before it is used.
    unsafe {
        cvt(libc::sigemptyset(set.as_mut_ptr()))?;
        for signal in signals {
            cvt(libc::sigaddset(set.as_mut_ptr(), *signal))?;
        }
        Ok(set.assume_init())
    }
}

fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_signals_arrive_at_the_descriptor() {
        let signals = SignalFd::new(&[SIGUSR1, SIGUSR2]).unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // SAFETY: raise sends a signal to this thread, where it is blocked.
        unsafe { libc::raise(SIGUSR2) };
        assert_eq!(signals.read().unwrap(), Some(SIGUSR2));
        assert_eq!(signals.read().unwrap(), None);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        assert!(SignalFd::new(&[4000]).is_err());
    }
}
