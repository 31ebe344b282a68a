//! Libraries of the system that are loaded at run time, so that the build needs no headers and a
//! machine without them still runs the rest.

use std::ffi::{CStr, CString};

/// No such library, or it does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot load {name}: {reason}")]
pub struct LibraryError {
    /// File name of the library.
    pub name: String,
    /// What the loader says.
    pub reason: String,
}

/// A loaded library. It stays loaded until the process ends: libraries leave threads, handlers
/// and pointers behind.
#[derive(Debug, Clone, Copy)]
pub struct Library(());

impl Library {
    /// Loads the first of these libraries that is there, with its symbols visible to all others.
    ///
    /// # Errors
    /// None could be loaded; the error is that of the first.
    pub fn open(names: &[&str]) -> Result<Self, LibraryError> {
        let mut first = None;
        for name in names {
            match load(name) {
                Ok(()) => return Ok(Self(())),
                Err(reason) => {
                    let name = (*name).to_owned();
                    first.get_or_insert(LibraryError { name, reason });
                }
            }
        }
        Err(first.unwrap_or_else(|| LibraryError {
            name: "a library".to_owned(),
            reason: "no name given".to_owned(),
        }))
    }

    /// A function of the process by its name; one of a library that was preloaded wins.
    ///
    /// # Safety
    /// `F` is an `extern "C"` function pointer with the signature that the symbol has.
    pub unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut libc::c_void>()) };
        // SAFETY: `name` is a C string; RTLD_DEFAULT is no handle that could be stale.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        // SAFETY: both have the same size (asserted), and the caller promises that `F` is the
        // type of a function pointer; null is left out.
        (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
    }
}

fn load(name: &str) -> Result<(), String> {
    let name = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: `name` is a C string. What the library does when it is loaded is its own affair; it
    // is one that the administrator has installed.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failure of dlopen on this thread, dlerror gives a C string or null.
    let reason = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    Err(reason.unwrap_or_else(|| "unknown error".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_there() {
        let library = Library::open(&["libno-such-thing.so.1", "libc.so.6"]).unwrap();
        // SAFETY: the signature of abs(3).
        let abs: Option<unsafe extern "C" fn(i32) -> i32> = unsafe { library.function(c"abs") };
        // SAFETY: abs has no preconditions but for i32::MIN.
        assert_eq!(unsafe { abs.unwrap()(-7) }, 7);
        // SAFETY: never called.
        let absent: Option<unsafe extern "C" fn()> = unsafe { library.function(c"no_such_function") };
        assert!(absent.is_none());
    }

    #[test]
    fn none_is_there() {
        let error = Library::open(&["libno-such-thing.so.1", "libnor-this.so"]).unwrap_err();
        assert_eq!(error.name, "libno-such-thing.so.1");
        assert!(error.reason.contains("No such file"), "{error}");
    }
}
