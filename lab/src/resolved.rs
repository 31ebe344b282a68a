//! systemd-resolved on a host, with a system bus of its own.
//!
//! `scripts/setup test` unpacks Debian's package into [`FOLDER`]. It is never installed, because
//! that would take over the resolver of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::Fixture;
use crate::net::Host;
use crate::process::Process;
use crate::wait;

/// Where the unpacked package is.
pub const FOLDER: &str = "/var/cache/culvert-lab/systemd-resolved";

/// The user that the service wants to be, in a mount namespace that hides the real files.
const STAGE: &str = "set -e
dir=$1; shift
for file in passwd group; do cp /etc/$file $dir/$file; done
echo 'systemd-resolve:x:64999:64999::/:/usr/sbin/nologin' >>$dir/passwd
echo 'systemd-resolve:x:64999:' >>$dir/group
for file in passwd group; do mount --bind $dir/$file /etc/$file; done
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/systemd
exec \"$@\"";

/// The running service and its bus.
#[derive(Debug)]
pub struct Resolved<'a> {
    host: &'a Host,
    address: String,
    /// The service; it ends before its bus.
    pub service: Process,
    _bus: Process,
}

impl<'a> Resolved<'a> {
    /// Starts the service on `host`, whose name service switch will name it.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start(host: &'a Host, fixture: &Fixture) -> Self {
        let folder = Path::new(FOLDER);
        let policy = folder.join("usr/share/dbus-1/system.d/org.freedesktop.resolve1.conf");
        assert!(policy.exists(), "{FOLDER} is missing: run scripts/setup test");
        host.write_etc(
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files resolve dns\n",
        );
        let config = fixture.write_file(
            "bus.conf",
            &format!(
                "<busconfig><include>/usr/share/dbus-1/system.conf</include><include>{}</include></busconfig>",
                policy.display()
            ),
        );
        let address = format!("unix:path={}", fixture.path("bus").display());
        let mut bus = staged(host, fixture, "bus-etc", "dbus-daemon".as_ref());
        bus.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .arg(format!("--address={address}"))
            .arg(format!("--config-file={}", config.display()));
        let mut bus = Process::start(bus, fixture.dir(), "dbus-daemon", None);
        bus.wait_for("unix:path=");

        let program = folder.join("lib/systemd/systemd-resolved");
        let mut service = staged(host, fixture, "resolved-etc", &program);
        service.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        let service = Process::start(service, fixture.dir(), "systemd-resolved", None);
        let resolved = Self {
            host,
            address,
            service,
            _bus: bus,
        };
        wait::until(
            &format!("systemd-resolved\n{}", resolved.service.output()),
            || resolved.ask(&["status"]),
        );
        resolved
    }

    /// Lets a program on the host find the service.
    pub fn introduce(&self, command: &mut Command) {
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
    }

    /// Runs `resolvectl` and gives its standard output, or `None` when it fails.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let mut command = self
            .host
            .command(PathBuf::from(FOLDER).join("usr/bin/resolvectl"));
        self.introduce(&mut command);
        let output = command
            .args(["--no-pager", "--legend=no"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }
}

/// A program behind [`STAGE`].
fn staged(host: &Host, fixture: &Fixture, folder: &str, program: &Path) -> Command {
    let folder = fixture.path(folder);
    std::fs::create_dir(&folder).unwrap();
    let mut command = host.command("unshare");
    command
        .args(["--mount", "sh", "-c", STAGE, "stage"])
        .arg(folder)
        .arg(program);
    command
}
