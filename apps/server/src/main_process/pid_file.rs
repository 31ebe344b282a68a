//! The pid file (`specs/server-config.md` §4).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file with this process' id; removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    owner: u32,
}

/// The pid file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("error: cannot open pid file '{}'", path.display())]
pub(crate) struct PidFileError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl PidFile {
    /// Writes the id in decimal without a newline.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, PidFileError> {
        let owner = std::process::id();
        // A relative path must still be right after `chdir /`.
        let absolute = std::path::absolute(path);
        absolute
            .and_then(|path| write(&path, owner).map(|()| Self { path, owner }))
            .map_err(|cause| PidFileError {
                path: path.to_owned(),
                cause,
            })
    }
}

/// Never through a symbolic link, which somebody else may have made in a directory of all.
fn write(path: &Path, owner: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(owner.to_string().as_bytes())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A server that was started meanwhile with the same file keeps its own.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.owner.to_string()) {
            let _already_gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_id_and_vanishes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn leaves_a_successors_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("pid"), directory.path().join("target"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(PidFile::create(&path).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn says_which_file() {
        let error = PidFile::create(Path::new("/nonexistent/dir/pid")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error: cannot open pid file '/nonexistent/dir/pid'"
        );
    }
}
