//! Forking needs a process with one thread, so these tests run without the test harness.

#![allow(clippy::unwrap_used)]

use std::os::unix::process::parent_id;

use culvert_sys::channel::Channel;
use culvert_sys::process::{self, Fork, Resource};
use culvert_sys::signal;

fn main() {
    a_clone_belongs_to_our_parent();
    privileges_are_given_up();
    titles_are_shown();
    threads_forbid_forking();
    println!("test result: ok. 4 passed (processes)");
}

/// We play main: the first child is the zygote, whose clone we must be able to reap.
fn a_clone_belongs_to_our_parent() {
    let (near, far) = Channel::pair().unwrap();
    let me = std::process::id();
    let zygote = match process::fork().unwrap() {
        Fork::Parent(pid) => pid,
        Fork::Child => match process::clone_into_parent().unwrap() {
            Fork::Parent(worker) => {
                far.send(&worker.to_ne_bytes(), &[]).unwrap();
                std::process::exit(3)
            }
            Fork::Child => std::process::exit(if parent_id() == me { 4 } else { 5 }),
        },
    };
    assert_eq!(process::wait(zygote).unwrap().code(), Some(3));
    let mut buffer = [0; 4];
    near.receive(&mut buffer).unwrap().unwrap();
    assert_eq!(process::wait(i32::from_ne_bytes(buffer)).unwrap().code(), Some(4));
}

fn privileges_are_given_up() {
    in_child(|| {
        process::set_limit(Resource::Descriptors, 20).unwrap();
        process::set_dumpable(false).unwrap();
        process::forbid_new_privileges().unwrap();
        if culvert_sys::user::effective_uid() == 0 {
            process::unshare_network().unwrap();
            process::drop_user(65534, 65534, &[]).unwrap();
            assert_eq!(culvert_sys::user::effective_uid(), 65534);
        }
        process::drop_capabilities().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"));
        assert!(status.contains("NoNewPrivs:\t1"));
        assert!(process::unshare_network().is_err());
        let opened: Vec<_> = (0..30).map_while(|_| Channel::pair().ok()).collect();
        assert!(opened.len() < 10);
    });
}

fn titles_are_shown() {
    in_child(|| {
        process::set_title("ocserv-main").unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/self/comm").unwrap(),
            "ocserv-main\n"
        );
        assert!(
            std::fs::read("/proc/self/cmdline")
                .unwrap()
                .starts_with(b"ocserv-main\0")
        );
    });
    in_child(|| {
        process::overwrite_argument(0).unwrap();
        assert!(std::fs::read("/proc/self/cmdline").unwrap().starts_with(b"xxxx"));
    });
}

fn threads_forbid_forking() {
    let (near, far) = Channel::pair().unwrap();
    let thread = std::thread::spawn(move || far.receive(&mut [0; 1]).map(|_| ()));
    assert!(process::fork().is_err());
    near.send(b"x", &[]).unwrap();
    thread.join().unwrap().unwrap();
}

/// Runs `body` in a process of its own; a panic in it fails the test.
fn in_child(body: fn()) {
    match process::fork().unwrap() {
        Fork::Parent(pid) => {
            let pidfd = process::pidfd(pid).unwrap();
            let poller = culvert_sys::epoll::Poller::new().unwrap();
            poller.add(&pidfd, 0, culvert_sys::epoll::Interest::READ).unwrap();
            poller
                .wait(&mut culvert_sys::epoll::Events::with_capacity(1), None)
                .unwrap();
            let status = process::try_wait(pid).unwrap().unwrap();
            assert!(status.success(), "{status}");
        }
        Fork::Child => {
            signal::unblock_all().unwrap();
            let result = std::panic::catch_unwind(body);
            std::process::exit(result.is_err().into());
        }
    }
}
