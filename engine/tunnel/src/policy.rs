//! When to probe, when to give up, which channel carries data: the timers of both roles
//! (`specs/cstp-dtls.md` §5), as a state machine without sockets or clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use culvert_vocab::Timers;

/// Which end of the tunnel this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asked for the tunnel.
    Client,
    /// Granted it.
    Server,
}

/// One of the two ways through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The TLS connection.
    Stream,
    /// DTLS or ESP.
    Datagram,
}

/// What the timers demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a dead peer detection request.
    Probe(Channel),
    /// Send a keepalive frame.
    Keepalive(Channel),
    /// The keys are old.
    Rekey(Channel),
    /// The peer is gone.
    Dead(Channel),
    /// No user data for the idle timeout.
    IdleTimeout,
    /// The session's time is up.
    SessionTimeout,
}

/// Timers of a session. `None` means off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Which rules apply.
    pub role: Role,
    /// Timers of the stream.
    pub stream: Timers,
    /// Timers of the datagram channel.
    pub datagram: Timers,
    /// Longest time without user data.
    pub idle_timeout: Option<Duration>,
    /// End of the session.
    pub session_end: Option<Instant>,
    /// Server: data goes over the stream when nothing was received over UDP for this long.
    pub switch_to_stream: Option<Duration>,
}

/// The clocks of one open channel.
#[derive(Debug, Clone, Copy)]
struct Clock {
    last_received: Instant,
    last_sent: Instant,
    last_probe: Option<Instant>,
    last_rekey: Instant,
    /// A write is stalled.
    blocked: bool,
    /// The death was reported.
    dead: bool,
}

impl Clock {
    fn new(now: Instant) -> Self {
        Self {
            last_received: now,
            last_sent: now,
            last_probe: None,
            last_rekey: now,
            blocked: false,
            dead: false,
        }
    }
}

/// Timers and fall-back of one session.
#[derive(Debug)]
pub struct Policy {
    config: PolicyConfig,
    stream: Option<Clock>,
    datagram: Option<Clock>,
    /// Server: the peer uses the datagram channel.
    datagram_in_use: bool,
    last_user_data: Instant,
    /// Idle or session timeout was reported.
    over: bool,
    actions: VecDeque<Action>,
}

impl Policy {
    /// A session without channels.
    pub fn new(config: PolicyConfig, now: Instant) -> Self {
        Self {
            config,
            stream: None,
            datagram: None,
            datagram_in_use: false,
            last_user_data: now,
            over: false,
            actions: VecDeque::new(),
        }
    }

    /// Changes the timers; running ones are measured by the new values.
    pub fn set_timers(&mut self, stream: Timers, datagram: Timers) {
        (self.config.stream, self.config.datagram) = (stream, datagram);
    }

    /// Changes the end of the session.
    pub fn set_session_end(&mut self, end: Option<Instant>) {
        self.config.session_end = end;
    }

    /// A channel is ready for packets (again).
    pub fn opened(&mut self, channel: Channel, now: Instant) {
        *self.clock_mut(channel) = Some(Clock::new(now));
        if channel == Channel::Datagram {
            self.datagram_in_use = true;
        }
    }

    /// A channel is gone.
    pub fn closed(&mut self, channel: Channel) {
        *self.clock_mut(channel) = None;
        self.actions.retain(|action| {
            !matches!(action, Action::Probe(c) | Action::Keepalive(c) | Action::Rekey(c) | Action::Dead(c) if *c == channel)
        });
    }

    /// Frames arrived; `data` tells whether packets were among them.
    pub fn received(&mut self, channel: Channel, data: bool, now: Instant) {
        if let Some(clock) = self.clock_mut(channel) {
            clock.last_received = now;
            clock.last_probe = None;
            clock.dead = false;
        }
        match channel {
            Channel::Datagram => self.datagram_in_use = true,
            // The peer went back to the stream: its datagrams may not get through.
            Channel::Stream if data && self.config.role == Role::Server => self.datagram_in_use = false,
            Channel::Stream => {}
        }
    }

    /// Frames were sent.
    pub fn sent(&mut self, channel: Channel, now: Instant) {
        if let Some(clock) = self.clock_mut(channel) {
            clock.last_sent = now;
        }
    }

    /// The user's packets passed, in either direction.
    pub fn user_data(&mut self, now: Instant) {
        self.last_user_data = now;
    }

    /// A channel has new keys.
    pub fn rekeyed(&mut self, channel: Channel, now: Instant) {
        if let Some(clock) = self.clock_mut(channel) {
            clock.last_rekey = now;
        }
    }

    /// When a channel got its present keys.
    pub fn last_rekey(&self, channel: Channel) -> Option<Instant> {
        self.clock(channel).map(|clock| clock.last_rekey)
    }

    /// A write is stalled, or no longer.
    pub fn set_blocked(&mut self, channel: Channel, blocked: bool) {
        if let Some(clock) = self.clock_mut(channel) {
            clock.blocked = blocked;
        }
    }

    /// Server: sending datagrams failed; the stream carries data until the peer is heard again.
    pub fn datagram_failed(&mut self) {
        self.datagram_in_use = false;
    }

    /// Which channel carries data now; `None` when none is open.
    pub fn data_channel(&mut self, now: Instant) -> Option<Channel> {
        let Some(datagram) = &self.datagram else {
            return self.stream.map(|_| Channel::Stream);
        };
        if self.config.role == Role::Server && self.stream.is_some() {
            let silence = now.saturating_duration_since(datagram.last_received);
            if self.config.switch_to_stream.is_some_and(|limit| silence > limit) {
                self.datagram_in_use = false;
            }
            if !self.datagram_in_use {
                return Some(Channel::Stream);
            }
        }
        Some(Channel::Datagram)
    }

    /// Collects what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.check_session(now);
        for channel in [Channel::Stream, Channel::Datagram] {
            let timers = self.timers(channel);
            let Some(mut clock) = *self.clock(channel) else {
                continue;
            };
            self.check_channel(channel, &timers, &mut clock, now);
            *self.clock_mut(channel) = Some(clock);
        }
    }

    /// The next thing that is due.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.config.idle_timeout.map(|limit| self.last_user_data + limit);
        let session = [idle, self.config.session_end]
            .into_iter()
            .flatten()
            .filter(|_| !self.over);
        let channels = [Channel::Stream, Channel::Datagram]
            .into_iter()
            .filter_map(|channel| {
                self.clock(channel)
                    .as_ref()
                    .and_then(|clock| self.channel_timeout(&self.timers(channel), clock))
            });
        session.chain(channels).min()
    }

    fn check_session(&mut self, now: Instant) {
        if self.over {
            return;
        }
        let idle = now.saturating_duration_since(self.last_user_data);
        if self.config.session_end.is_some_and(|end| now >= end) {
            self.actions.push_back(Action::SessionTimeout);
            self.over = true;
        } else if self.config.idle_timeout.is_some_and(|limit| idle >= limit) {
            self.actions.push_back(Action::IdleTimeout);
            self.over = true;
        }
    }

    /// At most one action per channel and call; the first that is due, in this order.
    fn check_channel(&mut self, channel: Channel, timers: &Timers, clock: &mut Clock, now: Instant) {
        if timers.rekey.is_some_and(|life| now >= clock.last_rekey + life) {
            // Counted from the attempt: a failed one must not be repeated at once.
            clock.last_rekey = now;
            self.actions.push_back(Action::Rekey(channel));
        } else if self.dead_at(timers, clock).is_some_and(|at| now >= at) {
            clock.dead = true;
            match (self.config.role, channel) {
                // The session goes on over the stream until the peer is heard again.
                (Role::Server, Channel::Datagram) if self.stream.is_some() => self.datagram_in_use = false,
                _ => self.actions.push_back(Action::Dead(channel)),
            }
        } else if clock.blocked {
            // Nothing could be sent anyway.
        } else if self.probe_at(timers, clock).is_some_and(|at| now >= at) {
            clock.last_probe = Some(now);
            self.actions.push_back(Action::Probe(channel));
        } else if timers
            .keepalive
            .is_some_and(|limit| now >= clock.last_sent + limit)
        {
            clock.last_sent = now;
            self.actions.push_back(Action::Keepalive(channel));
        }
    }

    fn channel_timeout(&self, timers: &Timers, clock: &Clock) -> Option<Instant> {
        let rekey = timers.rekey.map(|life| clock.last_rekey + life);
        let keepalive = timers.keepalive.map(|limit| clock.last_sent + limit);
        let probes = [self.probe_at(timers, clock), keepalive]
            .into_iter()
            .filter(|_| !clock.blocked);
        [rekey, self.dead_at(timers, clock)]
            .into_iter()
            .chain(probes)
            .flatten()
            .min()
    }

    /// Client: dead after twice the DPD interval of silence; server: after three times.
    fn dead_at(&self, timers: &Timers, clock: &Clock) -> Option<Instant> {
        let factor = if self.config.role == Role::Client { 2 } else { 3 };
        timers
            .dpd
            .filter(|_| !clock.dead)
            .map(|dpd| clock.last_received + dpd * factor)
    }

    /// Client: probe after the interval, server after twice the interval; repeated every half
    /// interval while unanswered.
    fn probe_at(&self, timers: &Timers, clock: &Clock) -> Option<Instant> {
        let dpd = timers.dpd?;
        match clock.last_probe {
            Some(last) => Some(last + dpd / 2),
            None if self.config.role == Role::Client => Some(clock.last_received + dpd),
            None => Some(clock.last_received + dpd * 2),
        }
    }

    fn timers(&self, channel: Channel) -> Timers {
        match channel {
            Channel::Stream => self.config.stream,
            Channel::Datagram => self.config.datagram,
        }
    }

    fn clock(&self, channel: Channel) -> &Option<Clock> {
        match channel {
            Channel::Stream => &self.stream,
            Channel::Datagram => &self.datagram,
        }
    }

    fn clock_mut(&mut self, channel: Channel) -> &mut Option<Clock> {
        match channel {
            Channel::Stream => &mut self.stream,
            Channel::Datagram => &mut self.datagram,
        }
    }
}

#[cfg(test)]
mod tests;
