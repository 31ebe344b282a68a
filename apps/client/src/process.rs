//! The process itself: secrets in it, background, pid file, user (`specs/client.md` §12.1).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use culvert_sys::process::{self, Fork};

use crate::options::UserIds;
use crate::prompt::reason;

/// Options of which the argument is a secret.
const SECRET_OPTIONS: [&str; 6] = [
    "--cookie",
    "--key-password",
    "--token-secret",
    "--mca-key-password",
    "--form-entry",
    "--proxy",
];
/// Their letters.
const SECRET_LETTERS: [char; 4] = ['C', 'p', 'F', 'P'];

/// Keeps secrets out of core dumps, debuggers and the process list. Failure is not worth a word:
/// it changes nothing for the user.
pub(crate) fn harden(arguments: &[std::ffi::OsString]) {
    let _ = process::set_dumpable(false);
    for index in secret_arguments(arguments) {
        let _ = process::overwrite_argument(index);
    }
}

/// Positions of the arguments that hold secrets.
fn secret_arguments(arguments: &[std::ffi::OsString]) -> Vec<usize> {
    let mut secret = Vec::new();
    let mut next = false;
    for (index, argument) in arguments.iter().enumerate().skip(1) {
        let text = argument.to_string_lossy();
        let letters = text
            .strip_prefix('-')
            .filter(|rest| !rest.starts_with('-'))
            .unwrap_or_default();
        let letter = letters
            .chars()
            .next()
            .filter(|letter| SECRET_LETTERS.contains(letter));
        let name = text.split('=').next().unwrap_or_default();
        // An abbreviation is enough for getopt.
        let named = name.len() > 3 && SECRET_OPTIONS.iter().any(|option| option.starts_with(name));
        if next || (letter.is_some() && letters.len() > 1) || (named && text.contains('=')) {
            secret.push(index);
        }
        next = !next && ((letter.is_some() && letters.len() == 1) || (named && !text.contains('=')));
    }
    secret
}

/// The file of `--pid-file`, opened before there is a pid to write.
#[derive(Debug)]
pub(crate) struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Opens the file for writing; symbolic links are not followed.
    ///
    /// # Errors
    /// The text to show.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| {
                format!(
                    "Failed to open '{}' for write: {}",
                    path.display(),
                    reason(&error)
                )
            })?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn write(&mut self, pid: process::Pid) -> io::Result<()> {
        self.file.write_all(format!("{pid}\n").as_bytes())
    }

    /// Removes the file at the end of the session. It may be gone, or out of reach after `-U`.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Which process goes on.
#[derive(Debug)]
pub(crate) enum Background {
    /// This one ends: the child goes on with the tunnel under this pid.
    Parent(process::Pid),
    /// This is the child.
    Child,
}

/// Forks. The parent writes the child's pid.
///
/// # Errors
/// The process could not be copied.
pub(crate) fn go_to_background(pid_file: Option<&mut PidFile>) -> io::Result<Background> {
    match process::fork()? {
        Fork::Child => Ok(Background::Child),
        Fork::Parent(pid) => {
            if let Some(file) = pid_file {
                file.write(pid)?;
            }
            Ok(Background::Parent(pid))
        }
    }
}

/// Becomes `user`, with its primary group only.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn become_user(user: UserIds) -> io::Result<()> {
    if user.uid == culvert_sys::user::real_uid() {
        return Ok(());
    }
    process::drop_user(user.uid, user.gid, &[user.gid])
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn arguments_with_secrets_are_found() {
        let positions = |line: &[&str]| {
            let arguments: Vec<OsString> = std::iter::once(&"openconnect")
                .chain(line)
                .map(OsString::from)
                .collect();
            secret_arguments(&arguments)
        };
        assert_eq!(positions(&["-C", "secret", "host"]), [2]);
        assert_eq!(positions(&["-Csecret", "host"]), [1]);
        assert_eq!(positions(&["--cookie", "secret"]), [2]);
        assert_eq!(positions(&["--cookie=secret"]), [1]);
        assert_eq!(positions(&["-F", "main:password=x", "-v"]), [2]);
        assert_eq!(positions(&["--form=main:password=x"]), [1]);
        assert!(positions(&["-v", "--user", "alice", "--cookieonly", "host"]).is_empty());
    }

    #[test]
    fn pid_files_are_written_and_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pid");
        let mut file = PidFile::open(&path).expect("opened");
        file.write(42).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "42\n");
        file.remove();
        assert!(!path.exists());
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("link");
        assert!(
            PidFile::open(&path)
                .expect_err("a link")
                .starts_with("Failed to open '")
        );
    }
}
