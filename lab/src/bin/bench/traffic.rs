//! Transfers and pings.

use std::net::IpAddr;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use culvert_lab::net::Host;
use culvert_lab::{Fixture, Process, World};
use serde_json::Value;

use crate::cases::median;
use crate::disturbance::Disturbance;

/// Octets of the payload in the packet rate case.
const SMALL: &str = "200";

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Length of each transfer.
    pub(crate) seconds: u32,
    pub(crate) disturbance: Disturbance,
}

/// iperf3 between the hosts, towards one address.
pub(crate) struct Traffic<'a> {
    plan: &'a Plan,
    world: &'a World,
    address: String,
    seconds: String,
    _listener: Process,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(plan: &'a Plan, world: &'a World, fixture: &Fixture, address: IpAddr) -> Self {
        let mut command = world.server.command("iperf3");
        command.args(["--server", "--bind", &address.to_string(), "--forceflush"]);
        let mut listener = Process::start(command, fixture.dir(), "iperf3", None);
        listener.wait_for("Server listening");
        Self {
            plan,
            world,
            address: address.to_string(),
            seconds: plan.seconds.to_string(),
            _listener: listener,
        }
    }

    fn iperf3(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json", "--client", &self.address, "--time", &self.seconds];
        all.extend(arguments);
        // iperf3's server is busy for a moment after each test, and says so in the report.
        let mut problem = Value::Null;
        for _ in 0..5 {
            let report: Value = serde_json::from_str(&self.world.client.run("iperf3", &all)).unwrap();
            if report["error"].is_null() {
                return report;
            }
            problem = report["error"].clone();
            sleep(Duration::from_millis(300));
        }
        panic!("iperf3 {arguments:?}: {problem}");
    }

    /// Gbit/s that arrived, with the least disturbance.
    pub(crate) fn tcp(&self, arguments: &[&str]) -> f64 {
        self.plan.disturbance.least(|| self.tcp_once(arguments))
    }

    /// Gbit/s that arrived in one transfer.
    pub(crate) fn tcp_once(&self, arguments: &[&str]) -> f64 {
        let report = self.iperf3(arguments);
        report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .expect("iperf3's result")
            / 1e9
    }

    /// Small packets per second that arrived, sent as fast as the sender can.
    pub(crate) fn packets(&self) -> f64 {
        let arguments = ["--udp", "--bitrate", "0", "--length", SMALL];
        let report = self.plan.disturbance.least(|| self.iperf3(&arguments));
        let sum = &report["end"]["sum"];
        let field = |name: &str| sum[name].as_f64().expect("iperf3's result");
        (field("packets") - field("lost_packets")) / field("seconds")
    }

    /// Round trip in ms while one TCP stream fills the tunnel.
    pub(crate) fn ping_beside(&self, arguments: &[&str]) -> f64 {
        self.plan.disturbance.least(|| self.ping_beside_once(arguments))
    }

    fn ping_beside_once(&self, arguments: &[&str]) -> f64 {
        let mut command = self.world.client.command("iperf3");
        command.args(["--client", &self.address, "--time", &self.seconds]);
        command.args(arguments).stdout(Stdio::null());
        let mut load = command.spawn().unwrap();
        sleep(Duration::from_millis(500));
        let milliseconds = ping(&self.world.client, &self.address);
        load.wait().unwrap();
        // Its server is busy for a moment.
        sleep(Duration::from_millis(300));
        milliseconds
    }
}

/// Median round trip in ms. Not the average: on a virtual machine some pings wait for a core that
/// the host has taken away.
pub(crate) fn ping(from: &Host, to: &str) -> f64 {
    let text = from.run("ping", &["-n", "-c", "100", "-i", "0.01", to]);
    let times = text
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split_once(' ')?.0.parse().ok());
    median(times.collect()).expect("answered pings")
}
