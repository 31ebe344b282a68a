use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::DynamicType;

use super::DnsError;
use crate::plan::DnsPlan;

const SERVICE: &str = "org.freedesktop.resolve1";
const OBJECT: &str = "/org/freedesktop/resolve1";
const INTERFACE: &str = "org.freedesktop.resolve1.Manager";
/// Errors of the bus when nobody is behind the service's name.
const ABSENT: [&str; 2] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
];
const NO_SUCH_LINK: &str = "org.freedesktop.resolve1.NoSuchLink";
/// Longest wait for an answer of the service.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the service may take to notice a new device.
const NEW_LINK_MAX: Duration = Duration::from_secs(3);
const NEW_LINK_PAUSE: Duration = Duration::from_millis(20);

/// True when names are resolved by systemd-resolved: `hosts:` of the name service switch mentions
/// it, or the resolver configuration is one of its files.
pub(super) fn in_use(nsswitch: &Path, resolv_conf: &Path) -> bool {
    let switch = fs::read_to_string(nsswitch).unwrap_or_default();
    let by_switch = switch
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("hosts:"))
        .any(|sources| sources.split_ascii_whitespace().any(|source| source == "resolve"));
    let by_link =
        fs::canonicalize(resolv_conf).is_ok_and(|target| target.starts_with("/run/systemd/resolve"));
    by_switch || by_link
}

/// Sets the link's servers and domains. Returns false when the service is not there.
pub(super) fn apply(index: u32, plan: &DnsPlan) -> Result<bool, DnsError> {
    let Ok(manager) = Manager::connect() else {
        return Ok(false);
    };
    let index = link_index(index)?;
    let servers = (index, servers(&plan.servers));
    let deadline = Instant::now() + NEW_LINK_MAX;
    loop {
        match manager.call("SetLinkDNS", &servers) {
            Ok(()) => break,
            Err(error) if is_named(&error, &ABSENT) => return Ok(false),
            // The service learns of a new device on its own, and a little later than we.
            Err(error) if is_named(&error, &[NO_SUCH_LINK]) && Instant::now() < deadline => {
                thread::sleep(NEW_LINK_PAUSE);
            }
            Err(error) => return Err(refused(error)),
        }
    }
    let everything = plan.split.is_empty();
    manager
        .call("SetLinkDomains", &(index, domains(plan)))
        .and_then(|()| manager.call("SetLinkDefaultRoute", &(index, everything)))
        .map_err(refused)?;
    Ok(true)
}

/// Takes back all settings of a link. A service that has gone has forgotten them already.
pub(crate) fn revert(index: u32) -> Result<(), DnsError> {
    let Ok(manager) = Manager::connect() else {
        return Ok(());
    };
    match manager.call("RevertLink", &(link_index(index)?,)) {
        Err(error) if !is_named(&error, &ABSENT) && !is_named(&error, &[NO_SUCH_LINK]) => Err(refused(error)),
        _ => Ok(()),
    }
}

/// The service's object on the system bus.
struct Manager(Connection);

impl Manager {
    fn connect() -> zbus::Result<Self> {
        Builder::system()?.method_timeout(ANSWER_MAX).build().map(Self)
    }

    fn call(&self, method: &str, arguments: &(impl Serialize + DynamicType)) -> zbus::Result<()> {
        self.0
            .call_method(Some(SERVICE), OBJECT, Some(INTERFACE), method, arguments)
            .map(drop)
    }
}

fn link_index(index: u32) -> Result<i32, DnsError> {
    i32::try_from(index).map_err(|error| DnsError::Resolved(error.to_string()))
}

fn refused(error: zbus::Error) -> DnsError {
    DnsError::Resolved(error.to_string())
}

fn is_named(error: &zbus::Error, names: &[&str]) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if names.contains(&name.as_str()))
}

/// `a(iay)`: address family and octets.
fn servers(servers: &[IpAddr]) -> Vec<(i32, Vec<u8>)> {
    let wire = |server: &IpAddr| match server {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    servers.iter().map(wire).collect()
}

/// `a(sb)`: search domains, then domains that are only routed. Without split DNS the root domain
/// sends every query to the tunnel's servers.
fn domains(plan: &DnsPlan) -> Vec<(String, bool)> {
    let search = plan.search.iter().map(|domain| (domain.clone(), false));
    let routed = if plan.split.is_empty() {
        vec![".".to_owned()]
    } else {
        plan.split.clone()
    };
    search
        .chain(routed.into_iter().map(|domain| (domain, true)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_service_switch_decides() {
        let dir = tempfile::tempdir().unwrap();
        let (nsswitch, resolv_conf) = (dir.path().join("nsswitch.conf"), dir.path().join("resolv.conf"));
        fs::write(&resolv_conf, "").unwrap();
        assert!(!in_use(&nsswitch, &resolv_conf));
        fs::write(&nsswitch, "passwd: files\nhosts: files dns\n").unwrap();
        assert!(!in_use(&nsswitch, &resolv_conf));
        fs::write(&nsswitch, "hosts:\tfiles resolve [!UNAVAIL=return] dns\n").unwrap();
        assert!(in_use(&nsswitch, &resolv_conf));
    }

    #[test]
    fn split_domains_are_routing_domains() {
        let mut plan = DnsPlan {
            servers: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            search: vec!["corp.example".to_owned()],
            split: Vec::new(),
        };
        assert_eq!(
            domains(&plan),
            [("corp.example".to_owned(), false), (".".to_owned(), true)]
        );
        plan.split = vec!["int.example".to_owned()];
        assert_eq!(
            domains(&plan),
            [
                ("corp.example".to_owned(), false),
                ("int.example".to_owned(), true)
            ]
        );
        assert_eq!(servers(&plan.servers)[0], (libc::AF_INET, vec![10, 0, 0, 1]));
        assert_eq!(servers(&plan.servers)[1].1.len(), 16);
    }
}
