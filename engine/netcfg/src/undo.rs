use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::journal::{self, Change, DeviceId, Record};
use crate::netlink::{self, Netlink};
use crate::{Error, dns};

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
            Change::Device {
                device,
                addresses,
                mtu,
                up,
            } => netlink::block_on(restore_device(device, addresses, *mtu, *up)).map_err(|e| e.to_string()),
            Change::Unreachable(net) => {
                netlink::block_on(async { Netlink::connect()?.delete_unreachable(*net).await })
                    .map_err(|e| e.to_string())
            }
            Change::Resolved(device) => revert_resolved(device).map_err(|e| e.to_string()),
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
