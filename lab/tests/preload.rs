//! Logins under preload wrappers, as packagers and administrators test: every socket is a file of
//! libsocket-wrapper, and the server is an unprivileged user whom libuid-wrapper calls root. No
//! network namespace and no tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use culvert_lab::fixture::{SERVER_NAME, USER};
use culvert_lab::{Finished, Fixture, Make, PASSWORD, Process, wait};

/// User and group that have no rights: `nobody` and `nogroup`.
const NOBODY: u32 = 65534;
/// Number of the server's interface in libsocket-wrapper: 127.0.0.2.
const SERVER_INTERFACE: &str = "2";
/// The address that goes with it.
const SERVER_ADDRESS: &str = "127.0.0.2";

/// The files of a server that belong to the user without rights.
fn files() -> Fixture {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("sockets")).unwrap();
    for name in [
        "",
        "sockets",
        "ca.pem",
        "server-cert.pem",
        "server-key.pem",
        "ocpasswd",
    ] {
        chown(fixture.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(fixture.path("sockets"), fs::Permissions::from_mode(0o777)).unwrap();
    fixture
}

/// A program as `nobody`, with these preloaded libraries.
fn wrapped(program: &Path, fixture: &Fixture, interface: &str, libraries: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "env"])
        .arg(format!(
            "SOCKET_WRAPPER_DIR={}",
            fixture.path("sockets").display()
        ))
        .arg(format!("SOCKET_WRAPPER_DEFAULT_IFACE={interface}"))
        .args(["UID_WRAPPER=1", "UID_WRAPPER_ROOT=1"])
        .arg(format!("LD_PRELOAD={libraries}"))
        .arg(program);
    command
}

fn start_server(make: Make, fixture: &Fixture) -> Process {
    // The real server's own sandbox does not know the wrappers' system calls.
    let isolate = if make == Make::Real { "false" } else { "true" };
    let config = fixture.ocserv_conf(&[("isolate-workers", isolate)]);
    let config = fixture.write_file("ocserv.conf", &config);
    let mut command = wrapped(
        &make.program("ocserv"),
        fixture,
        SERVER_INTERFACE,
        "libsocket_wrapper.so libuid_wrapper.so",
    );
    command.args(["-f", "-d", "3", "-c"]).arg(config);
    let mut server = Process::start(command, fixture.dir(), "ocserv", None);
    server.wait_for("listening (TCP) on 0.0.0.0:443");
    let socket = fixture.path("occtl.sock");
    wait::until("the control socket", || socket.exists().then_some(()));
    server
}

fn login(make: Make, fixture: &Fixture, mode: &str, password: &str) -> Finished {
    let program = make.program("openconnect");
    let mut command = wrapped(&program, fixture, "1", "libsocket_wrapper.so");
    command
        .arg("--cafile")
        .arg(fixture.path("ca.pem"))
        .args(["--user", USER, "--passwd-on-stdin", mode, "--resolve"])
        .arg(format!("{SERVER_NAME}:{SERVER_ADDRESS}"))
        .arg(format!("https://{SERVER_NAME}/"));
    Process::start(
        command,
        fixture.dir(),
        "openconnect",
        Some(&format!("{password}\n")),
    )
    .finish()
}

/// Cookies for good passwords, none for bad ones; the server ends as it should.
fn logins(client: Make, server: Make) {
    let fixture = files();
    let mut server = start_server(server, &fixture);
    let cookie = login(client, &fixture, "--cookieonly", PASSWORD);
    assert_eq!(cookie.code, 0, "{}{}", cookie.stderr, server.output());
    assert!(cookie.stdout.contains("webvpn="), "{}", cookie.stdout);

    let login_variables = login(client, &fixture, "--authenticate", PASSWORD);
    assert_eq!(
        login_variables.code,
        0,
        "{}{}",
        login_variables.stderr,
        server.output()
    );
    assert!(
        login_variables
            .stdout
            .contains(&format!("HOST='{SERVER_ADDRESS}'\n")),
        "{}",
        login_variables.stdout
    );

    let refused = login(client, &fixture, "--cookieonly", "wrong");
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, ""),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("Login failed."), "{}", refused.stderr);

    server.signal("TERM");
    assert_eq!(server.exit_code(), 0, "{}", server.output());
    assert!(!fixture.path("occtl.sock").exists());
}

#[test]
fn real_client_and_real_server() {
    logins(Make::Real, Make::Real);
}

#[test]
fn our_client_and_real_server() {
    logins(Make::Culvert, Make::Real);
}

#[test]
fn real_client_and_our_server() {
    logins(Make::Real, Make::Culvert);
}

#[test]
fn our_client_and_our_server() {
    logins(Make::Culvert, Make::Culvert);
}
