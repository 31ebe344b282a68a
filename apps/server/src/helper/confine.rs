//! What helpers give up that need no root.

use std::io;

use culvert_sys::process::{self, Resource};
use culvert_sys::signal::SIGKILL;

/// Becomes this user and group for good, with no way back, and writes no files.
///
/// # Errors
/// The user could not be changed; the process must not go on.
pub(super) fn unprivileged(ids: (u32, u32)) -> io::Result<()> {
    process::set_limit(Resource::FileSize, 0)?;
    become_user(ids)
}

/// The same for code that writes files of its own.
///
/// # Errors
/// See [`unprivileged`].
pub(super) fn become_user((uid, gid): (u32, u32)) -> io::Result<()> {
    process::drop_bounding_capabilities()?;
    process::drop_user(uid, gid, &[gid])?;
    process::drop_capabilities()?;
    process::forbid_new_privileges()?;
    // Changing the user has undone both.
    process::set_dumpable(false)?;
    process::set_parent_death_signal(SIGKILL)
}
