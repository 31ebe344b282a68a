//! The two kinds of transport: a socket with a record layer, and what waits while the socket is
//! blocked.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use culvert_record::{PacketSealer, SealError};
use culvert_sys::epoll::Interest;
use culvert_sys::tcp;
use culvert_sys::udp::SendError;

use super::runs::Runs;
use super::socket::DatagramSocket;
use crate::batch::Batch;
use crate::buffers::Outbox;

/// The TLS connection.
pub(super) struct Stream<S, O> {
    pub(super) socket: Arc<OwnedFd>,
    /// `None` while it is lent to another thread.
    pub(super) sender: Option<StreamSender<S>>,
    pub(super) opener: O,
    /// Start of a record whose end has not arrived.
    pub(super) partial: Vec<u8>,
    pub(super) interest: Interest,
}

/// What sends on the TLS connection.
pub(super) struct StreamSender<S> {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) sealer: S,
    /// What the socket did not take yet.
    pub(super) blocked: Option<Batch>,
}

/// A UDP socket with its channel, or with the sealing half of it.
pub(super) struct Datagram<C> {
    pub(super) socket: DatagramSocket,
    pub(super) channel: C,
    pub(super) blocked: Option<Batch>,
    pub(super) interest: Interest,
    pub(super) runs: Runs,
}

impl<S, O> Stream<S, O> {
    /// True when something waits for the socket; not while the sender is lent.
    pub(super) fn is_blocked(&self) -> bool {
        self.sender
            .as_ref()
            .is_some_and(|sender| sender.blocked.is_some())
    }
}

/// What happened while a batch was sent, besides its departure.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// `UDP_SEGMENT` turned out not to work.
    pub(super) segmentation_failed: bool,
    /// Size of a datagram that was too large and dropped.
    pub(super) too_large: Option<usize>,
    /// Datagrams that were dropped.
    pub(super) dropped: u64,
    /// The transport is broken.
    pub(super) error: Option<io::Error>,
}

/// What the two have in common for the sending side.
pub(super) trait Outlet {
    type Sealer: PacketSealer;

    fn sealer(&mut self) -> &mut Self::Sealer;

    fn blocked(&mut self) -> &mut Option<Batch>;

    fn is_blocked(&mut self) -> bool {
        self.blocked().is_some()
    }

    /// Sends what it can of a batch; leaves the rest in it.
    fn transmit(&mut self, batch: &mut Batch) -> Flushed;

    /// Sends the outbox; keeps what the socket does not take.
    fn flush(&mut self, outbox: &mut Outbox) -> Flushed {
        outbox.batch.complete(self.sealer());
        let flushed = self.transmit(&mut outbox.batch);
        if flushed.error.is_some() {
            outbox.batch.clear();
        } else if !outbox.batch.is_empty() {
            *self.blocked() = Some(outbox.take());
        }
        flushed
    }

    /// Goes on after the socket has become writable.
    fn resume(&mut self, outbox: &mut Outbox) -> Flushed {
        let Some(mut batch) = self.blocked().take() else {
            return Flushed::default();
        };
        let flushed = self.transmit(&mut batch);
        if flushed.error.is_none() && !batch.is_empty() {
            *self.blocked() = Some(batch);
        } else {
            outbox.recycle(batch);
        }
        flushed
    }

    /// Runs `seal` on the batch that goes out next: behind what waits, or in the outbox, which
    /// is then sent.
    fn send_with(
        &mut self,
        outbox: &mut Outbox,
        seal: impl FnOnce(&mut Self::Sealer, &mut Batch) -> Result<(), SealError>,
    ) -> Result<Flushed, SealError> {
        if let Some(mut batch) = self.blocked().take() {
            let result = seal(self.sealer(), &mut batch);
            batch.complete(self.sealer());
            *self.blocked() = Some(batch);
            return result.map(|()| Flushed::default());
        }
        let result = seal(self.sealer(), &mut outbox.batch);
        let flushed = self.flush(outbox);
        result.map(|()| flushed)
    }
}

impl Flushed {
    /// True when there is something that the session has to know.
    pub(super) fn is_eventful(&self) -> bool {
        self.segmentation_failed || self.too_large.is_some() || self.error.is_some()
    }

    /// Adds what a later attempt gave.
    pub(super) fn merge(&mut self, later: Self) {
        self.segmentation_failed |= later.segmentation_failed;
        self.too_large = later.too_large.or(self.too_large);
        self.dropped += later.dropped;
        self.error = later.error.or(self.error.take());
    }
}

impl<S: PacketSealer> Outlet for StreamSender<S> {
    type Sealer = S;

    fn sealer(&mut self) -> &mut S {
        &mut self.sealer
    }

    fn blocked(&mut self) -> &mut Option<Batch> {
        &mut self.blocked
    }

    fn transmit(&mut self, batch: &mut Batch) -> Flushed {
        let mut flushed = Flushed::default();
        if batch.is_empty() {
            return flushed;
        }
        // A short count means that the socket is full: the poller tells when it is not.
        match tcp::send(&*self.socket, batch.unsent()) {
            Ok(octets) => batch.advance(octets),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => flushed.error = Some(error),
        }
        flushed
    }
}

impl<C: PacketSealer> Outlet for Datagram<C> {
    type Sealer = C;

    fn sealer(&mut self) -> &mut C {
        &mut self.channel
    }

    fn blocked(&mut self) -> &mut Option<Batch> {
        &mut self.blocked
    }

    fn transmit(&mut self, batch: &mut Batch) -> Flushed {
        let mut flushed = Flushed::default();
        let mut attempts = 0;
        while let Some(run) = self.runs.next(batch) {
            let octets = batch.bytes(run.bytes.clone());
            let sent = self.socket.send(octets, run.segment, run.type_of_service);
            attempts += 1;
            if attempts < attempts_for(&sent) {
                continue;
            }
            attempts = 0;
            match sent {
                Ok(()) => {
                    flushed.segmentation_failed |= self.runs.is_news(&run);
                    self.runs.done(&run);
                    batch.finish_run(&run);
                }
                Err(SendError::WouldBlock) => return flushed,
                Err(SendError::NoSegmentation) if run.records > 1 => self.runs.refuse(0),
                // One by one the last, shorter one may fit, and what need not stay whole goes in
                // fragments.
                Err(SendError::TooLarge) if run.records > 1 => self.runs.refuse(run.segment),
                Err(SendError::TooLarge) => {
                    flushed.too_large = Some(run.segment);
                    flushed.dropped += 1;
                    self.runs.done(&run);
                    batch.finish_run(&run);
                }
                // The verdict is dead peer detection's.
                Err(SendError::Refused) => {
                    flushed.dropped += run.records as u64;
                    batch.finish_run(&run);
                }
                Err(SendError::Io(error)) => {
                    flushed.error = Some(error);
                    return flushed;
                }
                Err(error @ SendError::NoSegmentation) => {
                    flushed.error = Some(io::Error::other(error));
                    return flushed;
                }
            }
        }
        flushed
    }
}

/// How often a call with this result is made before it counts. An error may belong to an earlier datagram:
/// ICMP messages end up here, and anybody may forge some. Of those that end the channel there would have to
/// come one between each two calls.
fn attempts_for(sent: &Result<(), SendError>) -> u32 {
    match sent {
        Ok(()) | Err(SendError::WouldBlock) => 1,
        Err(SendError::NoSegmentation | SendError::TooLarge | SendError::Refused) => 2,
        Err(SendError::Io(_)) => 16,
    }
}
