//! Landlock: no files, no TCP ports, no signals to and no abstract sockets of other processes.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};

use super::SandboxError;
use crate::cvt::cvt;

/// The version of Landlock from which on all of [`forbid_access`] is enforced (Linux 6.12).
pub const LANDLOCK_COMPLETE: i32 = 6;

/// The version of Landlock that the kernel has. Files are covered from 1 on, TCP ports from 4,
/// signals and abstract sockets from 6.
///
/// # Errors
/// It has none, or it is switched off.
pub fn landlock_version() -> io::Result<i32> {
    const VERSION: libc::c_long = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call reads no memory. libc has no function for it.
    cvt(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) } as libc::c_int)
}

/// Denies this process, for good, to open or change anything in the file system, to bind or connect
/// TCP sockets, to signal processes outside and to reach their abstract UNIX sockets. Descriptors
/// that are open stay usable. Each caller is on its own: processes that call this after a fork
/// cannot reach each other. What the kernel is too old for is left out (see
/// [`landlock_version`]). Implies [`crate::process::forbid_new_privileges`].
///
/// # Errors
/// The kernel has Landlock but refuses.
pub fn forbid_access() -> Result<(), SandboxError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(())
}
