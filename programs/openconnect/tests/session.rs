//! The client's tunnel against the real ocserv: scripts, signals, background, users (needs root and
//! Debian's ocserv). That packets arrive is the business of `lab/tests`; here every test checks it
//! once, with a ping.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use culvert_lab::fixture::{INNER_SERVER_V4, SERVER_NAME};
use culvert_lab::net::SERVER_V4;
use culvert_lab::{PASSWORD, Process, USER, probe, process, wait};

use common::Lab;

impl Lab {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.client.command(env!("CARGO_BIN_EXE_openconnect"));
        command.arg("--resolve").arg(format!("{SERVER_NAME}:{SERVER_V4}"));
        command.arg("--cafile").arg(self.fixture.path("ca.pem"));
        command
            .args(["--user", USER, "--passwd-on-stdin"])
            .args(arguments);
        command.arg(format!("https://{SERVER_NAME}/"));
        command
    }

    fn start(&self, arguments: &[&str]) -> Process {
        Process::start(
            self.command(arguments),
            self.fixture.dir(),
            "client",
            Some(&format!("{PASSWORD}\n")),
        )
    }

    fn ping(&self) {
        probe::ping(&self.world.client, inner_server());
    }

    /// A script that notes its environment and then does what vpnc-script does.
    fn noting_script(&self, log: &str) -> String {
        let log = self.fixture.path(log);
        let body = format!(
            "{{ echo \"[$reason]\"; tr '\\0' '\\n' </proc/self/environ; }} >>{}\n. /usr/share/vpnc-scripts/vpnc-script",
            log.display()
        );
        self.fixture.write_script("script", &body).display().to_string()
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// Sections of a script log: reason and variables.
fn sections(path: PathBuf) -> Vec<(String, BTreeMap<String, String>)> {
    let mut sections: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        if let Some(reason) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push((reason.to_owned(), BTreeMap::new()));
        } else if let (Some((name, value)), Some((_, variables))) =
            (line.split_once('='), sections.last_mut())
        {
            variables
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
    sections
}

#[test]
fn script_is_called_with_the_whole_configuration() {
    let lab = Lab::new(&[
        ("route", "10.99.1.0/24"),
        ("route", "10.98.0.0/16"),
        ("no-route", "10.98.7.0/24"),
    ]);
    let script = lab.noting_script("reasons");
    let mut client = lab.start(&["--script", &script, "--interface", "tunlab"]);
    client.wait_for("Configured as 10.99.1.");
    lab.ping();
    client.signal("USR2");
    client.wait_for("User requested reconnect");
    wait::until("a reconnect", || {
        let reasons = sections(lab.fixture.path("reasons"));
        reasons
            .iter()
            .any(|(reason, _)| reason == "reconnect")
            .then_some(())
    });
    lab.ping();
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    let called = sections(lab.fixture.path("reasons"));
    let reasons: Vec<&str> = called.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "pre-init",
            "connect",
            "attempt-reconnect",
            "reconnect",
            "disconnect"
        ]
    );
    for (reason, variables) in &called {
        let value = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(value("VPNGATEWAY"), Some(SERVER_V4), "{reason}");
        assert_eq!(value("TUNDEV"), Some("tunlab"), "{reason}");
        assert_eq!(
            value("VPNPID"),
            Some(client.pid().to_string().as_str()),
            "{reason}"
        );
        assert_eq!(value("CISCO_DEF_DOMAIN"), Some("corp.test"), "{reason}");
        assert_eq!(value("CISCO_SPLIT_INC"), Some("2"), "{reason}");
        assert_eq!(value("CISCO_SPLIT_INC_0_ADDR"), Some("10.98.0.0"), "{reason}");
        assert_eq!(value("CISCO_SPLIT_EXC_0_MASK"), Some("255.255.255.0"), "{reason}");
        assert_eq!(value("INTERNAL_IP4_NETMASK"), Some("255.255.255.0"), "{reason}");
        assert_eq!(
            value("CISCO_BANNER"),
            Some("Welcome to the laboratory"),
            "{reason}"
        );
        assert!(value("INTERNAL_IP6_NETMASK").is_some(), "{reason}");
    }
    assert!(!lab.world.client.interfaces().contains(&"tunlab".to_owned()));
}

#[test]
fn failing_scripts_do_not_end_the_session() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&["--script", "exit 7"]);
    client.wait_for("Configured as");
    client.wait_for("Script 'exit 7' returned error 7");
    assert!(client.is_running());
    client.signal("TERM");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
}

#[test]
fn statistics_on_request() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&["-q", "--interface", "tunlab"]);
    wait::until("the device", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
    lab.ping();
    client.signal("USR1");
    client.wait_for("SSL ciphersuite: (TLS1.");
    let text = client.stdout();
    assert!(text.contains("Configured as 10.99.1."), "{text}");
    assert!(text.contains("RX: ") && !text.contains("RX: 0 packets"), "{text}");
    assert!(text.contains("DTLS ciphersuite: (DTLS1.2)-(PSK)-"), "{text}");
    assert!(client.is_running());
}

#[test]
fn background_and_pid_file() {
    let lab = Lab::new(&[]);
    let pid_file = lab.fixture.path("client.pid");
    let mut client = lab.start(&[
        "--background",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--interface",
        "tunlab",
    ]);
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(
        client
            .stdout()
            .contains(&format!("Continuing in background; pid {pid}\n")),
        "{}",
        client.output()
    );
    wait::until("the device", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
    lab.ping();
    process::kill(pid, "TERM");
    wait::until("the end of the child", || (!pid_file.exists()).then_some(()));
    wait::until("the device to vanish", || {
        (!lab.world.client.routes().contains("tunlab")).then_some(())
    });
    wait::until("the last message", || {
        client
            .stdout()
            .contains("User cancelled (SIGINT/SIGTERM); exiting.")
            .then_some(())
    });
}

#[test]
fn setuid_drops_all_privileges_and_the_network_is_restored() {
    let lab = Lab::new(&[]);
    let routes = lab.world.client.routes();
    let mut client = lab.start(&["--setuid", "nobody", "--interface", "tunlab"]);
    wait::until("the device", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
    lab.ping();
    let status = fs::read_to_string(format!("/proc/{}/status", client.pid())).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    client.signal("TERM");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert_eq!(lab.world.client.routes(), routes);
}

#[test]
fn packets_over_a_program() {
    let lab = Lab::new(&[]);
    // Answers nothing; notes what it is told and the first packets, and ends when told to.
    let log = lab.fixture.path("program");
    let stop = lab.fixture.path("stop");
    let script = format!(
        "env >{0}.env; (while [ ! -e {1} ]; do sleep 0.1; done; kill $$) & exec dd of={0} bs=2000 <&$VPNFD",
        log.display(),
        stop.display()
    );
    let mut client = lab.start(&["--script-tun", "--script", &script]);
    client.wait_for("Configured as");
    wait::until("the environment", || {
        fs::read_to_string(log.with_extension("env"))
            .is_ok_and(|env| env.contains("INTERNAL_IP4_MTU="))
            .then_some(())
    });
    let env = fs::read_to_string(log.with_extension("env")).unwrap();
    assert!(
        env.contains("VPNFD=") && !env.contains("TUNDEV=") && !env.contains("reason="),
        "{env}"
    );
    assert!(
        !lab.world
            .client
            .interfaces()
            .iter()
            .any(|name| name.starts_with("tun"))
    );
    let address = env
        .lines()
        .find_map(|line| line.strip_prefix("INTERNAL_IP4_ADDRESS="))
        .unwrap();
    let mut ping = Process::start(
        {
            let mut command = lab.world.server.command("ping");
            command.args(["-c", "2", "-W", "1", address]);
            command
        },
        lab.fixture.dir(),
        "ping",
        None,
    );
    ping.wait();
    wait::until("a packet at the program", || {
        fs::metadata(&log).is_ok_and(|file| file.len() > 0).then_some(())
    });
    fs::write(stop, "").unwrap();
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    assert!(
        client.stderr().contains("Unrecoverable I/O error; exiting."),
        "{}",
        client.output()
    );
}

#[test]
fn without_udp_and_with_options() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&[
        "--no-dtls",
        "--disable-ipv6",
        "--mtu",
        "1300",
        "--force-dpd",
        "7",
        "--interface",
        "tunlab",
    ]);
    client.wait_for("with SSL connected and DTLS disabled");
    assert!(
        client.stdout().contains("CSTP connected. DPD 7, Keepalive 300"),
        "{}",
        client.output()
    );
    wait::until("the device", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
    lab.ping();
    assert!(!lab.world.client.ip("-6 address show dev tunlab").contains("fd99"));
}

#[test]
fn the_servers_end_is_the_clients() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&["--interface", "tunlab"]);
    client.wait_for("Configured as");
    lab.ping();
    let (code, text) = lab.server.occtl(&["disconnect", "user", USER]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    assert!(
        client.stderr().contains("Session terminated by server; exiting."),
        "{}",
        client.output()
    );
}

#[test]
fn reconnecting_gives_up_in_time() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&["--reconnect-timeout", "0", "--interface", "tunlab"]);
    client.wait_for("Configured as");
    lab.ping();
    lab.server.process.signal("KILL");
    lab.world.server.nft("add table inet g; add chain inet g in { type filter hook input priority 0; }; add rule inet g in tcp dport 443 reject with tcp reset");
    client.signal("USR2");
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    assert!(
        client
            .stderr()
            .contains("Reconnect failed\nCSTP reconnect failed; exiting"),
        "{}",
        client.output()
    );
}

#[test]
fn options_of_the_transports() {
    // With two security modules ocserv 1.1.6 cannot continue a login on another connection.
    let lab = Lab::new(&[("sec-mod-scale", "1")]);
    let mut client = lab.start(&[
        "--dtls-local-port",
        "4567",
        "--passtos",
        "--queue-len",
        "100",
        "--tcp-keepalive=30",
        "--no-http-keepalive",
        "--no-xmlpost",
        "--no-external-auth",
        "--base-mtu",
        "1400",
        "--local-hostname",
        "laptop",
        "--os",
        "android",
        "--useragent",
        "Open AnyConnect VPN Agent v9.01",
        "--timestamp",
        "--interface",
        "tunlab",
    ]);
    client.wait_for("with SSL connected and DTLS connected");
    wait::until("the device", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
    lab.ping();
    let log = lab.server.log();
    for told in [
        "passed UDP socket from 192.0.2.2:4567",
        "User-agent: 'Open AnyConnect VPN Agent v9.01'",
        "peer's link MTU is 1400",
    ] {
        assert!(log.contains(told), "'{told}' is not in\n{log}");
    }
    // A connection for each of the three requests of the login, and one for CONNECT.
    let connections = client.stdout().matches("] SSL negotiation with").count();
    assert_eq!(connections, 4, "{}", client.output());
    assert!(
        client.stdout().lines().all(|line| !line.contains("XML POST")),
        "{}",
        client.output()
    );
    let mtu = lab.world.client.ip("link show dev tunlab");
    assert!(mtu.contains("mtu 1334 "), "{mtu}");
}

#[test]
fn without_privileges_there_is_no_device() {
    let lab = Lab::new(&[]);
    let mut command = lab.world.client.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_openconnect"));
    command.arg("--resolve").arg(format!("{SERVER_NAME}:{SERVER_V4}"));
    command.arg("--cafile").arg(lab.fixture.path("ca.pem"));
    command.args(["--user", USER, "--passwd-on-stdin"]);
    command.arg(format!("https://{SERVER_NAME}/"));
    let mut client = Process::start(
        command,
        lab.fixture.dir(),
        "client",
        Some(&format!("{PASSWORD}\n")),
    );
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    assert!(
        client
            .stderr()
            .contains("Failed to bind local tun device (TUNSETIFF): Operation not permitted"),
        "{}",
        client.output()
    );
    assert!(
        client
            .stdout()
            .contains("Send BYE packet: Set up tun device failed"),
        "{}",
        client.output()
    );
}

#[test]
fn long_device_names_are_refused() {
    let lab = Lab::new(&[]);
    let mut client = lab.start(&["--interface", "sixteencharacter"]);
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    assert!(
        client
            .stderr()
            .contains("Requested tun device name 'sixteencharacter' is too long"),
        "{}",
        client.output()
    );
}
