//! The client host's network while a tunnel is up: address and routes of the TUN device, the
//! host route to the gateway, excluded networks, DNS (`specs/client.md` §13).
//!
//! Everything that points at the TUN device vanishes with it, unless somebody else made the device.
//! Whatever would stay behind (routes over other devices, `/etc/resolv.conf`, settings of a device
//! that stays) is written to a [journal](journal::Journal) before it is changed. A [guard] process
//! makes the changes, also for a client that has given up its privileges, and undoes them when the
//! client ends in any way, including `kill -9`; should the guard die too, [`repair`] at the next
//! start does it.
//!
//! Several clients on one host do not take anything from each other: what one has changed and another
//! one has come to depend on stays until that one ends, too.

#![forbid(unsafe_code)]

mod apply;
pub mod dns;
pub mod guard;
pub mod journal;
mod netlink;
mod plan;
mod undo;

use std::net::IpAddr;
use std::path::PathBuf;

use culvert_vocab::TunnelConfig;
use serde::{Deserialize, Serialize};

pub use plan::{DnsPlan, Plan, ROUTES_MAX, TunnelRoute};
pub use undo::repair;

use guard::{Guard, Request};
use journal::Journal;

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
    /// The process that makes and undoes the changes could not be started, or does not answer.
    #[error("cannot use the process that configures the network")]
    Guard(#[source] std::io::Error),
    /// That process did not succeed; says why.
    #[error("{0}")]
    Refused(String),
    /// The asynchronous runtime could not be started.
    #[error("cannot start the netlink runtime")]
    Runtime(#[source] std::io::Error),
}

/// Files and folders that are read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    journal: PathBuf,
    plan: Plan,
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
    let journal = Journal::create(paths, interface)?;
    let guard = match Guard::spawn(journal.path()) {
        Ok(guard) => guard,
        Err(source) => {
            journal.discard();
            return Err(Error::Guard(source));
        }
    };
    let mut configured = Configured {
        guard,
        journal: journal.path().to_owned(),
        plan,
        warnings: Vec::new(),
    };
    match configured.apply(Vec::new()) {
        Ok(()) => Ok(configured),
        Err(error) => {
            configured.undo();
            Err(error)
        }
    }
}

impl Configured {
    /// What could not be set although the tunnel works without it, the last time; one line each.
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
        let nets = vec![plan::host(gateway)];
        self.guard.ask(&Request::KeepOutside(nets)).map(drop)
    }

    /// Makes everything right again after a reconnect or a change of the host's network: what others
    /// have removed or overwritten meanwhile, and what the server has decided anew.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn renew(&mut self, gateway: IpAddr, config: &TunnelConfig) -> Result<(), Error> {
        let plan = Plan::new(config, gateway)?;
        let before = std::mem::replace(&mut self.plan, plan).routes;
        let gone = |route: &TunnelRoute| !self.plan.routes.contains(route);
        let obsolete = before.into_iter().filter(gone).collect();
        self.apply(obsolete)
    }

    fn apply(&mut self, obsolete: Vec<TunnelRoute>) -> Result<(), Error> {
        let plan = self.plan.clone();
        self.warnings = self.guard.ask(&Request::Apply { plan, obsolete })?;
        Ok(())
    }

    /// Restores what was before. Errors are those of single items; the rest is restored anyway.
    pub fn undo(self) {
        let failures = match self.guard.finish() {
            Ok(status) if status.code().is_some() => Vec::new(),
            // Killed: it has undone nothing.
            _ => undo::undo(&self.journal),
        };
        for failure in failures {
            eprintln!("{failure}");
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
