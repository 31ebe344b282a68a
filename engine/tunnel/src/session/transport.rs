//! The two kinds of transport: a socket with a record layer, and what waits while the socket is
//! blocked.

use std::io;
use std::os::fd::OwnedFd;

use culvert_record::{DatagramChannel, PacketSealer, SealError, StreamSealer};
use culvert_sys::epoll::Interest;
use culvert_sys::tcp;
use culvert_sys::udp::SendError;

use super::socket::DatagramSocket;
use crate::batch::Batch;
use crate::buffers::Outbox;

/// The TLS connection.
pub(super) struct Stream<S, O> {
    pub(super) socket: OwnedFd,
    pub(super) sealer: S,
    pub(super) opener: O,
    /// Start of a record whose end has not arrived.
    pub(super) partial: Vec<u8>,
    /// What the socket did not take yet.
    pub(super) blocked: Option<Batch>,
    pub(super) interest: Interest,
}

/// A UDP socket with its channel.
pub(super) struct Datagram<D> {
    pub(super) socket: DatagramSocket,
    pub(super) channel: D,
    pub(super) blocked: Option<Batch>,
    pub(super) interest: Interest,
    /// `UDP_SEGMENT` is believed to work.
    pub(super) segmentation: bool,
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

    /// Sends what it can of a batch; leaves the rest in it.
    fn transmit(&mut self, batch: &mut Batch) -> Flushed;

    /// Sends the outbox; keeps what the socket does not take.
    fn flush(&mut self, outbox: &mut Outbox) -> Flushed {
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
            *self.blocked() = Some(batch);
            return result.map(|()| Flushed::default());
        }
        let result = seal(self.sealer(), &mut outbox.batch);
        let flushed = self.flush(outbox);
        result.map(|()| flushed)
    }
}

impl<S: StreamSealer, O> Outlet for Stream<S, O> {
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
        match tcp::send(&self.socket, batch.unsent()) {
            Ok(octets) => batch.advance(octets),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => flushed.error = Some(error),
        }
        flushed
    }
}

impl<D: DatagramChannel> Outlet for Datagram<D> {
    type Sealer = D;

    fn sealer(&mut self) -> &mut D {
        &mut self.channel
    }

    fn blocked(&mut self) -> &mut Option<Batch> {
        &mut self.blocked
    }

    fn transmit(&mut self, batch: &mut Batch) -> Flushed {
        let mut flushed = Flushed::default();
        // After EMSGSIZE for a whole run its records go one by one: the short one may fit.
        let mut single = 0usize;
        let mut refused = false;
        while let Some(run) = batch.next_run(self.segmentation && single == 0) {
            match self
                .socket
                .send(batch.bytes(run.bytes.clone()), run.segment, run.type_of_service)
            {
                Ok(()) => {
                    batch.finish_run(&run);
                    single = single.saturating_sub(1);
                    refused = false;
                }
                Err(SendError::WouldBlock) => return flushed,
                Err(SendError::NoSegmentation) => {
                    self.segmentation = false;
                    flushed.segmentation_failed = true;
                }
                Err(SendError::TooLarge) if run.records > 1 => single = run.records,
                Err(SendError::TooLarge) => {
                    flushed.too_large = Some(run.segment);
                    flushed.dropped += 1;
                    batch.finish_run(&run);
                    single = single.saturating_sub(1);
                }
                // The error belongs to an earlier datagram and may be forged: try once more,
                // and leave the verdict to dead peer detection.
                Err(SendError::Refused) if !refused => refused = true,
                Err(SendError::Refused) => {
                    refused = false;
                    flushed.dropped += run.records as u64;
                    batch.finish_run(&run);
                }
                Err(SendError::Io(error)) => {
                    flushed.error = Some(error);
                    return flushed;
                }
            }
        }
        flushed
    }
}
