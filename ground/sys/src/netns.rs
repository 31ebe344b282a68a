//! Network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use crate::cvt::cvt;

/// A network namespace in which sockets can be made.
#[derive(Debug)]
pub struct NetworkNamespace(File);

impl NetworkNamespace {
    /// Opens a namespace by its file, such as `/var/run/netns/NAME`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Opens the one that `ip netns` knows by this name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> io::Result<Self> {
        Self::open(&Path::new("/var/run/netns").join(name))
    }

    /// Moves this thread, and those that it starts from now on, into the namespace for good.
    ///
    /// # Errors
    /// The file is no network namespace, or privileges lack.
    pub fn join(self) -> io::Result<()> {
        set(self.0.as_fd())
    }

    /// Does `work` with this thread in the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// The file is no network namespace, or privileges lack. Nothing was done then.
    ///
    /// # Panics
    /// There is no way back: nothing must go on in the wrong namespace.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let home = File::open("/proc/thread-self/ns/net")?;
        set(self.0.as_fd())?;
        let result = work();
        if let Err(error) = set(home.as_fd()) {
            panic!("cannot return to the network namespace of this process: {error}");
        }
        Ok(result)
    }
}

fn set(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns takes integers only.
    cvt(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_namespace_are_refused() {
        assert!(NetworkNamespace::named("there-is-none").is_err());
        let null = NetworkNamespace::open(Path::new("/dev/null")).unwrap();
        assert!(null.enter(|| ()).is_err());
        assert!(null.join().is_err());
    }
}
