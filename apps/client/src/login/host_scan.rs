//! Examination of this host for an AnyConnect gateway (`specs/anyconnect.md` §8).

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use culvert_login::client::HostScan;
use culvert_sys::random;
use culvert_wire::url::ServerUrl;
use data_encoding::HEXUPPER;
use md5::{Digest, Md5};

use super::driver::LoginFailure;
use crate::context::Context;
use crate::helper::{Helper, HelperError, HelperOutput};
use crate::net::Peer;
use crate::prompt::reason;

/// How long a scan may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Octets that a file name may be made of, 64 of them.
const NAME: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// The server's program in a file of its own, removed when dropped.
struct ProgramFile(PathBuf);

impl ProgramFile {
    fn write(program: &[u8]) -> io::Result<Self> {
        let name = random::array::<6>()?.map(|octet| NAME[usize::from(octet % 64)]);
        let name = format!("csd{}", String::from_utf8_lossy(&name));
        let file = Self(folder().join(name));
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&file.0)?;
        open.write_all(program)?;
        open.set_permissions(Permissions::from_mode(0o755))?;
        Ok(file)
    }
}

impl Drop for ProgramFile {
    fn drop(&mut self) {
        // It may have removed itself.
        let _ = fs::remove_file(&self.0);
    }
}

fn folder() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(
        || match fs::metadata("/var/tmp") {
            Ok(found) if found.is_dir() => PathBuf::from("/var/tmp"),
            _ => PathBuf::from("/tmp"),
        },
        PathBuf::from,
    )
}

/// Runs the program that examines this host. That it finds fault is for the server to judge.
///
/// # Errors
/// See [`LoginFailure`]; the user has been told.
pub(super) fn examine(context: &Context, scan: &HostScan, peer: Option<&Peer>) -> Result<(), LoginFailure> {
    let failed = |text: &str| {
        context.output.error(text);
        LoginFailure::Other
    };
    let options = &context.options.host_scan;
    let file = match &scan.program {
        Some(program) => Some(ProgramFile::write(program).map_err(|error| {
            failed(&format!(
                "Failed to save the server's host scan program: {}",
                reason(&error)
            ))
        })?),
        None => None,
    };
    let file = file.as_ref().map(|file| file.0.as_path());
    let (program, first) = match (&options.wrapper, file) {
        (Some(wrapper), file) => (wrapper.as_path(), Some(file.unwrap_or(Path::new("")))),
        (None, Some(file)) => (file, None),
        (None, None) => return Err(failed("There is no program for the host scan")),
    };
    let pin = peer.and_then(|peer| peer.pin.as_deref()).unwrap_or_default();
    let pin = pin.strip_prefix("pin-sha256:").unwrap_or(pin);
    let url = url(scan, peer);
    let helper = Helper {
        program,
        arguments: arguments(scan, first, &fingerprints(context, peer), &url),
        environment: vec![
            ("CSD_SHA256", Some(pin.to_owned())),
            ("CSD_TOKEN", Some(scan.token.expose().to_owned())),
            ("CSD_HOSTNAME", Some(url.host_name().to_owned())),
        ],
        user: options.user,
        output: HelperOutput::Shown,
        limit: LIMIT,
        foreign: options.wrapper.is_none(),
    };
    let shown = program.display().to_string();
    context
        .output
        .info(&format!("Trying to run CSD Trojan script '{shown}'."));
    let finished = helper.run(&context.signals).map_err(|error| match error {
        HelperError::Interrupted(signal) => LoginFailure::Interrupted(signal),
        other => failed(&other.to_string()),
    })?;
    match finished.status.code() {
        Some(0) => {
            let text = format!("CSD script '{shown}' completed successfully.");
            context.output.info(&text);
            Ok(())
        }
        Some(code) => {
            context.output.error(&format!(
                "CSD script '{shown}' returned non-zero status: {code}\n\
                 Authentication may fail. If your script is not returning zero, fix it."
            ));
            Ok(())
        }
        None => Err(failed(&format!("CSD script '{shown}' exited abnormally"))),
    }
}

/// Where the program reports to: the server that the login is at, not another of the same name.
fn url(scan: &HostScan, peer: Option<&Peer>) -> ServerUrl {
    let address = peer.filter(|peer| !peer.proxied).map(|peer| peer.address.ip());
    let host = match address {
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        Some(address) => address.to_string(),
        None => scan.server.host.clone(),
    };
    ServerUrl {
        host,
        path: scan.start.trim_start_matches('/').to_owned(),
        ..scan.server.clone()
    }
}

/// The command line of the program, whose first argument is `first`.
fn arguments(scan: &HostScan, first: Option<&Path>, certificates: &str, url: &ServerUrl) -> Vec<OsString> {
    let url = match scan.start.as_str() {
        "" => url.to_string().trim_end_matches('/').to_owned(),
        _ => url.to_string(),
    };
    let mut arguments: Vec<OsString> = first.map(Into::into).into_iter().collect();
    for (name, value) in [
        ("-ticket", scan.ticket.as_str()),
        ("-stub", "0"),
        ("-group", scan.group.as_str()),
        ("-certhash", certificates),
        ("-url", url.as_str()),
    ] {
        arguments.push(name.into());
        arguments.push(format!("\"{value}\"").into());
    }
    arguments.push("-langselen".into());
    arguments
}

/// MD5 of the server's certificate and of the client's, if it has one.
fn fingerprints(context: &Context, peer: Option<&Peer>) -> String {
    let md5 = |der: Option<&[u8]>| {
        der.map(|der| HEXUPPER.encode(&Md5::digest(der)))
            .unwrap_or_default()
    };
    let own = context.credentials.identity(context).ok().flatten();
    let own = own.as_ref().and_then(|own| own.cert.first());
    format!(
        "{}:{}",
        md5(peer.and_then(|peer| peer.certificate.as_deref())),
        md5(own.map(AsRef::as_ref))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_in_a_file_for_as_long_as_it_is_needed() {
        let file = ProgramFile::write(b"#!/bin/sh\n").expect("written");
        let path = file.0.clone();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with("csd") && name.len() == 9, "{name}");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        drop(file);
        assert!(!path.exists());
    }
}
