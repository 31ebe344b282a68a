//! The client host's network while a tunnel is up: address and routes of the TUN device, the
//! host route to the gateway, excluded networks, DNS (`specs/client.md` §13).
//!
//! Everything that points at the TUN device vanishes with it, unless somebody else made the device.
//! Whatever would stay behind (routes over other devices, `/etc/resolv.conf`, settings of a device
//! that stays) is written to a [journal](journal::Journal) before it is
//! changed, and undone by a [guard] process when the client ends in any way, including `kill -9`;
//! should the guard die too, [`repair`] at the next start does it.

#![forbid(unsafe_code)]

pub mod dns;
pub mod guard;
pub mod journal;
mod netlink;
mod plan;
mod undo;

use std::net::IpAddr;
use std::path::PathBuf;

use culvert_vocab::TunnelConfig;

pub use plan::{DnsPlan, Plan, ROUTES_MAX, TunnelRoute};
pub use undo::repair;

use guard::Guard;
use journal::{BypassRoute, Change, DeviceId, Journal};
use netlink::{Added, Netlink};

/// Why the host's network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server sent more routes than this client accepts.
    #[error("the server sent {0} routes; at most {ROUTES_MAX} are accepted")]
    TooManyRoutes(usize),
    /// The TUN device is not there.
    #[error("there is no network interface '{0}'")]
    NoInterface(String),
    /// The kernel refused a change.
    #[error("cannot {action}: {cause}")]
    Netlink {
        /// What was attempted, with its object.
        action: String,
        /// The kernel's answer.
        cause: String,
    },
    /// The DNS configuration could not be changed.
    #[error("cannot configure DNS")]
    Dns(#[source] dns::DnsError),
    /// The journal that makes changes reversible could not be written.
    #[error("cannot write the journal '{path}'")]
    Journal {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process that undoes the changes could not be started.
    #[error("cannot start the process that restores the network")]
    Guard(#[source] std::io::Error),
    /// The asynchronous runtime could not be started.
    #[error("cannot start the netlink runtime")]
    Runtime(#[source] std::io::Error),
}

/// Files and folders that are read or written.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Folder of the journals, made with mode 0700.
    pub state_dir: PathBuf,
    /// The resolver configuration.
    pub resolv_conf: PathBuf,
    /// The name service switch, consulted for systemd-resolved.
    pub nsswitch: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/run/culvert"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            nsswitch: PathBuf::from("/etc/nsswitch.conf"),
        }
    }
}

/// The host's network as changed for one tunnel. Dropping it without [`Configured::undo`] leaves
/// the clean-up to the guard process.
#[derive(Debug)]
pub struct Configured {
    guard: Guard,
    journal: Journal,
    interface: String,
    warnings: Vec<String>,
}

/// Sets up `interface` for `config`; `gateway` is the address of the VPN server as connected.
///
/// # Errors
/// See [`Error`]. Whatever had been changed before the error is undone.
pub fn configure(
    paths: &Paths,
    interface: &str,
    gateway: IpAddr,
    config: &TunnelConfig,
) -> Result<Configured, Error> {
    let plan = Plan::new(config, gateway)?;
    let journal = Journal::create(&paths.state_dir, interface)?;
    let guard = match Guard::spawn(journal.path()) {
        Ok(guard) => guard,
        Err(source) => {
            journal.discard();
            return Err(Error::Guard(source));
        }
    };
    let mut configured = Configured {
        guard,
        journal,
        interface: interface.to_owned(),
        warnings: Vec::new(),
    };
    match configured.apply(paths, &plan) {
        Ok(()) => Ok(configured),
        Err(error) => {
            configured.undo();
            Err(error)
        }
    }
}

impl Configured {
    /// Routes that could not be set although the tunnel works without them; one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes sure that the gateway is reached outside the tunnel: to be called before a reconnect
    /// and after the server's address or the host's own routes have changed.
    ///
    /// # Errors
    /// The kernel refused the route.
    pub fn keep_gateway_reachable(&mut self, gateway: IpAddr) -> Result<(), Error> {
        if gateway.is_loopback() {
            return Ok(());
        }
        let journal = &mut self.journal;
        let interface = &self.interface;
        netlink::block_on(async {
            let netlink = Netlink::connect()?;
            let tunnel = netlink.device(interface).await?.id.index;
            let net = plan::host(gateway);
            let ours = journal.routes();
            let Some(route) = netlink.outside_route(net, tunnel, &ours).await? else {
                return Ok(());
            };
            for old in ours.iter().filter(|old| old.net == net && **old != route) {
                netlink.delete_route(old).await?;
                journal.forget(&Change::Route(old.clone()))?;
            }
            if ours.contains(&route) {
                // It may have gone with its device.
                return netlink.add_route(&route).await.map(drop);
            }
            add_bypass(&netlink, journal, route).await
        })
    }

    /// Restores what was before. Errors are those of single items; the rest is restored anyway.
    pub fn undo(self) {
        drop(self.journal);
        self.guard.finish();
    }

    fn apply(&mut self, paths: &Paths, plan: &Plan) -> Result<(), Error> {
        let interface = self.interface.clone();
        let device = netlink::block_on(self.apply_links(&interface, plan))?;
        if let Some(dns) = &plan.dns {
            dns::apply(paths, &device, dns, &mut self.journal)?;
        }
        Ok(())
    }

    async fn apply_links(&mut self, interface: &str, plan: &Plan) -> Result<DeviceId, Error> {
        let netlink = Netlink::connect()?;
        let before = netlink.device(interface).await?;
        let device = before.id;
        // Before the first route into the tunnel: the tunnel's own packets must stay outside it.
        for net in &plan.bypass {
            bypass(&netlink, &mut self.journal, device.index, *net).await?;
        }
        self.journal.record(Change::Device {
            device: device.clone(),
            addresses: plan.addresses.clone(),
            mtu: before.mtu,
            up: before.up,
        })?;
        netlink.set_up(&device, plan.mtu).await?;
        for address in &plan.addresses {
            netlink.add_address(&device, *address).await?;
        }
        for route in &plan.routes {
            if let Err(error) = tunnel_route(&netlink, &device, route).await {
                self.warnings.push(error.to_string());
            }
        }
        for net in &plan.unreachable {
            let change = Change::Unreachable(*net);
            self.journal.record(change.clone())?;
            if netlink.add_unreachable(*net).await? == Added::Exists {
                self.journal.forget(&change)?;
            }
        }
        Ok(device)
    }
}

/// Routes `net` the way it goes now, outside the tunnel, and remembers the route if it is new.
async fn bypass(
    netlink: &Netlink,
    journal: &mut Journal,
    tunnel: u32,
    net: ipnet::IpNet,
) -> Result<(), Error> {
    match netlink.present_route(net, tunnel).await? {
        Some(route) => add_bypass(netlink, journal, route).await,
        None => Ok(()),
    }
}

async fn add_bypass(netlink: &Netlink, journal: &mut Journal, route: BypassRoute) -> Result<(), Error> {
    journal.record(Change::Route(route.clone()))?;
    match netlink.add_route(&route).await? {
        Added::New => Ok(()),
        Added::Exists => journal.forget(&Change::Route(route)),
    }
}

/// Routes a network into the tunnel without touching a route that is there already: where the
/// same prefix with the same metric exists, two halves of it are more specific and win.
async fn tunnel_route(netlink: &Netlink, device: &DeviceId, route: &TunnelRoute) -> Result<(), Error> {
    let added = netlink.add_tunnel_route(device, route.net, route.metric).await?;
    if added == Added::New {
        return Ok(());
    }
    let Ok(halves) = route.net.subnets(route.net.prefix_len() + 1) else {
        return Err(Error::Netlink {
            action: format!("route {} to {}", route.net, device.name),
            cause: "the host has the same route already".to_owned(),
        });
    };
    for half in halves {
        netlink.add_tunnel_route(device, half, route.metric).await?;
    }
    Ok(())
}
