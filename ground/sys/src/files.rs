//! Files, as far as the standard library does not know them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cvt::cvt;

/// The id of the file system that holds a file: `f_fsid` of statfs(2), first word high, which is
/// what `stat -f -c %i` prints.
///
/// # Errors
/// The file cannot be reached.
pub fn file_system_id(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut status = MaybeUninit::<libc::statfs64>::uninit();
    // SAFETY: `path` is a C string and `status` has room for the result.
    cvt(unsafe { libc::statfs64(path.as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: the call has filled it in.
    let status = unsafe { status.assume_init() };
    // SAFETY: fsid_t is two ints in a struct whose member libc does not let us name.
    let [high, low] = unsafe { std::mem::transmute::<libc::fsid_t, [u32; 2]>(status.f_fsid) };
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// An empty file in memory, which ends with its last descriptor. Programs that want a path get
/// `/proc/self/fd/N`.
///
/// # Errors
/// Descriptors or memory are used up.
pub fn in_memory(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` is a C string.
    let descriptor = cvt(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the call has just made it, and nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_stat_prints_it() {
        let output = std::process::Command::new("stat")
            .args(["-f", "-c", "%i", "/proc/self", "/"])
            .output()
            .expect("stat");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = ["/proc/self", "/"].map(|path| file_system_id(Path::new(path)).expect("statfs"));
        assert_eq!(printed, format!("{:x}\n{:x}\n", ours[0], ours[1]));
        let missing = file_system_id(Path::new("/nonexistent"));
        assert_eq!(
            missing.map_err(|error| error.kind()),
            Err(io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn files_in_memory() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;

        let mut file = in_memory(c"test").expect("a file");
        file.write_all(b"content").expect("room");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(path).expect("the file"), b"content");
    }
}
