//! The TUN device of a session (`specs/server-config.md` §12).

use std::io;
use std::net::IpAddr;

use culvert_sys::rtnl::{LinkChange, Rtnl, interface_index};
use culvert_sys::tun::{Tun, TunError, TunOptions};
use ipnet::IpNet;

use crate::ipc::session::Addresses;

/// MTU of a new device, until the worker has computed the session's.
const INITIAL_MTU: u32 = 1500;

/// A device cannot be made or set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// Opening it failed.
    #[error("/dev/net/tun: {0}")]
    Open(#[from] TunError),
    /// It exists, but cannot be used.
    #[error("cannot set {what} of tun device {device}: {cause}")]
    Setup {
        /// Its name.
        device: String,
        /// What was attempted.
        what: &'static str,
        /// The system's refusal.
        cause: io::Error,
    },
}

/// The device of a session. It is removed when its descriptor is closed everywhere.
pub(crate) struct SessionDevice {
    /// The descriptor, for the worker.
    pub(crate) tun: Tun,
    /// Index of the interface. Another device may get the same name later, but not the same index.
    pub(crate) index: u32,
}

/// First group of devices: far from those that people number by hand.
const GROUPS: u32 = 0x4300_0000;

/// A group for the devices of this server that no interface of this network namespace is in.
///
/// # Errors
/// The interfaces cannot be listed.
pub(crate) fn free_group() -> io::Result<u32> {
    let taken = Rtnl::open()?.groups()?;
    // Servers that have no device yet are told apart by their process ids.
    let first = GROUPS | (std::process::id() & 0x00ff_ffff);
    Ok((first..u32::MAX)
        .find(|group| !taken.contains(group))
        .unwrap_or(first))
}

/// Removes all devices of a group at once, which is much faster than one after the other.
///
/// # Errors
/// The system refuses.
pub(crate) fn remove_group(group: u32) -> io::Result<()> {
    match Rtnl::open()?.delete_group(group) {
        // There are none.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Makes a device named `prefix` and a number, in `group`, gives it the session's addresses and routes, and
/// brings it up. Dropping the result removes it again.
///
/// # Errors
/// See [`DeviceError`].
pub(crate) fn create(
    prefix: &str,
    addresses: &Addresses,
    iroutes: &[IpNet],
    (uid, gid): (u32, u32),
    group: u32,
) -> Result<SessionDevice, DeviceError> {
    let name = format!("{prefix}%d");
    let options = TunOptions {
        name: &name,
        offload: true,
        owner: Some(uid),
        group: Some(gid),
    };
    let tun = Tun::open(&options)?;
    let failed = |what| {
        let device = tun.name().to_owned();
        move |cause| DeviceError::Setup { device, what, cause }
    };
    let index = interface_index(tun.name()).map_err(failed("interface"))?;
    let mut rtnl = Rtnl::open().map_err(failed("netlink"))?;
    rtnl.set_link(
        index,
        LinkChange {
            up: None,
            mtu: Some(INITIAL_MTU),
            group: Some(group),
        },
    )
    .map_err(failed("MTU"))?;
    if let (Some(local), Some(remote)) = (addresses.ipv4_local, addresses.ipv4) {
        rtnl.add_address(index, local.into(), 32, Some(remote.address.into()))
            .map_err(failed("IPv4 address"))?;
    }
    if let Some(local) = addresses.ipv6_local {
        rtnl.add_address(index, local.into(), 128, None)
            .map_err(failed("IPv6 address"))?;
    }
    rtnl.set_link(
        index,
        LinkChange {
            up: Some(true),
            mtu: None,
            group: None,
        },
    )
    .map_err(failed("state"))?;
    if let Some(remote) = addresses.ipv6 {
        let (address, length) = (IpAddr::from(remote.address), remote.prefix_len);
        rtnl.add_route(index, address, length, Some(1))
            .map_err(failed("IPv6 route"))?;
    }
    for iroute in iroutes {
        rtnl.add_route(index, iroute.network(), iroute.prefix_len(), None)
            .map_err(failed("iroute"))?;
    }
    Ok(SessionDevice { tun, index })
}

/// Changes the MTU of a device, given by its index.
///
/// # Errors
/// It is gone, or the system refuses.
pub(crate) fn set_mtu(index: u32, mtu: u16) -> io::Result<()> {
    Rtnl::open()?.set_link(
        index,
        LinkChange {
            up: None,
            mtu: Some(mtu.into()),
            group: None,
        },
    )
}
