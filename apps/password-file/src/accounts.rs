//! Reading the file and checking passwords against it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use culvert_vocab::GROUPS_MAX;

use crate::hash::CryptHash;

/// Lines of other lengths, in bytes without the newline, are no accounts.
const LINE_LENGTHS: std::ops::RangeInclusive<usize> = 4..=510;
/// Longest hash, in bytes.
const HASH_MAX: usize = 127;
/// Largest file, in bytes.
const FILE_MAX: u64 = 256 << 20;
/// What stands in for the dearest hash of a file without any.
const DUMMY_HASH: &str = "$5$i6SNmLDCgBNjyJ7q$SZ4bVJb7I/DLgXo3txHBVohRFBjOtdbxGQZp.DOnrA.";

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    groups: Vec<String>,
    credential: Credential,
    hash: Option<CryptHash>,
}

/// What the third field of a line allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Log in with a password.
    Password,
    /// The field is empty: there is no password. Let the user in only if another factor (an OTP, a
    /// certificate) is checked; never with the name alone.
    Empty,
    /// Never log in: locked by `!` or `*`, or a hash that this program cannot check.
    Locked,
}

impl Account {
    /// Groups in the order of the file; the first is the user's default.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// What the user may log in with.
    pub fn credential(&self) -> Credential {
        self.credential
    }
}

/// The contents of a password file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PasswordFile {
    accounts: HashMap<String, Account>,
    /// The hash that takes longest to check; spent on users who have none.
    dearest: Option<CryptHash>,
}

impl PasswordFile {
    /// Reads the text of a file. Lines that are no accounts are left out; of two lines for one
    /// user the first counts.
    pub fn parse(text: &[u8]) -> Self {
        let mut file = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !LINE_LENGTHS.contains(&line.len()) {
                continue;
            }
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let mut fields = line.split(':');
            let (Some(name), Some(groups), Some(hash)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if name.is_empty() || file.accounts.contains_key(name) {
                continue;
            }
            let account = Account::parse(groups, hash);
            if account.hash.as_ref().map(CryptHash::cost) > file.dearest.as_ref().map(CryptHash::cost) {
                file.dearest.clone_from(&account.hash);
            }
            file.accounts.insert(name.to_owned(), account);
        }
        file
    }

    /// Every group that somebody is in, in alphabetical order (`auto-select-group`).
    pub fn groups(&self) -> BTreeSet<&str> {
        self.accounts
            .values()
            .flat_map(Account::groups)
            .map(String::as_str)
            .collect()
    }

    /// The account of a user. Do not show users whether there is one.
    pub fn account(&self, user: &str) -> Option<&Account> {
        self.accounts.get(user)
    }

    /// True when `password` is the user's. Accounts that do not exist, are locked or have no
    /// password take as long as the dearest hash of the file and fail. Takes 1 to 1000 ms.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        match self.account(user).and_then(|account| account.hash.as_ref()) {
            Some(hash) => hash.verify(password),
            None => {
                let dummy = self.dearest.clone().or_else(|| CryptHash::parse(DUMMY_HASH));
                if let Some(dummy) = dummy {
                    std::hint::black_box(dummy.verify(password));
                }
                false
            }
        }
    }
}

impl Account {
    fn parse(groups: &str, hash: &str) -> Self {
        // `*` and every other group of one character mean "none"
        let groups = groups
            .split(',')
            .map(str::trim)
            .filter(|group| group.len() > 1)
            .take(GROUPS_MAX)
            .map(str::to_owned)
            .collect();
        let parsed = if hash.len() <= HASH_MAX {
            CryptHash::parse(hash)
        } else {
            None
        };
        let credential = match &parsed {
            Some(_) => Credential::Password,
            None if hash.is_empty() => Credential::Empty,
            None => Credential::Locked,
        };
        Self {
            groups,
            credential,
            hash: parsed,
        }
    }
}

/// Identity of one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Whoever sets the time of the last modification changes this one.
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A password file that is read again when it changes.
#[derive(Debug)]
pub struct PasswordFileCache {
    path: PathBuf,
    state: Mutex<Option<(Stamp, Arc<PasswordFile>)>>,
}

impl PasswordFileCache {
    /// Nothing is read until [`PasswordFileCache::current`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            state: Mutex::new(None),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The present contents. Blocks on the file; call it at every login.
    ///
    /// # Errors
    /// The file cannot be read or is larger than 256 MiB.
    pub fn current(&self) -> io::Result<Arc<PasswordFile>> {
        let file = File::open(&self.path)?;
        let stamp = Stamp::from(&file.metadata()?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, parsed)) = state.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(parsed));
        }
        let mut text = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "password file too large",
            ));
        }
        let parsed = Arc::new(PasswordFile::parse(&text));
        *state = Some((stamp, Arc::clone(&parsed)));
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    const VECTORS: &str = include_str!("../tests/vectors/passwd-hashes.txt");

    /// Whoever measures learns neither who exists nor who is locked. The shortest of several times: other
    /// work on the machine only adds to them.
    #[test]
    fn unknown_and_locked_users_take_as_long_as_a_wrong_password() {
        let file = PasswordFile::parse(VECTORS.as_bytes());
        let shortest = |user: &str| {
            let took = |_| {
                let began = Instant::now();
                assert!(!file.verify(user, b"wrong"));
                began.elapsed()
            };
            (0..5).map(took).min().unwrap()
        };
        let known = file
            .accounts
            .iter()
            .filter(|(_, account)| account.hash.is_some())
            .map(|(user, _)| shortest(user))
            .max()
            .unwrap();
        for user in ["nemo", "locked", "star", "empty"] {
            let unknown = shortest(user);
            assert!(
                unknown * 10 > known && unknown < known * 10,
                "{user}: {unknown:?}, {known:?}"
            );
        }
    }

    #[test]
    fn every_scheme_of_the_vectors_but_des() {
        let file = PasswordFile::parse(VECTORS.as_bytes());
        for user in [
            "sha256", "sha512", "sha512r", "yes", "bcrypt", "md5", "nogrp", "sp", "onec", "colon",
        ] {
            assert!(file.verify(user, b"pw"), "{user}");
            assert!(!file.verify(user, b"pw2"), "{user}");
            assert_eq!(
                file.account(user).map(Account::credential),
                Some(Credential::Password)
            );
        }
        for user in ["des", "locked", "star"] {
            assert!(!file.verify(user, b"pw"), "{user}");
            assert_eq!(
                file.account(user).map(Account::credential),
                Some(Credential::Locked)
            );
        }
        assert_eq!(file.account("x"), None);
        assert_eq!(
            file.account("empty").map(Account::credential),
            Some(Credential::Empty)
        );
        assert!(!file.verify("empty", b"") && !file.verify("empty", b"pw") && !file.verify("nobody", b"pw"));
    }

    #[test]
    fn groups() {
        let file = PasswordFile::parse(VECTORS.as_bytes());
        let groups = |user: &str| file.account(user).map(|account| account.groups().join("|"));
        assert_eq!(groups("sp").as_deref(), Some("g1|g2|g3"));
        assert_eq!(
            groups("onec").as_deref(),
            Some("bb"),
            "groups of one character are none"
        );
        assert_eq!(groups("nogrp").as_deref(), Some(""));
        assert_eq!(groups("sha256").as_deref(), Some(""));
        let file = PasswordFile::parse(b"test:tost,group1, group2 ,group3:$5$i6SNmLDCgBNjyJ7q$SZ4bVJb7I/DLgXo3txHBVohRFBjOtdbxGQZp.DOnrA.");
        assert_eq!(
            file.account("test").map(|a| a.groups().join("|")).as_deref(),
            Some("tost|group1|group2|group3")
        );
        assert!(file.verify("test", b"test"));
    }

    #[test]
    fn odd_lines() {
        let long_hash = format!("long:*:$5${}\n", "x".repeat(200));
        let long_line = format!("line:{}:$5$a$b\n", "g".repeat(600));
        let text = format!("a:*\n\n:*:$5$a$b\r\n#hash:*:\r\n{long_hash}{long_line}dup:*:!\ndup:*:\n");
        let file = PasswordFile::parse(text.as_bytes());
        assert_eq!(
            file.account("#hash").map(Account::credential),
            Some(Credential::Empty)
        );
        assert_eq!(
            file.account("long").map(Account::credential),
            Some(Credential::Locked)
        );
        assert_eq!(
            file.account("dup").map(Account::credential),
            Some(Credential::Locked),
            "the first counts"
        );
        for user in ["a", "", "line"] {
            assert_eq!(file.account(user), None, "{user}");
        }
    }

    #[test]
    fn the_dearest_hash_stands_in_for_missing_ones() {
        let file = PasswordFile::parse(VECTORS.as_bytes());
        let dearest = file.dearest.as_ref().map(CryptHash::cost);
        assert_eq!(
            dearest,
            file.account("yes")
                .and_then(|a| a.hash.as_ref())
                .map(CryptHash::cost)
        );
    }

    #[test]
    fn a_changed_file_is_read_again_and_only_then() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("passwd");
        std::fs::write(&path, "one:*:\n").expect("writable");
        let cache = PasswordFileCache::new(&path);
        let first = cache.current().expect("readable");
        assert!(Arc::ptr_eq(&first, &cache.current().expect("readable")));
        std::fs::write(&path, "three:*:\n").expect("writable");
        assert!(cache.current().expect("readable").account("three").is_some());
        // Of the same length, in the same place, and with the old time.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "other:*:\n").expect("writable");
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        assert!(cache.current().expect("readable").account("other").is_some());
        std::fs::remove_file(&path).expect("present");
        assert!(cache.current().is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "([a-c:,$*! é\r\n]|\\$5\\$){0,60}") {
            let file = PasswordFile::parse(text.as_bytes());
            let _ = file.account("a");
        }
    }
}
