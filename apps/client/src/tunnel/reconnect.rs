//! A new connection for an old session (`specs/client.md` §14.1).

use std::time::{Duration, Instant};

use culvert_vocab::TunnelConfig;

use super::datagram::Datagram;
use super::ending::Ending;
use super::running::Running;
use crate::connect::{ConnectFailure, Tunnel};
use crate::signals::Signal;

/// The pauses between attempts: 10 s, 20 s, ... 100 s, until the time is used up. Only the pauses
/// count.
#[derive(Debug)]
struct Pauses {
    left: i64,
    next: i64,
}

impl Pauses {
    const STEP: i64 = 10;
    const MAX: i64 = 100;

    fn new(timeout: i64) -> Self {
        Self {
            left: timeout,
            next: Self::STEP,
        }
    }

    /// The next pause and the time left before it, in seconds; `None` when the time is used up.
    fn next(&mut self) -> Option<(i64, i64)> {
        if self.left <= 0 {
            return None;
        }
        let (pause, left) = (self.next, self.left);
        self.left -= pause;
        self.next = (self.next + Self::STEP).min(Self::MAX);
        Some((pause, left))
    }
}

impl Running {
    /// Connects again with the same cookie, as long as `--reconnect-timeout` allows.
    ///
    /// # Errors
    /// The session is over.
    pub(super) fn reconnect(&mut self) -> Result<(), Ending> {
        self.detach();
        let mut pauses = self.pauses();
        loop {
            if let Some(signal) = self.setup.before_reconnect(&self.tunnel) {
                self.obey(signal, &mut pauses)?;
            }
            match self.try_connect() {
                Ok(tunnel) => match self.resume(tunnel)? {
                    Some(signal) => {
                        self.obey(signal, &mut pauses)?;
                        self.detach();
                        continue;
                    }
                    None => return Ok(()),
                },
                Err(ConnectFailure::Rejected) => {
                    self.context
                        .output
                        .error("Cookie is no longer valid, ending session");
                    return Err(Ending::CookieRejected);
                }
                Err(ConnectFailure::Interrupted(signal)) => {
                    self.obey(signal, &mut pauses)?;
                    continue;
                }
                Err(ConnectFailure::Other) => {}
            }
            let Some((pause, left)) = pauses.next() else {
                self.context.output.error("Reconnect failed");
                return Err(Ending::ReconnectFailed);
            };
            self.context
                .output
                .info(&format!("sleep {pause}s, remaining timeout {left}s"));
            if let Some(signal) = self.pause(Duration::from_secs(pause.unsigned_abs())) {
                self.obey(signal, &mut pauses)?;
            }
        }
    }

    fn pauses(&self) -> Pauses {
        Pauses::new(self.context.options.network.reconnect_timeout)
    }

    /// What a signal means while the connection is being made anew: SIGUSR2 begins it again, with
    /// all of its time.
    fn obey(&self, signal: Signal, pauses: &mut Pauses) -> Result<(), Ending> {
        if let Some(ending) = Ending::of_signal(signal) {
            return Err(ending);
        }
        if signal == Signal::Reconnect {
            self.tell_reconnect();
            *pauses = self.pauses();
        }
        Ok(())
    }

    /// SIGUSR2 in the words of the reference.
    pub(super) fn tell_reconnect(&self) {
        self.context.output.info("Caller paused the connection");
        self.context.output.info("User requested reconnect");
    }

    /// Opens the TLS channel of a tunnel that has none; UDP is then over.
    pub(super) fn fall_back(&mut self) -> Result<(), Ending> {
        self.session.detach_datagram();
        self.datagram = Datagram::new(None, false);
        match self.connector.connect_stream() {
            Ok(stream) => self
                .attach_stream(Instant::now(), stream, self.tunnel.config.stream)
                .map_err(|error| Ending::Setup(format!("Failed to use the TLS connection: {error}"))),
            Err(ConnectFailure::Rejected) => Err(Ending::CookieRejected),
            Err(ConnectFailure::Interrupted(signal)) => self.interrupted(signal),
            Err(ConnectFailure::Other) => self.reconnect(),
        }
    }

    /// A signal has ended work without which the tunnel cannot go on as it was.
    pub(super) fn interrupted(&mut self, signal: Signal) -> Result<(), Ending> {
        match Ending::of_signal(signal) {
            Some(ending) => Err(ending),
            None => {
                self.tell_reconnect();
                self.reconnect()
            }
        }
    }

    /// One attempt; none where it would only lead into the tunnel that has no connection.
    fn try_connect(&mut self) -> Result<Tunnel, ConnectFailure> {
        if self.way_out().is_none() {
            let text = format!(
                "Failed to connect to {}: Network is unreachable",
                self.tunnel.gateway
            );
            self.context.output.info(&text);
            return Err(ConnectFailure::Other);
        }
        self.connector.connect()
    }

    /// Uses the new connection. Gives an order to make another one that came meanwhile.
    fn resume(&mut self, tunnel: Tunnel) -> Result<Option<Signal>, Ending> {
        if let Some(change) = address_change(&self.tunnel.config, &tunnel.config) {
            self.context.output.error(&change);
            return Err(Ending::AddressChanged);
        }
        self.attach(tunnel)
            .map_err(|error| Ending::Setup(format!("Failed to use the new connection: {error}")))?;
        let signal = self.setup.after_reconnect(&self.tunnel);
        match signal.and_then(Ending::of_signal) {
            Some(ending) => Err(ending),
            None => Ok(signal.filter(|signal| *signal == Signal::Reconnect)),
        }
    }
}

/// What is different between the addresses before and after, if anything: a tunnel cannot be
/// plumbed anew.
fn address_change(before: &TunnelConfig, after: &TunnelConfig) -> Option<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    let v4 = |config: &TunnelConfig| text(config.ipv4.map(|ip| ip.address.to_string()));
    let mask =
        |config: &TunnelConfig| text(config.ipv4.and_then(|ip| ip.netmask).map(|mask| mask.to_string()));
    let v6 = |config: &TunnelConfig| text(config.ipv6.map(|ip| format!("{}/{}", ip.address, ip.prefix_len)));
    let pairs = [
        ("Legacy IP address", v4(before), v4(after)),
        ("Legacy IP netmask", mask(before), mask(after)),
        ("IPv6 address", v6(before), v6(after)),
    ];
    pairs
        .into_iter()
        .find(|(_, before, after)| before != after)
        .map(|(what, before, after)| format!("Reconnect gave different {what} ({after} != {before})"))
}

#[cfg(test)]
mod tests {
    use culvert_vocab::{AddressV4, Mtu};

    use super::*;

    #[test]
    fn attempts_of_the_reference() {
        let mut pauses = Pauses::new(25);
        assert_eq!(pauses.next(), Some((10, 25)));
        assert_eq!(pauses.next(), Some((20, 15)));
        assert_eq!(pauses.next(), None);
        assert_eq!(Pauses::new(0).next(), None);
        let mut pauses = Pauses::new(10_000);
        let longest = std::iter::from_fn(|| pauses.next()).map(|(pause, _)| pause).max();
        assert_eq!(longest, Some(100));
    }

    #[test]
    fn changed_addresses_are_told() {
        let mut before = TunnelConfig::new(Mtu::clamped(1400));
        before.ipv4 = Some(AddressV4 {
            address: [10, 0, 0, 1].into(),
            netmask: None,
        });
        assert_eq!(address_change(&before, &before), None);
        let mut after = before.clone();
        after.ipv4 = Some(AddressV4 {
            address: [10, 0, 0, 2].into(),
            netmask: None,
        });
        assert_eq!(
            address_change(&before, &after),
            Some("Reconnect gave different Legacy IP address (10.0.0.2 != 10.0.0.1)".into())
        );
        after.ipv4 = None;
        assert!(address_change(&before, &after).is_some());
    }
}
