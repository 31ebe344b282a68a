//! What has been changed outside the TUN device, on disk before it is changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, Paths};

/// Prefix of journal file names.
const PREFIX: &str = "netcfg-";
/// Largest journal, in octets.
const SIZE_MAX: u64 = 8 << 20;

/// A route over a device that is not the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BypassRoute {
    /// The destination.
    pub net: IpNet,
    /// Next hop, if not on the link.
    pub via: Option<IpAddr>,
    /// Index of the device.
    pub device: u32,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

/// A device by name and index, so that a later one of the same name is not mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceId {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// One change that has to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The tunnel's device was configured: of interest when it stays, because somebody else made
    /// it.
    Device {
        /// Which device.
        device: DeviceId,
        /// The addresses that were added.
        addresses: Vec<IpNet>,
        /// Its MTU before.
        mtu: Option<u32>,
        /// Whether it was up before.
        up: bool,
    },
    /// A network was made unreachable.
    Unreachable(IpNet),
    /// systemd-resolved was told about the device.
    Resolved(DeviceId),
    /// A route was added.
    Route(BypassRoute),
    /// `resolvconf -a INTERFACE` was run.
    Resolvconf {
        /// The name given.
        interface: String,
        /// Its input.
        lines: String,
    },
    /// The resolver configuration was rewritten.
    ResolvConf {
        /// Its path, links followed.
        path: PathBuf,
        /// What it contained; `None` if it was not there.
        original: Option<Vec<u8>>,
        /// What was written.
        written: Vec<u8>,
    },
    /// This was there already, perhaps made by another client: it has to stay when that one ends.
    Shared(Box<Change>),
}

/// Who made the changes: the process and when it was started, so that a recycled pid is not
/// mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pid: u32,
    started: u64,
}

impl Owner {
    fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            started: start_time(pid).unwrap_or(0),
        }
    }

    /// True while that process exists.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the journal is too large")
}

/// Number of this process's network namespace.
fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/net").map_or(0, |meta| meta.ino())
}

/// Field 22 of `/proc/PID/stat`: start time in clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The content of a journal file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The client process.
    pub owner: Owner,
    /// The network namespace in which the changes are.
    pub namespace: u64,
    /// The TUN device.
    pub interface: String,
    /// The host's files.
    pub paths: Paths,
    /// Changes, oldest first.
    pub changes: Vec<Change>,
}

impl Record {
    /// Reads a journal file back.
    ///
    /// # Errors
    /// The file cannot be read or is no journal.
    pub fn load(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > SIZE_MAX {
            return Err(too_large());
        }
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }

    /// True when the changes are those of the network that this process sees.
    pub(crate) fn is_of_this_network(&self) -> bool {
        self.namespace == namespace()
    }

    /// The routes outside of the tunnel that were added.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &BypassRoute> {
        self.changes.iter().filter_map(|change| match change {
            Change::Route(route) => Some(route),
            _ => None,
        })
    }

    /// What could not be read back is refused: nobody could undo it.
    fn save(&self, path: &Path) -> io::Result<()> {
        let content = serde_json::to_vec(self)?;
        if content.len() as u64 > SIZE_MAX {
            return Err(too_large());
        }
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// A journal that is being written. The file stays when it is dropped.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    record: Record,
}

impl Journal {
    /// Begins an empty journal of this process.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn create(paths: &Paths, interface: &str) -> Result<Self, Error> {
        let owner = Owner::current();
        let dir = &paths.state_dir;
        let path = dir.join(format!("{PREFIX}{}-{interface}.json", owner.pid));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| Error::Journal {
            path: dir.to_owned(),
            source,
        })?;
        let journal = Self {
            path,
            record: Record {
                owner,
                namespace: namespace(),
                interface: interface.to_owned(),
                paths: paths.clone(),
                changes: Vec::new(),
            },
        };
        journal.save()?;
        Ok(journal)
    }

    /// Goes on with the journal of another process.
    ///
    /// # Errors
    /// See [`Record::load`].
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            record: Record::load(path)?,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Writes down a change that is about to be made, unless it is there already.
    ///
    /// # Errors
    /// The file cannot be written; the change must then not be made.
    pub fn add(&mut self, change: Change) -> Result<(), Error> {
        self.add_all(vec![change])
    }

    /// The same for many, written at once.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn add_all(&mut self, mut changes: Vec<Change>) -> Result<(), Error> {
        changes.retain(|change| !self.has(change));
        if changes.is_empty() {
            return Ok(());
        }
        let known = self.record.changes.len();
        self.record.changes.append(&mut changes);
        let saved = self.save();
        if saved.is_err() {
            // Else the next attempt would take them for written down.
            self.record.changes.truncate(known);
        }
        saved
    }

    /// These turned out to be there already: not ours to remove, but nobody else's either while we
    /// need them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn share(&mut self, mut changes: Vec<Change>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.record.changes.retain(|known| !changes.contains(known));
        changes.retain(|change| !self.has(&Change::Shared(Box::new(change.clone()))));
        let shared = changes.into_iter().map(|change| Change::Shared(Box::new(change)));
        self.record.changes.extend(shared);
        self.save()
    }

    /// True if this change was written down.
    pub fn has(&self, change: &Change) -> bool {
        self.record.changes.contains(change)
    }

    /// Takes back the latest equal entry: the change turned out not to be ours.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget(&mut self, change: &Change) -> Result<(), Error> {
        if let Some(position) = self.record.changes.iter().rposition(|known| known == change) {
            self.record.changes.remove(position);
        }
        self.save()
    }

    /// Keeps only these changes, and the file only if there are any.
    pub(crate) fn reduce(mut self, changes: Vec<Change>) -> io::Result<()> {
        if changes.is_empty() {
            return fs::remove_file(&self.path);
        }
        self.record.changes = changes;
        self.record.save(&self.path)
    }

    /// What the other clients of this network have changed, also those that have ended and left
    /// something to others.
    pub(crate) fn others(&self) -> Vec<Record> {
        let files = files(&self.record.paths.state_dir).into_iter();
        let others = files.filter(|path| *path != self.path);
        others
            .filter_map(|path| Record::load(&path).ok())
            .filter(Record::is_of_this_network)
            .collect()
    }

    /// Removes the file of a journal that has no guard and no changes.
    pub(crate) fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("cannot remove '{}': {error}", self.path.display());
        }
    }

    fn save(&self) -> Result<(), Error> {
        self.record.save(&self.path).map_err(|source| Error::Journal {
            path: self.path.clone(),
            source,
        })
    }
}

/// Keeps the guards of other clients from changing the same things; ends when it is dropped. A
/// folder that cannot be locked is used without.
pub(crate) fn lock(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    dir.lock().ok()?;
    Some(dir)
}

/// The journal files of a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let is_journal = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(".json"))
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_journal)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path) -> Paths {
        Paths {
            state_dir: dir.join("state"),
            ..Paths::default()
        }
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let mut journal = Journal::create(&paths, "tun9").unwrap();
        let route = Change::Route(BypassRoute {
            net: "192.0.2.1/32".parse().unwrap(),
            via: Some("198.51.100.1".parse().unwrap()),
            device: 3,
            source: None,
        });
        let shared = Change::Shared(Box::new(route.clone()));
        let other = Change::Resolvconf {
            interface: "tun9".to_owned(),
            lines: String::new(),
        };
        for change in [&route, &other, &shared, &other] {
            journal.add(change.clone()).unwrap();
        }
        journal.forget(&route).unwrap();
        assert!(!journal.has(&route) && journal.has(&shared));
        let record = Record::load(journal.path()).unwrap();
        assert_eq!(record.changes, [other, shared]);
        assert_eq!(record.interface, "tun9");
        assert!(record.owner.is_alive());
        assert_eq!(files(&paths.state_dir), [journal.path()]);
        assert!(journal.others().is_empty());
        let second = Journal::create(&paths, "tun8").unwrap();
        assert_eq!(second.others(), [record]);
        second.discard();
        journal.reduce(Vec::new()).unwrap();
        assert!(files(&paths.state_dir).is_empty());
    }

    #[test]
    fn a_recycled_pid_is_not_the_owner() {
        let owner = Owner {
            started: 1,
            ..Owner::current()
        };
        assert!(!owner.is_alive());
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&paths(dir.path()), "tun9").unwrap();
        let before = fs::read(journal.path()).unwrap();
        let large = Change::Resolvconf {
            interface: "tun9".to_owned(),
            lines: "x".repeat(usize::try_from(SIZE_MAX).unwrap()),
        };
        assert!(journal.add(large.clone()).is_err());
        assert!(!journal.has(&large));
        assert_eq!(fs::read(journal.path()).unwrap(), before);
    }

    #[test]
    fn junk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netcfg-1-x.json");
        fs::write(&path, b"{]").unwrap();
        assert!(Record::load(&path).is_err());
    }
}
