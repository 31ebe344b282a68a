//! The resolver: systemd-resolved, resolvconf or `/etc/resolv.conf`, whichever the host has.

mod resolv_conf;
mod resolved;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::journal::{Change, DeviceId, Journal};
use crate::plan::DnsPlan;
use crate::{Error, Paths};

pub(crate) use resolv_conf::restore as restore_resolv_conf;
pub use resolv_conf::rewrite;
pub(crate) use resolved::revert as resolved_revert;

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

/// Tells the host's resolver about the tunnel's DNS servers.
pub(crate) fn apply(
    paths: &Paths,
    device: &DeviceId,
    plan: &DnsPlan,
    journal: &mut Journal,
) -> Result<(), Error> {
    if resolved::in_use(&paths.nsswitch, &paths.resolv_conf) {
        let change = Change::Resolved(device.clone());
        journal.record(change.clone())?;
        if resolved::apply(device.index, plan).map_err(Error::Dns)? {
            return Ok(());
        }
        journal.forget(&change)?;
    }
    if let Some(program) = resolvconf_program() {
        journal.record(Change::Resolvconf {
            interface: device.name.clone(),
        })?;
        return resolvconf_add(&program, &device.name, plan).map_err(Error::Dns);
    }
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
    let failed = |error: io::Error| DnsError::Resolvconf(error.to_string());
    let mut child = Command::new(program)
        .arg("-a")
        .arg(interface)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(resolv_conf::own_lines(plan).as_bytes())
            .map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(DnsError::Resolvconf(status.to_string()))
    }
}

/// `resolvconf -d`; a host that has lost the program since has nothing to undo.
pub(crate) fn resolvconf_delete(interface: &str) -> Result<(), DnsError> {
    let Some(program) = resolvconf_program() else {
        return Ok(());
    };
    let status = Command::new(program)
        .arg("-d")
        .arg(interface)
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(DnsError::Resolvconf(status.to_string())),
        Err(error) => Err(DnsError::Resolvconf(error.to_string())),
    }
}
