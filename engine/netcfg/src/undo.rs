use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::journal::{self, Change, DeviceId, Journal, Record};
use crate::netlink::{self, Netlink};
use crate::{Error, chain, dns};

/// Undoes the changes of one journal, newest first, and removes the file. Items that fail are
/// reported and do not keep the others from being undone. What another client still needs stays,
/// with the file; it is undone when that client ends.
pub(crate) fn undo(path: &Path) -> Vec<String> {
    let _lock = path.parent().and_then(journal::lock);
    let journal = match Journal::open(path) {
        Ok(journal) => journal,
        // Somebody else has done it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![format!("cannot read the journal '{}': {error}", path.display())],
    };
    let mut others = journal.others();
    others.retain(|other| other.owner.is_alive());
    let mut failures = Vec::new();
    let mut needed = Vec::new();
    for change in journal.record().changes.iter().rev() {
        if is_needed(change, &others) {
            needed.insert(0, change.clone());
        } else {
            failures.extend(undo_change(change).err().map(|error| chain(&error)));
        }
    }
    if let Err(error) = journal.reduce(needed) {
        failures.push(format!("cannot write the journal '{}': {error}", path.display()));
    }
    failures
}

/// True when a client that goes on depends on this change.
fn is_needed(change: &Change, others: &[Record]) -> bool {
    match change {
        Change::Route(_) | Change::Unreachable(_) => {
            let shared = Change::Shared(Box::new(change.clone()));
            others.iter().any(|other| other.changes.contains(&shared))
        }
        Change::ResolvConf { path, written, .. } => dns::is_covered(path, written, others),
        _ => false,
    }
}

fn undo_change(change: &Change) -> Result<(), Error> {
    match change {
        Change::Device {
            device,
            addresses,
            mtu,
            up,
        } => netlink::block_on(restore_device(device, addresses, *mtu, *up)),
        Change::Unreachable(net) => {
            netlink::block_on(async { Netlink::connect()?.delete_unreachable(*net).await })
        }
        Change::Resolved(device) => revert_resolved(device),
        Change::Route(route) => netlink::block_on(async { Netlink::connect()?.delete_route(route).await }),
        Change::Resolvconf { interface, .. } => dns::resolvconf_delete(interface).map_err(Error::Dns),
        Change::ResolvConf {
            path,
            original,
            written,
        } => dns::restore_resolv_conf(path, original.as_deref(), written).map_err(Error::Dns),
        Change::Shared(_) => Ok(()),
    }
}

/// True when `device` is still there.
async fn stays(netlink: &Netlink, device: &DeviceId) -> bool {
    netlink
        .device(&device.name)
        .await
        .is_ok_and(|present| present.id == *device)
}

/// Setting a device down deletes every route into it, and IPv6 addresses.
async fn restore_device(
    device: &DeviceId,
    addresses: &[IpNet],
    mtu: Option<u32>,
    up: bool,
) -> Result<(), Error> {
    let netlink = Netlink::connect()?;
    if !stays(&netlink, device).await {
        return Ok(());
    }
    netlink.set_down(device).await?;
    for address in addresses {
        netlink.delete_address(device, *address).await?;
    }
    netlink.restore(device, mtu, up).await
}

fn revert_resolved(device: &DeviceId) -> Result<(), Error> {
    let stays = netlink::block_on(async { Ok(stays(&Netlink::connect()?, device).await) })?;
    if stays {
        dns::resolved_revert(device.index).map_err(Error::Dns)?;
    }
    Ok(())
}

/// Undoes what clients of earlier runs left behind when they and their guards were killed, or what
/// clients that have ended since needed of it; only in the network that this process sees. Returns the journals that are done with and what
/// could not be undone.
pub fn repair(state_dir: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let mut repaired = Vec::new();
    let mut failures = Vec::new();
    for path in journal::files(state_dir) {
        match Record::load(&path) {
            Ok(record) if record.owner.is_alive() || !record.is_of_this_network() => {}
            Ok(_) => {
                failures.extend(undo(&path));
                if !fs::exists(&path).unwrap_or(true) {
                    repaired.push(path);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failures.push(format!("cannot read the journal '{}': {error}", path.display())),
        }
    }
    (repaired, failures)
}
