//! Connect, disconnect and host-update scripts (`specs/server-config.md` §14.1).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use culvert_server_config::route_text;
use culvert_sys::process::{CommandExt as _, kill_group};
use culvert_sys::signal::SIGKILL;
use culvert_vocab::GroupName;
use ipnet::IpNet;

use crate::ipc::Text;
use crate::ipc::messages::TunnelWish;
use crate::ipc::session::{Addresses, Counters, SessionSettings, VerifiedSession};

/// Names a program that enforces `restrict-user-to-*` in our place; it runs instead of the scripts
/// and then runs them itself (§14.2).
const FIREWALL_PROGRAM: &str = "OCSERV_FW_SCRIPT";

/// Longest time that a script may take before it counts as failed and is killed.
pub(crate) const SCRIPT_TIMEOUT: Duration = Duration::from_secs(240);

/// Why a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A tunnel is about to open; failure refuses it.
    Connect,
    /// A tunnel has ended: what it carried, and for how long.
    Disconnect(Counters, Duration),
    /// The client's host name became known.
    HostUpdate,
}

/// What a script is told about a tunnel. Text of the client is data here: values of the
/// environment, never parts of a command.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Process id of the worker, the `ID` of `occtl`.
    pub(crate) id: u32,
    /// The session.
    pub(crate) session: VerifiedSession,
    /// What the client asked for and said.
    pub(crate) wish: TunnelWish,
    /// Name of the TUN device.
    pub(crate) device: String,
    /// Its index.
    pub(crate) device_index: u32,
    /// Addresses of the tunnel.
    pub(crate) addresses: Addresses,
    /// The client's public address.
    pub(crate) peer: SocketAddr,
    /// The server's address that it connected to.
    pub(crate) local: SocketAddr,
}

/// The administrator's own firewall program.
pub(crate) fn firewall_program() -> Option<PathBuf> {
    std::env::var_os(FIREWALL_PROGRAM).map(PathBuf::from)
}

/// Whether a session may not go everywhere.
pub(crate) fn is_restricted(settings: &SessionSettings) -> bool {
    settings.restrict_to_routes || settings.restrict_ports.is_some()
}

/// What is to be run, if anything: the configured script, or for a restricted session the
/// administrator's firewall program, if there is one, with the script as its next step.
pub(crate) fn command(
    subject: &Subject,
    reason: Reason,
    script: Option<&Path>,
    firewall: Option<PathBuf>,
) -> Option<Command> {
    let restricted = reason != Reason::HostUpdate && is_restricted(&subject.session.settings);
    let firewall = firewall.filter(|_| restricted);
    let mut command = match (&firewall, script) {
        (Some(program), _) => Command::new(program),
        (None, Some(script)) => Command::new(script),
        (None, None) => return None,
    };
    command.envs(environment(subject, reason));
    // These were for this program.
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    if let (Some(_), Some(script)) = (firewall, script) {
        command.env("OCSERV_NEXT_SCRIPT", script);
    }
    Some(command)
}

/// Scripts that run at the moment: the leaders of their process groups.
#[derive(Clone, Default)]
pub(crate) struct Scripts(Rc<RefCell<BTreeSet<i32>>>);

impl Scripts {
    /// Runs a script to its end, without standing in anybody's way. Its standard output goes to
    /// our standard error.
    ///
    /// # Errors
    /// One line that says what went wrong: not started, failed, too slow.
    pub(crate) async fn run(&self, command: Command) -> Result<(), String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = prepared(command)
            .and_then(|mut command| command.spawn())
            .map_err(|error| format!("cannot run script {name}: {error}"))?;
        let leader = child.id().and_then(|pid| i32::try_from(pid).ok());
        self.0.borrow_mut().extend(leader);
        let result = match tokio::time::timeout(SCRIPT_TIMEOUT, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("script {name} failed: {status}")),
            Ok(Err(error)) => Err(format!("cannot wait for script {name}: {error}")),
            Err(_) => {
                // The whole group: a shell that is killed alone would leave what it waits for.
                if let Some(leader) = leader {
                    let _already_gone = kill_group(leader, SIGKILL);
                }
                let _reaped = child.wait().await;
                let limit = SCRIPT_TIMEOUT.as_secs();
                Err(format!("script {name} took longer than {limit} s and was killed"))
            }
        };
        if let Some(leader) = leader {
            self.0.borrow_mut().remove(&leader);
        }
        result
    }

    /// Kills what still runs, with all that it has started in its group.
    pub(crate) fn kill_all(&self) {
        for leader in self.0.borrow().iter() {
            let _already_gone = kill_group(*leader, SIGKILL);
        }
    }
}

fn prepared(mut command: Command) -> io::Result<tokio::process::Command> {
    use std::os::unix::process::CommandExt as _;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::from(stderr))
        .process_group(0);
    command.default_signals();
    Ok(tokio::process::Command::from(command))
}

/// The documented variables; the inherited environment is added by the system.
fn environment(subject: &Subject, reason: Reason) -> Vec<(&'static str, OsString)> {
    let mut environment = Environment::default();
    let reason_text = match reason {
        Reason::Connect => "connect",
        Reason::Disconnect(..) => "disconnect",
        Reason::HostUpdate => "host-update",
    };
    environment.set("REASON", reason_text);
    environment.client(subject);
    environment.addresses(&subject.addresses);
    environment.network(&subject.session.settings);
    if let Reason::Disconnect(counters, duration) = reason {
        environment.set("STATS_BYTES_IN", counters.rx);
        environment.set("STATS_BYTES_OUT", counters.tx);
        environment.set("STATS_DURATION", duration.as_secs());
    }
    environment.0
}

/// Variables and their values.
#[derive(Default)]
struct Environment(Vec<(&'static str, OsString)>);

impl Environment {
    fn set(&mut self, name: &'static str, value: impl ToString) {
        self.0.push((name, value.to_string().into()));
    }

    /// Who it is, and where the client is.
    fn client(&mut self, subject: &Subject) {
        let (session, wish) = (&subject.session, &subject.wish);
        self.set("ID", subject.id);
        self.set("VHOST", &session.host);
        self.set("USERNAME", &session.user);
        self.set("GROUPNAME", session.group.as_ref().map_or("", GroupName::as_str));
        let hostname = wish.hostname.as_ref().map_or("", Text::as_str);
        self.set("HOSTNAME", hostname);
        self.set("REMOTE_HOSTNAME", hostname);
        self.set("DEVICE", &subject.device);
        self.set("USER_AGENT", without_nul(wish.client.user_agent.as_str()));
        self.set("DEVICE_TYPE", without_nul(wish.client.device_type.as_str()));
        self.set(
            "DEVICE_PLATFORM",
            without_nul(wish.client.device_platform.as_str()),
        );
        self.set("IP_REAL", subject.peer.ip());
        self.set("IP_REAL_LOCAL", subject.local.ip());
    }

    /// The two ends of the tunnel.
    fn addresses(&mut self, addresses: &Addresses) {
        if let (Some(local), Some(remote)) = (addresses.ipv4_local, addresses.ipv4) {
            self.set("IP_LOCAL", local);
            self.set("IP_REMOTE", remote.address);
        }
        if let (Some(local), Some(remote)) = (addresses.ipv6_local, addresses.ipv6) {
            self.set("IPV6_LOCAL", local);
            self.set("IPV6_REMOTE", remote.address);
            self.set("IPV6_PREFIX", remote.prefix_len);
        }
    }

    /// What the client is told of the network, and where it may go.
    fn network(&mut self, settings: &SessionSettings) {
        self.networks(
            ["OCSERV_ROUTES", "OCSERV_ROUTES4", "OCSERV_ROUTES6"],
            &settings.routes,
        );
        self.networks(
            ["OCSERV_NO_ROUTES", "OCSERV_NO_ROUTES4", "OCSERV_NO_ROUTES6"],
            &settings.no_routes,
        );
        let dns = || settings.dns.iter();
        self.list("OCSERV_DNS", dns());
        self.list("OCSERV_DNS4", dns().filter(|ip| ip.is_ipv4()));
        self.list("OCSERV_DNS6", dns().filter(|ip| ip.is_ipv6()));
        if settings.restrict_to_routes {
            self.set("OCSERV_RESTRICT_TO_ROUTES", 1);
        }
        if let Some((denied, ports)) = &settings.restrict_ports {
            let name = match denied {
                true => "OCSERV_DENY_PORTS",
                false => "OCSERV_ALLOW_PORTS",
            };
            self.set(name, ports);
        }
    }

    /// All, those of IPv4, those of IPv6.
    fn networks(&mut self, [all, ipv4, ipv6]: [&'static str; 3], networks: &[IpNet]) {
        let of = |wanted: fn(&&IpNet) -> bool| networks.iter().filter(wanted).map(route_text);
        self.list(all, of(|_| true));
        self.list(ipv4, of(|net| matches!(net, IpNet::V4(_))));
        self.list(ipv6, of(|net| matches!(net, IpNet::V6(_))));
    }

    /// Each item is followed by one blank; no variable at all when there are none.
    fn list(&mut self, name: &'static str, items: impl Iterator<Item = impl ToString>) {
        let text: String = items.map(|item| item.to_string() + " ").collect();
        if !text.is_empty() {
            self.set(name, text);
        }
    }
}

/// A NUL would make the system refuse the whole environment.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use culvert_vocab::{AddressV4, AddressV6, SessionId, UserName};

    use super::*;

    fn subject(settings: SessionSettings) -> Subject {
        Subject {
            id: 42,
            session: VerifiedSession {
                id: SessionId::from_bytes([1; 32]).safe_id(),
                user: UserName::new("test").unwrap(),
                group: None,
                host: "default".to_owned(),
                authenticated_at: SystemTime::UNIX_EPOCH,
                session_left: None,
                previous: Addresses::default(),
                accounted: false,
                report: None,
                settings,
            },
            wish: TunnelWish::default(),
            device: "vpns0".to_owned(),
            device_index: 7,
            addresses: Addresses {
                ipv4: Some(AddressV4 {
                    address: "10.99.1.190".parse().unwrap(),
                    netmask: None,
                }),
                ipv4_local: Some("10.99.1.1".parse().unwrap()),
                ipv6: Some(AddressV6 {
                    address: "fd99::2".parse().unwrap(),
                    prefix_len: 128,
                }),
                ipv6_local: Some("fd99::1".parse().unwrap()),
            },
            peer: "198.51.100.2:1234".parse().unwrap(),
            local: "198.51.100.1:443".parse().unwrap(),
        }
    }

    fn value(environment: &[(&'static str, OsString)], name: &str) -> Option<String> {
        environment
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_string_lossy().into_owned())
    }

    #[test]
    fn variables_of_a_connect() {
        let settings = SessionSettings {
            routes: vec!["10.10.0.0/16".parse().unwrap(), "fd10::/64".parse().unwrap()],
            dns: vec!["8.8.8.8".parse().unwrap()],
            ..SessionSettings::default()
        };
        let environment = environment(&subject(settings), Reason::Connect);
        for (name, expected) in [
            ("REASON", "connect"),
            ("ID", "42"),
            ("VHOST", "default"),
            ("USERNAME", "test"),
            ("GROUPNAME", ""),
            ("DEVICE", "vpns0"),
            ("IP_REAL", "198.51.100.2"),
            ("IP_REAL_LOCAL", "198.51.100.1"),
            ("IP_LOCAL", "10.99.1.1"),
            ("IP_REMOTE", "10.99.1.190"),
            ("IPV6_LOCAL", "fd99::1"),
            ("IPV6_REMOTE", "fd99::2"),
            ("IPV6_PREFIX", "128"),
            ("OCSERV_ROUTES", "10.10.0.0/255.255.0.0 fd10::/64 "),
            ("OCSERV_ROUTES4", "10.10.0.0/255.255.0.0 "),
            ("OCSERV_ROUTES6", "fd10::/64 "),
            ("OCSERV_DNS4", "8.8.8.8 "),
        ] {
            assert_eq!(value(&environment, name).as_deref(), Some(expected), "{name}");
        }
        for absent in [
            "OCSERV_NO_ROUTES",
            "OCSERV_DNS6",
            "OCSERV_RESTRICT_TO_ROUTES",
            "STATS_BYTES_IN",
        ] {
            assert_eq!(value(&environment, absent), None, "{absent}");
        }
    }

    #[test]
    fn a_disconnect_has_statistics() {
        let reason = Reason::Disconnect(Counters { rx: 7, tx: 9 }, Duration::from_secs(3));
        let environment = environment(&subject(SessionSettings::default()), reason);
        assert_eq!(value(&environment, "STATS_BYTES_IN").as_deref(), Some("7"));
        assert_eq!(value(&environment, "STATS_BYTES_OUT").as_deref(), Some("9"));
        assert_eq!(value(&environment, "STATS_DURATION").as_deref(), Some("3"));
    }

    #[test]
    fn a_firewall_program_of_the_administrator_comes_first() {
        let restricted = SessionSettings {
            restrict_to_routes: true,
            ..SessionSettings::default()
        };
        let (script, program) = (Path::new("/etc/script"), Path::new("/etc/firewall"));
        let run = |settings: &SessionSettings, script: Option<&Path>, program: Option<&Path>| {
            let program = program.map(Path::to_owned);
            command(&subject(settings.clone()), Reason::Connect, script, program)
        };
        let next = |command: &Command| {
            let mut variables = command.get_envs();
            variables.any(|(name, value)| name == "OCSERV_NEXT_SCRIPT" && value == Some(script.as_os_str()))
        };
        let both = run(&restricted, Some(script), Some(program)).unwrap();
        assert!(both.get_program() == program && next(&both));
        let alone = run(&restricted, None, Some(program)).unwrap();
        assert!(alone.get_program() == program && !next(&alone));
        // Our own firewall is no script.
        let ours = run(&restricted, Some(script), None).unwrap();
        assert!(ours.get_program() == script && !next(&ours));
        assert!(run(&restricted, None, None).is_none());
        let free = SessionSettings::default();
        assert_eq!(
            run(&free, Some(script), Some(program)).unwrap().get_program(),
            script
        );
        assert!(run(&free, None, Some(program)).is_none());
    }

    #[test]
    fn results_of_scripts() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let scripts = Scripts::default();
            assert_eq!(scripts.run(Command::new("/bin/true")).await, Ok(()));
            assert!(
                scripts
                    .run(Command::new("/bin/false"))
                    .await
                    .unwrap_err()
                    .contains("failed: exit status: 1")
            );
            assert!(
                scripts
                    .run(Command::new("/nonexistent"))
                    .await
                    .unwrap_err()
                    .contains("cannot run script /nonexistent")
            );
        });
    }
}
