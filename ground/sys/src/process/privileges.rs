//! Giving up privileges.

use std::io;

use crate::cvt::cvt;

/// Resources that [`set_limit`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Highest descriptor number, plus one.
    Descriptors,
    /// Processes and threads of the user.
    Processes,
    /// Octets of a core dump.
    CoreDump,
    /// Octets of a file that is written.
    FileSize,
    /// Octets of address space.
    AddressSpace,
    /// Octets of data: heap and private writable mappings.
    Data,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::CoreDump => libc::RLIMIT_CORE,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::Data => libc::RLIMIT_DATA,
        }
    }

    fn hard_limit(self) -> io::Result<u64> {
        let mut present = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `present` is writable.
        cvt(unsafe { libc::getrlimit(self.number(), &raw mut present) })?;
        Ok(present.rlim_max)
    }

    /// Soft and hard limit alike.
    fn set(self, limit: u64) -> io::Result<()> {
        let wanted = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: `wanted` is a valid rlimit.
        cvt(unsafe { libc::setrlimit(self.number(), &raw const wanted) }).map(|_| ())
    }
}

/// Limits a resource for good (soft and hard limit alike); a limit above the present hard one
/// is lowered to it.
///
/// # Errors
/// The kernel's refusal.
pub fn set_limit(resource: Resource, limit: u64) -> io::Result<()> {
    resource.set(limit.min(resource.hard_limit()?))
}

/// Allows at least `wanted` of a resource, as far as this process may. Returns what is allowed now.
///
/// # Errors
/// None in practice.
pub fn raise_limit(resource: Resource, wanted: u64) -> io::Result<u64> {
    let present = resource.hard_limit()?;
    let limit = wanted.max(present);
    // More than the present hard limit needs CAP_SYS_RESOURCE.
    if resource.set(limit).is_ok() {
        return Ok(limit);
    }
    resource.set(present)?;
    Ok(present)
}

/// Allows or forbids core dumps and debugging of this process.
///
/// # Errors
/// None in practice.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: this prctl takes an integer.
    cvt(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_long::from(dumpable)) }).map(|_| ())
}

/// From now on no exec gains privileges (set-user-id bits, file capabilities).
///
/// # Errors
/// None in practice.
pub fn forbid_new_privileges() -> io::Result<()> {
    let [on, zero]: [libc::c_long; 2] = [1, 0];
    // SAFETY: this prctl takes integers.
    cvt(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, zero, zero, zero) }).map(|_| ())
}

/// Becomes another user for good: supplementary groups, group, user, through libc.
///
/// # Errors
/// The kernel's refusal of any step; the process must not go on then.
pub fn drop_user(uid: u32, gid: u32, supplementary: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and length describe `supplementary`.
    unsafe {
        cvt(libc::setgroups(supplementary.len(), supplementary.as_ptr()))?;
        cvt(libc::setgid(gid))?;
        cvt(libc::setuid(uid))?;
    }
    Ok(())
}

/// Empties the bounding and the ambient capability set, so that no later exec gains anything. Call
/// before [`drop_user`]: it needs CAP_SETPCAP.
///
/// # Errors
/// The kernel's refusal.
pub fn drop_bounding_capabilities() -> io::Result<()> {
    let zero: libc::c_long = 0;
    // SAFETY: these prctls take integers only. The ambient set needs Linux 4.3.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_long,
            zero,
            zero,
            zero,
        );
        for capability in 0..64 {
            match cvt(libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_long)) {
                Ok(_) => {}
                // Past the last capability that this kernel knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Gives up every capability: permitted, effective and inheritable set.
///
/// # Errors
/// The kernel's refusal.
pub fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: capset of version 3 reads one header and two data structures. libc has no function.
    cvt(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } as libc::c_int)
        .map(|_| ())
}

/// Moves this process into a network namespace of its own that has nothing but a loopback
/// device, which is down.
///
/// # Errors
/// No CAP_SYS_ADMIN, or the kernel lacks namespaces.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: unshare takes an integer.
    cvt(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(|_| ())
}
