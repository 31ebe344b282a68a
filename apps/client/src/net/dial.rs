//! TCP to the first address that answers (RFC 8305 in its simplest form).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use culvert_sys::epoll::Interest;
use culvert_sys::network_changes::{NetworkChanges, source_towards};
use culvert_sys::tcp;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive as Keepalive, Type};

use super::Failure;
use crate::context::Context;
use crate::options::TcpKeepalive;
use crate::output::{Level, Output};
use crate::prompt::reason;
use crate::signals::WaitError;

/// How long an address may keep the next one waiting (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to one of `addresses` of a `peer` ("server", "proxy"); they are started one after the
/// other, each 250 ms after the one before or as soon as that has failed. That an address which is
/// `known` to work is used again is no news.
///
/// # Errors
/// None of them answers; the user has been told about each.
pub(super) fn connect(
    context: &Context,
    peer: &str,
    addresses: &[SocketAddr],
    known: bool,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let output = &context.output;
    let news = |level| if known { Level::Trace } else { level };
    let mut waiting = addresses.iter().copied();
    let mut attempts: Vec<(Socket, SocketAddr)> = Vec::new();
    let mut next_start = Some(Instant::now());
    loop {
        if next_start.is_some_and(|at| at <= Instant::now()) || attempts.is_empty() {
            match waiting.next() {
                Some(address) => {
                    let text = format!("Attempting to connect to {peer} {address}");
                    output.progress(news(Level::Debug), &text);
                    match start(address) {
                        Ok(socket) => attempts.push((socket, address)),
                        Err(error) => report(output, address, &error),
                    }
                    next_start = Some(Instant::now() + HEAD_START);
                }
                None if attempts.is_empty() => return Err(Failure::Failed),
                None => next_start = None,
            }
        }
        if let Some(connected) = take_connected(output, &mut attempts) {
            return finish(context, connected, news(Level::Info));
        }
        if attempts.is_empty() {
            continue;
        }
        let changes = context.changes.as_ref();
        let descriptors: Vec<_> = attempts
            .iter()
            .map(|(socket, _)| (socket.as_fd(), Interest::WRITE))
            .chain(changes.map(|changes| (changes.as_fd(), Interest::READ)))
            .collect();
        match context.signals.wait(&descriptors, next_start) {
            Ok(()) | Err(WaitError::TimedOut) => {
                if changes.is_some_and(NetworkChanges::drain) {
                    restart_stranded(output, &mut attempts);
                }
            }
            Err(WaitError::Interrupted(signal)) => {
                output.error("Socket connect cancelled");
                return Err(Failure::Interrupted(signal));
            }
            Err(WaitError::Io(error)) => {
                output.error(&format!("Failed to wait for a connection: {}", reason(&error)));
                return Err(Failure::Failed);
            }
        }
    }
}

fn start(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
        Ok(()) => Ok(socket),
    }
}

/// Starts those attempts anew whose own address does not lead to the server any more: they would
/// wait for an answer that cannot come.
fn restart_stranded(output: &Output, attempts: &mut Vec<(Socket, SocketAddr)>) {
    attempts.retain_mut(|(socket, address)| {
        let own = socket.local_addr().ok().and_then(|own| own.as_socket());
        let source = source_towards(address.ip());
        if source.is_none() || own.map(|own| own.ip()) == source {
            return true;
        }
        match start(*address) {
            Ok(fresh) => {
                *socket = fresh;
                true
            }
            Err(error) => {
                report(output, *address, &error);
                false
            }
        }
    });
}

fn report(output: &Output, address: SocketAddr, error: &io::Error) {
    output.info(&format!("Failed to connect to {address}: {}", reason(error)));
}

/// Removes the attempts that have failed, and returns one that has succeeded.
fn take_connected(output: &Output, attempts: &mut Vec<(Socket, SocketAddr)>) -> Option<(Socket, SocketAddr)> {
    attempts.retain(|(socket, address)| match socket.take_error() {
        Ok(None) => true,
        Ok(Some(error)) | Err(error) => {
            report(output, *address, &error);
            false
        }
    });
    let connected = attempts
        .iter()
        .position(|(socket, _)| socket.peer_addr().is_ok())?;
    Some(attempts.swap_remove(connected))
}

fn finish(
    context: &Context,
    (socket, address): (Socket, SocketAddr),
    level: Level,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let failed = |error: io::Error| {
        report(&context.output, address, &error);
        Failure::Failed
    };
    tcp::set_nodelay(&socket).map_err(failed)?;
    match context.options.network.tcp_keepalive {
        TcpKeepalive::Off => {}
        TcpKeepalive::SystemInterval => socket.set_keepalive(true).map_err(failed)?,
        TcpKeepalive::Seconds(seconds) => {
            let keepalive = Keepalive::new().with_time(Duration::from_secs(seconds.into()));
            socket.set_tcp_keepalive(&keepalive).map_err(failed)?;
        }
    }
    context.output.progress(level, &format!("Connected to {address}"));
    Ok((socket.into(), address))
}
