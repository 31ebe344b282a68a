//! Changing the file safely (`specs/server-tools.md` §1.3).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A change to the line of one user, and to each, should there be several: whoever is locked or deleted
/// does not come back by the next one. All other lines stay byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets groups (comma-separated, `*` for none) and hash; adds the user if new.
    Set {
        /// Second field.
        groups: String,
        /// Third field, a crypt(3) string.
        hash: String,
    },
    /// Removes the line.
    Delete,
    /// Puts one `!` before the hash, unless there is one.
    Lock,
    /// Removes one `!` before the hash.
    Unlock,
}

/// Why a file was not changed. The texts are those of ocserv's tool.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file exists, but cannot be read, or does not exist and nothing could be added to it.
    #[error("Cannot open '{}' for reading.", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Someone else is changing the file, or died doing so: the temporary file exists.
    #[error("file '{}' is locked.", file.display())]
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// The temporary file cannot be created.
    #[error("Cannot open '{}' for writing.", file.display())]
    Create {
        /// The temporary file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The new contents cannot be written; the file is unchanged.
    #[error("Cannot write '{}'.", file.display())]
    Write {
        /// The temporary file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Edit {
    /// Makes the change in `path`. The new contents appear at once or not at all; owner and mode
    /// stay; a new file gets mode 0600. A symbolic link stays one: its target is changed.
    ///
    /// # Errors
    /// The file is unchanged.
    pub fn apply_to(&self, path: &Path, user: &str) -> Result<(), EditError> {
        // a link that leads nowhere is a file that does not exist yet
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = Temporary::create(&file, ".tmp")?;
        let old = match fs::read(&file) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound && matches!(self, Self::Set { .. }) => {
                Vec::new()
            }
            Err(source) => return Err(EditError::Read { file, source }),
        };
        temporary.replace(&file, &self.apply(&old, user))
    }

    /// The changed text of a file.
    fn apply(&self, text: &[u8], user: &str) -> Vec<u8> {
        let mut changed = Vec::with_capacity(text.len() + 128);
        let mut found = false;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let is_users = line
                .strip_prefix(user.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b':'));
            if !is_users {
                changed.extend_from_slice(line);
                continue;
            }
            found = true;
            match self {
                Self::Set { groups, hash } => changed.extend(format!("{user}:{groups}:{hash}\n").bytes()),
                Self::Delete => {}
                Self::Lock => changed.extend(with_lock(line, true)),
                Self::Unlock => changed.extend(with_lock(line, false)),
            }
        }
        if let (Self::Set { groups, hash }, false) = (self, found) {
            if changed.last().is_some_and(|&last| last != b'\n') {
                changed.push(b'\n');
            }
            changed.extend(format!("{user}:{groups}:{hash}\n").bytes());
        }
        changed
    }
}

/// The line with or without one `!` before its third field. Lines without one stay.
fn with_lock(line: &[u8], lock: bool) -> Vec<u8> {
    let mut line = line.to_vec();
    let Some((second_colon, _)) = line.iter().enumerate().filter(|&(_, &byte)| byte == b':').nth(1) else {
        return line;
    };
    let at = second_colon + 1;
    match (lock, line.get(at) == Some(&b'!')) {
        (true, false) => line.insert(at, b'!'),
        (false, true) => {
            line.remove(at);
        }
        _ => {}
    }
    line
}

/// The new contents of a file beside it (and by its existence a lock), removed unless it becomes
/// the file.
pub(crate) struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    pub(crate) fn create(target: &Path, suffix: &str) -> Result<Self, EditError> {
        let mut path = OsString::from(target);
        path.push(suffix);
        let path = PathBuf::from(path);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => Ok(Self {
                path,
                file,
                renamed: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(EditError::Locked {
                file: target.to_owned(),
            }),
            Err(source) => Err(EditError::Create { file: path, source }),
        }
    }

    /// Makes `contents` the contents of `target`, with its owner and mode.
    pub(crate) fn replace(mut self, target: &Path, contents: &[u8]) -> Result<(), EditError> {
        self.try_replace(target, contents)
            .map_err(|source| EditError::Write {
                file: self.path.clone(),
                source,
            })
    }

    fn try_replace(&mut self, target: &Path, contents: &[u8]) -> io::Result<()> {
        match fs::metadata(target) {
            Ok(old) => {
                let own = self.file.metadata()?;
                if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                    fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
                }
                self.file
                    .set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.file.write_all(contents)?;
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.renamed = true;
        if let Some(directory) = target
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // nothing else can be done about a file that cannot be removed
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(hash: &str) -> Edit {
        Edit::Set {
            groups: "*".into(),
            hash: hash.into(),
        }
    }

    fn applied(edit: &Edit, text: &str) -> String {
        String::from_utf8(edit.apply(text.as_bytes(), "bob")).expect("UTF-8")
    }

    #[test]
    fn all_lines_of_the_user_change_and_no_others() {
        let text = "# comment\n\nalice:a:1\nbob:g:2:extra\nbobby:*:3\nbob:*:4";
        assert_eq!(
            applied(&set("H"), text),
            "# comment\n\nalice:a:1\nbob:*:H\nbobby:*:3\nbob:*:H\n"
        );
        assert_eq!(
            applied(&Edit::Delete, text),
            "# comment\n\nalice:a:1\nbobby:*:3\n"
        );
        let locked = text.replace("bob:g:2", "bob:g:!2").replace("bob:*:4", "bob:*:!4");
        assert_eq!(applied(&Edit::Lock, text), locked);
        assert_eq!(applied(&Edit::Unlock, &locked), text);
    }

    #[test]
    fn new_users_are_added_on_a_line_of_their_own() {
        assert_eq!(applied(&set("H"), ""), "bob:*:H\n");
        assert_eq!(applied(&set("H"), "a:*:1\n"), "a:*:1\nbob:*:H\n");
        assert_eq!(applied(&set("H"), "a:*:1"), "a:*:1\nbob:*:H\n");
    }

    #[test]
    fn locks_are_set_and_removed_once() {
        assert_eq!(applied(&Edit::Lock, "bob:*:!H\n"), "bob:*:!H\n");
        assert_eq!(applied(&Edit::Unlock, "bob:*:!!H\n"), "bob:*:!H\n");
        assert_eq!(applied(&Edit::Unlock, "bob:*:H\n"), "bob:*:H\n");
        assert_eq!(applied(&Edit::Lock, "bob:*\n"), "bob:*\n");
        for edit in [Edit::Delete, Edit::Lock, Edit::Unlock] {
            assert_eq!(applied(&edit, "alice:*:H"), "alice:*:H");
        }
    }

    #[test]
    fn mode_and_links_stay_and_new_files_are_private() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("passwd");
        let mode = || fs::metadata(&file).expect("present").mode() & 0o7777;
        set("H").apply_to(&file, "bob").expect("writable");
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("own file");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("writable");
        set("I").apply_to(&link, "bob").expect("writable");
        assert_eq!(mode(), 0o640);
        assert_eq!(fs::read_to_string(&file).expect("present"), "bob:*:I\n");
        assert!(fs::symlink_metadata(&link).expect("present").is_symlink());
    }

    #[test]
    fn a_locked_file_stays_and_so_does_the_lock() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("passwd");
        let lock = directory.path().join("passwd.tmp");
        fs::write(&file, "bob:*:1\n").expect("writable");
        fs::write(&lock, "").expect("writable");
        let error = set("H").apply_to(&file, "bob").expect_err("locked");
        assert_eq!(
            error.to_string(),
            format!(
                "file '{}' is locked.",
                file.canonicalize().expect("present").display()
            )
        );
        assert_eq!(fs::read_to_string(&file).expect("present"), "bob:*:1\n");
        assert!(lock.exists());
    }

    #[test]
    fn nothing_is_left_behind_when_there_is_nothing_to_change() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("passwd");
        let error = Edit::Delete.apply_to(&file, "bob").expect_err("missing");
        assert_eq!(
            error.to_string(),
            format!("Cannot open '{}' for reading.", file.display())
        );
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
        let nowhere = directory.path().join("no/passwd");
        let error = set("H").apply_to(&nowhere, "bob").expect_err("missing");
        assert_eq!(
            error.to_string(),
            format!("Cannot open '{}.tmp' for writing.", nowhere.display())
        );
    }

    proptest! {
        #[test]
        fn other_lines_survive_any_edit(text in "([ab#:!*]{0,6}\n){0,6}[ab:]{0,4}") {
            for edit in [set("H"), Edit::Delete, Edit::Lock, Edit::Unlock] {
                let changed = edit.apply(text.as_bytes(), "bob");
                let others = |text: &[u8]| -> Vec<Vec<u8>> {
                    text.split(|&b| b == b'\n').filter(|l| !l.starts_with(b"bob:") && !l.is_empty()).map(<[u8]>::to_vec).collect()
                };
                prop_assert_eq!(others(text.as_bytes()), others(&changed));
            }
        }
    }
}
