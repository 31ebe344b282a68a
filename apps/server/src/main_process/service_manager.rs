//! What systemd gives and wants to know: sockets by activation, news of the service's state
//! (`specs/server-config.md` §4.2).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use culvert_sys::{clock, process};

use crate::log::{self, Level};

/// Number of the first descriptor that a service manager passes.
const FIRST: RawFd = 3;
/// More sockets than anybody passes.
const SOCKETS_MAX: i32 = 64;

/// Sockets that the service manager has opened for this process. Call once, at the start of the
/// program.
pub(crate) fn inherited_sockets() -> Vec<OwnedFd> {
    let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, SOCKETS_MAX);
    (FIRST..FIRST + count).filter_map(process::inherited).collect()
}

/// Tells the service manager that the server serves.
pub(crate) fn ready() {
    tell("READY=1");
}

/// Tells the service manager that the configuration is read again; [`ready`] ends that.
pub(crate) fn reloading() {
    tell(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}",
        clock::monotonic_micros()
    ));
}

/// Tells the service manager that the server stops.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(news: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, news) {
        log::write(
            Level::Debug,
            &format!("main: cannot tell the service manager: {error}"),
        );
    }
}

fn send(socket: &OsStr, news: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the server.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(news.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrive_at_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("culvert-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let mut buffer = [0; 64];
        let length = by_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        let length = by_name.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1");
        assert!(send(OsStr::new("/nobody/listens"), "READY=1").is_err());
    }
}
