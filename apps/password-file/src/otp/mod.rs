//! The users file of one-time passwords: HOTP and TOTP, in the format of `mod_authn_otp`
//! (`specs/server-auth.md` §2.2).
//!
//! Every check holds the lock of the file, so that of two logins with one code one wins.

mod code;
mod line;
mod lock;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};

use self::line::{Line, Rejected};
use self::lock::Lock;
use crate::EditError;
use crate::edit::Temporary;

/// Largest file, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Why a code could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum OtpError {
    /// Another program has held the lock for 3 seconds, or the lock cannot be had.
    #[error("cannot lock '{}': {source}", file.display())]
    Lock {
        /// The lock file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read or is larger than 64 MiB.
    #[error("cannot read '{}': {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The code was right, but that it is used up now could not be written: it does not count.
    #[error("{0}{cause}", cause = cause_of(.0))]
    Write(EditError),
    /// Others could put links in place of the file, which are followed as root (CVE-2024-47191).
    #[error("the folder '{}' is not ours, or everybody may write there", .0.display())]
    Untrusted(PathBuf),
    /// The user's key is not hexadecimal.
    #[error("'{}': the key of user '{user}' is not hexadecimal", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The user.
        user: String,
    },
}

fn cause_of(error: &EditError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |cause| format!(" ({cause})"))
}

/// A users file of one-time passwords.
#[derive(Debug, Clone)]
pub struct OtpFile {
    path: PathBuf,
    /// A PIN in the third column must come before the code.
    pin: bool,
}

impl OtpFile {
    /// Nothing is read until [`OtpFile::check`]. With `pin` the codes of users with a PIN (a text
    /// other than `-` and `+`) count only with the PIN before them.
    pub fn new(path: impl Into<PathBuf>, pin: bool) -> Self {
        Self {
            path: path.into(),
            pin,
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when the file has a line for this user; false also when it cannot be read.
    pub fn knows(&self, user: &str) -> bool {
        read(&self.path).is_ok_and(|text| {
            text.split(|byte| *byte == b'\n')
                .filter_map(Line::parse)
                .any(|line| line.user == user)
        })
    }

    /// True when `code` is right for `user` at `now`; it is used up then. Blocks on the file and
    /// its lock, 3 seconds at most.
    ///
    /// # Errors
    /// The code cannot be judged: a refusal.
    pub fn check(&self, user: &str, code: &[u8], now: DateTime<Local>) -> Result<bool, OtpError> {
        // A link stays one: its target is locked and changed.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        trust_folder(&path)?;
        let _lock = Lock::take(&path)?;
        let text = read(&path).map_err(|source| OtpError::Read {
            file: path.clone(),
            source,
        })?;
        let mut changed = Vec::with_capacity(text.len() + 64);
        let mut rest = text.as_slice();
        let mut bad_key = false;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.strip_prefix(b"\n").unwrap_or(after);
            let judged = Line::parse(line)
                .filter(|line| line.user == user)
                .map(|line| line.accept(code, self.pin, now));
            match judged {
                Some(Ok(updated)) => {
                    changed.extend(updated.as_bytes());
                    changed.push(b'\n');
                    changed.extend(rest);
                    return write(&path, &changed).map(|()| true);
                }
                Some(Err(Rejected::Key)) => bad_key = true,
                Some(Err(Rejected::Wrong)) | None => {}
            }
            changed.extend(line);
            changed.push(b'\n');
        }
        if bad_key {
            return Err(OtpError::Key {
                file: path,
                user: user.to_owned(),
            });
        }
        Ok(false)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file too large"));
    }
    Ok(text)
}

/// Nobody but root, this process's user and the folder's group may rename files next to `path`. A folder that cannot be looked
/// at cannot be locked either.
fn trust_folder(path: &Path) -> Result<(), OtpError> {
    const STICKY_AND_OTHERS: u32 = 0o1002;
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let Ok(found) = fs::metadata(folder) else {
        return Ok(());
    };
    let ours = [0, culvert_sys::user::effective_uid()].contains(&found.uid());
    // The sticky bit keeps others from touching files that are not theirs.
    if !ours || found.mode() & STICKY_AND_OTHERS == 0o002 {
        return Err(OtpError::Untrusted(folder.to_owned()));
    }
    Ok(())
}

/// Replaces the file. The lock is held, so a FILE.new that exists was left behind by a crash.
fn write(path: &Path, contents: &[u8]) -> Result<(), OtpError> {
    const SUFFIX: &str = ".new";
    let temporary = Temporary::create(path, SUFFIX).or_else(|error| match error {
        EditError::Locked { .. } => {
            let mut left_behind = path.as_os_str().to_owned();
            left_behind.push(SUFFIX);
            fs::remove_file(&left_behind).map_err(|source| EditError::Create {
                file: left_behind.into(),
                source,
            })?;
            Temporary::create(path, SUFFIX)
        }
        error => Err(error),
    });
    temporary
        .and_then(|temporary| temporary.replace(path, contents))
        .map_err(OtpError::Write)
}

#[cfg(test)]
mod tests;
