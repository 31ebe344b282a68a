//! A configuration with all that the broker needs to act on it.

use std::path::Path;
use std::sync::Arc;

use culvert_server_config::{Config, ExposedRoute, Global, Host};

use super::accounting::Accounting;
use super::auth::{Certificates, Methods, Workers};
use super::keys;
use super::kkdcp::Kdc;
use crate::log::{self, Level};
use crate::startup;

/// A loaded configuration. Connections keep the one that was in force when they came.
pub(super) struct Loaded {
    pub(super) config: Config,
    hosts: Vec<LoadedHost>,
}

/// One virtual host, at the position of its `HostIndex`.
pub(super) struct LoadedHost {
    pub(super) config: Arc<Host>,
    pub(super) keys: Vec<keys::ServerKey>,
    pub(super) methods: Methods,
    /// At the positions of the `kkdcp` lines.
    pub(super) kdcs: Vec<Kdc>,
    /// How client certificates are judged, if they are asked for.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// RADIUS accounting, if there is any.
    pub(super) accounting: Option<Arc<Accounting>>,
    /// Networks behind clients that all others are told of.
    pub(super) exposed: Vec<ExposedRoute>,
}

impl Loaded {
    /// Reads the configuration and everything that it names for the broker (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(path: &Path, workers: &Workers) -> Result<Self, String> {
        let (config, _printed_by_main) = Config::load(path).map_err(|error| error.to_string())?;
        Self::of(config, workers)
    }

    /// Reads everything that a configuration names for the broker (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn of(config: Config, workers: &Workers) -> Result<Self, String> {
        // The default host's PINs are for all keys.
        let pins = keys::Pins::of(&config.default_host).map_err(|error| error.to_string())?;
        let hosts = config
            .hosts()
            .map(|host| load_host(host, &config.global, &pins, workers))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, hosts })
    }

    /// The position of the host for a server name.
    pub(super) fn host_for(&self, server_name: Option<&str>) -> usize {
        let wanted = self.config.host_for(server_name);
        self.config
            .hosts()
            .position(|host| std::ptr::eq(host, wanted))
            .unwrap_or(0)
    }

    /// Names of the hosts with RADIUS accounting.
    pub(super) fn accounted_hosts(&self) -> impl Iterator<Item = &str> {
        let hosts = self.hosts.iter().filter(|host| host.accounting.is_some());
        hosts.map(|host| host.config.display_name())
    }

    /// RADIUS accounting of the host of this name.
    pub(super) fn accounting_of(&self, name: &str) -> Option<Arc<Accounting>> {
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|host| host.config.display_name() == name)?;
        host.accounting.clone()
    }

    /// Starts what shall be ready before the first login.
    pub(super) fn start(&self) {
        for host in &self.hosts {
            host.methods.start();
        }
    }

    /// The host at this position.
    pub(super) fn host(&self, position: usize) -> Option<&LoadedHost> {
        self.hosts.get(position)
    }
}

fn load_host(
    host: &Host,
    global: &Global,
    default_pins: &keys::Pins,
    workers: &Workers,
) -> Result<LoadedHost, String> {
    let prefix = host
        .name
        .as_ref()
        .map(|name| format!("vhost:{name}: "))
        .unwrap_or_default();
    let load_keys = || {
        let pins = keys::Pins::of(host)?.or(default_pins);
        let pairs = host.server_key.iter().zip(&host.server_cert);
        pairs
            .map(|(key, certificate)| keys::load(key, certificate, &pins))
            .collect::<Result<_, keys::LoadError>>()
    };
    let keys: Vec<_> = load_keys().map_err(|error| format!("{prefix}{error}"))?;
    if !host.config_comes_from_radius() {
        let text = format!("sec-mod: {prefix}reading supplemental config from files");
        log::write(Level::Info, &text);
    }
    let text = format!("sec-mod: {prefix}loaded {} keys", keys.len());
    log::write(Level::Debug, &text);
    let methods = Methods::new(host, global, workers).map_err(|error| format!("{prefix}{error}"))?;
    let certificates = Certificates::load(host)
        .map_err(|error| format!("{prefix}{error}"))?
        .map(Arc::new);
    let kdcs = host.kkdcp.iter().map(Kdc::resolve).collect::<Result<_, _>>();
    let kdcs = kdcs.map_err(|error| format!("{prefix}{error}"))?;
    let (exposed, notes) = host.exposed_iroutes();
    for note in notes {
        log::write(Level::Warning, &format!("sec-mod: {prefix}{note}"));
    }
    let rights = || startup::helper_rights(global).map_err(|error| error.0);
    let accounting =
        Accounting::load(host, &workers.radius, rights).map_err(|error| format!("{prefix}{error}"))?;
    Ok(LoadedHost {
        accounting,
        exposed,
        config: Arc::new(host.clone()),
        keys,
        methods,
        kdcs,
        certificates,
    })
}
