//! `restrict-user-to-routes` and `restrict-user-to-ports` (`specs/server-config.md` §14.2): a table of
//! nftables for each restricted client. It is made and removed in one transaction each, by `nft`.
//!
//! The name of the table ends in the index of the client's device, which the kernel does not use
//! again: a removal that comes late cannot hit the table of the next client, nor of another server
//! on this host.

mod rules;

use std::io;
use std::process::Stdio;
use std::time::Duration;

use culvert_sys::interfaces;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::scripts::{self, Subject};
use crate::log::{self, Level};

/// The program that speaks to the kernel.
const PROGRAM: &str = "nft";
/// Longest time for one transaction.
const PATIENCE: Duration = Duration::from_secs(20);
/// How the names of all tables begin.
const PREFIX: &str = "ocserv_";

/// The rules of one client.
pub(crate) struct Firewall {
    table: String,
    rules: String,
}

impl Firewall {
    /// The rules of a session; `None` when it is not restricted, or restricted by the program
    /// that the administrator has put in this one's place.
    pub(crate) fn of(subject: &Subject) -> Option<Self> {
        let settings = &subject.session.settings;
        if scripts::firewall_program().is_some() || !scripts::is_restricted(settings) {
            return None;
        }
        let table = table_name(&subject.device, subject.device_index);
        let rules = rules::table(&table, &subject.device_index.to_string(), settings);
        Some(Self { table, rules })
    }

    /// Puts the rules in force.
    ///
    /// # Errors
    /// One line that says what went wrong. Nothing is in force then.
    pub(crate) async fn install(&self) -> Result<(), String> {
        nft(&self.rules).await
    }

    /// Removes the rules.
    pub(crate) async fn remove(&self) {
        if let Err(why) = nft(&removal(&self.table)).await {
            log::write(Level::Warning, &format!("main: firewall: {why}"));
        }
    }
}

/// Removes the tables of devices that are gone: those of a server that was killed. Without `nft`
/// there are none.
pub(crate) fn remove_stale() {
    let run = |arguments: &[&str]| {
        std::process::Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
    };
    let Ok(listed) = run(&["list", "tables", "inet"]) else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for table in stale(&listed, |index| interfaces::name(index).ok()) {
        log::write(
            Level::Info,
            &format!("main: removing the firewall rules {table} of a client that is gone"),
        );
        if let Err(error) = run(&[&removal(table)]) {
            log::write(Level::Warning, &format!("main: firewall: {PROGRAM}: {error}"));
        }
    }
}

/// Names of tables whose device does not exist.
fn stale(listed: &str, name_of: impl Fn(u32) -> Option<String>) -> Vec<&str> {
    let of_gone_device = |table: &&str| {
        let Some((_, index)) = table.rsplit_once('_') else {
            return false;
        };
        index
            .parse()
            .is_ok_and(|index| name_of(index).is_none_or(|device| table_name(&device, index) != **table))
    };
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("table inet "))
        .filter(|table| table.starts_with(PREFIX))
        .filter(of_gone_device)
        .collect()
}

fn table_name(device: &str, index: u32) -> String {
    let plain: String = device
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '_'
            }
        })
        .collect();
    format!("{PREFIX}{plain}_{index}")
}

/// A transaction that works also when the table is not there.
fn removal(table: &str) -> String {
    format!("add table inet {table}; delete table inet {table}")
}

/// Runs one transaction.
async fn nft(transaction: &str) -> Result<(), String> {
    let talk = async {
        let mut child = Command::new(PROGRAM)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(transaction.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, talk).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{PROGRAM} is needed for restrict-user-to-* and not installed"
            ));
        }
        Ok(Err(error)) => return Err(format!("cannot run {PROGRAM}: {error}")),
        Err(_) => return Err(format!("{PROGRAM} does not end")),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    Err(format!("{PROGRAM} failed ({}): {first}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_devices_that_are_gone() {
        let listed = "table inet filter\ntable inet ocserv_vpns0_7\ntable inet ocserv_vpns0_9\n\
                      table inet ocserv_vpn_s1_8\ntable inet ocserv_vpns0\ntable ip ocserv_x_5\n";
        let devices = |index| match index {
            7 => Some("vpns0".to_owned()),
            8 => Some("vpn-s1".to_owned()),
            9 => Some("eth7".to_owned()),
            _ => None,
        };
        assert_eq!(stale(listed, devices), ["ocserv_vpns0_9"]);
        assert_eq!(stale(listed, |_| None).len(), 3);
    }
}
