//! The login works under preload wrappers, as administrators and packagers test: the real ocserv
//! and our client, both over Debian's libsocket-wrapper, without a network namespace.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Fixture, Make, PASSWORD, Process, USER};

#[test]
fn login_over_wrapped_sockets() {
    let fixture = Fixture::new();
    let sockets = fixture.path("sockets");
    fs::create_dir(&sockets).unwrap();
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o777)).unwrap();
    let wrapped = |mut command: Command, libraries: &str| {
        command
            .env("LD_PRELOAD", libraries)
            .env("SOCKET_WRAPPER_DIR", &sockets)
            .env("SOCKET_WRAPPER_DEFAULT_IFACE", "2")
            .env("UID_WRAPPER", "1")
            .env("UID_WRAPPER_ROOT", "1");
        command
    };
    let config = fixture.write_file(
        "ocserv.conf",
        &fixture.ocserv_conf(&[("tcp-port", "4443"), ("use-occtl", "false")]),
    );
    let mut command = Command::new(Make::Real.program("ocserv"));
    command.args(["-f", "-d", "3", "-c"]).arg(config);
    let mut server = Process::start(
        wrapped(command, "libsocket_wrapper.so:libuid_wrapper.so"),
        fixture.dir(),
        "ocserv",
        None,
    );
    server.wait_for("listening (TCP)");
    for mode in ["--cookieonly", "--authenticate"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openconnect"));
        command.args([mode, "--passwd-on-stdin", "--user", USER, "--cafile"]);
        command.arg(fixture.path("ca.pem"));
        command.args(["--resolve", &format!("{SERVER_NAME}:127.0.0.2"), "--no-proxy"]);
        command.arg(format!("{SERVER_NAME}:4443"));
        let mut client = Process::start(
            wrapped(command, "libsocket_wrapper.so"),
            fixture.dir(),
            "client",
            Some(&format!("{PASSWORD}\n")),
        );
        assert_eq!(client.exit_code(), 0, "{}{}", client.output(), server.output());
        assert!(client.stdout().contains("webvpn="), "{}", client.output());
    }
}
