use std::net::{IpAddr, Ipv4Addr};

use culvert_vocab::TunnelConfig;
use culvert_wire::percent;
use ipnet::{IpNet, Ipv4Net};

use crate::output::printable;

/// Most DNS and NBNS servers that a script is told.
const MAX_SERVERS: usize = 3;

/// Why a script is called (`specs/client.md` §12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Before the tun device is opened.
    PreInit,
    /// The tun device is open.
    Connect,
    /// Before each attempt to reconnect.
    AttemptReconnect,
    /// After a successful reconnect.
    Reconnect,
    /// The tunnel ends.
    Disconnect,
}

impl Reason {
    /// The value of the variable `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInit => "pre-init",
            Self::Connect => "connect",
            Self::AttemptReconnect => "attempt-reconnect",
            Self::Reconnect => "reconnect",
            Self::Disconnect => "disconnect",
        }
    }
}

/// Everything that the variables are made of, except `reason`.
#[derive(Debug, Clone)]
pub struct Environment<'a> {
    /// Configuration of the tunnel.
    pub config: &'a TunnelConfig,
    /// Numeric address of the server.
    pub gateway: IpAddr,
    /// Name of the tun device, once known.
    pub device: Option<&'a str>,
    /// The client's process id.
    pub pid: u32,
    /// `-v` level.
    pub log_level: u32,
}

/// One variable: set, or removed from the inherited environment.
pub type Variable = (String, Option<String>);

impl Environment<'_> {
    /// The variables for `reason` (`specs/client.md` §12.4). Those without a value must be removed
    /// from the inherited environment. With `None` there is no `reason` and no `TUNDEV`: the form
    /// for `--script-tun`.
    pub fn variables(&self, reason: Option<Reason>) -> Vec<Variable> {
        let config = self.config;
        let mut vars = Variables::default();
        vars.set("reason", reason.map(|reason| reason.as_str().to_owned()));
        vars.set(
            "TUNDEV",
            self.device.filter(|_| reason.is_some()).map(str::to_owned),
        );
        vars.set("VPNGATEWAY", Some(self.gateway.to_string()));
        vars.set("VPNPID", Some(self.pid.to_string()));
        vars.set("LOG_LEVEL", Some(self.log_level.to_string()));
        vars.set(
            "IDLE_TIMEOUT",
            config.idle_timeout.map(|time| time.as_secs().to_string()),
        );
        vars.set(
            "CISCO_BANNER",
            config
                .banner
                .as_deref()
                .map(|text| printable(&decode_percent(text))),
        );
        vars.set(
            "CISCO_DEF_DOMAIN",
            non_empty(domains(&config.search_domains, " ")),
        );
        let reversed: Vec<String> = config.split_dns.iter().rev().cloned().collect();
        vars.set("CISCO_SPLIT_DNS", non_empty(domains(&reversed, ",")));
        vars.set(
            "CISCO_PROXY_PAC",
            config.proxy_pac.clone().filter(|url| is_plain(url)),
        );
        vars.set("CISCO_CSTP_OPTIONS", non_empty(options(&config.options)));
        vars.set("INTERNAL_IP4_MTU", Some(config.mtu.get().to_string()));
        vars.set("INTERNAL_IP4_DNS", non_empty(servers(&config.dns)));
        vars.set("INTERNAL_IP4_NBNS", non_empty(servers(&config.nbns)));
        self.addresses(&mut vars);
        let mut includes = config.includes.clone();
        let mut excludes = config.excludes.clone();
        // The reference hands the lists over in reverse of the order received.
        includes.reverse();
        excludes.reverse();
        vars.networks("INC", &includes);
        vars.networks("EXC", &excludes);
        vars.set("GNUTLS_SYSTEM_PRIORITY_FILE", Some(priority_file()));
        vars.0
    }

    fn addresses(&self, vars: &mut Variables) {
        let config = self.config;
        vars.set(
            "INTERNAL_IP4_ADDRESS",
            config.ipv4.map(|ip| ip.address.to_string()),
        );
        let network = config.ipv4.and_then(|ip| {
            let mask = ip.netmask?;
            Some((mask, Ipv4Net::with_netmask(ip.address, mask).ok()?))
        });
        vars.set("INTERNAL_IP4_NETMASK", network.map(|(mask, _)| mask.to_string()));
        vars.set(
            "INTERNAL_IP4_NETADDR",
            network.map(|(_, net)| net.network().to_string()),
        );
        vars.set(
            "INTERNAL_IP4_NETMASKLEN",
            network.map(|(_, net)| net.prefix_len().to_string()),
        );
        vars.set(
            "INTERNAL_IP6_ADDRESS",
            config.ipv6.map(|ip| ip.address.to_string()),
        );
        vars.set(
            "INTERNAL_IP6_NETMASK",
            config.ipv6.map(|ip| format!("{}/{}", ip.address, ip.prefix_len)),
        );
    }

    /// Text of the error for an IPv4 netmask that is not contiguous, if it is not.
    pub fn netmask_error(&self) -> Option<String> {
        let mask = self.config.ipv4?.netmask?;
        let bad = Ipv4Net::with_netmask(Ipv4Addr::UNSPECIFIED, mask).is_err();
        bad.then(|| format!("Ignoring legacy network because netmask \"{mask}\" is invalid."))
    }
}

#[derive(Default)]
struct Variables(Vec<Variable>);

impl Variables {
    fn set(&mut self, name: impl Into<String>, value: Option<String>) {
        self.0.push((name.into(), value));
    }

    /// `CISCO_SPLIT_INC...` and `CISCO_IPV6_SPLIT_INC...` (or `EXC`).
    fn networks(&mut self, kind: &str, networks: &[IpNet]) {
        let (mut v4, mut v6) = (0, 0);
        for network in networks {
            match network {
                IpNet::V4(net) => {
                    let prefix = format!("CISCO_SPLIT_{kind}_{v4}");
                    self.set(format!("{prefix}_ADDR"), Some(net.network().to_string()));
                    self.set(format!("{prefix}_MASK"), Some(net.netmask().to_string()));
                    self.set(format!("{prefix}_MASKLEN"), Some(net.prefix_len().to_string()));
                    v4 += 1;
                }
                IpNet::V6(net) => {
                    let prefix = format!("CISCO_IPV6_SPLIT_{kind}_{v6}");
                    self.set(format!("{prefix}_ADDR"), Some(net.network().to_string()));
                    self.set(format!("{prefix}_MASKLEN"), Some(net.prefix_len().to_string()));
                    v6 += 1;
                }
            }
        }
        let count = |n: usize| (n > 0).then(|| n.to_string());
        self.set(format!("CISCO_SPLIT_{kind}"), count(v4));
        self.set(format!("CISCO_IPV6_SPLIT_{kind}"), count(v6));
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn priority_file() -> String {
    std::env::var("GNUTLS_SYSTEM_PRIORITY_FILE").unwrap_or_else(|_| "/dev/null".into())
}

/// Scripts paste these values into shell commands and configuration files.
fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "'\"`$\\;|&<>(){}".contains(c))
}

/// Domain names without any that is no domain name.
fn domains(names: &[String], separator: &str) -> String {
    let valid = |name: &&str| {
        name.chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let names: Vec<&str> = names
        .iter()
        .flat_map(|entry| entry.split([' ', ',', ';']))
        .filter(|name| !name.is_empty())
        .filter(valid)
        .collect();
    names.join(separator)
}

fn servers(servers: &[IpAddr]) -> String {
    let list: Vec<String> = servers
        .iter()
        .filter(|address| !address.is_unspecified())
        .take(MAX_SERVERS)
        .map(IpAddr::to_string)
        .collect();
    list.join(" ")
}

fn options(options: &[(String, String)]) -> String {
    options
        .iter()
        .filter(|(name, _)| name.starts_with("X-CSTP-"))
        .map(|(name, value)| format!("{name}={}\n", printable(value).replace('\n', "?")))
        .collect()
}

/// Replaces `%XX`; other text stays.
fn decode_percent(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode_leniently(text)).replace('\0', "?")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use culvert_vocab::{AddressV4, AddressV6, Mtu};

    use super::*;

    /// The configuration behind `vpnc-script-env.txt`, in the order the server sent it.
    fn captured_config(options: &str) -> TunnelConfig {
        let mut config = TunnelConfig::new(Mtu::clamped(1434));
        config.ipv4 = Some(AddressV4 {
            address: Ipv4Addr::new(192, 168, 55, 190),
            netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        });
        config.ipv6 = "fd77:55::1950:2c2b:bd9d:6cef"
            .parse()
            .ok()
            .map(|address| AddressV6 {
                address,
                prefix_len: 128,
            });
        config.dns = ["192.168.55.1", "fd77:55::53"]
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        config.nbns = ["192.168.55.2"].iter().filter_map(|ip| ip.parse().ok()).collect();
        config.search_domains = vec!["example.com".into()];
        config.split_dns = vec!["a.example.com".into(), "b.example.com".into()];
        config.includes = ["10.20.0.0/16", "192.168.77.5/32", "fd99:1::/48"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect();
        config.excludes = ["10.20.30.0/24"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect();
        config.banner = Some("Welcome to the test VPN".into());
        config.idle_timeout = Some(Duration::from_secs(1200));
        config.options = options
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        config
    }

    /// The sections of the capture: reason, and the variables as one map. The continuation lines
    /// of CISCO_CSTP_OPTIONS are gathered (the dump sorted them).
    fn captured() -> Vec<(String, BTreeMap<String, String>, Vec<String>)> {
        let text = include_str!("../../tests/vectors/vpnc-script-env.txt");
        text.split("\n[reason=")
            .skip(1)
            .map(|section| {
                let (reason, body) = section.split_once("]\n").unwrap_or_default();
                let mut variables = BTreeMap::new();
                let mut options = Vec::new();
                for (name, value) in body.lines().filter_map(|line| line.split_once('=')) {
                    match name.starts_with("X-CSTP") {
                        true => options.push(format!("{name}={value}")),
                        false if name == "CISCO_CSTP_OPTIONS" => options.push(value.to_owned()),
                        false => {
                            variables.insert(name.to_owned(), value.to_owned());
                        }
                    }
                }
                (reason.to_owned(), variables, options)
            })
            .collect()
    }

    #[test]
    fn same_environment_as_the_reference() {
        let sections = captured();
        let reasons = [
            Reason::PreInit,
            Reason::Connect,
            Reason::AttemptReconnect,
            Reason::Reconnect,
            Reason::Disconnect,
        ];
        assert_eq!(sections.len(), reasons.len());
        for ((name, wanted, options), reason) in sections.into_iter().zip(reasons) {
            assert_eq!(name, reason.as_str());
            let config = captured_config(&options.join("\n"));
            let environment = Environment {
                config: &config,
                gateway: "10.77.0.1".parse().expect("address"),
                device: Some("vpn7"),
                pid: 5467,
                log_level: 0,
            };
            let mut set: BTreeMap<String, String> = environment
                .variables(Some(reason))
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let ours = set.remove("CISCO_CSTP_OPTIONS").unwrap_or_default();
            assert_eq!(
                ours,
                options.iter().map(|line| format!("{line}\n")).collect::<String>()
            );
            set.remove("GNUTLS_SYSTEM_PRIORITY_FILE");
            let mut wanted = wanted;
            wanted.remove("GNUTLS_SYSTEM_PRIORITY_FILE");
            assert_eq!(set, wanted, "{name}");
        }
    }

    fn variable(config: &TunnelConfig, name: &str) -> Option<String> {
        let environment = Environment {
            config,
            gateway: IpAddr::V4(Ipv4Addr::LOCALHOST),
            device: None,
            pid: 1,
            log_level: 1,
        };
        let variables = environment.variables(Some(Reason::PreInit));
        let names: std::collections::HashSet<&String> = variables.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), variables.len(), "a variable is given twice");
        variables
            .into_iter()
            .find(|(given, _)| given == name)
            .and_then(|(_, value)| value)
    }

    #[test]
    fn absent_values_are_unset() {
        let config = TunnelConfig::new(Mtu::clamped(1400));
        for name in [
            "TUNDEV",
            "CISCO_BANNER",
            "INTERNAL_IP4_DNS",
            "CISCO_SPLIT_INC",
            "INTERNAL_IP6_NETMASK",
        ] {
            assert_eq!(variable(&config, name), None, "{name}");
        }
        assert_eq!(variable(&config, "INTERNAL_IP4_MTU"), Some("1400".into()));
    }

    #[test]
    fn a_server_cannot_inject_shell_text() {
        let mut config = TunnelConfig::new(Mtu::clamped(1400));
        config.search_domains = vec!["good.test;$(reboot) x`y`".into()];
        config.split_dns = vec!["a'b".into()];
        config.proxy_pac = Some("http://x/$(reboot)".into());
        config.banner = Some("hello%0a%1b[2J".into());
        config.options = vec![("X-CSTP-A".into(), "1\nreason=x".into())];
        assert_eq!(variable(&config, "CISCO_DEF_DOMAIN"), Some("good.test".into()));
        assert_eq!(variable(&config, "CISCO_SPLIT_DNS"), None);
        assert_eq!(variable(&config, "CISCO_PROXY_PAC"), None);
        assert_eq!(variable(&config, "CISCO_BANNER"), Some("hello\n?[2J".into()));
        assert_eq!(
            variable(&config, "CISCO_CSTP_OPTIONS"),
            Some("X-CSTP-A=1?reason=x\n".into())
        );
    }

    #[test]
    fn masks_and_servers() {
        let mut config = TunnelConfig::new(Mtu::clamped(1400));
        config.ipv4 = Some(AddressV4 {
            address: Ipv4Addr::new(10, 0, 0, 9),
            netmask: Some(Ipv4Addr::new(255, 0, 255, 0)),
        });
        config.nbns = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        config.dns = (1..6).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))).collect();
        assert_eq!(variable(&config, "INTERNAL_IP4_NETMASK"), None);
        assert_eq!(variable(&config, "INTERNAL_IP4_NBNS"), None);
        assert_eq!(
            variable(&config, "INTERNAL_IP4_DNS"),
            Some("10.0.0.1 10.0.0.2 10.0.0.3".into())
        );
        let environment = Environment {
            config: &config,
            gateway: IpAddr::V4(Ipv4Addr::LOCALHOST),
            device: None,
            pid: 1,
            log_level: 1,
        };
        assert!(
            environment
                .netmask_error()
                .is_some_and(|text| text.contains("255.0.255.0"))
        );
    }
}
