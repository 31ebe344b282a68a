//! Frames that are no packets, and new keys of the stream.

use std::time::Instant;

use culvert_record::{DatagramChannel, FrameKind, SealError, StreamOpener, StreamSealer};

use super::Session;
use super::event::{DatagramLoss, Event, FrameError, StreamError};
use super::transport::Outlet;
use crate::buffers::Buffers;
use crate::policy::{Channel, Role};

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Sends a frame that is no packet of the device: a probe, a keepalive, a farewell.
    ///
    /// # Errors
    /// See [`FrameError`]; `TooLarge` is the answer to a probe of the path MTU.
    pub fn send(
        &mut self,
        now: Instant,
        channel: Channel,
        kind: FrameKind,
        payload: &[u8],
        buffers: &mut Buffers,
    ) -> Result<(), FrameError> {
        self.recall(now);
        let outbox = &mut buffers.outgoing.outbox;
        let write = |out: &mut [u8]| out.copy_from_slice(payload);
        let sent = match channel {
            Channel::Stream => self.stream_sender().map(|sender| {
                sender.send_with(outbox, |sealer, batch| {
                    batch.seal(sealer, kind, payload.len(), None, write)
                })
            }),
            Channel::Datagram => self.active_datagram().map(|datagram| {
                datagram.send_with(outbox, |sealer, batch| {
                    batch.seal(sealer, kind, payload.len(), None, write)
                })
            }),
        };
        let result = match sent {
            None => Err(FrameError::Closed),
            Some(Err(SealError::Oversize)) => Err(FrameError::TooLarge),
            Some(Err(SealError::Buffer)) => Err(FrameError::Full),
            Some(Err(error @ SealError::Exhausted)) => {
                match channel {
                    Channel::Stream => self.stream_failed(StreamError::Seal(error)),
                    Channel::Datagram => self.datagram_lost(DatagramLoss::Seal(error)),
                }
                Err(FrameError::Failed)
            }
            Some(Ok(mut flushed)) => {
                self.policy.sent(channel, now);
                // The caller learns of it by the result, not by an event.
                let too_large = flushed.too_large.take();
                let failed = flushed.error.is_some();
                self.after_flush(channel, flushed);
                match (failed, too_large) {
                    (true, _) => Err(FrameError::Failed),
                    (false, Some(_)) => Err(FrameError::TooLarge),
                    (false, None) => Ok(()),
                }
            }
        };
        self.update_interests(now);
        result
    }

    /// Announces new sending keys on the stream and switches to them, where the protocol can
    /// (TLS 1.3 KeyUpdate).
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn rekey_stream(
        &mut self,
        now: Instant,
        request_peer: bool,
        buffers: &mut Buffers,
    ) -> Result<(), FrameError> {
        self.recall(now);
        let Some(sender) = self.stream_sender() else {
            return Err(FrameError::Closed);
        };
        let sent = sender.send_with(&mut buffers.outgoing.outbox, |sealer, batch| {
            let mut message = Vec::new();
            sealer.rekey(request_peer, &mut message)?;
            batch.append(&message)
        });
        match sent {
            Ok(flushed) => {
                self.policy.rekeyed(Channel::Stream, now);
                self.after_flush(Channel::Stream, flushed);
                self.update_interests(now);
                Ok(())
            }
            Err(error) => {
                // The keys may have changed without the peer knowing.
                self.stream_failed(StreamError::Seal(error));
                Err(FrameError::Failed)
            }
        }
    }

    /// Renews the keys of the stream once they have protected as much as they should, whatever the
    /// timers say.
    pub(super) fn renew_worn_keys(&mut self, now: Instant, buffers: &mut Buffers) {
        if self
            .stream_sender()
            .is_some_and(|sender| sender.sealer.wants_rekey())
        {
            // An error has become an event already.
            let _ = self.rekey_stream(now, false, buffers);
        }
    }

    pub(super) fn control_frame(
        &mut self,
        channel: Channel,
        kind: FrameKind,
        payload: Vec<u8>,
        now: Instant,
        buffers: &mut Buffers,
    ) {
        match kind {
            FrameKind::ProbeRequest => self.answer_probe(channel, &payload, now, buffers),
            FrameKind::ProbeResponse => {
                self.events.push_back(Event::ProbeResponse {
                    channel,
                    payload_len: payload.len(),
                });
            }
            FrameKind::Disconnect => self.events.push_back(Event::Disconnect {
                channel,
                reason: payload,
            }),
            FrameKind::Data | FrameKind::Keepalive => {}
            kind => self.events.push_back(Event::Frame {
                channel,
                kind,
                payload,
            }),
        }
    }

    /// A client answers with nothing, a server with the same octets
    /// (`specs/cstp-dtls.md` §4, §12.1).
    pub(super) fn answer_probe(
        &mut self,
        channel: Channel,
        payload: &[u8],
        now: Instant,
        buffers: &mut Buffers,
    ) {
        let echo = if self.config.role == Role::Server {
            payload
        } else {
            &[]
        };
        match self.send(now, channel, FrameKind::ProbeResponse, echo, buffers) {
            Ok(()) if channel == Channel::Datagram && echo.len() > usize::from(self.config.mtu) => {
                self.events.push_back(Event::LargeProbe { size: echo.len() });
            }
            Err(FrameError::TooLarge) => {
                self.events
                    .push_back(Event::DatagramTooLarge { size: echo.len() });
                // An answer all the same: the peer is being watched.
                let _ = self.send(now, channel, FrameKind::ProbeResponse, &[], buffers);
            }
            // Without an answer the peer asks again; failures of the channel are events.
            Ok(()) | Err(_) => {}
        }
    }
}
