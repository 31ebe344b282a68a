//! Users and groups, through libc's name service.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A line of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// A line of the group database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
}

/// The user of that name; `None` when there is none.
///
/// # Errors
/// The name service failed.
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    // SAFETY: the arguments are as getpwnam_r wants them; `name` is a C string.
    lookup(|entry, buffer, result| unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            result,
        )
    })
}

/// The user of that id; `None` when there is none.
///
/// # Errors
/// The name service failed.
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    // SAFETY: the arguments are as getpwuid_r wants them.
    lookup(|entry, buffer, result| unsafe {
        libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), result)
    })
}

/// The group of that name; `None` when there is none.
///
/// # Errors
/// The name service failed.
pub fn group_by_name(name: &str) -> io::Result<Option<Group>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    // SAFETY: the arguments are as getgrnam_r wants them; `name` is a C string.
    lookup(|entry, buffer, result| unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            result,
        )
    })
}

/// The group of that id; `None` when there is none.
///
/// # Errors
/// The name service failed.
pub fn group_by_gid(gid: u32) -> io::Result<Option<Group>> {
    // SAFETY: the arguments are as getgrgid_r wants them.
    lookup(|entry, buffer, result| unsafe {
        libc::getgrgid_r(gid, entry, buffer.as_mut_ptr().cast(), buffer.len(), result)
    })
}

/// The groups of the system from `gid_min` on, at most `max` of them. Not for two threads at a time:
/// the name service has one place in its list.
pub fn groups_from(gid_min: u32, max: usize) -> Vec<Group> {
    // SAFETY: these have no preconditions.
    unsafe { libc::setgrent() };
    let next = || {
        // SAFETY: the entry is the name service's own and copied before the next call; null is the end.
        unsafe { libc::getgrent().as_ref().map(|entry| entry.to_owned_entry()) }
    };
    let groups = std::iter::from_fn(next)
        .filter(|group| group.gid >= gid_min)
        .take(max)
        .collect();
    // SAFETY: as above.
    unsafe { libc::endgrent() };
    groups
}

/// Ids of the groups that a user is in, at most `max` of them, that of `primary` first.
///
/// # Errors
/// The name has a NUL in it.
pub fn groups_of(name: &str, primary: u32, max: usize) -> io::Result<Vec<u32>> {
    let name = CString::new(name)?;
    let mut groups = vec![0; max];
    let mut count = libc::c_int::try_from(max).unwrap_or(libc::c_int::MAX);
    // SAFETY: `name` is a C string, and `groups` has room for `count` ids. The function fills in as many
    // as there is room for, also when it says that there are more.
    unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count) };
    groups.truncate(usize::try_from(count).unwrap_or(0).min(max));
    Ok(groups)
}

/// Effective user id of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() }
}

/// Real user id of this process.
pub fn real_uid() -> u32 {
    // SAFETY: getuid has no preconditions.
    unsafe { libc::getuid() }
}

/// An entry of libc that can be copied out of its buffer.
trait Entry {
    type Owned;

    /// # Safety
    /// The pointers of the entry must be valid C strings (or null).
    unsafe fn to_owned_entry(&self) -> Self::Owned;
}

impl Entry for libc::passwd {
    type Owned = User;

    unsafe fn to_owned_entry(&self) -> User {
        // SAFETY: promised by the caller.
        unsafe {
            User {
                name: text(self.pw_name),
                uid: self.pw_uid,
                gid: self.pw_gid,
                home: path(self.pw_dir),
                shell: path(self.pw_shell),
            }
        }
    }
}

impl Entry for libc::group {
    type Owned = Group;

    unsafe fn to_owned_entry(&self) -> Group {
        // SAFETY: promised by the caller.
        unsafe {
            Group {
                name: text(self.gr_name),
                gid: self.gr_gid,
            }
        }
    }
}

/// Largest buffer for one entry; groups with thousands of members need much.
const BUFFER_MAX: usize = 1 << 20;

fn lookup<E: Entry>(
    mut call: impl FnMut(*mut E, &mut [u8], *mut *mut E) -> i32,
) -> io::Result<Option<E::Owned>> {
    let mut buffer = vec![0u8; 1024];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut result = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), &mut buffer, &raw mut result) {
            0 if result.is_null() => return Ok(None),
            // SAFETY: the call succeeded, so `entry` is filled in and points into `buffer`.
            0 => return Ok(Some(unsafe { entry.assume_init_ref().to_owned_entry() })),
            libc::ERANGE if buffer.len() < BUFFER_MAX => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// # Safety
/// `pointer` is null or a C string.
unsafe fn text(pointer: *const libc::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// # Safety
/// `pointer` is null or a C string.
unsafe fn path(pointer: *const libc::c_char) -> PathBuf {
    if pointer.is_null() {
        return PathBuf::new();
    }
    // SAFETY: promised by the caller.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(pointer) }.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_uid() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(by_uid(0).unwrap(), Some(root));
        assert_eq!(group_by_name("root").unwrap().map(|group| group.gid), Some(0));
        assert_eq!(
            group_by_gid(0).unwrap().map(|group| group.name),
            Some("root".to_owned())
        );
    }

    #[test]
    fn groups_of_the_system() {
        let all = groups_from(0, 1000);
        assert!(all.iter().any(|group| group.name == "root"), "{all:?}");
        assert_eq!(groups_from(0, 1), all[..1]);
        assert!(groups_from(1, 1000).iter().all(|group| group.gid > 0));
    }

    #[test]
    fn groups_of_a_user_are_bounded_and_begin_with_the_primary_one() {
        assert_eq!(groups_of("root", 0, 8).unwrap().first(), Some(&0));
        assert_eq!(groups_of("root", 7, 1).unwrap(), [7]);
        assert_eq!(groups_of("no-such-user-here", 7, 8).unwrap(), [7]);
        assert!(groups_of("a\0b", 0, 8).is_err());
    }

    #[test]
    fn strangers_are_not_found() {
        assert_eq!(by_name("no-such-user-here").unwrap(), None);
        assert_eq!(by_name("a\0b").unwrap(), None);
        assert_eq!(group_by_name("no-such-group-here").unwrap(), None);
    }
}
