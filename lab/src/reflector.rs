//! A client whose device is a program that answers pings to any address: a network of its own
//! behind it, without a second host.

use std::net::IpAddr;
use std::path::Path;

use crate::Make;
use crate::client::{Client, ClientOptions};
use crate::fixture::Fixture;
use crate::net::World;
use crate::process::Process;

/// A connected client that answers all pings.
#[derive(Debug)]
pub struct Reflector {
    /// Its process.
    pub process: Process,
    /// Its inner IPv4 address.
    pub address: IpAddr,
}

impl Reflector {
    /// Connects as `user`; `program` is the laboratory's `reflect`.
    ///
    /// # Panics
    /// It does not come up.
    pub fn connect(world: &World, fixture: &Fixture, program: &Path, user: &str) -> Self {
        let script = fixture.write_script("reflect", &format!("exec {} <&$VPNFD", program.display()));
        let script = script.display().to_string();
        let options = ClientOptions {
            arguments: &["--script-tun", "--script", &script],
            script: false,
            user,
            name: "reflector",
            ..ClientOptions::default()
        };
        let mut process = Client::launch(Make::Culvert, world, fixture, &options).process;
        process.wait_for("Configured as");
        let text = process.stdout();
        let address = text
            .lines()
            .find_map(|line| line.split_once("Configured as ")?.1.split([',', ' ']).next())
            .unwrap_or_else(|| panic!("no address: {text}"));
        let address = address.parse().unwrap();
        Self { process, address }
    }
}
