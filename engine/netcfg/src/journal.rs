//! What has been changed outside the TUN device, on disk before it is changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Prefix of journal file names.
const PREFIX: &str = "netcfg-";
/// Largest journal that is read back, in octets.
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
    },
    /// The resolver configuration was rewritten.
    ResolvConf {
        /// Its path.
        path: PathBuf,
        /// What it contained.
        original: String,
    },
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
    /// The TUN device.
    pub interface: String,
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
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the journal is too large",
            ));
        }
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }
}

/// An open journal of this process. The file stays when it is dropped: the guard needs it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    record: Record,
}

impl Journal {
    /// Begins an empty journal in `dir`.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn create(dir: &Path, interface: &str) -> Result<Self, Error> {
        let owner = Owner::current();
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
                interface: interface.to_owned(),
                changes: Vec::new(),
            },
        };
        journal.save()?;
        Ok(journal)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down a change that is about to be made.
    ///
    /// # Errors
    /// The file cannot be written; the change must then not be made.
    pub fn record(&mut self, change: Change) -> Result<(), Error> {
        self.record.changes.push(change);
        self.save()
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

    /// The routes outside of the tunnel that were added.
    pub(crate) fn routes(&self) -> Vec<BypassRoute> {
        let route = |change: &Change| match change {
            Change::Route(route) => Some(route.clone()),
            _ => None,
        };
        self.record.changes.iter().filter_map(route).collect()
    }

    /// Removes the file of a journal that has no guard and no changes.
    pub fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("cannot remove '{}': {error}", self.path.display());
        }
    }

    fn save(&self) -> Result<(), Error> {
        self.write().map_err(|source| Error::Journal {
            path: self.path.clone(),
            source,
        })
    }

    fn write(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&self.record)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
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

    #[test]
    fn what_is_recorded_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&dir.path().join("state"), "tun9").unwrap();
        let route = Change::Route(BypassRoute {
            net: "192.0.2.1/32".parse().unwrap(),
            via: Some("198.51.100.1".parse().unwrap()),
            device: 3,
            source: None,
        });
        let other = Change::Resolvconf {
            interface: "tun9".to_owned(),
        };
        journal.record(route.clone()).unwrap();
        journal.record(other.clone()).unwrap();
        journal.forget(&route).unwrap();
        let record = Record::load(journal.path()).unwrap();
        assert_eq!(record.changes, [other]);
        assert_eq!(record.interface, "tun9");
        assert!(record.owner.is_alive());
        assert_eq!(files(&dir.path().join("state")), [journal.path()]);
        journal.discard();
        assert!(files(&dir.path().join("state")).is_empty());
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
    fn junk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netcfg-1-x.json");
        fs::write(&path, b"{]").unwrap();
        assert!(Record::load(&path).is_err());
    }
}
