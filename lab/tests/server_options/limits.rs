//! `limit-worker-memory`.

use std::fs;

use culvert_lab::Make;

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
