//! What a worker in a stranger's hands can do, and what the death of each process costs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use culvert_lab::fixture::{INNER_SERVER_V4, USER};
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, World, built, probe, process, wait,
};

/// Numbers of x86-64, what they are called, and arguments: the process that is to be harmed comes
/// in place of [`VICTIM`].
const ATTEMPTS: &[(i64, &str, &[i64])] = &[
    (257, "openat", &[-100, 0, 0]),
    (41, "socket", &[2, 1, 0]),
    (42, "connect", &[4, 0, 16]),
    (56, "clone", &[17, 0, 0]),
    (59, "execve", &[0, 0, 0]),
    (62, "kill", &[VICTIM, 9]),
    (234, "tgkill", &[VICTIM, VICTIM, 9]),
    (101, "ptrace", &[16, VICTIM, 0]),
    (310, "process_vm_readv", &[VICTIM, 0, 0]),
    (438, "pidfd_getfd", &[3, 0, 0]),
    (16, "ioctl", &[3, 0x5412, 0]),
    (10, "mprotect", &[0, 4096, 5]),
    // To another address than its client's: by message, or named outright.
    (46, "sendmsg", &[5, 0, 0]),
    (307, "sendmmsg", &[5, 0, 0]),
    (44, "sendto", &[5, 0, 0, 0, 4096, 16]),
];

/// Stands for the process id of another client's worker.
const VICTIM: i64 = i64::MIN;

struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

fn scene(overrides: &[(&str, &str)]) -> Scene {
    let world = World::new();
    let fixture = Fixture::new();
    let options = ServerOptions {
        overrides,
        ..Default::default()
    };
    Scene {
        server: Server::start_with(Make::Culvert, &world, &fixture, &options),
        fixture,
        world,
    }
}

fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

impl Scene {
    fn client(&self) -> Client {
        let client = Client::connect(Make::Real, &self.world, &self.fixture);
        probe::ping(&self.world.client, inner_server());
        client
    }

    /// A second login of its own, without a tunnel: a new connection and a new worker.
    fn login(&self) -> Finished {
        let options = ClientOptions {
            arguments: &["--cookieonly"],
            name: "login",
            ..ClientOptions::default()
        };
        Client::run(Make::Real, &self.world, &self.fixture, &options)
    }

    fn worker(&self) -> u32 {
        let [worker] = self.server.workers()[..] else {
            panic!("one worker: {:?}\n{}", self.server.workers(), self.server.log())
        };
        worker
    }

    fn wait_for_log(&self, text: &str) {
        wait::until(&format!("'{text}' in the log\n{}", self.server.log()), || {
            self.server.log().contains(text).then_some(())
        });
    }

    /// The process that clones workers.
    fn zygote(&self) -> u32 {
        self.helper("ocserv-worker")
    }

    fn helper(&self, title: &str) -> u32 {
        let workers = self.server.workers();
        let children = process::children(self.server.process.pid());
        let mut fitting = children
            .into_iter()
            .filter(|pid| process::title(*pid) == title && !workers.contains(pid));
        fitting.next().unwrap_or_else(|| panic!("no {title}"))
    }
}

fn status_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

/// Every attempt ends that worker alone, with its reason in the log; the client comes back, the
/// other client notices nothing.
#[test]
fn a_hijacked_worker_can_do_nothing() {
    let scene = scene(&[("max-same-clients", "0")]);
    let client = scene.client();
    // The other client: logged in, waiting on its own connection.
    let mut other = culvert_lab::Raw::connect(&scene.world, &scene.fixture, "other");
    other.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
    other.wait_for("HTTP/1.1", 1);
    let tunnel_worker = |known: &[u32]| {
        wait::until("the tunnel's worker", || {
            let workers = scene.server.workers();
            let mut new = workers.into_iter().filter(|pid| !known.contains(pid));
            new.find(|pid| has_device(*pid) && filters(*pid) == filters(scene.server.process.pid()) + 2)
        })
    };
    let victim = wait::until("the other worker", || {
        scene.server.workers().into_iter().find(|pid| !has_device(*pid))
    });
    let mut known = vec![victim];
    for (number, name, arguments) in ATTEMPTS {
        let worker = tunnel_worker(&known);
        let status = status_of(worker);
        for line in [
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "Uid:\t65534",
        ] {
            assert!(status.contains(line), "{line} in\n{status}");
        }
        let mut hijack = Command::new(built("hijack"));
        hijack.arg(worker.to_string()).arg(number.to_string());
        for argument in *arguments {
            let victim = i64::from(victim);
            hijack.arg(if *argument == VICTIM { victim } else { *argument }.to_string());
        }
        assert!(hijack.status().unwrap().success());
        scene.wait_for_log(&format!(
            "worker {worker} tried system call {number} ({name}), which no worker may: it is killed"
        ));
        wait::until("the end of the worker", || {
            (!scene.server.workers().contains(&worker)).then_some(())
        });
        known.push(worker);
        assert!(scene.server.workers().contains(&victim), "{name}");
    }
    tunnel_worker(&known);
    probe::ping(&scene.world.client, inner_server());
    other.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
    other.wait_for("HTTP/1.1", 2);
    drop(client);
}

/// A message that is none of its own, on each channel that it has: nobody is named in messages, the
/// channel says who speaks, so all that a worker can do with another's words is break the protocol.
#[test]
fn a_worker_that_forges_messages_is_ended() {
    let scene = scene(&[("max-same-clients", "0")]);
    let client = scene.client();
    let mut other = culvert_lab::Raw::connect(&scene.world, &scene.fixture, "other");
    other.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
    other.wait_for("HTTP/1.1", 1);
    let victim = wait::until("the other worker", || {
        scene.server.workers().into_iter().find(|pid| !has_device(*pid))
    });
    let main = scene.server.process.pid();
    let in_its_tunnel = || {
        wait::until("the tunnel's worker", || {
            let mut workers = scene.server.workers().into_iter();
            workers.find(|pid| has_device(*pid) && filters(*pid) == filters(main) + 2)
        })
    };
    let mut killed = 0;
    let mut forges = |worker: u32, channel: u32| {
        // Octets of its stack as a message, by `sendto` without an address.
        let hijack = Command::new(built("hijack"))
            .args([worker.to_string(), "44".to_owned(), channel.to_string()])
            .args([stack(worker).to_string(), "48".to_owned()])
            .args(["0", "0", "0"])
            .status();
        assert!(hijack.unwrap().success());
        wait::until(&format!("the end of the worker\n{}", scene.server.log()), || {
            (!scene.server.workers().contains(&worker)).then_some(())
        });
        killed += 1;
        let text = "killing a worker that broke the protocol";
        wait::until(&format!("'{text}' in the log\n{}", scene.server.log()), || {
            (scene.server.log().matches(text).count() == killed).then_some(())
        });
        assert!(scene.server.workers().contains(&victim), "channel {channel}");
    };

    let worker = in_its_tunnel();
    let [to_main] = channels_of(worker, main)[..] else {
        panic!("a tunnel has a channel to main: {:?}", channels_of(worker, main));
    };
    forges(worker, to_main);
    // Before the tunnel there is one to the broker as well.
    for number in 0..2 {
        let spared = [victim, in_its_tunnel()];
        let mut third = culvert_lab::Raw::connect(&scene.world, &scene.fixture, &format!("third{number}"));
        third.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
        third.wait_for("HTTP/1.1", 1);
        let mut workers = scene.server.workers().into_iter();
        let worker = workers.find(|pid| !spared.contains(pid)).unwrap();
        let channels = channels_of(worker, main);
        assert_eq!(channels.len(), 2);
        forges(worker, channels[number]);
    }
    probe::ping(&scene.world.client, inner_server());
    other.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
    other.wait_for("HTTP/1.1", 2);
    drop(client);
}

/// Numbers of a worker's descriptors that are sockets between processes.
fn channels_of(worker: u32, main: u32) -> Vec<u32> {
    let sockets = fs::read_to_string(format!("/proc/{main}/net/unix")).unwrap();
    let inodes: Vec<&str> = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(6))
        .collect();
    let mut numbers: Vec<u32> = fs::read_dir(format!("/proc/{worker}/fd"))
        .unwrap()
        .flatten()
        .filter(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(&inode))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// An address in the worker's stack.
fn stack(worker: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let end = line.split(['-', ' ']).nth(1).unwrap();
    u64::from_str_radix(end, 16).unwrap() - 4096
}

/// True for a worker that has a TUN device.
fn has_device(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.ends_with("net/tun")))
}

/// Seccomp filters in force. A worker adds one for its login and one for its tunnel.
fn filters(pid: u32) -> u32 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:")?.trim().parse().ok())
        .unwrap_or(0)
}

/// `isolate-workers = false` leaves everything else of the confinement in force.
#[test]
fn isolation_can_be_switched_off() {
    let scene = scene(&[("isolate-workers", "false")]);
    let _client = scene.client();
    let status = status_of(scene.worker());
    assert!(
        status.contains("Seccomp:\t0") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
}

/// New connections need the process that makes workers: it is there again at once, and sessions
/// do not notice.
#[test]
fn a_killed_zygote_costs_nobody_anything() {
    let scene = scene(&[]);
    let mut client = scene.client();
    let worker = scene.worker();
    // One that ends right after its start is not started again.
    wait::until("an old zygote", || {
        let age = scene
            .world
            .server
            .run("ps", &["-o", "etimes=", "-p", &scene.zygote().to_string()]);
        (age.trim().parse::<u32>().unwrap() > 5).then_some(())
    });
    let old = scene.zygote();
    process::kill(old, "9");
    scene.wait_for_log("the process that makes workers is gone");
    let login = scene.login();
    assert_eq!(login.code, 0, "{}{}", login.stderr, scene.server.log());
    assert_ne!(scene.zygote(), old);
    assert_eq!(scene.server.workers(), [worker]);
    probe::ping(&scene.world.client, inner_server());
    assert!(client.process.is_running());
}

/// A reload renews the process that makes workers; the old one is gone after the next
/// maintenance.
#[test]
fn a_reload_renews_the_zygote() {
    let scene = scene(&[]);
    let _client = scene.client();
    let old = scene.zygote();
    scene.server.process.signal("HUP");
    scene.wait_for_log("the process that makes workers was renewed");
    let login = scene.login();
    assert_eq!(login.code, 0, "{}{}", login.stderr, scene.server.log());
    scene.server.process.signal("USR2");
    wait::until("the end of the old zygote", || {
        (!process::children(scene.server.process.pid()).contains(&old)).then_some(())
    });
    assert_ne!(scene.zygote(), old);
    probe::ping(&scene.world.client, inner_server());
}

/// Without the broker nobody can log in or come back: the server ends, tells its clients, and leaves
/// nothing; a new one honours their cookies.
#[test]
fn a_killed_broker_ends_the_server_in_order() {
    let mut scene = scene(&[]);
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        ..ClientOptions::default()
    };
    let login = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
    let cookie = login.stdout.trim().to_owned();
    let mut client = scene.client();
    process::kill(scene.helper("ocserv-sm"), "9");
    assert_eq!(scene.server.process.exit_code(), 1, "{}", scene.server.log());
    assert_eq!(client.process.exit_code(), 1, "{}", client.process.output());
    nothing_is_left(&scene);
    scene.server = Server::start(Make::Culvert, &scene.world, &scene.fixture);
    comes_back(&scene, &cookie);
}

/// `kill -9` of main takes every other process along; a new server finds nothing in its way.
#[test]
fn a_killed_main_process_takes_all_others_along() {
    let mut scene = scene(&[]);
    let login = scene.login();
    let cookie = login.stdout.trim().to_owned();
    let client = scene.client();
    let all = process::children(scene.server.process.pid());
    process::kill(scene.server.process.pid(), "9");
    scene.server.process.wait();
    wait::until("the end of all processes", || {
        all.iter()
            .all(|pid| process::title(*pid).is_empty())
            .then_some(())
    });
    drop(client);
    assert_eq!(scene.world.server.interfaces(), ["lo", "eth0"]);
    scene.server = Server::start(Make::Culvert, &scene.world, &scene.fixture);
    comes_back(&scene, &cookie);
}

fn nothing_is_left(scene: &Scene) {
    assert_eq!(scene.world.server.interfaces(), ["lo", "eth0"]);
    assert!(!scene.fixture.path("occtl.sock").exists());
    assert!(!scene.fixture.path("ocserv.pid").exists());
}

/// A client with an old cookie.
fn comes_back(scene: &Scene, cookie: &str) {
    let ca = scene.fixture.path("ca.pem").display().to_string();
    let script = "/usr/share/vpnc-scripts/vpnc-script";
    let arguments = ["--cafile", &ca, "--cookie", cookie, "--script", script];
    let command = Client::bare(Make::Real, &scene.world, &arguments);
    let mut client = culvert_lab::Process::start(command, scene.fixture.dir(), "again", None);
    client.wait_for("Configured as");
    probe::ping(&scene.world.client, inner_server());
    let (_, users) = scene.server.occtl(&["show", "users"]);
    assert!(users.contains(USER), "{users}");
}
