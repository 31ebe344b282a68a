//! A VPN client on the client host.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, PASSWORD, SERVER_NAME, USER};
use crate::net::{SERVER_V4, World};
use crate::process::{Finished, Process};
use crate::{Make, wait};

/// Name of the client's TUN device.
pub const DEVICE: &str = "tunlab";

/// Between two signals of the same kind.
const AGAIN: Duration = Duration::from_secs(5);

/// What may be different from the ordinary client.
#[derive(Debug, Clone)]
pub struct ClientOptions<'a> {
    /// Further command line arguments.
    pub arguments: &'a [&'a str],
    /// Use vpnc-script; otherwise our client configures the network itself.
    pub script: bool,
    /// User name.
    pub user: &'a str,
    /// What is written to standard input.
    pub input: &'a str,
    /// The server's address, which no DNS knows.
    pub address: &'a str,
    /// Base name of the log files.
    pub name: &'a str,
}

impl Default for ClientOptions<'_> {
    fn default() -> Self {
        Self {
            arguments: &[],
            script: true,
            user: USER,
            input: PASSWORD,
            address: SERVER_V4,
            name: "openconnect",
        }
    }
}

/// A running openconnect.
#[derive(Debug)]
pub struct Client {
    /// Its process.
    pub process: Process,
}

impl Client {
    /// Starts the ordinary client and waits until its TUN device carries packets.
    ///
    /// # Panics
    /// It does not come up.
    pub fn connect(make: Make, world: &World, fixture: &Fixture) -> Self {
        Self::connect_with(make, world, fixture, &ClientOptions::default())
    }

    /// Starts a client with other options and waits until its TUN device has an address.
    ///
    /// # Panics
    /// It does not come up.
    pub fn connect_with(make: Make, world: &World, fixture: &Fixture, options: &ClientOptions) -> Self {
        let mut client = Self::launch(make, world, fixture, options);
        client.process.wait_for("Configured as");
        wait::until(
            &format!("the client's device\n{}", client.process.output()),
            || {
                let up = world.client.interfaces().iter().any(|name| name == DEVICE)
                    && world.client.routes().contains("10.99.1.0/24 dev tunlab");
                up.then_some(())
            },
        );
        client
    }

    /// Starts a client without waiting.
    pub fn launch(make: Make, world: &World, fixture: &Fixture, options: &ClientOptions) -> Self {
        let command = Self::command(make, world, fixture, options);
        let input = format!("{}\n", options.input);
        Self {
            process: Process::start(command, fixture.dir(), options.name, Some(&input)),
        }
    }

    /// The command line of [`Self::launch`].
    pub fn command(make: Make, world: &World, fixture: &Fixture, options: &ClientOptions) -> Command {
        let mut command = world.client.command(make.program("openconnect"));
        command.arg("--cafile").arg(fixture.path("ca.pem"));
        command.args(["--user", options.user, "--passwd-on-stdin", "--interface", DEVICE]);
        if options.script {
            command.args(["--script", "/usr/share/vpnc-scripts/vpnc-script"]);
        }
        command
            .arg("--resolve")
            .arg(format!("{SERVER_NAME}:{}", options.address))
            .args(options.arguments)
            .arg(format!("https://{SERVER_NAME}/"));
        command
    }

    /// Runs a client to its end: a login without a tunnel, or one that fails.
    ///
    /// # Panics
    /// It does not end.
    pub fn run(make: Make, world: &World, fixture: &Fixture, options: &ClientOptions) -> Finished {
        Self::launch(make, world, fixture, options).process.finish()
    }

    /// A client's command line that says nothing but which address the server's name has and
    /// which device to make.
    pub fn bare(make: Make, world: &World, arguments: &[&str]) -> Command {
        let mut command = world.client.command(make.program("openconnect"));
        command
            .arg("--resolve")
            .arg(format!("{SERVER_NAME}:{SERVER_V4}"))
            .args(["--interface", DEVICE])
            .args(arguments)
            .arg(format!("https://{SERVER_NAME}/"));
        command
    }

    /// Sends this signal until `condition` holds: a client that is busy with an earlier one, or only on its
    /// way to what the signal is about, may not heed the first.
    ///
    /// # Panics
    /// It never does.
    pub fn signal_until(&self, signal: &str, what: &str, mut condition: impl FnMut() -> bool) {
        let mut next = Instant::now();
        wait::until(&format!("{what}\n{}", self.process.output()), || {
            if condition() {
                return Some(());
            }
            if Instant::now() >= next {
                self.process.signal(signal);
                next = Instant::now() + AGAIN;
            }
            None
        });
    }

    /// Inner IPv4 address of the client.
    ///
    /// # Panics
    /// The device has none.
    pub fn inner_v4(world: &World) -> IpAddr {
        inner(world, "inet ")
    }

    /// Inner global IPv6 address of the client.
    ///
    /// # Panics
    /// The device has none.
    pub fn inner_v6(world: &World) -> IpAddr {
        inner(world, "inet6 ")
    }
}

fn inner(world: &World, family: &str) -> IpAddr {
    let text = world
        .client
        .ip(&format!("-o address show dev {DEVICE} scope global"));
    let after = text
        .lines()
        .find_map(|line| line.split_once(family))
        .unwrap_or_else(|| panic!("no {family}: {text}"));
    let address = after.1.split(['/', ' ']).next().unwrap();
    address.parse().unwrap()
}
