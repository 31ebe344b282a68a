//! What a worker in a stranger's hands can do, and what the death of each process costs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use culvert_lab::fixture::{INNER_SERVER_V4, USER};
use culvert_lab::process::children;
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, Process, Server, ServerOptions, World, built, probe,
    process, wait,
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
    // By source routes, of both families.
    (54, "setsockopt", &[5, 0, 4]),
    (54, "setsockopt", &[5, 41, 57]),
];

/// Stands for the process id of another client's worker.
const VICTIM: i64 = i64::MIN;

const POOL: &[(&str, &str)] = &[("worker-processes", "2")];

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

    /// The process that clones workers.
    fn zygote(&self) -> u32 {
        self.helper("ocserv-worker")
    }

    fn helper(&self, title: &str) -> u32 {
        let workers = self.server.workers();
        let children = children(self.server.process.pid());
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
    has_only_its_own(&scene, victim, &[]);
    let mut known = vec![victim];
    for (number, name, arguments) in ATTEMPTS {
        let worker = tunnel_worker(&known);
        has_only_its_own(&scene, worker, &["/dev/net/tun"]);
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
        scene.server.wait_for_log(
            &format!(
                "worker {worker} tried system call {number} ({name}), which no worker may: it is killed"
            ),
            1,
        );
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

/// Of what a worker has open nothing is a file or a listener, and no device is another client's.
fn has_only_its_own(scene: &Scene, worker: u32, devices: &[&str]) {
    let listeners = ["tcp", "tcp6", "unix"].map(|kind| listening(scene.server.process.pid(), kind));
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{worker}/fd")).unwrap().flatten() {
        // One that was closed meanwhile is no matter.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.display().to_string();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(inode) = inode {
            assert!(
                !listeners.iter().flatten().any(|listener| listener == inode),
                "{target}"
            );
        } else if !target.starts_with("anon_inode:") && target != "/dev/null" {
            found.push(target);
        }
    }
    assert_eq!(found, devices, "worker {worker}");
}

/// Inodes of the listening sockets of a process's network.
fn listening(pid: u32, kind: &str) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/{kind}")).unwrap();
    let (state, listens, inode) = match kind {
        "unix" => (3, "00010000", 6),
        _ => (3, "0A", 9),
    };
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes: Vec<String> = rows
        .filter(|row| row.get(state) == Some(&listens))
        .filter_map(|row| Some((*row.get(inode)?).to_owned()))
        .collect();
    inodes
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

/// New connections and the pool need the process that makes workers: it is there again at once, what it was
/// asked for last is asked for again, and sessions do not notice.
#[test]
fn a_killed_zygote_costs_nobody_anything() {
    let scene = scene(POOL);
    let mut client = scene.client();
    // One that ends right after its start is not started again.
    wait::until("an old zygote", || {
        let age = scene
            .world
            .server
            .run("ps", &["-o", "etimes=", "-p", &scene.zygote().to_string()]);
        (age.trim().parse::<u32>().unwrap() > 5).then_some(())
    });
    let old = scene.zygote();
    process::kill(old, "STOP");
    let pool = scene.server.pool();
    let idle = *pool.iter().find(|pid| !has_device(**pid)).unwrap();
    process::kill(idle, "9");
    scene.server.wait_for_log("died: signal: 9", 1);
    process::kill(old, "9");
    scene
        .server
        .wait_for_log("the process that makes workers is gone", 1);
    let login = scene.login();
    assert_eq!(login.code, 0, "{}{}", login.stderr, scene.server.log());
    assert_ne!(scene.zygote(), old);
    wait::until(&format!("the pool\n{}", scene.server.log()), || {
        let new = scene.server.pool();
        let kept = pool.iter().all(|pid| *pid == idle || new.contains(pid));
        (new.len() == 2 && kept && !new.contains(&idle)).then_some(())
    });
    probe::ping(&scene.world.client, inner_server());
    assert!(client.process.is_running());
    assert!(
        !client.process.stdout().contains("reconnect"),
        "{}",
        client.process.output()
    );
}

/// A reload renews the process that makes workers; the old one is gone after the next
/// maintenance.
#[test]
fn a_reload_renews_the_zygote() {
    let scene = scene(&[]);
    let _client = scene.client();
    let old = scene.zygote();
    scene.server.process.signal("HUP");
    scene
        .server
        .wait_for_log("the process that makes workers was renewed", 1);
    let login = scene.login();
    assert_eq!(login.code, 0, "{}{}", login.stderr, scene.server.log());
    scene.server.process.signal("USR2");
    wait::until("the end of the old zygote", || {
        (!process::children(scene.server.process.pid()).contains(&old)).then_some(())
    });
    assert_ne!(scene.zygote(), old);
    probe::ping(&scene.world.client, inner_server());
}

/// A process dies under traffic and takes the server along. No other process and no device stays, and the
/// clients are told nothing: their sessions are in the journal, so they come back to the next server by
/// themselves, with their addresses.
fn clients_outlive_the_server(title: &str, client: Make, overrides: &[(&str, &str)]) {
    let mut scene = scene(overrides);
    let mut client = Client::connect(client, &scene.world, &scene.fixture);
    client.process.wait_for("Established DTLS connection");
    probe::ping(&scene.world.client, inner_server());
    let address = Client::inner_v4(&scene.world);
    let (routes, main) = (scene.world.server.routes(), scene.server.process.pid());
    let all: Vec<u32> = children(main);
    let (under, also) = (flood(&scene, "up"), flood(&scene, "down"));
    // It shall not find that there is no server for a moment, and then wait for 10 s.
    client.process.signal("STOP");
    let victim = match title {
        "ocserv-main" => main,
        _ => scene.helper(title),
    };
    process::kill(victim, "9");
    let code = scene.server.process.exit_code();
    assert_eq!(
        code,
        if victim == main { 128 + 9 } else { 1 },
        "{}",
        scene.server.log()
    );
    wait::until("the end of all processes", || {
        all.iter()
            .all(|pid| process::title(*pid).is_empty())
            .then_some(())
    });
    wait::until("the end of the devices", || {
        (scene.world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });
    if victim != main {
        nothing_is_left(&scene);
    }
    let options = ServerOptions {
        overrides,
        ..Default::default()
    };
    scene.server = Server::start_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    client.process.signal("CONT");
    let logs = || client.process.output() + &scene.server.log();
    wait::until(&format!("the client\n{}", logs()), || {
        let (_, users) = scene.server.occtl(&["show", "users"]);
        (users.contains(USER) && users.contains(&address.to_string())).then_some(())
    });
    probe::ping(&scene.world.client, inner_server());
    assert_eq!(Client::inner_v4(&scene.world), address, "{}", logs());
    assert_eq!(scene.world.server.routes(), routes);
    drop((under, also));
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}

/// Packets through the tunnel, one way or the other, as fast as they are answered.
fn flood(scene: &Scene, way: &str) -> Process {
    let (host, to) = match way {
        "up" => (&scene.world.client, inner_server()),
        _ => (&scene.world.server, Client::inner_v4(&scene.world)),
    };
    let mut ping = host.command("ping");
    ping.args(["-f", "-q", "-s", "1000"]).arg(to.to_string());
    Process::start(ping, scene.fixture.dir(), way, None)
}

#[test]
fn the_real_client_outlives_a_killed_broker() {
    clients_outlive_the_server("ocserv-sm", Make::Real, &[]);
}

#[test]
fn our_client_outlives_a_killed_broker_of_a_pool() {
    clients_outlive_the_server("ocserv-sm", Make::Culvert, POOL);
}

#[test]
fn the_real_client_outlives_a_killed_main_process_of_a_pool() {
    clients_outlive_the_server("ocserv-main", Make::Real, POOL);
}

#[test]
fn our_client_outlives_a_killed_main_process() {
    clients_outlive_the_server("ocserv-main", Make::Culvert, &[]);
}

fn nothing_is_left(scene: &Scene) {
    assert_eq!(scene.world.server.interfaces(), ["lo", "eth0"]);
    assert!(!scene.fixture.path("occtl.sock").exists());
    assert!(!scene.fixture.path("ocserv.pid").exists());
}
