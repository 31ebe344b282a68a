//! Facts about files that the standard library does not tell.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
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
}
