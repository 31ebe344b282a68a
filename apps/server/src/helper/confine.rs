//! What helpers give up that need no root.

use std::io;
use std::os::fd::BorrowedFd;

use culvert_sys::process::{self, Resource};
use culvert_sys::sandbox::{self, Helper};
use culvert_sys::signal::SIGKILL;
use serde::{Deserialize, Serialize};

use crate::ipc::{Message, encode};

/// What a process becomes that needs no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unprivileged {
    /// User: `run-as-user`.
    pub(crate) uid: u32,
    /// Group: `run-as-group`.
    pub(crate) gid: u32,
    /// System calls are filtered: `isolate-workers`.
    pub(crate) filtered: bool,
}

/// Becomes this user and group for good, with no way back, runs no programs, and makes only the system
/// calls that such a helper needs. `forbidden` tells the broker on `channel` of one that is not; it is five
/// octets long, the number of the call at its end. Steps that this system refuses are told to `log`.
///
/// # Errors
/// The user could not be changed; the process must not go on.
pub(super) fn unprivileged(
    rights: Unprivileged,
    helper: Helper,
    channel: BorrowedFd<'_>,
    forbidden: &impl Message,
    log: &dyn Fn(&str),
) -> io::Result<()> {
    if helper == Helper::Service {
        process::set_limit(Resource::FileSize, 0)?;
    }
    let Unprivileged { uid, gid, filtered } = rights;
    process::drop_bounding_capabilities()?;
    process::drop_user(uid, gid, &[gid])?;
    process::drop_capabilities()?;
    process::forbid_new_privileges()?;
    // Changing the user has undone both.
    process::set_dumpable(false)?;
    process::set_parent_death_signal(SIGKILL)?;
    let landlock = match helper {
        Helper::Service => sandbox::forbid_changes(),
        Helper::Library => sandbox::forbid_programs(),
    };
    if let Err(error) = landlock {
        log(&format!("not confined by Landlock: {error}"));
    }
    if !filtered || sandbox::can_restrict_system_calls().is_err() {
        return Ok(());
    }
    let reported = encode(forbidden)
        .map_err(io::Error::other)
        .and_then(|message| sandbox::report_violations(channel, &message));
    if let Err(error) = reported {
        log(&format!("forbidden system calls will not be reported: {error}"));
    }
    if let Err(error) = sandbox::restrict_helper(helper) {
        log(&format!("system calls are not restricted: {error}"));
    }
    Ok(())
}
