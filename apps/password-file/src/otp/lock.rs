//! The lock of a users file: FILE.lock, which also keeps out other programs that know the format
//! (they create it exclusively and lock it).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use culvert_sys::file_lock;

use super::OtpError;

/// Longest time to wait for the lock.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(5);

/// The held lock. A FILE.lock that nobody holds (its owner crashed) is taken over.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub(super) fn take(target: &Path) -> Result<Self, OtpError> {
        let mut path = target.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match try_take(&path) {
                Ok(Some(file)) => return Ok(Self { path, _file: file }),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Ok(None) => {
                    let source = io::Error::new(io::ErrorKind::TimedOut, "another program holds it");
                    return Err(OtpError::Lock { file: path, source });
                }
                Err(source) => return Err(OtpError::Lock { file: path, source }),
            }
        }
    }
}

/// The lock file, locked, if it is free.
fn try_take(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if !file_lock::try_lock_exclusive(&file)? {
        return Ok(None);
    }
    // Its last owner may have removed it since it was opened.
    let own = file.metadata()?;
    let current = fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (own.dev(), own.ino()));
    Ok(current.then_some(file))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked. One that cannot be removed is taken over by the next login.
        let _stays = fs::remove_file(&self.path);
    }
}
