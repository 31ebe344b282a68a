//! What a session does by the clock.

use std::time::Instant;

use culvert_record::{DatagramChannel, FrameKind, StreamOpener, StreamSealer};
use culvert_vocab::RekeyMethod;

use super::Session;
use super::event::{DatagramLoss, Event, FrameError};
use crate::buffers::Buffers;
use crate::policy::{Action, Channel, Role};

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Does what is due; cheap when nothing is.
    pub fn handle_timeout(&mut self, now: Instant, buffers: &mut Buffers) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        // What the other thread has sent may have changed what is due.
        self.recall(now);
        if self.replaced_until.is_some_and(|until| until <= now) {
            let replaced = self.active.map_or(0, |active| 1 - active);
            self.remove_datagram(replaced);
        }
        for index in 0..self.datagrams.len() {
            if self.is_replaced(index) {
                continue;
            }
            let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            if slot.channel.poll_timeout().is_some_and(|due| due <= now) {
                slot.channel.handle_timeout(now);
                self.check_datagram(index, now);
            }
        }
        self.policy.handle_timeout(now);
        while let Some(action) = self.policy.poll_action() {
            self.act(action, now, buffers);
        }
        self.update_interests(now);
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` when nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let channels = self
            .datagrams
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.is_replaced(*index))
            .filter_map(|(_, slot)| slot.as_ref()?.channel.poll_timeout());
        channels
            .chain(self.replaced_until)
            .chain(self.policy.poll_timeout())
            .min()
    }

    fn act(&mut self, action: Action, now: Instant, buffers: &mut Buffers) {
        match action {
            Action::Probe(channel) => self.probe(channel, now, buffers),
            Action::Keepalive(channel) => {
                // A frame that cannot be sent now is as good as sent: the channel is busy.
                let _ = self.send(now, channel, FrameKind::Keepalive, &[], buffers);
            }
            Action::Rekey(channel) => self.rekey_due(channel, now),
            Action::Dead(Channel::Stream) => {
                self.detach_stream();
                self.events.push_back(Event::StreamDead);
            }
            Action::Dead(Channel::Datagram) => self.datagram_lost(DatagramLoss::Dead),
            Action::IdleTimeout => self.events.push_back(Event::IdleTimeout),
            Action::SessionTimeout => self.events.push_back(Event::SessionTimeout),
        }
    }

    /// The protocol's own probe where it has one. Otherwise a server probes the datagram channel
    /// with a packet of full size (`specs/cstp-dtls.md` §5.2).
    fn probe(&mut self, channel: Channel, now: Instant, buffers: &mut Buffers) {
        if channel == Channel::Datagram
            && let Some(index) = self.active
            && let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut)
            && slot.channel.send_probe(now)
        {
            self.policy.sent(channel, now);
            self.check_datagram(index, now);
            return;
        }
        let full_size = channel == Channel::Datagram && self.config.role == Role::Server;
        let payload = if full_size {
            vec![0; self.config.mtu.into()]
        } else {
            Vec::new()
        };
        if let Err(FrameError::TooLarge) = self.send(now, channel, FrameKind::ProbeRequest, &payload, buffers)
        {
            self.events
                .push_back(Event::DatagramTooLarge { size: payload.len() });
        }
    }

    fn rekey_due(&mut self, channel: Channel, now: Instant) {
        let timers = if channel == Channel::Stream {
            self.config.stream
        } else {
            self.config.datagram
        };
        if timers.rekey_method == RekeyMethod::None {
            return;
        }
        if channel == Channel::Datagram
            && timers.rekey_method == RekeyMethod::Ssl
            && let Some(index) = self.active
            && let Some(slot) = self.datagrams.get_mut(index).and_then(Option::as_mut)
            && slot.channel.start_rekey(now)
        {
            self.check_datagram(index, now);
            return;
        }
        self.events.push_back(Event::RekeyDue(channel));
    }
}
