//! Proxies on the server host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::fixture::Fixture;
use crate::net::{SERVER_V4, World};
use crate::process::Process;
use crate::wait;

/// Port of HTTP proxies.
pub const HTTP_PORT: u16 = 3128;

/// Starts a proxy on the server host and waits until it listens.
///
/// # Panics
/// It does not.
pub fn start(world: &World, fixture: &Fixture, command: Command, port: u16) -> Process {
    let proxy = Process::start(command, fixture.dir(), "proxy", None);
    wait::until(&format!("the proxy\n{}", proxy.output()), || {
        let sockets = world
            .server
            .run("ss", &["-tlnH", "sport", "=", &port.to_string()]);
        (!sockets.is_empty()).then_some(())
    });
    proxy
}

/// squid that lets in whom it knows by these lines of configuration. It becomes another user, for
/// whom the folder `squid` of the fixture is writable.
///
/// # Panics
/// It is not installed or does not come up.
pub fn squid(world: &World, fixture: &Fixture, authentication: &str, variables: &[(&str, &str)]) -> Process {
    let dir = fixture.path("squid");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let dir = dir.display();
    let config = format!(
        "http_port {SERVER_V4}:{HTTP_PORT}\npid_filename {dir}/pid\ncache_log {dir}/log\n\
         access_log stdio:{dir}/access\ncoredump_dir {dir}\ncache deny all\nshutdown_lifetime 0 seconds\n\
         pinger_enable off\n{authentication}\
         acl users proxy_auth REQUIRED\nhttp_access allow users\nhttp_access deny all\n"
    );
    let config = fixture.write_file("squid.conf", &config);
    let mut command = world.server.command("squid");
    command.args(["-N", "-f"]).arg(config);
    command.envs(variables.iter().copied());
    start(world, fixture, command, HTTP_PORT)
}
