//! The tunnel's configuration (`specs/globalprotect.md` §9.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use culvert_login::client::NAME_SERVERS_MAX;
use culvert_vocab::{AddressV4, AddressV6, Mtu, RekeyMethod, Timers, TunnelConfig};
use culvert_wire::http::Response;
use culvert_wire::xml::Element;
use ipnet::{IpNet, Ipv4Net};

use super::answer::{Answer, Refusal, child_text, classify};
use crate::wire::EspParameters;

/// Most entries kept of any list.
const LIST_MAX: usize = 4096;
/// Most lines for the log.
const NOTES_MAX: usize = 64;
/// Most search domains: programs of the user get all of them in one variable.
const DOMAINS_MAX: usize = 64;
/// Longest name of a domain, in octets (RFC 1035 §2.3.4).
const DOMAIN_MAX: usize = 253;
/// Silence after which the peer is probed.
const DPD: Duration = Duration::from_secs(10);
/// Time by which a new configuration is fetched before the old one's end.
const REKEY_MARGIN: u64 = 60;
/// Shorter lives of a configuration would have it fetched all the time.
const LIFE_MIN: u64 = 120;
/// Stands for an MTU that the client has to compute.
const MTU_UNKNOWN: u16 = 1400;

/// Why there is no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The gateway refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not a configuration.
    #[error("Failed to parse server response: <{0}> instead of <response>")]
    Document(String),
    /// Nothing to give to the tunnel.
    #[error("No IP address received. Aborting")]
    NoAddress,
}

impl ConfigError {
    /// True when the cookie is worth nothing any more.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_permanent())
    }
}

/// What the gateway grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The tunnel. `mtu` means nothing unless `mtu_given`.
    pub config: TunnelConfig,
    /// The gateway demands this MTU; otherwise the client computes it.
    pub mtu_given: bool,
    /// Path of the TLS tunnel, if it is not the usual one.
    pub tunnel_path: Option<String>,
    /// The ESP channel and the address that answers magic pings; `Err` says why there is none.
    pub esp: Result<EspOffer, String>,
    /// Worth a line in the log.
    pub notes: Vec<String>,
}

/// An ESP channel that the gateway offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspOffer {
    /// Port, SPIs, keys.
    pub parameters: EspParameters,
    /// Inner address of the client that pings.
    pub client: IpAddr,
    /// Address that answers.
    pub gateway: IpAddr,
}

/// Reads the answer to [`super::Gateway::config_request`]. Numbers are clamped, lists bounded,
/// what cannot be read is noted and left out. `ipv6` is false for `--disable-ipv6`.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse_config(response: &Response, ipv6: bool) -> Result<Granted, ConfigError> {
    match classify(response)? {
        Answer::Document(root) if root.name == "response" => Reader::new(ipv6).read(&root),
        Answer::Document(root) => Err(ConfigError::Document(root.name)),
        Answer::Challenge(_) => Err(ConfigError::Document("challenge".into())),
    }
}

struct Reader {
    ipv6: bool,
    config: TunnelConfig,
    netmask: Option<Ipv4Addr>,
    mtu: Option<u64>,
    tunnel_path: Option<String>,
    gateway_v4: Option<Ipv4Addr>,
    gateway_v6: Option<Ipv6Addr>,
    parameters: Option<Result<EspParameters, String>>,
    notes: Vec<String>,
}

impl Reader {
    fn new(ipv6: bool) -> Self {
        Self {
            ipv6,
            config: TunnelConfig::new(Mtu::clamped(MTU_UNKNOWN.into())),
            netmask: None,
            mtu: None,
            tunnel_path: None,
            gateway_v4: None,
            gateway_v6: None,
            parameters: None,
            notes: Vec::new(),
        }
    }

    fn read(mut self, root: &Element) -> Result<Granted, ConfigError> {
        for element in root.elements() {
            self.element(element);
        }
        self.finish()
    }

    fn element(&mut self, element: &Element) {
        let text = element.text().trim().to_owned();
        match element.name.as_str() {
            "ip-address" => {
                if let Ok(address) = text.parse() {
                    self.config.ipv4 = Some(AddressV4 {
                        address,
                        netmask: None,
                    });
                    self.option("ipaddr", text);
                }
            }
            "netmask" => {
                if let Ok(netmask) = text.parse() {
                    self.netmask = Some(netmask);
                    self.option("netmask", text);
                }
            }
            "ip-address-v6" if self.ipv6 => {
                if let Ok(address) = text.parse() {
                    self.config.ipv6 = Some(AddressV6 {
                        address,
                        prefix_len: 128,
                    });
                    self.option("ipaddr6", text);
                }
            }
            "mtu" => self.mtu = text.parse().ok().filter(|mtu| *mtu > 0),
            "dns" | "dns-v6" => self.servers(element, "DNS"),
            "wins" => self.servers(element, "WINS"),
            "dns-suffix" => self.suffixes(element),
            "access-routes" | "access-routes-v6" => self.routes(element, "split-include"),
            "exclude-access-routes" | "exclude-access-routes-v6" => self.routes(element, "split-exclude"),
            "ssl-tunnel-url" => self.tunnel_path = Some(text).filter(|path| is_path(path)),
            "lifetime" => self.config.session_left = seconds(&text),
            "timeout" => self.timeout(&text),
            "disconnect-on-idle" => self.config.idle_timeout = seconds(&text),
            "gw-address" => self.gateway_v4 = text.parse().ok(),
            "gw-address-v6" => self.gateway_v6 = text.parse().ok(),
            "quarantine" if text != "no" => {
                self.note(format!("the gateway puts this host under quarantine ({text})"));
            }
            "ipsec" => self.ipsec(element),
            _ => {}
        }
    }

    fn ipsec(&mut self, element: &Element) {
        let mode = child_text(element, "ipsec-mode");
        if mode != "esp-tunnel" {
            self.note(format!(
                "the gateway's ESP mode is '{mode}' instead of esp-tunnel"
            ));
        }
        self.parameters = Some(EspParameters::parse(element));
    }

    fn servers(&mut self, element: &Element, name: &str) {
        for text in members(element) {
            let Ok(server) = text.parse::<IpAddr>() else {
                self.note(format!("'{text}' is no {name} server"));
                continue;
            };
            let list = match name {
                "DNS" => &mut self.config.dns,
                _ => &mut self.config.nbns,
            };
            if list.len() < NAME_SERVERS_MAX && !list.contains(&server) {
                list.push(server);
                self.option(name, text);
            }
        }
    }

    fn suffixes(&mut self, element: &Element) {
        let domains: Vec<String> = members(element)
            .flat_map(|member| {
                member
                    .split(|c: char| c.is_whitespace() || c == ',' || c == ';')
                    .filter(|domain| (1..=DOMAIN_MAX).contains(&domain.len()))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .take(DOMAINS_MAX)
            .collect();
        if !domains.is_empty() {
            self.option("search", domains.join(" "));
            self.config.search_domains = domains;
        }
    }

    fn routes(&mut self, element: &Element, name: &str) {
        for text in members(element) {
            let Some(route) = parse_route(&text) else {
                self.note(format!("'{text}' is no route for {name}"));
                continue;
            };
            if !self.ipv6 && matches!(route, IpNet::V6(_)) {
                continue;
            }
            let list = match name {
                "split-include" => &mut self.config.includes,
                _ => &mut self.config.excludes,
            };
            if list.len() < LIST_MAX {
                list.push(route);
                self.option(name, text);
            }
        }
    }

    fn timeout(&mut self, text: &str) {
        match text.parse::<u64>() {
            Ok(life) if life >= LIFE_MIN => {
                let rekey = Some(Duration::from_secs(life.min(u32::MAX.into()) - REKEY_MARGIN));
                for timers in [&mut self.config.stream, &mut self.config.datagram] {
                    timers.rekey = rekey;
                    timers.rekey_method = RekeyMethod::NewTunnel;
                }
            }
            Ok(life) => self.note(format!(
                "ignoring the gateway's wish for a new configuration every {life} s"
            )),
            Err(_) => {}
        }
    }

    fn option(&mut self, name: &str, value: String) {
        if self.config.options.len() < LIST_MAX {
            self.config.options.push((name.to_owned(), value));
        }
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        }
    }

    fn finish(mut self) -> Result<Granted, ConfigError> {
        if self.config.ipv4.is_none() && self.config.ipv6.is_none() {
            return Err(ConfigError::NoAddress);
        }
        if let Some(ipv4) = &mut self.config.ipv4 {
            ipv4.netmask = self.netmask;
        }
        // As the reference hands them to scripts: the last one first.
        self.config.options.reverse();
        let watched = |timers: Timers, keepalive| Timers {
            dpd: Some(DPD),
            keepalive,
            ..timers
        };
        self.config.stream = watched(self.config.stream, Some(DPD));
        self.config.datagram = watched(self.config.datagram, None);
        if let Some(mtu) = self.mtu {
            self.config.mtu = Mtu::clamped(mtu);
        }
        let esp = self.esp();
        Ok(Granted {
            mtu_given: self.mtu.is_some(),
            config: self.config,
            tunnel_path: self.tunnel_path,
            esp,
            notes: self.notes,
        })
    }

    /// Keys, and addresses of one family for magic pings.
    fn esp(&mut self) -> Result<EspOffer, String> {
        const NONE: &str =
            "Did not receive ESP keys and matching gateway in GlobalProtect config; tunnel will be TLS only.";
        let v6 = self
            .config
            .ipv6
            .zip(self.gateway_v6)
            .map(|(client, gateway)| (client.address.into(), gateway.into()));
        let v4 = self
            .config
            .ipv4
            .zip(self.gateway_v4)
            .map(|(client, gateway)| (client.address.into(), gateway.into()));
        match (self.parameters.take(), v6.or(v4)) {
            (Some(Ok(parameters)), Some((client, gateway))) => Ok(EspOffer {
                parameters,
                client,
                gateway,
            }),
            (Some(Err(why)), _) => Err(why),
            (None, _) | (Some(Ok(_)), None) => Err(NONE.to_owned()),
        }
    }
}

fn members(element: &Element) -> impl Iterator<Item = String> + '_ {
    element
        .elements()
        .filter(|child| child.name == "member")
        .map(|child| child.text().trim().to_owned())
        .filter(|text| !text.is_empty())
        .take(LIST_MAX)
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse::<u32>()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// A path that can be sent in a request line.
fn is_path(path: &str) -> bool {
    !path.is_empty() && path.len() < 200 && path.bytes().all(|octet| octet.is_ascii_graphic())
}

/// `A/len`, `A/mask` or `A`.
fn parse_route(text: &str) -> Option<IpNet> {
    let (address, size) = match text.split_once('/') {
        Some((address, size)) => (address, Some(size)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let net = match (address, size) {
        (address, None) => IpNet::from(address),
        (IpAddr::V4(v4), Some(mask)) if mask.contains('.') => {
            IpNet::V4(Ipv4Net::with_netmask(v4, mask.parse().ok()?).ok()?)
        }
        (address, Some(len)) => IpNet::new(address, len.parse().ok()?).ok()?,
    };
    Some(net.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(inner: &str) -> Result<Granted, ConfigError> {
        let body = format!("<response status=\"success\">{inner}</response>");
        parse_config(&Response::new(200, "OK").with_body(body), true)
    }

    const V4: &str = "<ip-address>10.77.0.2</ip-address>";

    /// The answer of the recorded session gives what the reference exported to its script.
    #[test]
    fn the_recorded_answer() {
        let text = include_str!("../../tests/vectors/session-portal-hip-esp-9.21.txt");
        let start = text.find("<response status=\"success\">\n<need-tunnel>").unwrap();
        let body = text[start..].split_once("</response>").unwrap().0;
        let granted = config(body.strip_prefix("<response status=\"success\">").unwrap()).unwrap();
        let esp = granted.esp.unwrap();
        assert_eq!(esp.gateway, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(esp.parameters.up.spi().get(), 0x1111_0001);
        assert!(
            !granted.mtu_given && granted.notes.is_empty(),
            "{:?}",
            granted.notes
        );
        let config = granted.config;
        let environment = include_str!("../../tests/vectors/getconfig-env.txt");
        let options: Vec<_> = environment
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(config.options, options);
        assert_eq!(config.idle_timeout, Some(Duration::from_secs(3600)));
        assert_eq!(config.stream.rekey, Some(Duration::from_secs(3540)));
        assert_eq!(config.search_domains, ["corp.example", "lab.example"]);
        assert_eq!(config.dns.len(), 3);
        assert_eq!(config.includes.len(), 3);
        assert_eq!(config.excludes.len(), 1);
        assert_eq!(granted.tunnel_path.as_deref(), Some("/ssl-tunnel-connect.sslvpn"));
    }

    #[test]
    fn short_lives_are_ignored() {
        for (timeout, rekey) in [
            ("0", None),
            ("60", None),
            ("-5", None),
            ("120", Some(60)),
            ("x", None),
        ] {
            let granted = config(&format!("{V4}<timeout>{timeout}</timeout>")).unwrap();
            assert_eq!(granted.config.stream.rekey.map(|time| time.as_secs()), rekey);
        }
    }

    #[test]
    fn mtu_of_the_server() {
        for (mtu, given, value) in [
            ("0", false, 1400),
            ("1300", true, 1300),
            ("100000", true, 16376),
            ("x", false, 1400),
        ] {
            let granted = config(&format!("{V4}<mtu>{mtu}</mtu>")).unwrap();
            assert_eq!((granted.mtu_given, granted.config.mtu.get()), (given, value));
        }
    }

    #[test]
    fn addresses_are_needed() {
        assert_eq!(config(""), Err(ConfigError::NoAddress));
        assert_eq!(config("<ip-address>x</ip-address>"), Err(ConfigError::NoAddress));
        assert!(config("<ip-address-v6>fd77::2</ip-address-v6>").is_ok());
        let body = "<response><ip-address-v6>fd77::2</ip-address-v6></response>";
        let without = parse_config(&Response::new(200, "OK").with_body(body), false);
        assert_eq!(without, Err(ConfigError::NoAddress));
    }

    #[test]
    fn refusals() {
        let body = "<response status=\"error\"><error>Invalid authentication cookie</error></response>";
        let refused = parse_config(&Response::new(200, "OK").with_body(body), true);
        assert!(refused.is_err_and(|error| error.is_permanent()));
    }

    #[test]
    fn routes_in_three_forms() {
        let granted = config(&format!(
            "{V4}<access-routes><member>10.0.0.0/255.0.0.0</member><member>192.0.2.9/24</member><member>198.51.100.7</member>\
             <member>junk</member></access-routes>"
        ))
        .unwrap();
        let routes: Vec<_> = granted.config.includes.iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32"]);
        assert_eq!(granted.notes.len(), 1);
    }

    /// Texts that are none of what they should be change nothing, whether they stand alone or after a good
    /// one, and of endless lists a part is kept.
    #[test]
    fn garbage_is_left_out() {
        let good = "<ip-address>10.77.0.2</ip-address><mtu>1300</mtu><dns><member>10.0.0.1</member></dns>\
            <gw-address>192.0.2.1</gw-address><timeout>600</timeout><access-routes><member>10.0.0.0/8</member></access-routes>";
        let expected = config(good).unwrap();
        for (name, texts) in [
            ("ip-address", &["", "10.77.0.300", "fd00::1", "\u{661}.2.3.4"][..]),
            ("netmask", &["", "24", "fd00::"]),
            ("ip-address-v6", &["", "10.77.0.2", "fd00::1/64"]),
            ("dns", &["<member>x</member>", "10.0.0.9", "<member/>"]),
            ("wins", &["<member>10.0.0.1.2</member>"]),
            (
                "access-routes",
                &[
                    "<member>10.0.0.0/33</member>",
                    "<member>::/129</member>",
                    "<member>10.0.0.0/255.0.255.0</member>",
                ],
            ),
            (
                "exclude-access-routes",
                &["<member>10.0.0.0/-1</member>", "<member>/8</member>"],
            ),
            ("dns-suffix", &["<member> , ;</member>", "corp.example"]),
            ("lifetime", &["-1", "99999999999", "1e3", "0"]),
            ("timeout", &["-1", "18446744073709551616", "0x600"]),
            ("disconnect-on-idle", &["-1", "4294967296"]),
            ("ssl-tunnel-url", &["", "/a b", "/a\nX: y", "/\u{e9}"]),
            ("gw-address-v6", &["192.0.2.1", "x"]),
            ("unknown", &["x"]),
        ] {
            for text in texts {
                let granted = config(&format!("{good}<{name}>{text}</{name}>")).unwrap();
                let granted = Granted {
                    notes: Vec::new(),
                    ..granted
                };
                assert_eq!(granted, expected, "{name}: {text}");
            }
        }
        let many = |name: &str, member: &str| {
            format!(
                "<{name}>{}</{name}>",
                format!("<member>{member}</member>").repeat(9000)
            )
        };
        let lists = [
            many("access-routes", "10.0.0.0/8"),
            many("dns-suffix", "a b\nc"),
            many("wins", "junk"),
        ];
        let granted = config(&format!("{V4}{}", lists[0])).unwrap();
        assert_eq!(granted.config.includes.len(), LIST_MAX);
        let granted = config(&format!("{V4}{}", lists[1])).unwrap();
        assert_eq!(granted.config.search_domains.len(), DOMAINS_MAX);
        assert_eq!(granted.config.search_domains[..4], ["a", "b", "c", "a"]);
        let granted = config(&format!("{V4}{}", lists[2])).unwrap();
        assert_eq!(granted.notes.len(), NOTES_MAX);
    }

    proptest! {
        #[test]
        fn never_panics(inner in "(<(dns|mtu|timeout|access-routes|ipsec|lifetime)>|<member>|</member>|[0-9a-f./:-]{0,9}){0,20}") {
            let _ = config(&inner);
        }
    }
}
