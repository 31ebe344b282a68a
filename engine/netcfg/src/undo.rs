use std::fs;
use std::path::{Path, PathBuf};

use crate::dns;
use crate::journal::{self, Change, Record};
use crate::netlink::{self, Netlink};

/// Undoes the changes of one journal, newest first, and removes the file. Items that fail are
/// reported and do not keep the others from being undone.
pub(crate) fn undo(path: &Path) -> Vec<String> {
    let record = match Record::load(path) {
        Ok(record) => record,
        Err(error) => return vec![format!("cannot read the journal '{}': {error}", path.display())],
    };
    let mut failures = Vec::new();
    for change in record.changes.iter().rev() {
        let done = match change {
            Change::Route(route) => {
                netlink::block_on(async { Netlink::connect()?.delete_route(route).await })
                    .map_err(|e| e.to_string())
            }
            Change::Resolvconf { interface } => dns::resolvconf_delete(interface).map_err(|e| e.to_string()),
            Change::ResolvConf { path, original } => {
                dns::restore_resolv_conf(path, original).map_err(|e| e.to_string())
            }
        };
        failures.extend(done.err());
    }
    if let Err(error) = fs::remove_file(path) {
        failures.push(format!("cannot remove the journal '{}': {error}", path.display()));
    }
    failures
}

/// Undoes what clients of earlier runs left behind when they and their guards were killed.
/// Returns the journals that were dealt with and what could not be undone.
pub fn repair(state_dir: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let mut repaired = Vec::new();
    let mut failures = Vec::new();
    for path in journal::files(state_dir) {
        match Record::load(&path) {
            Ok(record) if record.owner.is_alive() => {}
            Ok(_) => {
                failures.extend(undo(&path));
                repaired.push(path);
            }
            Err(error) => failures.push(format!("cannot read the journal '{}': {error}", path.display())),
        }
    }
    (repaired, failures)
}
