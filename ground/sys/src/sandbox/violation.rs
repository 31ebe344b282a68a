//! What happens at a forbidden system call.

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering};

use crate::cvt::cvt;

/// Longest message of [`report_violations`], in octets.
pub const MESSAGE_MAX: usize = 16;
/// Octets at its end that the number of the system call takes.
const NUMBER: usize = size_of::<u32>();

static CHANNEL: AtomicI32 = AtomicI32::new(-1);
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static MESSAGE: [AtomicU8; MESSAGE_MAX] = [const { AtomicU8::new(0) }; MESSAGE_MAX];

/// `siginfo_t` of a SIGSYS, whose fields libc does not name.
#[repr(C)]
struct SigSys {
    signal: c_int,
    error: c_int,
    code: c_int,
    address: *mut c_void,
    system_call: c_int,
    architecture: c_uint,
}

/// Has the first forbidden system call of this process reported on `channel` (one end of a
/// [`crate::channel::Channel`] that stays open for the life of the process): `message`, whose last
/// four octets are replaced by the number of the call, little end first. Then the process ends by
/// SIGSYS.
///
/// # Errors
/// `InvalidInput` unless the message has 4 to [`MESSAGE_MAX`] octets.
pub fn report_violations(channel: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    if !(NUMBER..=MESSAGE_MAX).contains(&message.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (kept, octet) in MESSAGE.iter().zip(message) {
        kept.store(*octet, Ordering::Relaxed);
    }
    LENGTH.store(message.len(), Ordering::Relaxed);
    CHANNEL.store(channel.as_raw_fd(), Ordering::Relaxed);

    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid sigaction, completed before it is used. The handler uses
    // async-signal-safe functions and atomics only.
    unsafe {
        let action = action.assume_init_mut();
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = violated;
        action.sa_sigaction = handler as libc::sighandler_t;
        // For one time only: the next one is the end, whatever the handler was turned into.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        cvt(libc::sigemptyset(&raw mut action.sa_mask))?;
        cvt(libc::sigaction(libc::SIGSYS, action, std::ptr::null_mut()))?;
    }
    Ok(())
}

extern "C" fn violated(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes the information of a SIGSYS.
    let number = unsafe { (*info.cast::<SigSys>()).system_call };
    let mut message = [0; MESSAGE_MAX];
    for (octet, kept) in message.iter_mut().zip(&MESSAGE) {
        *octet = kept.load(Ordering::Relaxed);
    }
    let length = LENGTH.load(Ordering::Relaxed).clamp(NUMBER, MESSAGE_MAX);
    if let Some(last) = message.get_mut(length - NUMBER..length) {
        last.copy_from_slice(&number.to_le_bytes());
    }
    // SAFETY: the pointer and the length describe `message`. libc's own `write` could be one of a
    // preload wrapper, which takes locks that the interrupted code may hold.
    unsafe {
        libc::syscall(
            libc::SYS_write,
            CHANNEL.load(Ordering::Relaxed),
            message.as_ptr(),
            length,
        );
    }
    // SIGSYS has its default effect again and is blocked here, so a forbidden call kills. Should
    // no filter forbid it, the process ends all the same.
    // SAFETY: both calls take integers only.
    unsafe {
        libc::syscall(libc::SYS_getppid);
        libc::_exit(128 + libc::SIGSYS);
    }
}
