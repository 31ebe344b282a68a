//! Who configures the host's network: a script, this program, or nobody (`--script-tun`).

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use culvert_netcfg::{Configured, Paths};
use culvert_sys::tun::{Tun, TunError, TunOptions};
use culvert_tunnel::Device;
use culvert_vocab::TunnelConfig;

use crate::context::Context;
use crate::output::printable;
use crate::script::{Environment, Reason, ScriptTun, run_script};
use crate::signals::Signal;

/// Longest name of a network interface.
const NAME_MAX: usize = 15;

/// The ways to configure the network.
#[derive(Debug)]
enum Method {
    /// `--script`: the program's contract is that of vpnc-script.
    Script(OsString),
    /// No `--script`: netlink and the resolver, by ourselves.
    BuiltIn(Option<Box<Configured>>),
    /// `--script-tun`: packets go to the program, and nothing is configured.
    ScriptTun(OsString, Option<ScriptTun>),
}

/// Facts about the connection that scripts are told.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The tunnel's configuration.
    pub(crate) config: TunnelConfig,
    /// Address of the server as connected.
    pub(crate) gateway: SocketAddr,
}

/// The host's network for one session.
#[derive(Debug)]
pub(crate) struct NetworkSetup {
    context: Arc<Context>,
    method: Method,
    device: Option<String>,
}

impl NetworkSetup {
    /// What the options ask for. Nothing happens yet.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let setup = &context.options.setup;
        let method = match (&setup.script, setup.script_tun) {
            (script, true) => Method::ScriptTun(script.clone().unwrap_or_default(), None),
            (Some(script), false) => Method::Script(script.clone()),
            (None, false) => Method::BuiltIn(None),
        };
        Self {
            context,
            method,
            device: None,
        }
    }

    /// Makes the device and configures the host. Returns the device and a signal that came
    /// meanwhile.
    ///
    /// # Errors
    /// The text to show; the session cannot go on.
    pub(crate) fn bring_up(&mut self, facts: &Facts) -> Result<(Device, Option<Signal>), String> {
        self.device = self.context.options.setup.interface.clone();
        if let Method::ScriptTun(command, program) = &mut self.method {
            let variables = environment(&self.context, None, facts).variables(None);
            let (started, socket) =
                ScriptTun::start(command, &variables).map_err(|error| error.to_string())?;
            *program = Some(started);
            return Ok((Device::Datagram(socket), None));
        }
        let mut signal = None;
        if let Method::Script(command) = &self.method {
            signal = self.run(command, Reason::PreInit, facts);
        }
        let tun = self.open_tun()?;
        let name = tun.name().to_owned();
        self.device = Some(name.clone());
        match &mut self.method {
            Method::Script(command) => {
                let command = command.clone();
                // What came last counts, unless that was only the wish for another connection.
                let later = self.run(&command, Reason::Connect, facts);
                signal = later
                    .filter(|later| signal.is_none() || *later != Signal::Reconnect)
                    .or(signal);
            }
            Method::BuiltIn(configured) => {
                show_banner(&facts.config);
                let done =
                    culvert_netcfg::configure(&Paths::default(), &name, facts.gateway.ip(), &facts.config)
                        .map_err(|error| chain(&error))?;
                for warning in done.warnings() {
                    self.context.output.error(warning);
                }
                *configured = Some(Box::new(done));
            }
            Method::ScriptTun(..) => {}
        }
        Ok((Device::Kernel(tun), signal))
    }

    fn open_tun(&self) -> Result<Tun, String> {
        let name = self.device.as_deref().unwrap_or_default();
        if name.len() > NAME_MAX {
            return Err(format!("Requested tun device name '{name}' is too long"));
        }
        Tun::open(&TunOptions {
            name,
            offload: true,
            owner: None,
            group: None,
        })
        .map_err(|error| {
            let hint = match &error {
                TunError::Attach(cause) if cause.raw_os_error() == Some(libc::EPERM) => {
                    "\nTo configure local networking, openconnect must be running as root"
                }
                _ => "",
            };
            format!("{}{hint}", without_os_code(&error.to_string()))
        })
    }

    /// Before an attempt to reconnect.
    pub(crate) fn before_reconnect(&mut self, facts: &Facts) -> Option<Signal> {
        match &mut self.method {
            Method::Script(command) => {
                let command = command.clone();
                self.run(&command, Reason::AttemptReconnect, facts)
            }
            Method::BuiltIn(_) | Method::ScriptTun(..) => {
                self.keep_gateway_reachable(facts.gateway.ip());
                None
            }
        }
    }

    /// Sees to it that the server is reached outside of the tunnel, unless that is a script's
    /// business.
    pub(crate) fn keep_gateway_reachable(&mut self, gateway: IpAddr) {
        if let Method::BuiltIn(Some(configured)) = &mut self.method
            && let Err(error) = configured.keep_gateway_reachable(gateway)
        {
            self.context.output.debug(&chain(&error));
        }
    }

    /// After a successful reconnect.
    pub(crate) fn after_reconnect(&mut self, facts: &Facts) -> Option<Signal> {
        if let Method::Script(command) = &self.method {
            return self.run(command, Reason::Reconnect, facts);
        }
        self.renew(facts);
        None
    }

    /// Makes the host's network right again after somebody else has changed it, unless that is a
    /// script's business.
    pub(crate) fn renew(&mut self, facts: &Facts) {
        let Method::BuiltIn(Some(configured)) = &mut self.method else {
            return;
        };
        let known = configured.warnings().to_vec();
        let renewed = configured.renew(facts.gateway.ip(), &facts.config);
        let news = match &renewed {
            Ok(()) => configured.warnings().to_vec(),
            Err(error) => vec![chain(error)],
        };
        for text in news.iter().filter(|text| !known.contains(text)) {
            self.context.output.error(text);
        }
    }

    /// At the end, while the device is still there.
    pub(crate) fn take_down(&mut self, facts: &Facts) {
        match &mut self.method {
            Method::Script(command) => {
                let command = command.clone();
                self.run(&command, Reason::Disconnect, facts);
            }
            Method::BuiltIn(configured) => {
                if let Some(configured) = configured.take() {
                    configured.undo();
                }
            }
            Method::ScriptTun(_, program) => *program = None,
        }
    }

    /// Becomes readable when the program of `--script-tun` ends.
    pub(crate) fn program_end(&self) -> Option<impl AsFd + '_> {
        match &self.method {
            Method::ScriptTun(_, Some(program)) => Some(program.ended()),
            _ => None,
        }
    }

    /// Name of the tun device, once there is one.
    pub(crate) fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    fn run(&self, command: &OsStr, reason: Reason, facts: &Facts) -> Option<Signal> {
        let environment = environment(&self.context, self.device.as_deref(), facts);
        if let Some(error) = environment.netmask_error().filter(|_| reason == Reason::Connect) {
            self.context.output.error(&error);
        }
        let ran = run_script(
            command,
            &environment.variables(Some(reason)),
            &self.context.signals,
        );
        if let Err(error) = ran.result {
            self.context.output.error(&error.to_string());
        }
        ran.signal
    }
}

fn environment<'a>(context: &Context, device: Option<&'a str>, facts: &'a Facts) -> Environment<'a> {
    Environment {
        config: &facts.config,
        gateway: facts.gateway.ip(),
        device,
        pid: std::process::id(),
        log_level: context.output.level(),
    }
}

/// As vpnc-script shows it.
fn show_banner(config: &TunnelConfig) {
    if let Some(banner) = &config.banner {
        let lines: String = printable(banner)
            .lines()
            .map(|line| format!("| {line}\n"))
            .collect();
        // A closed stdout must not end the tunnel.
        let _ = std::io::stdout().write_all(format!("Connect Banner:\n{lines}\n").as_bytes());
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    without_os_code(&text)
}

fn without_os_code(text: &str) -> String {
    match text.split_once(" (os error") {
        Some((before, _)) => before.to_owned(),
        None => text.to_owned(),
    }
}
