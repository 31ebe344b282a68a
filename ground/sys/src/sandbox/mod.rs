//! Confinement of processes that read what strangers send (`specs/server-auth.md` §7.4): Landlock
//! denies it files, TCP connections and other processes, seccomp every system call that its work
//! does not need.
//!
//! A call that is not allowed is not executed. The first one runs the handler of
//! [`report_violations`], which says which call it was, and the process ends by SIGSYS; nothing
//! can set that handler again, so whatever escapes from it dies at the next such call.

mod helper;
mod landlock;
mod names;
mod seccomp;
mod violation;

pub use self::helper::{Helper, restrict_helper};
pub use self::landlock::{
    LANDLOCK_COMPLETE, forbid_access, forbid_changes, forbid_programs, landlock_version,
};
pub use self::names::system_call_name;
pub use self::seccomp::{Phase, can_restrict_system_calls, restrict_system_calls};
pub use self::violation::{MESSAGE_MAX, report_violations};

/// A confinement that this system does not offer.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The filter cannot be made for this processor.
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel does not take the filter.
    #[error("seccomp: {0}")]
    Install(#[from] seccompiler::Error),
    /// The kernel does not take the rules.
    #[error("landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
}
