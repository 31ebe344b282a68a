//! What is true of this host, for the gateway's check.

use std::fs;
use std::path::Path;

use culvert_globalprotect::client::{Gateway, HostReport, NetworkInterface};
use culvert_sys::interfaces::{self, InterfaceAddress};
use culvert_vocab::TunnelConfig;

use crate::identity::PROGRAM_VERSION;

/// The report of this host, now.
pub(super) fn report(gateway: &Gateway, config: &TunnelConfig) -> HostReport {
    HostReport {
        token: gateway.cookie.hip_token(),
        user: gateway.cookie.user(),
        host_name: gateway.client.computer.clone(),
        host_id: read("/etc/machine-id"),
        ipv4: config.ipv4.map(|ip| ip.address),
        ipv6: config.ipv6.map(|ip| ip.address),
        time: chrono::Local::now().format("%m/%d/%Y %H:%M:%S").to_string(),
        client_version: PROGRAM_VERSION.to_owned(),
        os: operating_system(),
        os_vendor: "Linux".to_owned(),
        interfaces: network(),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// Name and version of the distribution (os-release(5)), and the kernel's.
fn operating_system() -> String {
    let release = read("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned());
    let kernel = read("/proc/sys/kernel/osrelease");
    match name {
        Some(name) => format!("{name} ({kernel})"),
        None => format!("Linux {kernel}"),
    }
}

/// Interfaces with their addresses; the loopback interface is none.
fn network() -> Vec<NetworkInterface> {
    let mut found: Vec<NetworkInterface> = Vec::new();
    for InterfaceAddress { name, address, .. } in interfaces::addresses().unwrap_or_default() {
        if address.is_loopback() {
            continue;
        }
        let at = match found.iter().position(|interface| interface.name == name) {
            Some(at) => at,
            None => {
                found.push(NetworkInterface {
                    mac: mac(&name),
                    name,
                    ..NetworkInterface::default()
                });
                found.len() - 1
            }
        };
        if let Some(interface) = found.get_mut(at) {
            match address {
                std::net::IpAddr::V4(ip) => interface.ipv4.push(ip),
                std::net::IpAddr::V6(ip) => interface.ipv6.push(ip),
            }
        }
    }
    found
}

fn mac(interface: &str) -> Option<[u8; 6]> {
    let text = read(Path::new("/sys/class/net").join(interface).join("address"));
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    octets?.try_into().ok()
}
