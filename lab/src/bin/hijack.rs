//! Makes a process execute a system call that is not its own, as code in a stranger's hands would:
//! `hijack PID NUMBER [ARGUMENT...]`. The process must be waiting in a system call of its own.

// The laboratory runs only on machines of developers and of CI: it stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// How often a process is looked at, and how long apart.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);
/// Length of the instruction that enters the kernel.
const SYSCALL: u64 = 2;

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|text| text.parse::<i64>().expect("a number"));
    let pid = numbers
        .next()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a process id");
    let pid = Pid::from_raw(pid);
    let call = numbers.next().expect("the number of a system call");
    let arguments: Vec<i64> = numbers.collect();

    let mut registers = stop_in_a_call(pid);
    // The interrupted call is forgotten, and the instruction that made it is executed again.
    registers.orig_rax = u64::MAX;
    registers.rip -= SYSCALL;
    registers.rax = call.cast_unsigned();
    let slots = [
        &mut registers.rdi,
        &mut registers.rsi,
        &mut registers.rdx,
        &mut registers.r10,
        &mut registers.r8,
        &mut registers.r9,
    ];
    for (slot, argument) in slots.into_iter().zip(arguments) {
        *slot = argument.cast_unsigned();
    }
    ptrace::setregs(pid, registers).unwrap();
    ptrace::detach(pid, None).unwrap();
}

/// Stops the process while it waits in a system call; one that is busy is left alone for a moment.
fn stop_in_a_call(pid: Pid) -> libc::user_regs_struct {
    for _ in 0..TRIES {
        ptrace::attach(pid).unwrap_or_else(|error| panic!("cannot trace {pid} (root is needed): {error}"));
        let stopped = waitpid(pid, None).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let registers = ptrace::getregs(pid).unwrap();
        if registers.orig_rax.cast_signed() >= 0 {
            return registers;
        }
        ptrace::detach(pid, None).unwrap();
        std::thread::sleep(PAUSE);
    }
    panic!("{pid} is never in a system call")
}
