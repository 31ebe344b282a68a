//! `limit-worker-memory`, `sec-mod-scale`.

use std::fs;

use culvert_lab::Make;
use culvert_lab::process::children;

use crate::Scene;

/// The limit of a worker's data, in octets; `None` when there is none.
fn data_limit(option: &str) -> Option<u64> {
    let scene = Scene::new(&[("limit-worker-memory", option)]);
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
    let workers = scene.server.workers();
    let [worker] = workers[..] else {
        panic!("{workers:?}");
    };
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
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

#[test]
fn keys_are_used_by_as_many_threads_as_wanted() {
    let scene = Scene::new(&[("sec-mod-scale", "7")]);
    let broker = children(scene.server.process.pid())[0];
    let threads = fs::read_dir(format!("/proc/{broker}/task")).unwrap();
    let signers = threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok())
        .filter(|name| name.trim() == "ocserv-keys")
        .count();
    assert_eq!(signers, 7);
    let _client = scene.connect(Make::Real, &[]);
    scene.ping();
}
