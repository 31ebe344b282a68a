//! Terminals: reading a secret without showing it, and single keys.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt::cvt;

/// Keeps echo off on a terminal until it is dropped.
#[derive(Debug)]
pub struct EchoOff<'fd> {
    _changed: Changed<'fd>,
}

impl<'fd> EchoOff<'fd> {
    /// Turns echo off (line feeds are still shown).
    ///
    /// # Errors
    /// `fd` is no terminal, or the terminal refuses.
    pub fn new(fd: BorrowedFd<'fd>) -> io::Result<Self> {
        let _changed = Changed::new(fd, |modes| {
            modes.c_lflag = (modes.c_lflag & !libc::ECHO) | libc::ECHONL
        })?;
        Ok(Self { _changed })
    }
}

/// Keeps a terminal giving single keys, without echo, instead of lines until it is dropped.
#[derive(Debug)]
pub struct KeyByKey<'fd> {
    _changed: Changed<'fd>,
}

impl<'fd> KeyByKey<'fd> {
    /// Switches to single keys; signal keys still work.
    ///
    /// # Errors
    /// `fd` is no terminal, or the terminal refuses.
    pub fn new(fd: BorrowedFd<'fd>) -> io::Result<Self> {
        let _changed = Changed::new(fd, |modes| modes.c_lflag &= !(libc::ICANON | libc::ECHO))?;
        Ok(Self { _changed })
    }
}

/// A terminal with changed modes, which are restored on drop.
#[derive(Debug)]
struct Changed<'fd> {
    fd: BorrowedFd<'fd>,
    before: libc::termios,
}

impl<'fd> Changed<'fd> {
    fn new(fd: BorrowedFd<'fd>, change: impl FnOnce(&mut libc::termios)) -> io::Result<Self> {
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: `before` has room for a termios; it is only read after success.
        let before = unsafe {
            cvt(libc::tcgetattr(fd.as_raw_fd(), before.as_mut_ptr()))?;
            before.assume_init()
        };
        let mut modes = before;
        change(&mut modes);
        // SAFETY: `modes` is a valid termios.
        cvt(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSADRAIN, &raw const modes) })?;
        Ok(Self { fd, before })
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        // SAFETY: `before` is a valid termios. A terminal that is gone needs no restoring.
        unsafe {
            libc::tcsetattr(self.fd.as_raw_fd(), libc::TCSADRAIN, &raw const self.before);
        }
    }
}
