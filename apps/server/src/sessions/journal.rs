//! The journal of sessions: a root-only file, so that a restarted server honours cookies
//! (`specs/server-auth.md` §7.3 rule 7).
//!
//! It holds no session ids, only their hashes. Entries are appended, each with its length and a
//! checksum; what a crash cut short is ignored. When it has grown it is written anew and put in
//! place by a rename. A lock keeps a second server with the same `socket-file` away from it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use culvert_vocab::{GroupName, SafeId, UserName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::account::{Account, OwedStop};
use super::session::{COOKIE_SLACK, CookiePolicy, Moment, Session, SessionKey};
use super::{OVERDUE_GRACE, SessionTable};
use crate::ipc::session::{Addresses, ClientDescription, Counters, GivenSettings};

/// First bytes of the file; the digit is the version of the entries.
const MAGIC: &[u8; 8] = b"culvert7";
/// Longest entry, in octets.
const ENTRY_MAX: usize = crate::ipc::MAX_MESSAGE;
/// Octets of SHA-256 that guard an entry.
const CHECKSUM: usize = 8;
/// Largest file that is read, in octets.
const FILE_MAX: u64 = 256 << 20;
/// Entries beyond twice the number of sessions after which the file is written anew.
const SLACK: usize = 1024;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another server uses it.
    #[error("the journal of sessions {0} is in use by another server with the same socket-file")]
    InUse(PathBuf),
    /// Somebody else could have written it.
    #[error("the journal of sessions {0} is not a file of our own with mode 0600")]
    Untrusted(PathBuf),
    /// The file cannot be read or written.
    #[error("cannot {action} the journal of sessions {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    entries: usize,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Put(Box<Record>),
    Remove(SessionKey),
    /// A Stop that accounting has to get.
    Owe(Box<OwedStop>),
    /// Accounting has the Stop of this account.
    Paid(String),
}

/// A session on disk. Times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: SessionKey,
    id: SafeId,
    user: UserName,
    group: Option<GroupName>,
    host: String,
    peer: IpAddr,
    local: IpAddr,
    client: ClientDescription,
    authenticated_at: u64,
    /// `None`: in use when this was written.
    expires: Option<u64>,
    certificate: Option<[u8; 32]>,
    given: Option<Box<GivenSettings>>,
    pam_session: bool,
    cookie: CookiePolicy,
    limit: Option<Duration>,
    addresses: Addresses,
    rx: u64,
    tx: u64,
    account: Account,
}

/// What a journal says.
#[derive(Debug, Default)]
struct Content {
    records: HashMap<SessionKey, Record>,
    stops: HashMap<String, OwedStop>,
}

impl Journal {
    /// Opens the journal at `path`, enters its sessions into `table` (those whose cookie is still
    /// good) and writes it anew.
    ///
    /// # Errors
    /// See [`JournalError`]; the server can go on without a journal.
    pub(crate) fn open(path: &Path, table: &mut SessionTable, now: Moment) -> Result<Self, JournalError> {
        let lock = lock(path)?;
        let content = load(path)?;
        for stop in content.stops.into_values() {
            table.owe(stop.record, stop.at);
        }
        for record in content.records.into_values() {
            let (key, account, was_in_use) = (record.key, record.account, record.expires.is_none());
            if let Some((session, is_good)) = record.into_session(now) {
                table.account_of_earlier_process(&session, account, was_in_use);
                if is_good {
                    table.enter(key, session);
                }
            }
        }
        let (file, entries) = rewrite(path, table, now)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
            _lock: lock,
        })
    }

    /// Writes the present state of the session with this key, or that it is gone.
    ///
    /// # Errors
    /// The file cannot be written. It is removed then: what would stay in it are cookies that may
    /// have become worthless since.
    pub(crate) fn note(
        &mut self,
        key: SessionKey,
        table: &SessionTable,
        now: Moment,
    ) -> Result<(), JournalError> {
        if self.entries > table.len().saturating_mul(2) + SLACK {
            (self.file, self.entries) = rewrite(&self.path, table, now).inspect_err(|_| self.discard())?;
            return Ok(());
        }
        let put = table
            .get(key)
            .and_then(|session| encode(&Entry::Put(Box::new(Record::of(key, session, now)))));
        self.append(put.or_else(|| encode(&Entry::Remove(key))))
    }

    /// Writes that accounting has to get this Stop.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub(crate) fn note_owed(&mut self, stop: &OwedStop) -> Result<(), JournalError> {
        self.append(encode(&Entry::Owe(Box::new(stop.clone()))))
    }

    /// Writes that accounting has the Stop of this account.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub(crate) fn note_paid(&mut self, id: &str) -> Result<(), JournalError> {
        self.append(encode(&Entry::Paid(id.to_owned())))
    }

    /// One write per entry: a crash leaves whole entries and at most one torn at the end.
    fn append(&mut self, entry: Option<Vec<u8>>) -> Result<(), JournalError> {
        let Some(entry) = entry else { return Ok(()) };
        if let Err(source) = self.file.write_all(&entry) {
            self.discard();
            return Err(JournalError::File {
                action: "write",
                path: self.path.clone(),
                source,
            });
        }
        self.entries += 1;
        Ok(())
    }

    /// The file tells no longer what is true.
    fn discard(&self) {
        let _gone_already = std::fs::remove_file(&self.path);
    }
}

impl Record {
    fn of(key: SessionKey, session: &Session, now: Moment) -> Self {
        let left = session.expires.saturating_duration_since(now.monotonic);
        Self {
            key,
            id: session.id.clone(),
            user: session.user.clone(),
            group: session.group.clone(),
            host: session.host.clone(),
            peer: session.peer,
            local: session.local,
            client: session.client.clone(),
            authenticated_at: seconds(session.authenticated_at),
            expires: (!session.in_use()).then(|| seconds(now.wall + left)),
            certificate: session.certificate,
            given: session.given.clone(),
            pam_session: session.pam_session,
            cookie: session.cookie,
            limit: session.limit,
            addresses: session.addresses,
            rx: session.carried().rx,
            tx: session.carried().tx,
            account: session.account.saved(),
        }
    }

    /// The session, and whether its cookie is still good. A session that was in use has been
    /// disconnected by the end of the server just now; a clock that stepped back gives nobody more
    /// time. `None` for times that do not exist.
    fn into_session(self, now: Moment) -> Option<(Session, bool)> {
        let life = self.cookie.timeout.checked_add(COOKIE_SLACK)?;
        let left = match self.expires {
            Some(expires) => {
                let left = expires.saturating_sub(seconds(now.wall));
                Duration::from_secs(left).min(life)
            }
            None => life,
        };
        let age = Duration::from_secs(seconds(now.wall).saturating_sub(self.authenticated_at));
        // Both are added to clocks, again and again.
        now.monotonic.checked_add(life)?;
        self.limit.unwrap_or_default().checked_add(OVERDUE_GRACE)?;
        let is_good = !left.is_zero() && self.limit.is_none_or(|limit| age < limit);
        let session = Session {
            id: self.id,
            user: self.user,
            group: self.group,
            host: self.host,
            peer: self.peer,
            local: self.local,
            client: self.client,
            authenticated_at: UNIX_EPOCH.checked_add(Duration::from_secs(self.authenticated_at))?,
            restored: true,
            addresses: self.addresses,
            counters: Counters {
                rx: self.rx,
                tx: self.tx,
            },
            certificate: self.certificate,
            given: self.given,
            pam_session: self.pam_session,
            report: None,
            cookie: self.cookie,
            limit: self.limit,
            account: Session::account_after_restart(self.account),
            update_interval: None,
            age_then: age,
            known_since: now.monotonic,
            expires: now.monotonic.checked_add(left)?,
            holders: Vec::new(),
        };
        Some((session, is_good))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An entry as it is in the file; `None` for one that nobody would read again (none is known), since it
/// would hide those behind it.
fn encode(entry: &Entry) -> Option<Vec<u8>> {
    let body = postcard::to_stdvec(entry).ok()?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= ENTRY_MAX)?;
    let mut frame = Vec::with_capacity(4 + CHECKSUM + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&checksum(&body));
    frame.extend_from_slice(&body);
    Some(frame)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(body)) {
        *to = from;
    }
    sum
}

/// Whole entries up to the first one that is cut short or damaged.
fn decode(mut bytes: &[u8]) -> Content {
    let mut content = Content::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((sum, rest)) = rest.split_first_chunk::<CHECKSUM>() else {
            break;
        };
        let Some((body, rest)) = rest.split_at_checked(length).filter(|_| length <= ENTRY_MAX) else {
            break;
        };
        if checksum(body) != *sum {
            break;
        }
        let Ok(entry) = postcard::from_bytes(body) else {
            break;
        };
        match entry {
            Entry::Put(record) => {
                content.records.insert(record.key, *record);
            }
            Entry::Remove(key) => {
                content.records.remove(&key);
            }
            Entry::Owe(stop) => {
                content.stops.insert(stop.record.session.id.clone(), *stop);
            }
            Entry::Paid(id) => {
                content.stops.remove(&id);
            }
        }
        bytes = rest;
    }
    content
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&name)
        .map_err(|source| JournalError::File {
            action: "lock",
            path: path.to_owned(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(JournalError::File {
            action: "lock",
            path: path.to_owned(),
            source,
        }),
    }
}

fn load(path: &Path) -> Result<Content, JournalError> {
    let failed = |source| JournalError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let ours = metadata.uid() == culvert_sys::user::effective_uid();
    if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 {
        return Err(JournalError::Untrusted(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.strip_prefix(MAGIC).map(decode).unwrap_or_default())
}

/// Writes all sessions into a new file, which replaces the old one at once.
fn rewrite(path: &Path, table: &SessionTable, now: Moment) -> Result<(File, usize), JournalError> {
    let failed = |source| JournalError::File {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    match std::fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&name)
        .map_err(failed)?;
    let mut bytes = MAGIC.to_vec();
    let sessions = table.sessions.iter();
    let sessions = sessions.map(|(key, session)| Entry::Put(Box::new(Record::of(*key, session, now))));
    let stops = table.owed_stops().map(|stop| Entry::Owe(Box::new(stop.clone())));
    for entry in sessions.chain(stops).filter_map(|entry| encode(&entry)) {
        bytes.extend_from_slice(&entry);
    }
    file.write_all(&bytes).map_err(failed)?;
    std::fs::rename(&name, path).map_err(failed)?;
    Ok((file, table.len()))
}

#[cfg(test)]
mod tests;
