//! Host checks: what the gateway answers, and a report that tells the truth about this host
//! (`specs/globalprotect.md` §10).

use std::net::{Ipv4Addr, Ipv6Addr};

use culvert_wire::http::Response;
use culvert_wire::xml::Element;

use super::answer::{Answer, Refusal, child_text, classify};

/// Version of the report's format.
const REPORT_VERSION: &str = "4";

/// Whether a report is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HipAnswer {
    /// Yes.
    Needed,
    /// No.
    NotNeeded,
}

/// Reads the answer to [`super::Gateway::hip_check_request`].
///
/// # Errors
/// The gateway refuses, or says neither yes nor no.
pub fn parse_hip_check(response: &Response) -> Result<HipAnswer, Refusal> {
    let Answer::Document(root) = classify(response)? else {
        return Err(Refusal::Other("a challenge instead of a host check".into()));
    };
    match child_text(&root, "hip-report-needed").as_str() {
        "yes" => Ok(HipAnswer::Needed),
        "no" => Ok(HipAnswer::NotNeeded),
        other => Err(Refusal::Other(format!(
            "the answer to the host check is neither yes nor no: '{other}'"
        ))),
    }
}

/// Reads the answer to a report or a logout: any document that is no error.
///
/// # Errors
/// The gateway refuses.
pub fn parse_success(response: &Response) -> Result<(), Refusal> {
    match classify(response)? {
        Answer::Document(_) => Ok(()),
        Answer::Challenge(_) => Err(Refusal::Other("an unexpected challenge".into())),
    }
}

/// What is known of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostReport {
    /// [`super::Cookie::hip_token`].
    pub token: String,
    /// User of the session.
    pub user: String,
    /// Name of this host.
    pub host_name: String,
    /// Its machine id, if it has one.
    pub host_id: String,
    /// Inner addresses.
    pub ipv4: Option<Ipv4Addr>,
    /// Inner addresses.
    pub ipv6: Option<Ipv6Addr>,
    /// `MM/DD/YYYY HH:MM:SS`, local time.
    pub time: String,
    /// Version of this client.
    pub client_version: String,
    /// Name and version of the operating system.
    pub os: String,
    /// Who makes it, `Linux` as a rule.
    pub os_vendor: String,
    /// The physical network.
    pub interfaces: Vec<NetworkInterface>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// Its addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its addresses.
    pub ipv6: Vec<Ipv6Addr>,
}

impl HostReport {
    /// The document. Categories of which nothing is known (anti-malware, disk encryption and the
    /// like) say so by having no product.
    pub fn to_xml(&self) -> String {
        let ip = |address: Option<String>| address.unwrap_or_default();
        let report = Element::new("hip-report")
            .with_attribute("name", "hip-report")
            .with_child(text("md5-sum", &self.token))
            .with_child(text("user-name", &self.user))
            .with_child(text("domain", ""))
            .with_child(text("host-name", &self.host_name))
            .with_child(text("host-id", &self.host_id))
            .with_child(text("ip-address", &ip(self.ipv4.map(|ip| ip.to_string()))))
            .with_child(text("ipv6-address", &ip(self.ipv6.map(|ip| ip.to_string()))))
            .with_child(text("generate-time", &self.time))
            .with_child(text("hip-report-version", REPORT_VERSION))
            .with_child(self.categories());
        let mut document = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        report.write_to(&mut document);
        document.push('\n');
        document
    }

    fn categories(&self) -> Element {
        const WITHOUT_PRODUCTS: [&str; 6] = [
            "anti-malware",
            "disk-backup",
            "disk-encryption",
            "firewall",
            "patch-management",
            "data-loss-prevention",
        ];
        let interfaces = self
            .interfaces
            .iter()
            .fold(Element::new("network-interface"), |list, interface| {
                list.with_child(interface.to_element())
            });
        let host = entry("host-info")
            .with_child(text("client-version", &self.client_version))
            .with_child(text("os", &self.os))
            .with_child(text("os-vendor", &self.os_vendor))
            .with_child(text("domain", ""))
            .with_child(text("host-name", &self.host_name))
            .with_child(text("host-id", &self.host_id))
            .with_child(interfaces);
        WITHOUT_PRODUCTS
            .into_iter()
            .fold(Element::new("categories").with_child(host), |list, name| {
                list.with_child(entry(name).with_child(Element::new("list")))
            })
    }
}

impl NetworkInterface {
    fn to_element(&self) -> Element {
        let mac = self.mac.map(|octets| {
            let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            octets.join("-")
        });
        let list = |name: &str, addresses: Vec<String>| {
            addresses.iter().fold(Element::new(name), |list, address| {
                list.with_child(entry(address))
            })
        };
        entry(&self.name)
            .with_child(text("description", &self.name))
            .with_child(text("mac-address", &mac.unwrap_or_default()))
            .with_child(list(
                "ip-address",
                self.ipv4.iter().map(ToString::to_string).collect(),
            ))
            .with_child(list(
                "ipv6-address",
                self.ipv6.iter().map(ToString::to_string).collect(),
            ))
    }
}

fn text(name: &str, text: &str) -> Element {
    Element::new(name).with_text(text)
}

fn entry(name: &str) -> Element {
    Element::new("entry").with_attribute("name", name)
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;

    use super::*;

    fn check(body: &str) -> Result<HipAnswer, Refusal> {
        parse_hip_check(&Response::new(200, "OK").with_body(body))
    }

    #[test]
    fn yes_and_no() {
        let answer = |text: &str| {
            check(&format!(
                "<response><hip-report-needed>{text}</hip-report-needed></response>"
            ))
        };
        assert_eq!(answer("yes"), Ok(HipAnswer::Needed));
        assert_eq!(answer(" no\n"), Ok(HipAnswer::NotNeeded));
        assert!(answer("maybe").is_err());
        assert!(check("<response/>").is_err());
    }

    #[test]
    fn the_report_is_a_document_that_escapes_its_values() {
        let report = HostReport {
            host_name: "a<b".into(),
            interfaces: vec![NetworkInterface {
                name: "eth0".into(),
                mac: Some([1, 2, 3, 4, 5, 0xaf]),
                ipv4: vec!["192.0.2.1".parse().unwrap()],
                ipv6: Vec::new(),
            }],
            ..HostReport::default()
        };
        let root = xml::parse(report.to_xml().as_bytes()).unwrap();
        assert_eq!(child_text(&root, "host-name"), "a<b");
        let categories: Vec<_> = root
            .child("categories")
            .unwrap()
            .elements()
            .filter_map(|entry| entry.attribute("name"))
            .collect();
        assert_eq!(categories.len(), 7);
        assert!(report.to_xml().contains("01-02-03-04-05-af"));
    }
}
