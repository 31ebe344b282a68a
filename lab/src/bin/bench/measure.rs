//! The cases: what is run, and how each number is obtained.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::net::{Host, SERVER_V4};
use culvert_lab::process::{Process, children};
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, World};
use serde_json::Value;

/// Serial logins per measurement.
const LOGINS: u32 = 20;
/// Octets of the payload in the packet rate case.
const SMALL: &str = "200";

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Length of each transfer.
    pub(crate) seconds: u32,
}

/// What is measured; the order is that of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    DtlsUp,
    DtlsDown,
    DtlsFourUp,
    DtlsFourDown,
    TlsUp,
    TlsDown,
    PacketsUp,
    ClientCpuUp,
    ServerCpuUp,
    ClientCpuDown,
    ServerCpuDown,
    Ping,
    PingLoaded,
    ClientMemory,
    ServerMemory,
    Logins,
}

/// Every measured value of one side.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<Case, Vec<f64>>);

impl Results {
    fn add(&mut self, case: Case, value: f64) {
        self.0.entry(case).or_default().push(value);
    }

    pub(crate) fn median(&self, case: Case) -> Option<f64> {
        let mut values = self.0.get(&case)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Some(if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        })
    }
}

/// The two hosts without a VPN: the upper bound.
pub(crate) fn bare_wire(plan: &Plan, results: &mut Results) {
    let world = World::new();
    let fixture = Fixture::new();
    let traffic = Traffic::new(plan, &world, &fixture, SERVER_V4.parse().unwrap());
    results.add(Case::DtlsUp, traffic.tcp(&[]));
    results.add(Case::DtlsDown, traffic.tcp(&["-R"]));
    results.add(Case::DtlsFourUp, traffic.tcp(&["-P", "4"]));
    results.add(Case::DtlsFourDown, traffic.tcp(&["-P", "4", "-R"]));
    results.add(Case::PacketsUp, traffic.packets());
    results.add(Case::Ping, ping(&world.client, SERVER_V4));
}

/// One pair of programs, from login to the end, over DTLS and over TLS alone.
pub(crate) fn pair(plan: &Plan, make: Make, results: &mut Results) {
    let world = World::new();
    let fixture = Fixture::new();
    let server = Server::start(make, &world, &fixture);
    let address: IpAddr = INNER_SERVER_V4.parse().unwrap();
    {
        let mut client = Client::connect(make, &world, &fixture);
        client.process.wait_for("Established DTLS connection");
        results.add(Case::Ping, ping(&world.client, INNER_SERVER_V4));
        results.add(Case::ClientMemory, pss(client.process.pid()) / 1e3);
        let workers = server.workers();
        results.add(
            Case::ServerMemory,
            workers.iter().map(|pid| pss(*pid)).sum::<f64>() / 1e3,
        );

        let traffic = Traffic::new(plan, &world, &fixture, address);
        let cpu = |process: &Process| tree_cpu(process.pid());
        let measured = |arguments: &[&str]| {
            let before = (cpu(&client.process), cpu(&server.process));
            let gbit = traffic.tcp(arguments);
            let transferred = gbit * f64::from(plan.seconds);
            let client = (cpu(&client.process) - before.0) / transferred;
            (gbit, client, (cpu(&server.process) - before.1) / transferred)
        };
        let (gbit, client_cpu, server_cpu) = measured(&[]);
        results.add(Case::DtlsUp, gbit);
        results.add(Case::ClientCpuUp, client_cpu);
        results.add(Case::ServerCpuUp, server_cpu);
        let (gbit, client_cpu, server_cpu) = measured(&["-R"]);
        results.add(Case::DtlsDown, gbit);
        results.add(Case::ClientCpuDown, client_cpu);
        results.add(Case::ServerCpuDown, server_cpu);
        results.add(Case::DtlsFourUp, traffic.tcp(&["-P", "4"]));
        results.add(Case::DtlsFourDown, traffic.tcp(&["-P", "4", "-R"]));
        results.add(Case::PacketsUp, traffic.packets());
        results.add(Case::PingLoaded, traffic.ping_under_load());
        client.process.signal("INT");
        client.process.wait();
    }
    {
        let options = ClientOptions {
            arguments: &["--no-dtls"],
            ..ClientOptions::default()
        };
        let _client = Client::connect_with(make, &world, &fixture, &options);
        let traffic = Traffic::new(plan, &world, &fixture, address);
        results.add(Case::TlsUp, traffic.tcp(&[]));
        results.add(Case::TlsDown, traffic.tcp(&["-R"]));
    }
    results.add(Case::Logins, logins(make, &world, &fixture));
}

/// iperf3 between the hosts, towards one address.
struct Traffic<'a> {
    world: &'a World,
    address: String,
    seconds: String,
    _listener: Process,
}

impl<'a> Traffic<'a> {
    fn new(plan: &Plan, world: &'a World, fixture: &Fixture, address: IpAddr) -> Self {
        let mut command = world.server.command("iperf3");
        command.args(["--server", "--bind", &address.to_string(), "--forceflush"]);
        let mut listener = Process::start(command, fixture.dir(), "iperf3", None);
        listener.wait_for("Server listening");
        Self {
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
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        panic!("iperf3 {arguments:?}: {problem}");
    }

    /// Gbit/s that arrived.
    fn tcp(&self, arguments: &[&str]) -> f64 {
        let report = self.iperf3(arguments);
        report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .expect("iperf3's result")
            / 1e9
    }

    /// Small packets per second that arrived, sent as fast as the sender can.
    fn packets(&self) -> f64 {
        let report = self.iperf3(&["--udp", "--bitrate", "0", "--length", SMALL]);
        let sum = &report["end"]["sum"];
        let field = |name: &str| sum[name].as_f64().expect("iperf3's result");
        (field("packets") - field("lost_packets")) / field("seconds")
    }

    /// Round trip in ms while one TCP stream fills the tunnel.
    fn ping_under_load(&self) -> f64 {
        let mut command = self.world.client.command("iperf3");
        command.args(["--client", &self.address, "--time", &self.seconds]);
        let mut load = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let milliseconds = ping(&self.world.client, &self.address);
        load.wait().unwrap();
        milliseconds
    }
}

/// Average round trip in ms.
fn ping(from: &Host, to: &str) -> f64 {
    let text = from.run("ping", &["-n", "-q", "-c", "100", "-i", "0.01", to]);
    let averages = text
        .lines()
        .find(|line| line.starts_with("rtt"))
        .expect("ping's summary");
    averages
        .split('/')
        .nth(4)
        .and_then(|text| text.parse().ok())
        .expect("ping's average")
}

/// CPU seconds of a process and all its descendants.
fn tree_cpu(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_ascii_whitespace().collect());
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND + children(pid).into_iter().map(tree_cpu).sum::<f64>()
}

/// Proportional set size in kB.
fn pss(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .expect("a Pss line");
    line.split_ascii_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

/// Serial logins per second, each with a program start, a full handshake and a password.
fn logins(make: Make, world: &World, fixture: &Fixture) -> f64 {
    let begin = Instant::now();
    for _ in 0..LOGINS {
        let options = ClientOptions {
            arguments: &["--cookieonly"],
            name: "login",
            ..ClientOptions::default()
        };
        let mut client = Client::launch(make, world, fixture, &options);
        let code = client.process.exit_code_soon();
        assert_eq!(code, 0, "{}", client.process.output());
    }
    f64::from(LOGINS) / begin.elapsed().as_secs_f64()
}
