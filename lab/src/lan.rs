//! A host behind the server, which forwards to it.

use crate::net::{Host, World};
use crate::process::{Process, run};
use crate::{Fixture, wait};

/// Networks behind the server; the host there is `.2` and `::2`, the server `.1` and `::1`.
pub const NETWORKS: [&str; 2] = ["10.20.0.0/24", "fd20::/64"];
/// More of them.
pub const OTHER_NETWORKS: [&str; 2] = ["10.30.0.0/24", "fd30::/64"];

/// A host with addresses in all networks and a TCP service on each of some ports.
#[derive(Debug)]
pub struct Lan {
    _services: Vec<Process>,
    /// The host.
    pub host: Host,
}

impl Lan {
    /// Makes the host, its wire to the server, and the services.
    ///
    /// # Panics
    /// Not root, or a tool is missing.
    pub fn new(world: &World, fixture: &Fixture, ports: &[u16]) -> Self {
        let host = Host::new(world.server.name().replace('s', "l"));
        let (near, far) = (world.server.name(), host.name());
        run(
            "ip",
            &[
                "link", "add", "lan0", "netns", near, "type", "veth", "peer", "name", "eth0", "netns", far,
            ],
        );
        for prefix in ["10.20.0.", "10.30.0.", "fd20::", "fd30::"] {
            let (length, nodad) = if prefix.contains(':') {
                ("64", "nodad")
            } else {
                ("24", "")
            };
            world
                .server
                .ip(&format!("address add {prefix}1/{length} dev lan0 {nodad}"));
            host.ip(&format!("address add {prefix}2/{length} dev eth0 {nodad}"));
        }
        world.server.ip("link set lan0 up");
        host.ip("link set eth0 up");
        host.ip("route add default via 10.20.0.1");
        host.ip("-6 route add default via fd20::1");
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            world.server.run("sysctl", &["-q", "-w", &format!("{name}=1")]);
        }
        let service = |(family, port): (&str, &u16)| {
            let mut command = host.command("openssl");
            command
                .args([
                    "s_server",
                    "-quiet",
                    family,
                    "-accept",
                    &port.to_string(),
                    "-cert",
                ])
                .arg(fixture.path("server-cert.pem"))
                .arg("-key")
                .arg(fixture.path("server-key.pem"));
            Process::start(command, fixture.dir(), &format!("service{family}-{port}"), None)
        };
        let both = |port| [("-4", port), ("-6", port)];
        let services: Vec<Process> = ports.iter().flat_map(both).map(service).collect();
        for port in ports {
            for address in ["127.0.0.1", "::1"] {
                wait::until("a service", || connects(&host, address, *port).then_some(()));
            }
        }
        Self {
            _services: services,
            host,
        }
    }
}

/// True when a TCP connection from `from` to this address is accepted within a second.
pub fn connects(from: &Host, address: &str, port: u16) -> bool {
    let mut command = from.command("timeout");
    command.args(["1", "bash", "-c", &format!("exec 3<>/dev/tcp/{address}/{port}")]);
    command.output().is_ok_and(|output| output.status.success())
}
