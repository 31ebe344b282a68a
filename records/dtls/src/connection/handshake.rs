//! The handshakes of an association: the first one, and those that renew its keys.

use std::time::{Duration, Instant};

use super::{Connection, Status};
use crate::Error;
use crate::handshake::exchange::{Exchange, LastFlight, Role};
use crate::handshake::flight::{FlightMessage, seal_flight};
use crate::handshake::messages::kind;
use crate::handshake::reassembly::Fragment;
use crate::handshake::{Agreement, NewEpoch, Reader, Step};
use crate::record::{InEpoch, Opener, Sealer};

/// How long packets of the previous epoch are still taken after a rehandshake.
const EPOCH_OVERLAP: Duration = Duration::from_secs(10);

impl Connection {
    pub(super) fn handle_handshake(&mut self, now: Instant, epoch: u16, content: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(content);
        while !reader.is_empty() {
            let Some(fragment) = Fragment::parse(&mut reader) else {
                return Ok(());
            };
            if epoch == self.read.active.epoch() && fragment.kind == kind::FINISHED {
                self.repeat_final_flight(now);
                continue;
            }
            // Finished comes in the epoch that the handshake opens, everything else in the active one.
            let awaited = if fragment.kind == kind::FINISHED {
                self.read.next.as_ref().map(InEpoch::epoch)
            } else {
                Some(self.read.active.epoch())
            };
            if awaited != Some(epoch) {
                continue;
            }
            if self.exchange.is_none() && !self.begin_rehandshake(now, &fragment)? {
                continue;
            }
            self.handle_fragment(now, &fragment)?;
        }
        Ok(())
    }

    fn handle_fragment(&mut self, now: Instant, fragment: &Fragment<'_>) -> Result<(), Error> {
        let Some(mut exchange) = self.exchange.take() else {
            return Ok(());
        };
        let repeat = exchange.insert(fragment, now);
        while let Some(message) = exchange.poll_message() {
            let Step {
                new_epoch,
                flight,
                agreement,
            } = exchange.handle(&message, &self.role, self.random.as_mut())?;
            if let Some(new_epoch) = new_epoch {
                self.open_epoch(new_epoch)?;
            }
            if !flight.is_empty() {
                self.send_flight(&flight)?;
            }
            if let Some(agreement) = agreement {
                let last_flight = exchange.into_last_flight(flight, now);
                self.complete(agreement, last_flight, now);
                return Ok(());
            }
            if !flight.is_empty() {
                exchange.sent(flight, now);
            }
        }
        self.exchange = Some(exchange);
        if repeat {
            self.retransmit();
        }
        Ok(())
    }

    /// A client's ClientHello inside the association begins a rehandshake; other messages do not.
    fn begin_rehandshake(&mut self, now: Instant, fragment: &Fragment<'_>) -> Result<bool, Error> {
        let Status::Established { since, .. } = &self.status else {
            return Ok(false);
        };
        let Role::Server(config) = &self.role else {
            return Ok(false);
        };
        if fragment.kind != kind::CLIENT_HELLO {
            return Ok(false);
        }
        let age = now.saturating_duration_since(*since);
        if config.min_rehandshake_interval.is_some_and(|least| age < least) {
            return Err(Error::RehandshakeTooEarly);
        }
        self.begin_handshake(now)?;
        Ok(true)
    }

    pub(super) fn begin_handshake(&mut self, now: Instant) -> Result<(), Error> {
        let previous = match &self.status {
            Status::Established { agreement, .. } => Some(agreement.clone()),
            _ => None,
        };
        let epoch = self.write.active.epoch();
        let (exchange, flight) = Exchange::begin(&self.role, epoch, previous, now, self.random.as_mut())?;
        self.start_exchange(exchange, flight, now)
    }

    /// Sends the first flight of `exchange` and lets it run.
    pub(crate) fn start_exchange(
        &mut self,
        mut exchange: Exchange,
        flight: Vec<FlightMessage>,
        now: Instant,
    ) -> Result<(), Error> {
        self.final_flight = None;
        if !flight.is_empty() {
            self.send_flight(&flight)?;
            exchange.sent(flight, now);
        }
        self.exchange = Some(exchange);
        Ok(())
    }

    fn open_epoch(&mut self, new: NewEpoch) -> Result<(), Error> {
        let epoch = self.write.active.epoch().checked_add(1).ok_or(Error::Exhausted)?;
        let NewEpoch {
            parameters,
            write,
            read,
        } = new;
        let no_keys = Error::Keys(parameters.suite);
        if self.write.active.epoch() == 0 {
            self.write.active.set_version(parameters.version);
        }
        let sealer = Sealer::protected(parameters, &write, epoch).ok_or(no_keys)?;
        let opener = Opener::protected(parameters, &read, epoch).ok_or(no_keys)?;
        self.write.next = Some(sealer);
        self.read.next = Some(opener);
        Ok(())
    }

    fn complete(&mut self, agreement: Agreement, last_flight: Option<LastFlight>, now: Instant) {
        self.write.advance();
        self.read.advance();
        if self.read.active.epoch() == 1 {
            // Epoch 0 is not protected: nothing more is believed of it.
            self.read.old = None;
        } else {
            self.old_epoch_until = Some(now + EPOCH_OVERLAP);
        }
        if last_flight.is_none() {
            self.write.old = None;
        }
        self.final_flight = last_flight;
        self.peer_alert = None;
        self.status = Status::Established {
            agreement,
            since: now,
        };
    }

    pub(super) fn retransmit(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let flight = exchange.last_flight();
        if let Err(error) = seal_flight(flight, &mut self.write, self.role.mtu(), &mut self.outgoing) {
            self.fail(error);
        }
    }

    /// A peer that repeats its Finished has not got ours.
    fn repeat_final_flight(&mut self, now: Instant) {
        let Some(last) = &mut self.final_flight else {
            return;
        };
        if last.retransmission.answers_repeat(now)
            && let Err(error) = seal_flight(
                &last.messages,
                &mut self.write,
                self.role.mtu(),
                &mut self.outgoing,
            )
        {
            self.fail(error);
        }
    }

    fn send_flight(&mut self, flight: &[FlightMessage]) -> Result<(), Error> {
        seal_flight(flight, &mut self.write, self.role.mtu(), &mut self.outgoing)
    }
}
