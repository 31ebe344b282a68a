//! The host's network is changed and restored exactly: in a network namespace of its own, with
//! the `ip` program as witness. Needs root and iproute2, and fails without them.
//!
//! Not a libtest harness: the guard process is this program started again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use culvert_netcfg::journal::{Change, Record};
use culvert_netcfg::{Paths, configure, guard, repair};
use culvert_vocab::{AddressV4, AddressV6, Mtu, TunnelConfig};

const TUN: &str = "tun9";
/// The device of a second client.
const SECOND: &str = "tun8";
const GATEWAY: &str = "203.0.113.9";
const RESOLV_CONF: &str = "# host\nsearch home.lan\nnameserver 192.0.2.53\n";

fn main() -> ExitCode {
    if let Some(code) = guard::run_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--inside") => inside(Path::new(&arguments[2])),
        Some("--repair") => assert_eq!(repair(&paths(Path::new(&arguments[2])).state_dir).0.len(), 0),
        Some("--hold") => hold(Path::new(&arguments[2])),
        _ => outside(),
    }
    ExitCode::SUCCESS
}

/// Runs the checks in a fresh namespace and removes it.
fn outside() {
    let name = format!("netcfg-{}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    run("ip", &["netns", "add", &name]);
    let myself = std::env::current_exe().unwrap();
    let status = Command::new("ip")
        .args(["netns", "exec", &name])
        .arg(myself)
        .arg("--inside")
        .arg(dir.path())
        .status()
        .expect("ip netns exec");
    run("ip", &["netns", "delete", &name]);
    assert!(status.success(), "the checks inside the namespace failed");
    println!("test result: ok. 10 passed; 0 failed");
}

fn paths(dir: &Path) -> Paths {
    Paths {
        state_dir: dir.join("state"),
        resolv_conf: dir.join("resolv.conf"),
        nsswitch: dir.join("nsswitch.conf"),
    }
}

fn config() -> TunnelConfig {
    let mut config = TunnelConfig::new(Mtu::new(1380).unwrap());
    config.ipv4 = Some(AddressV4 {
        address: "10.9.0.7".parse().unwrap(),
        netmask: "255.255.255.0".parse().ok(),
    });
    config.ipv6 = Some(AddressV6 {
        address: "fd09::7".parse().unwrap(),
        prefix_len: 64,
    });
    // The gateway itself, and one network twice: nothing of it may stay behind.
    let excludes = ["192.0.2.0/24", "203.0.113.9/32", "192.0.2.0/24"];
    config.excludes = excludes.iter().map(|net| net.parse().unwrap()).collect();
    config.dns = vec!["10.9.0.1".parse().unwrap()];
    config.search_domains = vec!["corp.example".to_owned()];
    config
}

fn inside(dir: &Path) {
    for arguments in [
        "link set lo up",
        "link add eth9 type veth peer name eth8",
        "link set eth8 up",
        "address add 198.51.100.2/24 dev eth9",
        "link set eth9 up",
        "route add default via 198.51.100.1",
    ] {
        run("ip", &arguments.split(' ').collect::<Vec<_>>());
    }
    fs::write(dir.join("resolv.conf"), RESOLV_CONF).unwrap();
    fs::write(dir.join("nsswitch.conf"), "hosts: files dns\n").unwrap();

    applied_and_undone(dir);
    reachable_after_the_route_was_lost(dir);
    reachable_after_a_change_of_network(dir);
    ipv6_does_not_leak(dir);
    undone_by_the_guard_after_kill(dir);
    repaired_after_the_guard_was_killed_too(dir);
    undone_without_the_guard(dir);
    everything_is_renewed(dir);
    two_clients_do_not_take_from_each_other(dir);
    hosts_without_ipv6(dir);
}

/// All routes, as text; the state to which everything must return. The kernel's own for link-local
/// addresses come when they like.
fn routes() -> String {
    let all = output("ip", &["-4", "route", "show"]) + &output("ip", &["-6", "route", "show"]);
    let lines = all.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("fe80::")).collect()
}

fn make_tun() {
    make_device(TUN);
}

fn make_device(name: &str) {
    run("ip", &["tuntap", "add", "dev", name, "mode", "tun"]);
}

fn remove_tun() {
    remove_device(TUN);
}

fn remove_device(name: &str) {
    run("ip", &["tuntap", "del", "dev", name, "mode", "tun"]);
}

fn applied_and_undone(dir: &Path) {
    let before = routes();
    make_tun();
    let gateway: IpAddr = GATEWAY.parse().unwrap();
    let configured = configure(&paths(dir), TUN, gateway, &config()).unwrap();
    assert_eq!(configured.warnings(), [] as [&str; 0]);

    assert!(output("ip", &["link", "show", TUN]).contains("mtu 1380"));
    let addresses = output("ip", &["address", "show", TUN]);
    assert!(
        addresses.contains("inet 10.9.0.7/32") && addresses.contains("inet6 fd09::7/64"),
        "{addresses}"
    );
    assert!(route_to(GATEWAY).contains("via 198.51.100.1 dev eth9"));
    assert!(route_to("192.0.2.77").contains("via 198.51.100.1 dev eth9"));
    // The default route without metric stays; two halves of everything go into the tunnel.
    assert!(routes().contains("default via 198.51.100.1 dev eth9"));
    for inner in ["10.9.0.99", "8.8.8.8", "200.1.1.1", "2001:db8::1"] {
        assert!(route_to(inner).contains(&format!("dev {TUN}")), "{inner}");
    }
    let resolv = fs::read_to_string(dir.join("resolv.conf")).unwrap();
    assert!(
        resolv.contains("nameserver 10.9.0.1\nsearch home.lan corp.example"),
        "{resolv}"
    );

    configured.undo();
    remove_tun();
    restored(dir, &before);
}

fn reachable_after_the_route_was_lost(dir: &Path) {
    let before = routes();
    make_tun();
    let gateway: IpAddr = GATEWAY.parse().unwrap();
    let mut configured = configure(&paths(dir), TUN, gateway, &config()).unwrap();
    let moved = "203.0.113.10";
    assert!(route_to(moved).contains(TUN));
    run("ip", &["route", "flush", "dev", TUN]);
    configured.keep_gateway_reachable(moved.parse().unwrap()).unwrap();
    assert!(output("ip", &["route", "show", moved]).contains("via 198.51.100.1 dev eth9"));
    configured.undo();
    remove_tun();
    restored(dir, &before);
}

/// The host's default route moves to another device, and back: the route to the gateway follows,
/// although everything is routed into the tunnel meanwhile.
fn reachable_after_a_change_of_network(dir: &Path) {
    for arguments in [
        "link add eth7 type veth peer name eth6",
        "link set eth6 up",
        "address add 198.18.0.2/24 dev eth7",
        "link set eth7 up",
    ] {
        run("ip", &arguments.split(' ').collect::<Vec<_>>());
    }
    let before = routes();
    make_tun();
    let gateway: IpAddr = GATEWAY.parse().unwrap();
    let mut configured = configure(&paths(dir), TUN, gateway, &config()).unwrap();
    for (via, device) in [("198.18.0.1", "eth7"), ("198.51.100.1", "eth9")] {
        run("ip", &["route", "replace", "default", "via", via, "dev", device]);
        configured.keep_gateway_reachable(gateway).unwrap();
        let hosts = output("ip", &["route", "show", GATEWAY]);
        assert!(
            hosts.lines().count() == 1 && hosts.contains(&format!("via {via} dev {device}")),
            "{hosts}"
        );
        assert!(route_to(GATEWAY).contains(device));
        // Once more changes nothing.
        configured.keep_gateway_reachable(gateway).unwrap();
        assert_eq!(output("ip", &["route", "show", GATEWAY]), hosts);
    }
    configured.undo();
    remove_tun();
    restored(dir, &before);
    run("ip", &["link", "delete", "eth7"]);
}

/// A tunnel for all of IPv4 and nothing of IPv6: nothing passes it by.
fn ipv6_does_not_leak(dir: &Path) {
    run(
        "ip",
        &["address", "add", "2001:db8:9::2/64", "dev", "eth9", "nodad"],
    );
    run("ip", &["route", "add", "default", "via", "2001:db8:9::1"]);
    let before = routes();
    let leaks = || {
        let found = Command::new("ip")
            .args(["route", "get", "2001:db8:ffff::1"])
            .output();
        found.unwrap().status.success()
    };
    assert!(leaks());
    make_tun();
    let mut config = config();
    config.ipv6 = None;
    let configured = configure(&paths(dir), TUN, GATEWAY.parse().unwrap(), &config).unwrap();
    assert!(!leaks());
    // The link itself is no way out.
    assert!(route_to("2001:db8:9::77").contains("dev eth9"));
    configured.undo();
    remove_tun();
    restored(dir, &before);
    assert!(leaks());
}

fn hold(dir: &Path) {
    let mut config = config();
    // As in `ipv6_does_not_leak`.
    config.ipv6 = config.ipv6.filter(|_| !dir.join("no-ipv6").exists());
    let _configured = configure(&paths(dir), TUN, GATEWAY.parse().unwrap(), &config).unwrap();
    println!("ready");
    loop {
        sleep(Duration::from_secs(60));
    }
}

/// Starts a process that holds a configuration, waits until it has it, and kills it.
fn hold_and_kill(dir: &Path, before_kill: impl FnOnce(&Path)) {
    use std::io::{BufRead, BufReader};
    let mut child = Command::new("/proc/self/exe")
        .arg("--hold")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    assert!(route_to(GATEWAY).contains("eth9") && routes().contains(GATEWAY));
    before_kill(&journal(dir));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn journal(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(paths(dir).state_dir).unwrap();
    entries.next().expect("a journal").unwrap().path()
}

fn undone_by_the_guard_after_kill(dir: &Path) {
    let before = routes();
    make_tun();
    hold_and_kill(dir, |_| {});
    remove_tun();
    wait_for("the guard did not finish", || {
        fs::read_dir(paths(dir).state_dir).unwrap().next().is_none()
    });
    restored(dir, &before);
}

fn repaired_after_the_guard_was_killed_too(dir: &Path) {
    let before = routes();
    make_tun();
    hold_and_kill(dir, kill_guard_of);
    remove_tun();
    assert!(routes() != before);
    // A client in another network namespace has nothing to do with it.
    let before_repair = routes();
    let myself = std::env::current_exe().unwrap().display().to_string();
    let dir_text = dir.display().to_string();
    run("unshare", &["--net", &myself, "--repair", &dir_text]);
    assert_eq!(routes(), before_repair);
    let (repaired, failures) = repair(&paths(dir).state_dir);
    assert_eq!((repaired.len(), failures), (1, Vec::new()));
    restored(dir, &before);
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20));
    }
}

fn undone_without_the_guard(dir: &Path) {
    let before = routes();
    make_tun();
    let configured = configure(&paths(dir), TUN, GATEWAY.parse().unwrap(), &config()).unwrap();
    kill_guard_of(&journal(dir));
    configured.undo();
    remove_tun();
    restored(dir, &before);
}

/// Another program has changed the host's network, and the server its configuration: all is as it
/// has to be after the next reconnect, and what the other program did is what comes back.
fn everything_is_renewed(dir: &Path) {
    let before = routes();
    make_tun();
    let gateway: IpAddr = GATEWAY.parse().unwrap();
    let mut config = config();
    config.includes = ["10.20.0.0/16", "10.30.0.0/16", "0.0.0.0/0", "::/0"]
        .iter()
        .map(|net| net.parse().unwrap())
        .collect();
    let mut configured = configure(&paths(dir), TUN, gateway, &config).unwrap();
    let (set_up, resolver) = (routes(), fs::read(dir.join("resolv.conf")).unwrap());
    // Where nothing is to be done, nothing is: news would make the client look again, for ever.
    let news = Command::new("ip")
        .args(["monitor", "all"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the monitor", || {
        let sockets = fs::read_to_string("/proc/net/netlink").unwrap();
        let listens = |line: &str| line.split_whitespace().nth(2) == Some(&news.id().to_string());
        sockets.lines().any(listens)
    });
    configured.renew(gateway, &config).unwrap();
    assert_eq!(
        (configured.warnings(), routes()),
        (&[] as &[String], set_up.clone())
    );
    run("kill", &[&news.id().to_string()]);
    let news = String::from_utf8(news.wait_with_output().unwrap().stdout).unwrap();
    assert!(!news.contains(TUN) && !news.contains(GATEWAY), "{news}");

    run("ip", &["route", "flush", "dev", TUN]);
    run("ip", &["-6", "route", "flush", "dev", TUN, "proto", "static"]);
    run("ip", &["address", "flush", "dev", TUN]);
    run("ip", &["route", "delete", GATEWAY]);
    let host = "nameserver 198.51.100.53\n";
    fs::write(dir.join("resolv.conf"), host).unwrap();
    assert!(routes() != set_up);
    configured.renew(gateway, &config).unwrap();
    assert_eq!(configured.warnings(), [] as [&str; 0]);
    let sorted = |routes: &str| {
        let mut lines: Vec<String> = routes.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&routes()), sorted(&set_up));
    let written = fs::read_to_string(dir.join("resolv.conf")).unwrap();
    assert!(
        written.contains("nameserver 10.9.0.1") && !written.contains("198.51.100.53"),
        "{written}"
    );
    assert!(resolver != written.as_bytes());

    // Other networks: what is not named any more goes the host's way.
    config.includes = vec!["10.20.0.0/16".parse().unwrap(), "fd01::/48".parse().unwrap()];
    config.excludes.clear();
    config.mtu = Mtu::new(1300).unwrap();
    configured.renew(gateway, &config).unwrap();
    for (address, device) in [
        ("10.20.0.1", TUN),
        ("fd01::1", TUN),
        ("10.30.0.1", "eth9"),
        ("8.8.8.8", "eth9"),
        ("192.0.2.77", "eth9"),
    ] {
        assert!(
            route_to(address).contains(&format!("dev {device}")),
            "{}",
            routes()
        );
    }
    assert!(!routes().contains("192.0.2.0/24"));
    assert!(output("ip", &["link", "show", TUN]).contains("mtu 1300"));
    configured.undo();
    remove_tun();
    assert_eq!(fs::read_to_string(dir.join("resolv.conf")).unwrap(), host);
    fs::write(dir.join("resolv.conf"), RESOLV_CONF).unwrap();
    restored(dir, &before);
}

/// The first of two clients ends: the second one keeps what both need, and at its end nothing is
/// left.
fn two_clients_do_not_take_from_each_other(dir: &Path) {
    let before = routes();
    make_tun();
    make_device(SECOND);
    let mark = dir.join("no-ipv6");
    fs::write(&mark, "").unwrap();
    let mut second = None;
    let mut first = PathBuf::new();
    hold_and_kill(dir, |journal| {
        let mut config = config();
        config.ipv6 = None;
        config.dns = vec!["10.9.9.9".parse().unwrap()];
        first = journal.to_owned();
        second = Some(configure(&paths(dir), SECOND, GATEWAY.parse().unwrap(), &config).unwrap());
    });
    remove_device(TUN);
    wait_for("the first client's guard", || {
        let left = Record::load(&first).unwrap().changes;
        !left.iter().any(|change| matches!(change, Change::Device { .. }))
    });
    assert!(route_to(GATEWAY).contains("dev eth9"), "{}", routes());
    assert!(routes().contains("unreachable ::/1"), "{}", routes());
    let resolver = fs::read_to_string(dir.join("resolv.conf")).unwrap();
    assert!(resolver.contains("nameserver 10.9.9.9\n"), "{resolver}");
    second.unwrap().undo();
    remove_device(SECOND);
    fs::remove_file(mark).unwrap();
    restored(dir, &before);
}

/// A host that has IPv6 switched off still gets its IPv4 tunnel.
fn hosts_without_ipv6(dir: &Path) {
    let switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    fs::write(switch, "1").unwrap();
    let before = routes();
    make_tun();
    let configured = configure(&paths(dir), TUN, GATEWAY.parse().unwrap(), &config()).unwrap();
    let [warning] = configured.warnings() else {
        panic!("{:?}", configured.warnings());
    };
    assert!(
        warning.starts_with("cannot add the address fd09::7/64 to tun9"),
        "{warning}"
    );
    assert!(route_to("8.8.8.8").contains(TUN));
    configured.undo();
    remove_tun();
    restored(dir, &before);
    fs::write(switch, "0").unwrap();

    // An MTU that IPv6 does not allow: nothing of it passes the tunnel by.
    make_tun();
    let mut narrow = config();
    narrow.mtu = Mtu::new(1200).unwrap();
    // As many networks as a server may exclude in earnest, and more: at once.
    narrow.excludes = (0..2000)
        .map(|count: u16| {
            format!("172.{}.{}.0/24", 16 + count / 256, count % 256)
                .parse()
                .unwrap()
        })
        .collect();
    let configured = configure(&paths(dir), TUN, GATEWAY.parse().unwrap(), &narrow).unwrap();
    assert_eq!(configured.warnings().len(), 1, "{:?}", configured.warnings());
    assert!(routes().contains("unreachable ::/1"), "{}", routes());
    assert!(route_to("8.8.8.8").contains(TUN) && route_to("172.23.207.1").contains("eth9"));
    configured.undo();
    remove_tun();
    restored(dir, &before);
}

/// Kills the process whose environment names `journal`.
fn kill_guard_of(journal: &Path) {
    let wanted = format!("{}={}", guard::VARIABLE, journal.display());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            run("kill", &["-9", &entry.file_name().to_string_lossy()]);
            return;
        }
    }
    panic!("no guard of {}", journal.display());
}

fn restored(dir: &Path, before: &str) {
    assert_eq!(routes(), before);
    assert_eq!(fs::read_to_string(dir.join("resolv.conf")).unwrap(), RESOLV_CONF);
    assert!(
        fs::read_dir(paths(dir).state_dir).unwrap().next().is_none(),
        "a journal is left"
    );
}

fn route_to(address: &str) -> String {
    output("ip", &["route", "get", address])
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error} (apt-get install iproute2)"));
    assert!(
        status.success(),
        "{program} {arguments:?}: {status} (root is needed)"
    );
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
