//! Locks of open files (`fcntl(2)`, F_OFD_SETLK). They exclude the POSIX locks of other programs,
//! and each other also within one process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks the whole file for this open file description; false when somebody else holds a lock.
/// The lock ends when the file is closed.
///
/// # Errors
/// The file was not opened for writing, or its file system knows no locks.
pub fn try_lock_exclusive(file: &File) -> io::Result<bool> {
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open and `lock` is a valid `struct flock` during the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let path = std::env::temp_dir().join(format!("culvert-sys-lock-{}", std::process::id()));
        let first = File::create(&path).unwrap();
        let second = File::create(&path).unwrap();
        assert!(try_lock_exclusive(&first).unwrap());
        assert!(!try_lock_exclusive(&second).unwrap());
        drop(first);
        assert!(try_lock_exclusive(&second).unwrap());
        let read_only = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(try_lock_exclusive(&read_only).is_err());
    }
}
