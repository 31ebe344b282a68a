//! The resolver: systemd-resolved, resolvconf or `/etc/resolv.conf`, whichever the host has.

mod resolv_conf;
mod resolved;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::process::{Pid, pidfd};

use crate::Error;
use crate::journal::{self, Change, DeviceId, Journal};
use crate::plan::DnsPlan;

pub(crate) use resolv_conf::{is_covered, restore as restore_resolv_conf};
pub(crate) use resolved::revert as resolved_revert;

/// How long `resolvconf` may take.
const RESOLVCONF_MAX: Duration = Duration::from_secs(10);

/// Why the resolver could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// systemd-resolved answered with an error.
    #[error("systemd-resolved refused: {0}")]
    Resolved(String),
    /// The `resolvconf` program failed.
    #[error("resolvconf failed: {0}")]
    Resolvconf(String),
    /// The file cannot be read or written.
    #[error("cannot update '{path}'")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Tells the host's resolver about the tunnel's DNS servers, once more after a reconnect.
pub(crate) fn apply(device: &DeviceId, plan: &DnsPlan, journal: &mut Journal) -> Result<(), Error> {
    let paths = journal.record().paths.clone();
    if resolved::in_use(&paths.nsswitch, &paths.resolv_conf) {
        let change = Change::Resolved(device.clone());
        journal.add(change.clone())?;
        if resolved::apply(device.index, plan).map_err(Error::Dns)? {
            return Ok(());
        }
        journal.forget(&change)?;
    }
    if let Some(program) = resolvconf_program() {
        let change = Change::Resolvconf {
            interface: device.name.clone(),
            lines: resolv_conf::own_lines(plan),
        };
        // It keeps what it is told, whoever rewrites the file.
        if journal.has(&change) {
            return Ok(());
        }
        journal.add(change)?;
        return resolvconf_add(&program, &device.name, plan).map_err(Error::Dns);
    }
    let _lock = journal::lock(&paths.state_dir);
    resolv_conf::apply(&paths.resolv_conf, plan, journal)
}

fn resolvconf_program() -> Option<PathBuf> {
    let candidates = ["/sbin/resolvconf", "/usr/sbin/resolvconf", "/usr/bin/resolvconf"];
    candidates
        .iter()
        .map(PathBuf::from)
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()))
}

fn resolvconf_add(program: &Path, interface: &str, plan: &DnsPlan) -> Result<(), DnsError> {
    let mut command = Command::new(program);
    command.arg("-a").arg(interface);
    resolvconf(command, &resolv_conf::own_lines(plan))
}

/// `resolvconf -d`; a host that has lost the program since has nothing to undo.
pub(crate) fn resolvconf_delete(interface: &str) -> Result<(), DnsError> {
    let Some(program) = resolvconf_program() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command.arg("-d").arg(interface);
    resolvconf(command, "")
}

/// Runs the program with this input, and kills it when it hangs.
fn resolvconf(mut command: Command, input: &str) -> Result<(), DnsError> {
    let failed = |error: io::Error| DnsError::Resolvconf(error.to_string());
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let ended = pidfd(Pid::try_from(child.id()).unwrap_or_default()).map_err(failed)?;
    // A pipe takes these few lines at once; who does not read them says so by its exit status.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let poller = Poller::new().map_err(failed)?;
    poller.add(&ended, 0, Interest::READ).map_err(failed)?;
    let mut events = Events::with_capacity(1);
    let waited = poller.wait(&mut events, Some(Instant::now() + RESOLVCONF_MAX));
    waited.map_err(failed)?;
    if events.is_empty() {
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        return Err(DnsError::Resolvconf("no end within 10 s".to_owned()));
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(DnsError::Resolvconf(status.to_string())),
    }
}
