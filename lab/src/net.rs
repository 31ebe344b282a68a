//! Hosts (network namespaces) and the wire between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::run;
use crate::wait;

/// Outer address of the client host.
pub const CLIENT_V4: &str = "192.0.2.2";
/// Outer address of the server host.
pub const SERVER_V4: &str = "192.0.2.1";
/// An address outside the networks of the server host's interfaces, whose addresses are never banned.
pub const STRANGER_V4: &str = "198.51.100.2";
/// Outer IPv6 address of the client host.
pub const CLIENT_V6: &str = "2001:db8::2";
/// Outer IPv6 address of the server host.
pub const SERVER_V6: &str = "2001:db8::1";

/// One host: a network namespace with its own resolver configuration.
#[derive(Debug)]
pub struct Host {
    name: String,
}

impl Host {
    pub(crate) fn new(name: String) -> Self {
        run("ip", &["netns", "add", &name]);
        let host = Self { name };
        // `ip netns exec` mounts this over /etc/resolv.conf, so that nothing touches the real one.
        fs::create_dir_all(host.etc()).unwrap();
        fs::write(host.resolv_conf(), "nameserver 192.0.2.53\n").unwrap();
        host.ip("link set lo up");
        host
    }

    /// Name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// The resolver configuration that programs on this host see.
    pub fn resolv_conf(&self) -> PathBuf {
        self.etc().join("resolv.conf")
    }

    /// Gives programs on this host another file in `/etc`; one of that name must exist on the
    /// machine. A folder takes the place of the whole folder there.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_etc(&self, name: &str, content: &str) {
        let path = self.etc().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A command that runs `program` on this host.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Pings with this many octets of data, which nobody may cut, until one is answered.
    ///
    /// # Panics
    /// None is answered in time.
    pub fn ping_uncut(&self, size: u16, to: &str) {
        let size = size.to_string();
        wait::until(&format!("an answer to a ping of {size} octets"), || {
            let mut command = self.command("ping");
            command.args(["-n", "-M", "do", "-c", "1", "-W", "1", "-s", &size, to]);
            command.output().unwrap().status.success().then_some(())
        });
    }

    /// Runs a program on this host and gives its output.
    ///
    /// # Panics
    /// It fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend(arguments);
        run("ip", &all)
    }

    /// Runs `ip` with these blank-separated arguments on this host.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_ascii_whitespace());
        run("ip", &all)
    }

    /// Applies nftables rules on this host.
    ///
    /// # Panics
    /// They are wrong, or nftables is missing.
    pub fn nft(&self, rules: &str) {
        self.run("nft", &[rules]);
    }

    /// Names of the interfaces of this host.
    pub fn interfaces(&self) -> Vec<String> {
        let text = self.ip("-o link show");
        let name = |line: &str| {
            line.split(": ")
                .nth(1)
                .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        };
        text.lines().filter_map(name).collect()
    }

    /// All routes, both families, as text.
    pub fn routes(&self) -> String {
        self.ip("-4 route show") + &self.ip("-6 route show")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "delete", &self.name]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} could not be deleted", self.name);
        }
        if let Err(error) = fs::remove_dir_all(self.etc()) {
            eprintln!("{}: {error}", self.etc().display());
        }
    }
}

/// Two hosts with a wire between them, IPv4 and IPv6 configured.
#[derive(Debug)]
pub struct World {
    /// Where clients run.
    pub client: Host,
    /// Where the server runs.
    pub server: Host,
}

impl World {
    /// Makes the two hosts and the wire.
    ///
    /// # Panics
    /// Not root, or iproute2 is missing.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "cv{}x{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let world = Self {
            client: Host::new(format!("{id}c")),
            server: Host::new(format!("{id}s")),
        };
        run(
            "ip",
            &[
                "link",
                "add",
                "eth0",
                "netns",
                world.client.name(),
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                world.server.name(),
            ],
        );
        for (host, v4, v6) in [
            (&world.client, CLIENT_V4, CLIENT_V6),
            (&world.server, SERVER_V4, SERVER_V6),
        ] {
            host.ip(&format!("address add {v4}/24 dev eth0"));
            host.ip(&format!("address add {v6}/64 dev eth0 nodad"));
            host.ip("link set eth0 up");
        }
        // Routes are shown as `linkdown` until both ends are there.
        for host in [&world.client, &world.server] {
            wait::until("the wire", || {
                host.ip("-o link show eth0").contains("state UP").then_some(())
            });
        }
        world
    }

    /// Loses all UDP packets of the VPN port, both ways. They are dropped where they arrive: a
    /// packet dropped where it is sent would be an error for its sender.
    pub fn block_udp(&self) {
        for (host, port) in [(&self.server, "dport"), (&self.client, "sport")] {
            host.nft(&format!(
                "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
                 add rule inet lab in udp {port} 443 drop"
            ));
        }
    }

    /// Loses this percentage of the UDP packets of the VPN port, both ways.
    pub fn lose_udp(&self, percent: u32) {
        self.drop_udp(&format!("numgen random mod 100 < {percent}"));
    }

    /// Loses every third UDP packet of the VPN port, either way.
    pub fn lose_every_third_udp(&self) {
        self.drop_udp("numgen inc mod 3 == 2");
    }

    fn drop_udp(&self, which: &str) {
        for (host, port) in [(&self.server, "dport"), (&self.client, "sport")] {
            host.nft(&format!(
                "add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; \
                 add rule inet lab in udp {port} 443 {which} drop"
            ));
        }
    }

    /// Lifts [`Self::block_udp`], [`Self::lose_udp`] and [`Self::lose_every_third_udp`].
    pub fn unblock_udp(&self) {
        for host in [&self.server, &self.client] {
            host.nft("delete table inet lab");
        }
    }

    /// Makes the wire one without segmentation and receive offload: every packet for itself.
    pub fn switch_offload_off(&self) {
        for host in [&self.client, &self.server] {
            host.run(
                "ethtool",
                &["-K", "eth0", "tso", "off", "gso", "off", "gro", "off"],
            );
        }
    }

    /// Gives the client host [`STRANGER_V4`] for what it says from now on.
    pub fn move_away(&self) {
        self.client.ip(&format!("address add {STRANGER_V4}/32 dev eth0"));
        self.client
            .ip(&format!("route change 192.0.2.0/24 dev eth0 src {STRANGER_V4}"));
        self.server.ip(&format!("route add {STRANGER_V4}/32 dev eth0"));
    }

    /// Gives the client host another outer IPv4 address, as after a change of network.
    pub fn roam(&self, address: &str) {
        self.client.ip(&format!("address delete {CLIENT_V4}/24 dev eth0"));
        self.client.ip(&format!("address add {address}/24 dev eth0"));
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
