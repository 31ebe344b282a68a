//! Processes: starting, waiting, limiting.

mod privileges;
mod spawn;
mod title;

pub use privileges::{
    Resource, drop_bounding_capabilities, drop_capabilities, drop_user, forbid_new_privileges, raise_limit,
    set_dumpable, set_limit, unshare_network,
};
pub use spawn::CommandExt;
pub use title::{overwrite_argument, set_title};

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::cvt::{cvt, retry};

/// A process id.
pub type Pid = i32;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The process that called.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Copies this process.
///
/// # Errors
/// `Unsupported` while the process has several threads: the copy would inherit their locks.
pub fn fork() -> io::Result<Fork> {
    require_single_thread()?;
    // SAFETY: no other thread exists, so no lock is held by a thread that the child lacks.
    Ok(as_fork(cvt(unsafe { libc::fork() })?))
}

/// Copies this process as a *sibling*: the parent of the new process is our parent, which gets
/// its SIGCHLD and reaps it. This is how a zygote makes workers that the main process owns.
///
/// # Errors
/// As [`fork`].
pub fn clone_into_parent() -> io::Result<Fork> {
    require_single_thread()?;
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no new stack this is fork with another parent; no other
    // thread exists, so no lock is held by a thread that the child lacks. libc has no function
    // that does this without a new stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    Ok(as_fork(cvt(pid as libc::c_int)?))
}

fn as_fork(pid: Pid) -> Fork {
    if pid == 0 { Fork::Child } else { Fork::Parent(pid) }
}

fn require_single_thread() -> io::Result<()> {
    let alone = match std::fs::read_dir("/proc/self/task") {
        Ok(threads) => threads.count() == 1,
        // Below another root. A process that is alone has nothing to unshare here; others are refused.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // SAFETY: unshare takes an integer.
            cvt(unsafe { libc::unshare(libc::CLONE_THREAD) }).is_ok()
        }
        Err(error) => return Err(error),
    };
    if alone {
        Ok(())
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// There is no such process, or the kernel is older than 5.3.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers only. Debian 12's libc has no function for it.
    let fd = cvt(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as libc::c_int)?;
    // SAFETY: the descriptor is fresh and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reaps one child if it has ended; never waits.
///
/// # Errors
/// It is no child of ours.
pub fn try_wait(pid: Pid) -> io::Result<Option<ExitStatus>> {
    wait_raw(pid, libc::WNOHANG)
}

/// Waits until a child ends.
///
/// # Errors
/// It is no child of ours.
pub fn wait(pid: Pid) -> io::Result<ExitStatus> {
    wait_raw(pid, 0)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn wait_raw(pid: Pid, options: i32) -> io::Result<Option<ExitStatus>> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let reaped = retry(|| cvt(unsafe { libc::waitpid(pid, &raw mut status, options) }))?;
    Ok((reaped != 0).then(|| ExitStatus::from_raw(status)))
}

/// Sends a signal to one process.
///
/// # Errors
/// There is no such process, or it belongs to another user. `InvalidInput` unless `pid` is
/// positive: that would address groups.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes integers only.
    cvt(unsafe { libc::kill(pid, signal) }).map(|_| ())
}

/// Sends a signal to a process group, named by its leader.
///
/// # Errors
/// As [`kill`].
pub fn kill_group(leader: Pid, signal: i32) -> io::Result<()> {
    if leader <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes integers only.
    cvt(unsafe { libc::kill(-leader, signal) }).map(|_| ())
}

/// Starts a session of its own, without a terminal.
///
/// # Errors
/// This process leads a group already.
pub fn new_session() -> io::Result<()> {
    // SAFETY: setsid has no preconditions.
    cvt(unsafe { libc::setsid() }).map(|_| ())
}

/// Points standard input, output and error at `/dev/null`, so that a daemon keeps nothing of the
/// terminal or pipe it was started from.
///
/// # Errors
/// There is no `/dev/null`.
pub fn detach_standard_streams() -> io::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for standard in 0..=2 {
        // SAFETY: dup2 replaces a descriptor that std never owns as an object.
        cvt(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), standard) })?;
    }
    Ok(())
}

/// Makes this process the leader of a process group of its own.
///
/// # Errors
/// This process leads a session.
pub fn lead_group() -> io::Result<()> {
    // SAFETY: setpgid has no memory preconditions.
    cvt(unsafe { libc::setpgid(0, 0) }).map(|_| ())
}

/// Has the kernel send `signal` to this process when its parent ends.
///
/// # Errors
/// Not a signal.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    // SAFETY: this prctl takes an integer.
    cvt(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_long::from(signal)) }).map(|_| ())
}

/// Undoes [`set_parent_death_signal`].
///
/// # Errors
/// None is known.
pub fn outlive_parent() -> io::Result<()> {
    set_parent_death_signal(0)
}

/// Sets the mask of permission bits that new files do not get; returns the old one.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: umask has no preconditions.
    unsafe { libc::umask(mask) }
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// # Errors
/// The kernel is older than 5.11.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes integers only, and with this flag closes nothing now.
    cvt(unsafe {
        libc::close_range(
            first.cast_unsigned(),
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    })
    .map(|_| ())
}

/// Takes ownership of a descriptor that this process inherited under an agreed number
/// (see [`CommandExt::pass_descriptors`]); `None` when that number is not open. The descriptor is made
/// close-on-exec. Ask for every number once, at the start of the program.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl takes integers only; it fails when the number is not open.
    cvt(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: the number is open, and by agreement nobody else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
