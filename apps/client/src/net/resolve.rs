//! Host names to addresses (`specs/client.md` §10.3, §10.4).

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use culvert_sys::epoll::Interest;

use super::Failure;
use crate::context::Context;
use crate::prompt::reason;
use crate::signals::WaitError;

/// The addresses of `host` in the order in which they are to be tried: those of `--resolve`, else
/// those of the name service.
///
/// # Errors
/// The name has no address; the user has been told.
pub(super) fn resolve(context: &Context, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let overrides = context
        .options
        .network
        .resolve
        .iter()
        .filter(|entry| entry.host == host);
    let mut addresses = Vec::new();
    let mut problem = None;
    for entry in overrides {
        context
            .output
            .trace(&format!("Override hostname '{host}' to '{}'", entry.address));
        match look_up(context, &entry.address, port) {
            Ok(found) => addresses.extend(found),
            Err(WaitError::Interrupted(signal)) => return Err(Failure::Interrupted(signal)),
            Err(error) => problem = Some(error),
        }
    }
    if addresses.is_empty() && problem.is_none() {
        match look_up(context, host, port) {
            Ok(found) => addresses = found,
            Err(WaitError::Interrupted(signal)) => return Err(Failure::Interrupted(signal)),
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(error) if addresses.is_empty() => {
            context
                .output
                .error(&format!("getaddrinfo failed for host '{host}': {}", text(&error)));
            Err(Failure::Failed)
        }
        _ => Ok(addresses),
    }
}

fn text(error: &WaitError) -> String {
    let text = match error {
        WaitError::Io(error) => reason(error),
        other => other.to_string(),
    };
    let prefix = "failed to lookup address information: ";
    text.strip_prefix(prefix).unwrap_or(&text).to_owned()
}

/// Asks the name service in a thread of its own, because it cannot be interrupted.
fn look_up(context: &Context, host: &str, port: u16) -> Result<Vec<SocketAddr>, WaitError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (done, mut finish) = UnixStream::pair()?;
    let name = host.to_owned();
    let worker = thread::Builder::new().name("resolver".into()).spawn(move || {
        let result = (name.as_str(), port)
            .to_socket_addrs()
            .map(Iterator::collect::<Vec<_>>);
        // Nobody listens any more if a signal came.
        let _ = finish.write_all(&[0]);
        result
    })?;
    context.signals.wait(&[(done.as_fd(), Interest::READ)], None)?;
    let found = worker
        .join()
        .map_err(|_| io::Error::other("the resolver thread failed"))??;
    if found.is_empty() {
        return Err(io::Error::other("No address associated with hostname").into());
    }
    Ok(found)
}
