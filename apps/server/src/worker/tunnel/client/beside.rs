//! The connection beside a tunnel that does not go over it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use culvert_login::server::{Beside, BesideEvent, Broken};
use culvert_sys::{random, tcp};
use culvert_tunnel::Buffers;

use super::{Client, Life};
use crate::ipc::messages::{LogLevel, WorkerReason, WorkerToMain};

/// Octets that one turn reads at most.
const READ: usize = 16384;

impl Client {
    /// One turn of the connection.
    pub(super) fn serve_beside(&mut self, now: Instant, buffers: &mut Buffers) {
        let Some((_, connection)) = &self.beside else {
            return;
        };
        let mut buffer = [0; READ];
        match tcp::receive(connection, &mut buffer) {
            Ok(0) => self.close_beside(),
            Ok(count) => self.hear(now, buffer.get(..count).unwrap_or_default(), buffers),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.close_beside(),
        }
    }

    /// Acts on octets that came over the connection.
    pub(super) fn hear(&mut self, now: Instant, octets: &[u8], buffers: &mut Buffers) {
        let Some((beside, connection)) = &mut self.beside else {
            return;
        };
        let heard = beside.handle_input(now, octets, &mut |octets| random::fill(octets).is_ok());
        let usable = flush(&mut **beside, connection).and(heard);
        while let Some((beside, _)) = &mut self.beside
            && let Some(event) = beside.poll_event()
        {
            self.follow(now, event, buffers);
        }
        if usable.is_err() {
            self.close_beside();
        }
    }

    fn follow(&mut self, now: Instant, event: BesideEvent, buffers: &mut Buffers) {
        match event {
            BesideEvent::Note(note) => self.log(LogLevel::Info, &note),
            BesideEvent::Report(name) => {
                self.reporter.tell(&WorkerToMain::Report(name));
            }
            BesideEvent::Channels(channels) => {
                self.session.detach_datagram();
                self.channels = Some(channels);
            }
            BesideEvent::Stream((sealer, opener), unread) => {
                let Some((_, connection)) = self.beside.take() else {
                    return;
                };
                let _was_registered = self.poller.delete(&connection);
                // The two exclude each other: from now on the keys of datagrams are worth nothing.
                self.session.detach_datagram();
                self.channels = None;
                self.reporter.tell(&WorkerToMain::DatagramChannel(None));
                let attached = self
                    .session
                    .attach_stream(now, connection, sealer, opener, &unread, buffers);
                if let Err(error) = attached {
                    self.log(LogLevel::Error, &format!("cannot use the TLS channel: {error}"));
                    self.life = Life::Over(WorkerReason::Error);
                }
            }
            BesideEvent::LoggedOut => {
                self.log(LogLevel::Info, "the client has logged out");
                self.life = Life::Over(WorkerReason::UserLogout);
            }
        }
    }

    pub(super) fn close_beside(&mut self) {
        if let Some((_, connection)) = self.beside.take() {
            // Another process may hold a copy.
            let _was_registered = self.poller.delete(&connection);
        }
    }
}

/// A client that does not read the few octets of an answer is not worth waiting for.
fn flush(beside: &mut dyn Beside, connection: &OwnedFd) -> Result<(), Broken> {
    while let Some(octets) = beside.poll_transmit() {
        match tcp::send(connection, &octets) {
            Ok(count) if count == octets.len() => {}
            Ok(_) | Err(_) => return Err(Broken),
        }
    }
    Ok(())
}
