//! What processes may have and see: `limit-worker-memory`, `sec-mod-scale`, `chroot-dir`; and how fast new
//! ones come: `rate-limit-ms`.

use std::fs;

use culvert_lab::process::{children, title};
use culvert_lab::{Client, ClientOptions, Fixture, Make, Raw, Server, ServerOptions, World, wait};

use crate::Scene;

/// The limit of a worker's data, in octets; `None` when there is none.
fn data_limit(option: &str) -> Option<u64> {
    let scene = Scene::new(Make::Culvert, &[("limit-worker-memory", option)]);
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    let workers = scene.server.workers();
    let [worker] = workers[..] else {
        panic!("{workers:?}");
    };
    data_limit_of(worker)
}

fn data_limit_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max data size"))
        .unwrap();
    line.split_whitespace().nth(3).unwrap().parse().ok()
}

#[test]
fn memory_of_workers_is_limited() {
    let limit = data_limit("true").unwrap();
    let mebibyte = 1 << 20;
    assert!(limit > 64 * mebibyte && limit < 128 * mebibyte, "{limit}");
    assert_eq!(data_limit("false"), None);
}

/// A pool process has the clients of many workers, and a limit that lets it.
#[test]
fn memory_of_pool_processes_is_limited() {
    let scene = Scene::new(
        Make::Culvert,
        &[("limit-worker-memory", "true"), ("worker-processes", "2")],
    );
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    for process in scene.server.pool() {
        let limit = data_limit_of(process).unwrap();
        assert!(limit > 128 << 20, "{limit}");
    }
}

#[test]
fn keys_are_used_by_as_many_threads_as_wanted() {
    let scene = Scene::new(Make::Culvert, &[("sec-mod-scale", "7")]);
    let broker = children(scene.server.process.pid())[0];
    let names = || {
        let threads = fs::read_dir(format!("/proc/{broker}/task")).unwrap().flatten();
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
    };
    // A thread names itself when it first runs.
    wait::until("the names of the threads", || {
        let signers = names().filter(|name| name.trim() == "ocserv-keys").count();
        (signers == 7).then_some(())
    });
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
}

/// Workers have another root, whoever made them; a profile may be named as they would see it.
#[test]
fn workers_see_only_chroot_dir() {
    let (world, fixture) = (World::new(), Fixture::new());
    let jail = fixture.path("jail");
    fs::create_dir(&jail).unwrap();
    fs::write(jail.join("profile.xml"), "<AnyConnectProfile/>").unwrap();
    let options = ServerOptions {
        overrides: &[
            ("chroot-dir", jail.to_str().unwrap()),
            ("user-profile", "/profile.xml"),
        ],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let root = |pid: u32| fs::read_link(format!("/proc/{pid}/root")).unwrap();
    let zygotes = |server: &Server| -> Vec<u32> {
        let mut zygotes = children(server.process.pid());
        zygotes.retain(|pid| title(*pid) == "ocserv-worker" && !server.workers().contains(pid));
        zygotes
    };
    let old = zygotes(&server);
    let _client = Client::connect(Make::Real, &world, &fixture);
    culvert_lab::probe::ping(&world.client, crate::inner_server());
    let workers = server.workers();
    assert_eq!(workers.len(), 1);
    assert_eq!(root(workers[0]), jail);
    server.process.signal("HUP");
    let new = wait::until("a new maker of workers", || {
        zygotes(&server).into_iter().find(|pid| !old.contains(pid))
    });
    wait::until("its root", || (root(new) == jail).then_some(()));
    assert_eq!(root(server.process.pid()), std::path::Path::new("/"));
}

/// Passwords that take half a second each keep the only processor busy: new connections come slowly
/// then, and at full speed again when the queue is short.
#[test]
fn connections_come_slowly_while_logins_wait() {
    let (world, fixture) = (World::new(), Fixture::new());
    let slow = "alice:*:$6$rounds=300000$FF9OqbbHTnNMAwpg$no.password.has.this.hash\n";
    fixture.write_file("ocpasswd", slow);
    let options = ServerOptions {
        overrides: &[("rate-limit-ms", "1500")],
        under: &["taskset", "-c", "0"],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
    let mut logins = Vec::new();
    for number in 0..14 {
        let name = format!("login{number}");
        let client = ClientOptions {
            arguments: &["--authenticate", "--non-inter"],
            name: &name,
            ..ClientOptions::default()
        };
        logins.push(Client::launch(Make::Real, &world, &fixture, &client));
    }
    let says = |text: &str| wait::until(&server.log(), || server.log().contains(text).then_some(()));
    says("too many logins wait: 1500 ms between connections");
    let begun = std::time::Instant::now();
    let _two = ["first", "second"].map(|name| {
        let mut raw = Raw::connect(&world, &fixture, name);
        raw.send(b"GET / HTTP/1.1\r\nHost: vpn.test\r\n\r\n");
        raw.wait_for("HTTP/1.1", 1);
    });
    assert!(begun.elapsed() >= std::time::Duration::from_millis(1500));
    says("logins wait no longer");
}
