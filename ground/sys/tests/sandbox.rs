//! What a confined process is refused, and that each refusal is reported. Each case is a process
//! of its own, and forking needs one thread, so these tests run without the test harness.

#![allow(clippy::unwrap_used, unsafe_code)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::process::ExitStatus;
use std::ptr::null;
use std::time::Duration;

use culvert_sys::channel::Channel;
use culvert_sys::epoll::{Interest, Poller};
use culvert_sys::process::{self, Fork};
use culvert_sys::sandbox::{self, Helper, Phase, SandboxError};
use culvert_sys::signal::{SIGTERM, SignalFd};
use culvert_sys::tcp;
use culvert_sys::udp::{PathMtuDiscovery, UdpSocket};

/// What comes before the number in a report.
const MARK: [u8; 3] = [7, 8, 9];

fn main() {
    what_a_worker_needs_is_allowed();
    forbidden_calls_end_the_process();
    there_is_no_way_around_the_handler();
    tunnels_may_less_than_logins();
    landlock_denies_files_ports_and_signals();
    helpers_look_up_names_and_run_threads();
    helpers_start_no_programs_and_harm_nobody();
    landlock_denies_helpers_changes();
    println!("test result: ok. 8 passed (sandbox)");
}

fn what_a_worker_needs_is_allowed() {
    let (near, far) = Channel::pair().unwrap();
    let (stream, _peer) = connection();
    let sockets = ["127.0.0.1:0", "[::1]:0"].map(|address| {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        UdpSocket::from_fd(socket.into()).unwrap()
    });
    let (status, report) = confined(Some(Phase::Login), move || {
        tcp::set_keepalive(&stream, Duration::from_secs(600)).unwrap();
        tcp::set_send_buffer(&stream, 1 << 16).unwrap();
        near.send(b"x", &[far.as_fd()]).unwrap();
        far.set_nonblocking(true).unwrap();
        assert_eq!(far.receive(&mut [0; 8]).unwrap().unwrap().descriptors.len(), 1);
        let poller = Poller::new().unwrap();
        let signals = SignalFd::new(&[SIGTERM]).unwrap();
        poller.add(&signals, 1, Interest::READ).unwrap();
        // Large enough for a mapping of its own, freed again.
        drop(vec![1_u8; 8 << 20]);
        culvert_sys::mem::trim();
        culvert_sys::random::fill(&mut [0; 16]).unwrap();
        near.set_timeout(Some(Duration::from_secs(1))).unwrap();
        sandbox::restrict_system_calls(Phase::Tunnel).unwrap();
        for datagrams in &sockets {
            datagrams.set_buffers(Some(1 << 16), Some(1 << 16)).unwrap();
            datagrams.set_path_mtu_discovery(PathMtuDiscovery::Probe).unwrap();
            let _with_this_kernel = datagrams.set_gro(true);
            tcp::set_priority(datagrams, 1).unwrap();
            tcp::set_type_of_service(datagrams, 8).unwrap();
        }
        tcp::set_unsent_limit(&stream, 1 << 16).unwrap();
        tcp::set_nodelay(&stream).unwrap();
        poller.delete(&signals).unwrap();
        drop(vec![1_u8; 8 << 20]);
        near.send(b"y", &[]).unwrap();
    });
    assert_eq!((status.code(), report), (Some(0), None));
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn forbidden_calls_end_the_process() {
    let parent = std::process::id();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = socket.as_raw_fd();
    let me = move || libc::c_long::from(parent);
    let attempts: Vec<(libc::c_long, Box<dyn Fn()>)> = vec![
        call(
            libc::SYS_openat,
            [libc::AT_FDCWD.into(), c"/etc/passwd".as_ptr() as _, 0],
        ),
        call(
            libc::SYS_socket,
            [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0],
        ),
        call(libc::SYS_connect, [number.into(), 0, 0]),
        call(libc::SYS_sendmmsg, [number.into(), 0, 0]),
        call(libc::SYS_accept4, [number.into(), 0, 0]),
        call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        call(libc::SYS_clone3, [0, 0, 0]),
        call(libc::SYS_execve, [c"/bin/true".as_ptr() as _, 0, 0]),
        call(libc::SYS_kill, [me(), 0, 0]),
        call(libc::SYS_tgkill, [me(), me(), 0]),
        call(libc::SYS_pidfd_open, [me(), 0, 0]),
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), me(), 0]),
        call(libc::SYS_process_vm_readv, [me(), 0, 0]),
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0]),
        call(libc::SYS_bpf, [0, 0, 0]),
        call(libc::SYS_io_uring_setup, [1, 0, 0]),
        call(libc::SYS_ioctl, [number.into(), libc::TIOCSTI as _, 0]),
        call(libc::SYS_fcntl, [number.into(), libc::F_SETOWN.into(), me()]),
        // Source routes lead packets of a connected socket to others.
        option(number, libc::IPPROTO_IP, libc::IP_OPTIONS),
        option(number, libc::IPPROTO_IPV6, libc::IPV6_RTHDR),
        option(number, libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        option(number, libc::IPPROTO_TCP, libc::TCP_ULP),
        call(
            libc::SYS_mmap,
            [0, 4096, (libc::PROT_READ | libc::PROT_EXEC).into()],
        ),
        call(libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC.into()]),
        call(libc::SYS_rt_sigaction, [libc::SIGSYS.into(), 0, 0]),
        call(
            libc::SYS_seccomp,
            [1, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as _, 0],
        ),
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0]),
    ];
    for (number, attempt) in attempts {
        let (status, report) = confined(Some(Phase::Login), attempt);
        let name = sandbox::system_call_name(u32::try_from(number).unwrap());
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{name:?}: {status}");
        assert_eq!(report.map(libc::c_long::from), Some(number), "{name:?}");
    }
}

/// Whoever takes the handler over gets no second chance.
fn there_is_no_way_around_the_handler() {
    let (near, far) = Channel::pair().unwrap();
    let (status, report) = confined(Some(Phase::Login), move || {
        // As in the handler: a blocked SIGSYS kills at once.
        culvert_sys::signal::block(&[libc::SIGSYS]).unwrap();
        // SAFETY: takes integers only.
        unsafe { libc::syscall(libc::SYS_getppid) };
        near.send(b"survived", &[]).unwrap();
    });
    assert_eq!((status.signal(), report), (Some(libc::SIGSYS), None));
    assert!(far.receive(&mut [0; 16]).unwrap().is_none());
}

fn tunnels_may_less_than_logins() {
    for (number, attempt) in [
        call(libc::SYS_epoll_create1, [0, 0, 0]),
        call(libc::SYS_ioctl, [0, libc::TUNGETIFF as _, 0]),
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0]),
        call(libc::SYS_sendmsg, [-1, 0, 0]),
    ] {
        let (status, report) = confined(Some(Phase::Login), attempt);
        assert_eq!((status.code(), report), (Some(0), None), "{number}");
    }
    for (number, attempt) in [
        call(libc::SYS_epoll_create1, [0, 0, 0]),
        call(libc::SYS_ioctl, [0, libc::TUNGETIFF as _, 0]),
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0]),
        call(libc::SYS_sendmsg, [-1, 0, 0]),
    ] {
        let (status, report) = confined(Some(Phase::Tunnel), attempt);
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{number}: {status}");
        assert_eq!(report.map(libc::c_long::from), Some(number));
    }
}

fn landlock_denies_files_ports_and_signals() {
    let version = match sandbox::landlock_version() {
        Ok(version) => version,
        // A kernel without it: nothing may fail.
        Err(_) => {
            return assert_eq!(
                confined(None, || sandbox::forbid_access().unwrap()).0.code(),
                Some(0)
            );
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (status, _) = confined(None, move || {
        let denied = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        };
        sandbox::forbid_access().unwrap();
        denied(std::fs::File::open("/etc/passwd").map(drop));
        denied(std::fs::write("/tmp/culvert-sandbox", "x"));
        if version >= 4 {
            denied(std::net::TcpStream::connect(address).map(drop));
            denied(TcpListener::bind("127.0.0.1:0").map(drop));
        }
        if version >= sandbox::LANDLOCK_COMPLETE {
            denied(process::kill(parent_id().cast_signed(), libc::SIGCONT));
        }
    });
    assert_eq!(status.code(), Some(0));
}

/// A file that only this test writes.
fn scratch() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("culvert-sandbox-{}", std::process::id()))
}

fn helper(kind: Helper) -> impl FnOnce() -> Result<(), SandboxError> {
    move || sandbox::restrict_helper(kind)
}

fn helpers_look_up_names_and_run_threads() {
    let path = scratch();
    for kind in [Helper::Service, Helper::Library] {
        let path = path.clone();
        let (status, report) = confined_by(Some(helper(kind)), move || {
            use std::net::ToSocketAddrs as _;
            let looked_up = || ("localhost", 1).to_socket_addrs().unwrap().count();
            assert!(looked_up() > 0);
            assert!(std::thread::spawn(looked_up).join().unwrap() > 0);
            assert!(!std::fs::read("/etc/passwd").unwrap().is_empty());
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(socket.local_addr().unwrap()).unwrap();
            if kind == Helper::Library {
                std::fs::write(&path, "x").unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        });
        assert_eq!((status.code(), report), (Some(0), None), "{kind:?}");
    }
}

fn helpers_start_no_programs_and_harm_nobody() {
    let parent = libc::c_long::from(std::process::id());
    let create: libc::c_long = (libc::O_WRONLY | libc::O_CREAT).into();
    let file = c"/tmp/culvert-sandbox".as_ptr() as libc::c_long;
    let for_all = || {
        vec![
            call(libc::SYS_execve, [c"/bin/true".as_ptr() as _, 0, 0]),
            call(libc::SYS_execveat, [libc::AT_FDCWD.into(), 0, 0]),
            call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
            call(libc::SYS_kill, [parent, 0, 0]),
            call(libc::SYS_kill, [-1, 0, 0]),
            call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), parent, 0]),
            call(libc::SYS_process_vm_readv, [parent, 0, 0]),
            call(libc::SYS_pidfd_open, [parent, 0, 0]),
            call(
                libc::SYS_socket,
                [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0],
            ),
            call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0]),
            call(libc::SYS_setns, [0, 0, 0]),
            call(libc::SYS_bpf, [0, 0, 0]),
            call(libc::SYS_io_uring_setup, [1, 0, 0]),
            call(libc::SYS_keyctl, [0, 0, 0]),
            call(libc::SYS_fcntl, [0, libc::F_SETOWN.into(), parent]),
            call(libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC.into()]),
            call(libc::SYS_rt_sigaction, [libc::SIGSYS.into(), 0, 0]),
            call(libc::SYS_listen, [0, 0, 0]),
            call(libc::SYS_fchmodat, [libc::AT_FDCWD.into(), file, 0o777]),
        ]
    };
    let own = vec![
        call(libc::SYS_openat, [libc::AT_FDCWD.into(), file, create]),
        call(libc::SYS_unlinkat, [libc::AT_FDCWD.into(), file, 0]),
    ];
    let attempts = [
        (Helper::Library, for_all()),
        (Helper::Service, for_all()),
        (Helper::Service, own),
    ];
    for (kind, attempts) in attempts {
        for (number, attempt) in attempts {
            let (status, report) = confined_by(Some(helper(kind)), attempt);
            let name = sandbox::system_call_name(u32::try_from(number).unwrap());
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{kind:?} {name:?}: {status}");
            assert_eq!(report.map(libc::c_long::from), Some(number), "{name:?}");
        }
    }
}

fn landlock_denies_helpers_changes() {
    let Ok(version) = sandbox::landlock_version() else {
        for forbid in [sandbox::forbid_changes, sandbox::forbid_programs] {
            assert_eq!(confined(None, || forbid().unwrap()).0.code(), Some(0));
        }
        return;
    };
    let path = scratch();
    for service in [true, false] {
        let path = path.clone();
        let (status, _) = confined(None, move || {
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            match service {
                true => sandbox::forbid_changes().unwrap(),
                false => sandbox::forbid_programs().unwrap(),
            }
            assert!(!std::fs::read("/etc/passwd").unwrap().is_empty());
            match service {
                true => denied(std::fs::write(&path, "x")),
                false => std::fs::write(&path, "x").unwrap(),
            }
            denied(std::process::Command::new("/bin/true").status().map(drop));
            if version >= 4 {
                denied(TcpListener::bind("127.0.0.1:54321").map(drop));
                drop(TcpListener::bind("127.0.0.1:0").unwrap());
            }
            if version >= sandbox::LANDLOCK_COMPLETE {
                denied(process::kill(parent_id().cast_signed(), libc::SIGCONT));
            }
        });
        assert_eq!(status.code(), Some(0), "service: {service}");
    }
    std::fs::remove_file(scratch()).unwrap();
}

fn call(number: libc::c_long, arguments: [libc::c_long; 3]) -> (libc::c_long, Box<dyn Fn()>) {
    let [first, second, third] = arguments;
    // SAFETY: only called where a filter refuses the call, or with arguments that name nothing.
    let attempt = move || unsafe {
        libc::syscall(number, first, second, third, null::<u8>(), null::<u8>());
    };
    (number, Box::new(attempt))
}

/// An attempt to set an option of a socket.
fn option(socket: libc::c_int, level: libc::c_int, name: libc::c_int) -> (libc::c_long, Box<dyn Fn()>) {
    call(libc::SYS_setsockopt, [socket.into(), level.into(), name.into()])
}

/// Runs `body` in a process of this phase; gives how it ended and the number it reported.
fn confined(phase: Option<Phase>, body: impl FnOnce()) -> (ExitStatus, Option<u32>) {
    confined_by(
        phase.map(|phase| move || sandbox::restrict_system_calls(phase)),
        body,
    )
}

/// The same with this filter.
fn confined_by(
    restrict: Option<impl FnOnce() -> Result<(), SandboxError>>,
    body: impl FnOnce(),
) -> (ExitStatus, Option<u32>) {
    let (near, far) = Channel::pair().unwrap();
    let pid = match process::fork().unwrap() {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(near);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if let Some(restrict) = restrict {
                    let mut message = MARK.to_vec();
                    message.extend([0; 4]);
                    sandbox::report_violations(far.as_fd(), &message).unwrap();
                    restrict().unwrap();
                }
                body();
            }));
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(result.is_err().into()) }
        }
    };
    drop(far);
    let mut buffer = [0; 16];
    let report = near.receive(&mut buffer).unwrap().map(|received| {
        assert_eq!((received.len, &buffer[..3]), (7, &MARK[..]));
        u32::from_le_bytes(buffer[3..7].try_into().unwrap())
    });
    (process::wait(pid).unwrap(), report)
}
