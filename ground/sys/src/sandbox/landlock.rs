//! Landlock: no files, no TCP ports, no signals to and no abstract sockets of other processes.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

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

/// Denies this process, for good, to change anything in the file system, to run programs, to listen
/// on TCP ports, to signal processes outside and to reach their abstract UNIX sockets. As
/// [`forbid_access`] otherwise; threads that run already are on their own.
///
/// # Errors
/// The kernel has Landlock but refuses.
pub fn forbid_changes() -> Result<(), SandboxError> {
    forbid(AccessFs::from_write(ABI::V5) | AccessFs::Execute)
}

/// The same but for files: it may change those that its user may change.
///
/// # Errors
/// See [`forbid_changes`].
pub fn forbid_programs() -> Result<(), SandboxError> {
    forbid(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock)
}

fn forbid(files: BitFlags<AccessFs>) -> Result<(), SandboxError> {
    Ruleset::default()
        .handle_access(files)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        // A port that the kernel chooses, for connections to servers.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(())
}
