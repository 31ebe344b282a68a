//! The system calls that helper processes need: those of a worker, and what the C library does to look
//! up names and to run threads.

use libc::c_long;
use seccompiler::{SeccompAction, SeccompCmpOp, SeccompCondition, SeccompRule, apply_filter_all_threads};

use super::SandboxError;
use super::seccomp::{
    ALWAYS, Rules, condition, filter, itself, nothing_executable, one_of, trap_unless, without_bits,
};

/// What a helper process is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// Our own code, which asks servers on the network.
    Service,
    /// A library that writes files.
    Library,
}

/// Whatever the arguments.
const CALLS: &[c_long] = &[
    // Sockets to servers; making them is among the rules below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Files, as far as the user may read them.
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Event loops.
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_pselect6,
    libc::SYS_clock_getres,
    // Threads; `clone` is among the rules below.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    // Who and where this is.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Older forms of the above, which only this processor has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// Further calls of a library that writes files.
const WRITING: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fchmod,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Options of prctl: names, and questions that libraries ask when they are loaded.
const PRCTL: [libc::c_int; 8] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_KEEPCAPS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_SECUREBITS,
    libc::PR_CAPBSET_READ,
];

/// Sockets that name look-ups and servers need.
const DOMAINS: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Commands of fcntl: none that names a process to be signalled.
const FCNTL: [libc::c_int; 12] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// From now on all threads of this process may only do what such a helper needs; anything else is
/// refused and ends it (see the module). Implies [`crate::process::forbid_new_privileges`].
///
/// # Errors
/// The kernel or the processor has no seccomp filters.
pub fn restrict_helper(helper: Helper) -> Result<(), SandboxError> {
    // Where the flags of `clone3` are, no filter can see them: the C library takes `clone` then.
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 = filter(
        [(libc::SYS_clone3, Vec::new())].into(),
        unknown,
        SeccompAction::Allow,
    )?;
    apply_filter_all_threads(&clone3)?;
    Ok(apply_filter_all_threads(&trap_unless(rules(helper)?)?)?)
}

fn rules(helper: Helper) -> Result<Rules, SandboxError> {
    let mut calls: Vec<c_long> = [ALWAYS, CALLS].concat();
    let mut rules = Rules::new();
    match helper {
        Helper::Library => calls.extend(WRITING),
        Helper::Service => {
            let changes = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
            rules.insert(libc::SYS_openat, without_bits(2, changes as u64)?);
            #[cfg(target_arch = "x86_64")]
            rules.insert(libc::SYS_open, without_bits(1, changes as u64)?);
        }
    }
    rules.extend(calls.into_iter().map(|call| (call, Vec::new())));
    rules.insert(libc::SYS_socket, one_of(0, DOMAINS.map(|domain| domain as u64))?);
    rules.insert(libc::SYS_socketpair, one_of(0, [libc::AF_UNIX as u64])?);
    rules.insert(libc::SYS_fcntl, one_of(1, FCNTL.map(|command| command as u64))?);
    rules.insert(
        libc::SYS_ioctl,
        one_of(1, [libc::FIONREAD, libc::FIONBIO, libc::TCGETS])?,
    );
    // Modules of the C library are loaded from files; nothing that is written is ever executed.
    let mut mmap = nothing_executable(2)?;
    let both = (libc::PROT_EXEC | libc::PROT_WRITE) as u64;
    mmap.push(rule(vec![
        masked(2, both, libc::PROT_EXEC as u64)?,
        masked(3, libc::MAP_ANONYMOUS as u64, 0)?,
    ])?);
    rules.insert(libc::SYS_mmap, mmap);
    rules.insert(libc::SYS_mprotect, nothing_executable(2)?);
    // Threads, no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(vec![masked(0, thread, thread)?])?]);
    rules.insert(libc::SYS_prctl, one_of(0, PRCTL.map(|option| option as u64))?);
    // Its own limits, to be read.
    rules.insert(
        libc::SYS_prlimit64,
        vec![rule(vec![
            condition(0, SeccompCmpOp::Eq, 0)?,
            SeccompCondition::new(2, seccompiler::SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?,
        ])?],
    );
    rules.insert(libc::SYS_kill, itself(0)?);
    rules.insert(libc::SYS_tgkill, itself(0)?);
    // Not the one of the report.
    rules.insert(
        libc::SYS_rt_sigaction,
        vec![rule(vec![condition(0, SeccompCmpOp::Ne, libc::SIGSYS as u64)?])?],
    );
    Ok(rules)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, SandboxError> {
    Ok(SeccompRule::new(conditions)?)
}

/// The 32-bit argument `index` has this value in these bits.
fn masked(index: u8, bits: u64, value: u64) -> Result<SeccompCondition, SandboxError> {
    condition(index, SeccompCmpOp::MaskedEq(bits), value)
}
