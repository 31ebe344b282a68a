//! Two hosts with a link between them, and programs that run there.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use culvert_sys::process::CommandExt;
use culvert_tunnel::Role;

use crate::{FAR, NEAR, NOTICE, ROLE};

/// Two hosts.
pub(crate) struct World {
    spaces: [String; 2],
}

impl World {
    pub(crate) fn new() -> Self {
        let id = std::process::id();
        let spaces = [format!("Dt{id}c"), format!("Dt{id}s")];
        let world = Self { spaces };
        let [near, far] = &world.spaces;
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        ip(&[
            "-n", near, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", far,
        ]);
        for (space, address) in [(near, NEAR), (far, FAR)] {
            ip(&[
                "-n",
                space,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                "veth0",
            ]);
            ip(&["-n", space, "link", "set", "veth0", "up"]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
        }
        world
    }

    /// The MTU of the path, as each end knows it; `None` for that of the link.
    pub(crate) fn set_path_mtu(&self, mtu: Option<u16>) {
        for (space, peer) in self.spaces.iter().zip([FAR, NEAR]) {
            let peer = peer.to_string();
            let route = ["-n", space, "route"];
            match mtu {
                Some(mtu) => {
                    let mtu = mtu.to_string();
                    ip(&[&route[..], &["add", &peer, "dev", "veth0", "mtu", &mtu]].concat());
                }
                None => ip(&[&route[..], &["del", &peer]].concat()),
            }
        }
    }

    /// A counter of the kernel in a namespace: the client's or the server's.
    pub(crate) fn counter(&self, side: Role, protocol: &str, name: &str) -> u64 {
        let space = &self.spaces[usize::from(side == Role::Server)];
        let output = Command::new("ip")
            .args(["netns", "exec", space, "cat", "/proc/net/snmp"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let prefix = format!("{protocol}: ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// Starts this program in a role inside a namespace: the client's or the server's.
    pub(crate) fn start(&self, side: Role, role: &str, arguments: &[&str]) -> Process {
        let space = &self.spaces[usize::from(side == Role::Server)];
        let child = Command::new("ip")
            .args(["netns", "exec", space])
            .arg(std::env::current_exe().unwrap())
            .args(arguments)
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .parent_death_signal(culvert_sys::signal::SIGKILL)
            .spawn()
            .expect("iproute2 is needed: apt-get install iproute2");
        Process::new(child)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for space in &self.spaces {
            // At least try the other one, also while panicking.
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("iproute2 is needed: apt-get install iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

/// This program in a role.
pub(crate) struct Process {
    pub(crate) child: Child,
    output: BufReader<std::process::ChildStdout>,
    /// Notices that came before what was expected.
    noticed: String,
}

impl Process {
    pub(crate) fn new(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            output,
            noticed: String::new(),
        }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn expect(&mut self, text: &str) {
        let mut line = self.line();
        while line.starts_with(NOTICE) {
            self.noticed.push_str(&line);
            self.noticed.push('\n');
            line = self.line();
        }
        assert_eq!(line, text);
    }

    /// Ends it; everything that it has not been asked for.
    pub(crate) fn all_said(mut self) -> String {
        self.child.kill().unwrap();
        let mut said = std::mem::take(&mut self.noticed);
        self.output.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
