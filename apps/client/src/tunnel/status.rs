//! What the user is told about a tunnel (`specs/client.md` §4, §14.2).

use std::time::{Duration, SystemTime};

use culvert_tunnel::{Channel, Statistics};
use culvert_vocab::{RekeyMethod, Timers, TunnelConfig};
use culvert_wire::compress::Method;

use super::running::Running;

/// Where the UDP channel stands, in the words of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatagramState {
    /// Never offered by the server.
    Unsuccessful,
    /// Trying.
    InProgress,
    /// Switched off by an option.
    Disabled,
    /// In use.
    Connected,
}

impl DatagramState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unsuccessful => "unsuccessful",
            Self::InProgress => "in progress",
            Self::Disabled => "disabled",
            Self::Connected => "connected",
        }
    }
}

/// The name of a channel with that of its compression.
pub(crate) fn with_compression(name: &str, compression: Option<Method>) -> String {
    match compression {
        None => name.to_owned(),
        Some(Method::Lz4) => format!("{name} + LZ4"),
        Some(Method::Lzs) => format!("{name} + LZS"),
    }
}

/// The "Configured as" line.
pub(crate) fn configured_as(
    config: &TunnelConfig,
    stream_name: &str,
    stream_up: bool,
    datagram_name: &str,
    datagram: DatagramState,
) -> String {
    let v4 = config.ipv4.map(|ip| ip.address.to_string());
    let v6 = config.ipv6.map(|ip| format!("{}/{}", ip.address, ip.prefix_len));
    let addresses: Vec<String> = v4.into_iter().chain(v6).collect();
    format!(
        "Configured as {}, with {stream_name} {} and {datagram_name} {}",
        addresses.join(" + "),
        if stream_up { "connected" } else { "disconnected" },
        datagram.as_str()
    )
}

/// The line about the end of the login, if there is one.
pub(crate) fn expiry(expires: Option<SystemTime>) -> Option<String> {
    let time = chrono::DateTime::<chrono::Local>::from(expires?);
    // The offset stands for the zone's name, which chrono does not know.
    let zone = match time.offset().local_minus_utc() {
        0 => "UTC".to_owned(),
        _ => time.format("%:z").to_string(),
    };
    Some(format!(
        "Session authentication will expire at {} {zone}",
        time.format("%a, %d %b %Y %H:%M:%S")
    ))
}

/// The lines after those two when a signal asks for statistics.
pub(crate) fn statistics(
    counters: &Statistics,
    stream: &str,
    datagram_name: &str,
    datagram: Option<&str>,
    stream_rekey: Option<Duration>,
    datagram_rekey: Option<Duration>,
) -> Vec<String> {
    let mut lines = vec![format!(
        "RX: {} packets ({} B); TX: {} packets ({} B)",
        counters.received_packets, counters.received_octets, counters.sent_packets, counters.sent_octets
    )];
    lines.push(format!("SSL ciphersuite: {stream}"));
    lines.extend(datagram.map(|cipher| format!("{datagram_name} ciphersuite: {cipher}")));
    lines.extend(stream_rekey.map(|left| format!("Next SSL rekey in {} seconds", left.as_secs())));
    lines.extend(
        datagram_rekey.map(|left| format!("Next {datagram_name} rekey in {} seconds", left.as_secs())),
    );
    lines
}

impl Running {
    /// The "Configured as" lines.
    pub(super) fn summary(&self) -> Vec<String> {
        let configured = configured_as(
            &self.tunnel.config,
            &self.stream_name,
            !self.is_datagram_only(),
            &self.datagram.full_name(),
            self.datagram.status(),
        );
        std::iter::once(configured).chain(expiry(self.expires)).collect()
    }

    /// Answers SIGUSR1.
    pub(super) fn show_statistics(&self) {
        let left = |channel: Channel, timers: &Timers| {
            let period = timers
                .rekey
                .filter(|_| timers.rekey_method != RekeyMethod::None)?;
            Some(period.saturating_sub(self.session.last_rekey(channel)?.elapsed()))
        };
        let config = &self.tunnel.config;
        let lines = statistics(
            &self.session.statistics(),
            &self.cipher,
            self.datagram.name(),
            self.datagram.cipher(),
            left(Channel::Stream, &config.stream),
            left(Channel::Datagram, &config.datagram),
        );
        for line in self.summary().iter().chain(&lines) {
            self.context.output.always(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_vocab::{AddressV4, AddressV6, Mtu};

    use super::*;

    #[test]
    fn lines_of_the_reference() {
        let mut config = TunnelConfig::new(Mtu::clamped(1400));
        config.ipv4 = Some(AddressV4 {
            address: [192, 168, 55, 190].into(),
            netmask: None,
        });
        assert_eq!(
            configured_as(&config, "SSL", true, "DTLS", DatagramState::InProgress),
            "Configured as 192.168.55.190, with SSL connected and DTLS in progress"
        );
        config.ipv6 = "fd77:55::1".parse().ok().map(|address| AddressV6 {
            address,
            prefix_len: 128,
        });
        assert_eq!(
            configured_as(
                &config,
                &with_compression("SSL", Some(Method::Lz4)),
                true,
                &with_compression("DTLS", Some(Method::Lzs)),
                DatagramState::Connected
            ),
            "Configured as 192.168.55.190 + fd77:55::1/128, with SSL + LZ4 connected and DTLS + LZS connected"
        );
    }

    #[test]
    fn expiry_is_shown_only_if_known() {
        assert_eq!(expiry(None), None);
        let line = expiry(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_292_886)));
        assert!(line.is_some_and(|line| line.starts_with("Session authentication will expire at S")));
    }
}
