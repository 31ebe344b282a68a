//! What zygote and workers give up (`specs/server-auth.md` §6.3, §7.4). Steps that this system
//! refuses are logged and left out, except changing the user: a root server never runs root workers
//! by accident, and `chroot-dir`.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::chroot;

use culvert_sys::process::{self, Resource};
use culvert_sys::sandbox::{self, Phase};
use culvert_sys::signal::SIGKILL;

use zeroize::Zeroizing;

use crate::ipc::fields::Text;
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, WorkerToMain, ZygoteToMain};
use crate::ipc::pool::PoolToMain;
use crate::ipc::{Malformed, encode};

/// Descriptors that a worker may have.
const DESCRIPTORS: u64 = 64;

/// The zygote's part, which all workers inherit; it happens before the first client arrives. `root` is
/// `chroot-dir`.
///
/// # Errors
/// Root or user cannot be changed, or main is gone.
pub(crate) fn zygote(main: &Blocking, uid: u32, gid: u32, root: Option<&str>) -> Result<(), LinkError> {
    // A socket that is never used: preload wrappers (socket_wrapper) set themselves up at the first
    // one, and abort when they first meet one by receiving it.
    drop(socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        None,
    ));
    let step = |name: &str, result: io::Result<()>| match result {
        Ok(()) => Ok(()),
        Err(error) => {
            let text = Text::truncated(&format!("zygote: no {name} here: {error}"));
            main.send(
                &ZygoteToMain::Log {
                    level: LogLevel::Notice,
                    text,
                },
                &[],
            )
        }
    };
    step("silence", process::detach_standard_streams())?;
    step("network namespace of its own", process::unshare_network())?;
    step(
        "preference as victim when memory is short",
        std::fs::write("/proc/self/oom_score_adj", "1000"),
    )?;
    step("limit of core dumps", process::set_limit(Resource::CoreDump, 0))?;
    step("limit of file sizes", process::set_limit(Resource::FileSize, 0))?;
    step("limit of the bounding set", process::drop_bounding_capabilities())?;
    if let Some(root) = root {
        chroot(root)?;
        std::env::set_current_dir("/")?;
    }
    process::drop_user(uid, gid, &[gid])?;
    // Changing the user has undone both.
    step("protection from being traced", process::set_dumpable(false))?;
    step("end with its parent", process::set_parent_death_signal(SIGKILL))?;
    step("dropping of capabilities", process::drop_capabilities())?;
    step("ban on new privileges", process::forbid_new_privileges())?;
    step("filter of system calls", sandbox::can_restrict_system_calls())?;
    step("complete Landlock", landlock())?;
    Ok(())
}

fn landlock() -> io::Result<()> {
    match sandbox::landlock_version()? {
        old @ ..sandbox::LANDLOCK_COMPLETE => Err(io::Error::other(format!(
            "the kernel has version {old}, which covers less"
        ))),
        _ => Ok(()),
    }
}

/// A worker's own part: nothing of it can be undone. `system_calls` is `isolate-workers`.
pub(crate) fn worker(main: &Blocking, system_calls: bool) {
    let log = |text: &str| {
        let text = Text::truncated(text);
        let level = LogLevel::Notice;
        // When main is gone this worker ends anyway: its channel says so.
        let _main_gone = main.send(&WorkerToMain::Log { level, text }, &[]);
    };
    if let Err(error) = process::set_limit(Resource::Descriptors, DESCRIPTORS) {
        log(&format!("no limit of descriptors: {error}"));
    }
    let forbidden = encode(&WorkerToMain::Forbidden([0; 4]));
    own_part(main, forbidden, system_calls.then_some(Phase::Login), &log);
}

/// The same for a pool process, which has descriptors for all its clients.
pub(crate) fn pool(main: &Blocking, system_calls: bool) {
    let log = |text: &str| {
        let text = Text::truncated(text);
        let level = LogLevel::Notice;
        let _main_gone = main.send(&PoolToMain::Log { level, text }, &[]);
    };
    let forbidden = encode(&PoolToMain::Forbidden([0; 4]));
    own_part(main, forbidden, system_calls.then_some(Phase::Pool), &log);
}

/// `forbidden` is the message that tells main of a forbidden system call; without a phase none is
/// forbidden.
fn own_part(
    main: &Blocking,
    forbidden: Result<Zeroizing<Vec<u8>>, Malformed>,
    phase: Option<Phase>,
    log: &dyn Fn(&str),
) {
    if let Err(error) = process::set_dumpable(false) {
        log(&format!("this worker can be traced: {error}"));
    }
    // The library's generator looks around in the system when it is first used.
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    if random.fill(&mut [0]).is_err() {
        log("no random numbers");
    }
    // Kernels without it were mentioned by the zygote.
    if let Err(error) = sandbox::forbid_access() {
        log(&format!("not confined by Landlock: {error}"));
    }
    let Some(phase) = phase.filter(|_| sandbox::can_restrict_system_calls().is_ok()) else {
        return;
    };
    let reported = forbidden
        .map_err(io::Error::other)
        .and_then(|message| sandbox::report_violations(main.as_fd(), &message));
    if let Err(error) = reported {
        log(&format!("forbidden system calls will not be reported: {error}"));
    }
    if let Err(error) = sandbox::restrict_system_calls(phase) {
        log(&format!("system calls are not restricted: {error}"));
    }
}

/// Narrows a worker to what a tunnel needs; the error is for a log line.
pub(crate) fn tunnel() -> Result<(), sandbox::SandboxError> {
    sandbox::restrict_system_calls(Phase::Tunnel)
}
