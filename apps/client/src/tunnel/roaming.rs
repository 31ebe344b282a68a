//! A change of network under the tunnel: noticed at once, not by dead peer detection.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_sys::clock::suspended;
use culvert_sys::epoll::{Interest, Poller};
use culvert_sys::network_changes::{NetworkChanges, source_towards};
use socket2::SockRef;

use super::ending::Ending;
use super::running::{NETWORK_TOKEN, Running, SLEEP_TOKEN};
use super::sleep::Wakings;
use crate::signals::{Signal, WaitError};

/// How long the host's network gets to settle: a change is many small ones.
const SETTLE: Duration = Duration::from_millis(300);

/// A shorter sleep of the machine is one that servers and middleboxes do not notice.
const SLEEP_MIN: Duration = Duration::from_secs(5);

/// When to look at the host's network.
#[derive(Debug)]
pub(super) struct Roaming {
    check_at: Option<Instant>,
    /// How long the machine had slept when it was looked at last.
    suspended: Duration,
    /// The connection is from before a sleep of the machine.
    slept: bool,
    /// What logind says.
    wakings: Option<Wakings>,
}

impl Roaming {
    /// Watches for changes. Without news the tunnel depends on dead peer detection, as ever.
    pub(super) fn watch(changes: Option<&NetworkChanges>, poller: &Poller) -> io::Result<Self> {
        if let Some(changes) = changes {
            poller.add(changes, NETWORK_TOKEN, Interest::READ)?;
        }
        Ok(Self::new(suspended()))
    }

    fn new(suspended: Duration) -> Self {
        Self {
            check_at: None,
            suspended,
            slept: false,
            wakings: None,
        }
    }

    /// Starts to listen to logind; a thread of its own does, so the process must not fork any more.
    pub(super) fn listen(&mut self, poller: &Poller) -> io::Result<()> {
        let wakings = Wakings::listen()?;
        poller.add(&wakings, SLEEP_TOKEN, Interest::READ)?;
        self.wakings = Some(wakings);
        Ok(())
    }

    /// Takes the news of logind.
    pub(super) fn woken(&mut self, now: Instant) {
        if self.wakings.as_ref().is_some_and(Wakings::take) {
            self.suspended = suspended();
            self.slept = true;
            self.noticed(now);
        }
    }

    /// Asks for a look after a sleep of the machine; `total` is how long it has slept in all.
    pub(super) fn notice_sleep(&mut self, now: Instant, total: Duration) {
        let slept = total.saturating_sub(self.suspended);
        self.suspended = total;
        if slept >= SLEEP_MIN {
            self.slept = true;
            self.noticed(now);
        }
    }

    /// Something has changed.
    fn noticed(&mut self, now: Instant) {
        self.check_at.get_or_insert(now + SETTLE);
    }

    /// When [`Self::is_due`] wants to be asked.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.check_at
    }

    /// True once, when the network has settled.
    fn is_due(&mut self, now: Instant) -> bool {
        self.check_at.take_if(|at| *at <= now).is_some()
    }
}

impl Running {
    /// Takes the news of the host's network.
    pub(super) fn network_changed(&mut self, now: Instant) {
        if self.context.changes.as_ref().is_some_and(NetworkChanges::drain) {
            self.roaming.noticed(now);
        }
    }

    /// Connects anew if the TCP connection's own address is not the one that leads to the server
    /// any more, or after a sleep of the machine, which the other side may have taken for the end.
    /// Otherwise only routes and names may have to be set right.
    ///
    /// # Errors
    /// The session is over.
    pub(super) fn check_network(&mut self, now: Instant) -> Result<(), Ending> {
        if !self.roaming.is_due(now) {
            return Ok(());
        }
        // Without a way there is nothing to do: the next change may bring one.
        let (Some(source), Some(own)) = (self.way_out(), self.own_address()) else {
            return Ok(());
        };
        let news = if source != own {
            format!("The network has changed ({source} in place of {own}); reconnecting")
        } else if self.roaming.slept {
            "The machine was asleep; reconnecting".to_owned()
        } else {
            self.setup.renew(&self.tunnel);
            return Ok(());
        };
        self.context.output.info(&news);
        self.roaming.slept = false;
        self.reconnect()
    }

    /// Waits before the next attempt to connect; a signal, which is returned, or a new way to the
    /// server ends the wait.
    pub(super) fn pause(&mut self, time: Duration) -> Option<Signal> {
        let context = Arc::clone(&self.context);
        let news = context.changes.as_ref();
        let watched: Vec<_> = news
            .map(|changes| (changes.as_fd(), Interest::READ))
            .into_iter()
            .collect();
        let until = Instant::now() + time;
        let before = self.way_out();
        loop {
            let waited = match context.signals.wait(&watched, Some(until)) {
                Ok(()) => context.signals.wait(&[], Some(Instant::now() + SETTLE)),
                other => other.and(Err(WaitError::TimedOut)),
            };
            match waited {
                Err(WaitError::Interrupted(signal)) => return Some(signal),
                _ if Instant::now() >= until => return None,
                Err(WaitError::Io(_)) => return None,
                Ok(()) | Err(WaitError::TimedOut) => {}
            }
            let _ = news.is_some_and(NetworkChanges::drain);
            let now = self.way_out();
            if now.is_some() && now != before {
                return None;
            }
        }
    }

    /// The address from which the server is reached outside of the tunnel.
    pub(super) fn way_out(&mut self) -> Option<IpAddr> {
        let gateway = self.tunnel.gateway.ip();
        self.setup.keep_gateway_reachable(gateway);
        let config = &self.tunnel.config;
        let inner = [
            config.ipv4.map(|ip| IpAddr::from(ip.address)),
            config.ipv6.map(|ip| IpAddr::from(ip.address)),
        ];
        source_towards(gateway).filter(|source| !inner.contains(&Some(*source)))
    }

    /// The own address of the TCP connection.
    fn own_address(&self) -> Option<IpAddr> {
        let socket = self.session.stream_socket()?;
        let address = SockRef::from(&socket.as_fd()).local_addr().ok()?;
        address.as_socket().map(|address| address.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_are_looked_at_once() {
        let now = Instant::now();
        let mut roaming = Roaming::new(Duration::ZERO);
        assert!(!roaming.is_due(now) && roaming.poll_timeout().is_none());
        roaming.noticed(now);
        roaming.noticed(now + SETTLE / 2);
        assert_eq!(roaming.poll_timeout(), Some(now + SETTLE));
        assert!(!roaming.is_due(now));
        assert!(roaming.is_due(now + SETTLE));
        assert!(!roaming.is_due(now + SETTLE));
    }

    #[test]
    fn sleep_is_noticed_once() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let mut roaming = Roaming::new(second * 100);
        roaming.notice_sleep(now, second * 102);
        assert!(!roaming.slept && roaming.poll_timeout().is_none());
        roaming.notice_sleep(now, second * 400);
        assert!(roaming.slept && roaming.is_due(now + SETTLE));
        roaming.notice_sleep(now, second * 400);
        assert!(roaming.poll_timeout().is_none());
    }
}
