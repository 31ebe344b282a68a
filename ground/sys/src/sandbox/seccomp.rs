//! The system calls that a worker needs, and filters of them.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::SandboxError;
use crate::cvt::cvt;

/// What a worker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TLS and HTTP; it may make the event loop of the tunnel, set up a TUN device, and go on to [`Phase::Tunnel`].
    Login,
    /// Packets on descriptors that are there or come by message.
    Tunnel,
    /// As [`Phase::Tunnel`], for a process that gets new clients: it may make its event loop, ask
    /// TUN devices what they are and copy descriptors.
    Pool,
}

/// Calls that are allowed when one of their rules fits, or always without any.
pub(super) type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// In every phase, whatever the arguments.
pub(super) const ALWAYS: &[c_long] = &[
    // Open descriptors. New ones come by recvmsg.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    // Memory; mappings are among the rules below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Time, locks, randomness.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    // This process itself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Older forms of the above, which only this processor has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Further calls of [`Phase::Login`].
const LOGIN: &[c_long] = &[libc::SYS_epoll_create1, libc::SYS_signalfd4];

/// Requests of ioctl before [`Phase::Tunnel`].
const IOCTL: &[libc::Ioctl] = &[libc::TUNGETIFF, libc::TUNSETOFFLOAD];

/// Options of sockets, each with its level: what the packet path sets. None that names another
/// address (source routes), device or program.
const SOCKET_OPTIONS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::SOL_UDP, libc::UDP_SEGMENT),
    (libc::SOL_UDP, libc::UDP_GRO),
];

/// Commands of fcntl: none that names a process to be signalled.
const FCNTL: &[i32] = &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// From now on this process may only do what the phase needs; anything else is refused and ends
/// it (see the module). Phases only ever narrow. Implies
/// [`crate::process::forbid_new_privileges`].
///
/// # Errors
/// The kernel or the processor has no seccomp filters.
pub fn restrict_system_calls(phase: Phase) -> Result<(), SandboxError> {
    Ok(apply_filter(&program(phase)?)?)
}

/// Whether the kernel has filters of system calls.
///
/// # Errors
/// It has none.
pub fn can_restrict_system_calls() -> io::Result<()> {
    // SAFETY: this prctl takes no further arguments.
    cvt(unsafe { libc::prctl(libc::PR_GET_SECCOMP) }).map(|_| ())
}

fn program(phase: Phase) -> Result<BpfProgram, SandboxError> {
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let copying = (phase == Phase::Pool).then_some(libc::F_DUPFD_CLOEXEC);
    let commands = FCNTL.iter().copied().chain(copying);
    rules.insert(
        libc::SYS_fcntl,
        one_of(1, commands.map(|command| command as u64))?,
    );
    // The peer of an open tunnel is the one that its sockets are connected to: no other address may be
    // given, and that of a message is in memory, out of a filter's sight. The sockets of a pool have no peers.
    let to_anybody = match phase {
        Phase::Login | Phase::Tunnel => vec![SeccompRule::new(vec![whole(4, SeccompCmpOp::Eq, 0)?])?],
        Phase::Pool => Vec::new(),
    };
    rules.insert(libc::SYS_sendto, to_anybody);
    if phase != Phase::Tunnel {
        rules.insert(libc::SYS_sendmsg, Vec::new());
    }
    rules.insert(libc::SYS_setsockopt, socket_options()?);
    rules.insert(libc::SYS_mmap, nothing_executable(2)?);
    rules.insert(libc::SYS_mprotect, nothing_executable(2)?);
    rules.insert(libc::SYS_tgkill, itself(0)?);
    if phase != Phase::Tunnel {
        rules.extend(LOGIN.iter().map(|call| (*call, Vec::new())));
        rules.insert(libc::SYS_ioctl, one_of(1, IOCTL.iter().copied())?);
    }
    if phase == Phase::Login {
        // The filter of the next phase.
        rules.insert(libc::SYS_prctl, one_of(0, [libc::PR_SET_NO_NEW_PRIVS as u64])?);
        rules.insert(
            libc::SYS_seccomp,
            vec![SeccompRule::new(vec![
                condition(0, SeccompCmpOp::Eq, libc::SECCOMP_SET_MODE_FILTER.into())?,
                condition(1, SeccompCmpOp::Eq, 0)?,
            ])?],
        );
    }
    trap_unless(rules)
}

fn socket_options() -> Result<Vec<SeccompRule>, SandboxError> {
    let rule = |(level, option): &(i32, i32)| {
        Ok(SeccompRule::new(vec![
            condition(1, SeccompCmpOp::Eq, *level as u64)?,
            condition(2, SeccompCmpOp::Eq, *option as u64)?,
        ])?)
    };
    SOCKET_OPTIONS.iter().map(rule).collect()
}

/// A filter that traps all calls but these.
pub(super) fn trap_unless(rules: Rules) -> Result<BpfProgram, SandboxError> {
    filter(rules, SeccompAction::Allow, SeccompAction::Trap)
}

/// A filter: what becomes of calls that have rules, if one of them fits or there is none, and of all others.
pub(super) fn filter(
    rules: Rules,
    listed: SeccompAction,
    others: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let filter = SeccompFilter::new(rules, others, listed, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Nothing that is written is ever executed: argument `index` is the protection of memory.
pub(super) fn nothing_executable(index: u8) -> Result<Vec<SeccompRule>, SandboxError> {
    without_bits(index, libc::PROT_EXEC as u64)
}

/// Argument `index` is this process, which `abort` signals.
pub(super) fn itself(index: u8) -> Result<Vec<SeccompRule>, SandboxError> {
    one_of(index, [u64::from(std::process::id())])
}

/// The 32-bit argument `index` is one of `values`.
pub(super) fn one_of(
    index: u8,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, SandboxError> {
    let rule = |value| {
        Ok(SeccompRule::new(vec![condition(
            index,
            SeccompCmpOp::Eq,
            value,
        )?])?)
    };
    values.into_iter().map(rule).collect()
}

/// The 32-bit argument `index` has none of `bits`.
pub(super) fn without_bits(index: u8, bits: u64) -> Result<Vec<SeccompRule>, SandboxError> {
    Ok(vec![SeccompRule::new(vec![condition(
        index,
        SeccompCmpOp::MaskedEq(bits),
        0,
    )?])?])
}

/// A condition on a whole argument, as pointers are.
fn whole(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SandboxError> {
    let length = SeccompCmpArgLen::Qword;
    Ok(SeccompCondition::new(index, length, operator, value)?)
}

pub(super) fn condition(
    index: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, SandboxError> {
    Ok(SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}
