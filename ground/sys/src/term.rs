//! Terminals: reading a secret without showing it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt::cvt;

/// Keeps echo off on a terminal until it is dropped.
#[derive(Debug)]
pub struct EchoOff<'fd> {
    fd: BorrowedFd<'fd>,
    before: libc::termios,
}

impl<'fd> EchoOff<'fd> {
    /// Turns echo off (line feeds are still shown).
    ///
    /// # Errors
    /// `fd` is no terminal, or the terminal refuses.
    pub fn new(fd: BorrowedFd<'fd>) -> io::Result<Self> {
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: `before` has room for a termios; it is only read after success.
        let before = unsafe {
            cvt(libc::tcgetattr(fd.as_raw_fd(), before.as_mut_ptr()))?;
            before.assume_init()
        };
        let mut quiet = before;
        quiet.c_lflag = (quiet.c_lflag & !libc::ECHO) | libc::ECHONL;
        // SAFETY: `quiet` is a valid termios.
        cvt(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSADRAIN, &raw const quiet) })?;
        Ok(Self { fd, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // SAFETY: `before` is a valid termios. A terminal that is gone needs no echo.
        unsafe {
            libc::tcsetattr(self.fd.as_raw_fd(), libc::TCSADRAIN, &raw const self.before);
        }
    }
}
