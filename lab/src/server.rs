//! A VPN server on the server host.

use std::path::PathBuf;
use std::process::Command;

use crate::fixture::Fixture;
use crate::net::World;
use crate::process::{self, Process};
use crate::{Make, wait};

/// Descriptors of a process that only makes workers: the standard ones, a channel, and its own status.
/// A later one has the title of a worker.
const HELPERS_DESCRIPTORS: usize = 5;

/// With more security modules, chosen by the number of processors, ocserv 1.1.6 asks the wrong one now
/// and then (`docs/findings.md`).
const ONE_MODULE: (&str, &str) = ("sec-mod-scale", "1");

/// What may be different from the ordinary server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions<'a> {
    /// Options that replace or extend those of [`Fixture::ocserv_conf`].
    pub overrides: &'a [(&'a str, &'a str)],
    /// Further command line arguments.
    pub arguments: &'a [&'a str],
    /// A program and its arguments that run the server in their place, e.g. `prlimit`.
    pub under: &'a [&'a str],
}

/// A running ocserv.
#[derive(Debug)]
pub struct Server {
    /// The main process.
    pub process: Process,
    make: Make,
    /// Name of the host's namespace.
    host: String,
    occtl_socket: PathBuf,
    /// Children that serve no connection: they are there before the first one.
    helpers: Vec<u32>,
}

impl Server {
    /// Starts the ordinary server and waits until it accepts connections.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start(make: Make, world: &World, fixture: &Fixture) -> Self {
        Self::start_with(make, world, fixture, &ServerOptions::default())
    }

    /// Starts a server with other options and waits until it accepts connections.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start_with(make: Make, world: &World, fixture: &Fixture, options: &ServerOptions) -> Self {
        let mut server = Self::launch(make, world, fixture, options);
        server.process.wait_for("listening (TCP) on [::]:443");
        wait::until("the control socket", || {
            server.occtl_socket.exists().then_some(())
        });
        server.helpers = process::children(server.process.pid());
        server
    }

    /// Starts a server without waiting.
    pub fn launch(make: Make, world: &World, fixture: &Fixture, options: &ServerOptions) -> Self {
        let mut overrides = options.overrides.to_vec();
        if make == Make::Real && !overrides.iter().any(|(name, _)| *name == ONE_MODULE.0) {
            overrides.push(ONE_MODULE);
        }
        let config = fixture.write_file("ocserv.conf", &fixture.ocserv_conf(&overrides));
        let program = make.program("ocserv");
        let mut command = match options.under {
            [] => world.server.command(program),
            [under, arguments @ ..] => {
                let mut command = world.server.command(under);
                command.args(arguments).arg(program);
                command
            }
        };
        command
            .args(["-f", "-d", "3", "--log-stderr", "-c"])
            .arg(config)
            .args(options.arguments);
        Self {
            process: Process::start(command, fixture.dir(), "ocserv", None),
            make,
            host: world.server.name().to_owned(),
            occtl_socket: fixture.path("occtl.sock"),
            helpers: Vec::new(),
        }
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits until it has logged `text` so many times.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        let said = wait::poll_within(wait::PATIENCE, || {
            (self.log().matches(text).count() >= times).then_some(())
        });
        assert!(said.is_some(), "'{text}' not {times} times in\n{}", self.log());
    }

    /// Runs `occtl` on the server's host and gives its exit code and standard output.
    ///
    /// # Panics
    /// occtl cannot be started.
    pub fn occtl(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new("ip");
        let output = command
            .args(["netns", "exec", &self.host])
            .arg(self.make.program("occtl"))
            .arg("-s")
            .arg(&self.occtl_socket)
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// The children of the main process.
    ///
    /// # Panics
    /// The main process has ended: that it has no children then says nothing.
    fn children(&self) -> Vec<u32> {
        let main = self.process.pid();
        assert!(
            !process::title(main).is_empty(),
            "the server has ended:\n{}",
            self.log()
        );
        process::children(main)
    }

    /// Pids of the processes that carry tunnels with `worker-processes = N`.
    ///
    /// # Panics
    /// The server has ended.
    pub fn pool(&self) -> Vec<u32> {
        self.children()
            .into_iter()
            .filter(|pid| process::title(*pid).contains("pool"))
            .collect()
    }

    /// Pids of the processes that serve connections.
    ///
    /// # Panics
    /// The server has ended.
    pub fn workers(&self) -> Vec<u32> {
        let is_worker = |pid: &u32| {
            !self.helpers.contains(pid)
                && process::title(*pid).contains("worker")
                && process::descriptors(*pid) > HELPERS_DESCRIPTORS
        };
        self.children().into_iter().filter(is_worker).collect()
    }

    /// Waits until `count` processes serve connections.
    ///
    /// # Panics
    /// It takes too long, or the server has ended.
    pub fn wait_for_workers(&self, count: usize) {
        wait::until(&format!("{count} workers of\n{}", self.log()), || {
            (self.workers().len() == count).then_some(())
        });
    }

    /// Waits until the server has neither users nor connections.
    ///
    /// # Panics
    /// It takes too long, or the server has ended.
    pub fn wait_until_alone(&self) {
        wait::until(&format!("the last session's end in\n{}", self.log()), || {
            let (code, users) = self.occtl(&["show", "users"]);
            (code == 0 && users.is_empty() && self.workers().is_empty()).then_some(())
        });
    }
}
