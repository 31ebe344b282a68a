//! What `std::process::Command` lacks.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cvt::cvt;

/// More settings for [`Command`]. They run in the child between fork and exec and use
/// async-signal-safe functions only. (Program name and process group are in std's `CommandExt`.)
pub trait CommandExt {
    /// Gives the program these descriptors under the numbers beside them. All other descriptors
    /// are closed if they are close-on-exec (those of Rust and of this crate are).
    fn pass_descriptors(&mut self, descriptors: Vec<(OwnedFd, RawFd)>) -> &mut Self;

    /// The program gets `signal` when the *thread* that started it ends.
    fn parent_death_signal(&mut self, signal: i32) -> &mut Self;

    /// The program starts with no signal blocked and SIGPIPE at its default.
    fn default_signals(&mut self) -> &mut Self;

    /// The program leads a session of its own, without a terminal.
    fn new_session(&mut self) -> &mut Self;
}

impl CommandExt for Command {
    fn pass_descriptors(&mut self, descriptors: Vec<(OwnedFd, RawFd)>) -> &mut Self {
        let highest = descriptors.iter().map(|(_, number)| *number).max().unwrap_or(0);
        let mut copies = vec![0; descriptors.len()];
        // SAFETY: the closure calls fcntl and dup2 only and allocates nothing.
        unsafe {
            self.pre_exec(move || {
                // Out of the way first, so that no target overwrites a source.
                for (copy, (fd, _)) in copies.iter_mut().zip(&descriptors) {
                    *copy = cvt(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest + 1))?;
                }
                for (copy, (_, number)) in copies.iter().zip(&descriptors) {
                    cvt(libc::dup2(*copy, *number))?;
                }
                Ok(())
            })
        }
    }

    fn parent_death_signal(&mut self, signal: i32) -> &mut Self {
        // SAFETY: prctl and getppid are async-signal-safe system calls.
        unsafe {
            let parent = libc::getpid();
            self.pre_exec(move || {
                super::set_parent_death_signal(signal)?;
                // The parent may have ended before the request was made.
                if libc::getppid() == parent {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(libc::ESRCH))
                }
            })
        }
    }

    fn default_signals(&mut self) -> &mut Self {
        // SAFETY: the functions called are async-signal-safe and allocate nothing.
        unsafe {
            self.pre_exec(|| {
                crate::signal::reset(libc::SIGPIPE);
                crate::signal::unblock_all()
            })
        }
    }

    fn new_session(&mut self) -> &mut Self {
        // SAFETY: setsid is async-signal-safe.
        unsafe { self.pre_exec(super::new_session) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_under_their_numbers() {
        let (mut read_end, write_end) = io::pipe().unwrap();
        let (input, mut feed) = io::pipe().unwrap();
        feed.write_all(b"swapped\n").unwrap();
        drop(feed);
        // The sources' own numbers are targets of the others as often as not.
        let targets = vec![(OwnedFd::from(input), 4), (OwnedFd::from(write_end), 3)];
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "cat <&4 >&3"])
            .pass_descriptors(targets)
            .default_signals();
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut text = String::new();
        read_end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "swapped\n");
        assert!(child.wait().unwrap().success());
    }
}
