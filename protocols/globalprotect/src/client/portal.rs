//! A portal's configuration: which gateways there are (`specs/globalprotect.md` §5.4).

use std::time::Duration;

use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;
use culvert_wire::xml::{Element, escape};

use super::answer::child_text;

/// Most gateways that are used.
const GATEWAYS_MAX: usize = 1024;
/// Longest version that is believed, in octets.
const VERSION_MAX: usize = 64;
/// Time by which host checks come before the portal's interval.
const HIP_MARGIN: u64 = 60;
/// Shortest and longest time between host checks.
const HIP_INTERVAL_MIN: u64 = 60;
const HIP_INTERVAL_MAX: u64 = 7 * 24 * 3600;

/// What a portal says that matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portal {
    /// Its name.
    pub name: Option<String>,
    /// Version to repeat to gateways.
    pub version: Option<String>,
    /// Time between host checks.
    pub hip_interval: Option<Duration>,
    /// Gateways, the best first.
    pub gateways: Vec<GatewayEntry>,
    /// Stands for the password at the gateways.
    pub(super) user_cookie: Option<SecretString>,
    pub(super) prelogon_cookie: Option<SecretString>,
}

/// A gateway that a portal offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayEntry {
    /// `host`, `host:port` or `[v6]`.
    pub address: String,
    /// What users see.
    pub label: String,
    /// Smaller is better.
    pub priority: Option<i64>,
}

impl Portal {
    /// Reads `<policy>`. `region` decides about priorities.
    pub(super) fn parse(policy: &Element, region: &str) -> Self {
        let text = |name: &str| Some(child_text(policy, name)).filter(|text| !text.is_empty());
        let cookie = |name: &str| text(name).filter(|value| value != "empty").map(SecretString::new);
        let mut gateways: Vec<_> = descend(policy, &["gateways", "external", "list"])
            .into_iter()
            .flat_map(Element::elements)
            .filter(|entry| entry.name == "entry")
            .filter_map(|entry| GatewayEntry::parse(entry, region))
            .take(GATEWAYS_MAX)
            .collect();
        // Stable: what is equal keeps the document's order.
        gateways.sort_by_key(|gateway| gateway.priority.unwrap_or(i64::MAX));
        let interval = descend(policy, &["hip-collection"])
            .map(|collection| child_text(collection, "hip-report-interval"))
            .and_then(|text| text.parse::<u64>().ok())
            .map(|seconds| {
                let seconds = seconds.saturating_sub(HIP_MARGIN);
                Duration::from_secs(seconds.clamp(HIP_INTERVAL_MIN, HIP_INTERVAL_MAX))
            });
        Self {
            name: text("portal-name"),
            version: text("version").filter(|version| is_version(version)),
            hip_interval: interval,
            gateways,
            user_cookie: cookie("portal-userauthcookie"),
            prelogon_cookie: cookie("portal-prelogonuserauthcookie"),
        }
    }

    /// The list of servers that `--xmlconfig` keeps.
    pub fn server_list(&self, portal: &ServerUrl) -> String {
        let entry = |name: &str, address: &str| {
            format!(
                "      <HostEntry><HostName>{}</HostName><HostAddress>{}</HostAddress></HostEntry>\n",
                escape(name),
                escape(address)
            )
        };
        let host = portal.host_header();
        let mut list = entry(
            self.name.as_deref().unwrap_or(&host),
            &format!("{host}/global-protect"),
        );
        for gateway in &self.gateways {
            list.push_str(&entry(&gateway.label, &format!("{}/ssl-vpn", gateway.address)));
        }
        format!("<GPPortal>\n  <ServerList>\n{list}  </ServerList>\n</GPPortal>\n")
    }
}

impl GatewayEntry {
    fn parse(entry: &Element, region: &str) -> Option<Self> {
        let name = entry.attribute("name").unwrap_or_default().trim();
        // Newer portals: the name is for people, the address is in a child.
        let address = ["fqdn", "ipv4", "ipv6"]
            .into_iter()
            .map(|child| child_text(entry, child))
            .find(|address| !address.is_empty());
        let address = address.as_deref().unwrap_or(name);
        let url = ServerUrl::parse(address).ok()?;
        let label = child_text(entry, "description");
        Some(Self {
            address: url.host_header(),
            label: [label.as_str(), name, address]
                .into_iter()
                .find(|text| !text.is_empty())?
                .to_owned(),
            priority: priority(entry, region),
        })
        .map(|mut gateway| {
            // As the portal writes it: it is also a choice's value.
            if url.port != 443 || address.ends_with(":443") {
                gateway.address = format!("{}:{}", url.host, url.port);
            }
            gateway
        })
    }

    /// The line that the log gets.
    pub fn log_line(&self) -> String {
        let priority = match self.priority {
            Some(priority) => format!("priority {priority}"),
            None => "unprioritized".into(),
        };
        format!("  {} ({}) [{priority}]", self.label, self.address)
    }
}

/// Programs of the user get it as a variable, and gateways as a parameter.
fn is_version(text: &str) -> bool {
    text.len() <= VERSION_MAX && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The smallest priority among the rules for this region or any.
fn priority(entry: &Element, region: &str) -> Option<i64> {
    entry
        .child("priority-rule")?
        .elements()
        .filter(|rule| {
            rule.name == "entry"
                && rule
                    .attribute("name")
                    .is_some_and(|name| name == "Any" || name == region)
        })
        .filter_map(|rule| child_text(rule, "priority").parse().ok())
        .min()
}

fn descend<'a>(mut element: &'a Element, path: &[&str]) -> Option<&'a Element> {
    for name in path {
        element = element.child(name)?;
    }
    Some(element)
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;

    use super::*;

    fn entry(name: &str, content: &str) -> String {
        format!("<entry name=\"{name}\">{content}</entry>")
    }

    fn portal(entries: &str) -> Portal {
        let text = format!(
            "<policy><portal-name>Portal &amp; One</portal-name><gateways><external><list>{entries}</list></external></gateways></policy>"
        );
        Portal::parse(&xml::parse(text.as_bytes()).unwrap(), "US")
    }

    fn rules(rules: &[(&str, u32)]) -> String {
        let rules: String = rules
            .iter()
            .map(|(name, priority)| entry(name, &format!("<priority>{priority}</priority>")))
            .collect();
        format!("<priority-rule>{rules}</priority-rule>")
    }

    #[test]
    fn sorted_by_region_and_saved() {
        let portal = portal(
            &[
                entry("nogw.test", "<description>Unprio</description>"),
                entry(
                    "192.0.2.1:443",
                    &("<description>US West</description>".to_owned() + &rules(&[("Any", 5), ("US", 2)])),
                ),
                entry(
                    "[2001:db8:47::1]",
                    &("<description>Any GW</description>".to_owned() + &rules(&[("DE", 1), ("Any", 4)])),
                ),
            ]
            .concat(),
        );
        let order: Vec<_> = portal
            .gateways
            .iter()
            .map(|gateway| (gateway.label.as_str(), gateway.priority))
            .collect();
        assert_eq!(
            order,
            [("US West", Some(2)), ("Any GW", Some(4)), ("Unprio", None)]
        );
        let expected = include_str!("../../tests/vectors/portal-sort.txt")
            .split_once("<GPPortal>")
            .map(|(_, list)| format!("<GPPortal>{}", list.replace("&#x26;", "&amp;")));
        let list = portal.server_list(&ServerUrl::parse("192.0.2.1").unwrap());
        assert_eq!(Some(list), expected);
    }

    #[test]
    fn entries_of_other_forms() {
        let portal = portal(
            &[
                entry("Berlin", "<fqdn>gw.example:8443</fqdn>"),
                entry("Six", "<ipv6>2001:db8::1</ipv6>"),
                entry("plain.example", ""),
                entry("", "<description>nowhere</description>"),
                entry("not a host", ""),
            ]
            .concat(),
        );
        let found: Vec<_> = portal
            .gateways
            .iter()
            .map(|gateway| (gateway.label.as_str(), gateway.address.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("Berlin", "gw.example:8443"),
                ("Six", "[2001:db8::1]"),
                ("plain.example", "plain.example")
            ]
        );
        assert_eq!(
            portal.gateways[2].log_line(),
            "  plain.example (plain.example) [unprioritized]"
        );
    }

    #[test]
    fn versions_are_words() {
        let version = |text: &str| {
            let text = format!("<policy><version>{text}</version></policy>");
            Portal::parse(&xml::parse(text.as_bytes()).unwrap(), "").version
        };
        assert_eq!(version("6.1.2-83      ").as_deref(), Some("6.1.2-83"));
        for text in ["", "1 2", "1\n2", "&#27;[2J", "\u{e9}", &"1".repeat(65)] {
            assert_eq!(version(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_are_clamped() {
        for (value, seconds) in [("3600", 3540), ("61", 60), ("0", 60), ("99999999999", 604_800)] {
            let text = format!(
                "<policy><hip-collection><hip-report-interval>{value}</hip-report-interval></hip-collection></policy>"
            );
            let portal = Portal::parse(&xml::parse(text.as_bytes()).unwrap(), "");
            assert_eq!(portal.hip_interval, Some(Duration::from_secs(seconds)));
        }
    }
}
