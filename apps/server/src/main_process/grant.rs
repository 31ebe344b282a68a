//! From the settings of a session to the grant that its worker gets.

use std::time::Duration;

use culvert_sys::random;
use culvert_vocab::{MTU_MAX, Mtu, RekeyMethod, Timers, TunnelConfig};

use super::scripts::Subject;
use crate::ipc::messages::{DatagramGrant, TunnelGrant};

/// MTU of a TUN device unless configured.
const DEFAULT_LINK_MTU: u16 = 1500;
/// The UDP channel renews its keys this much later than the TLS channel.
const DATAGRAM_REKEY_DELAY: Duration = Duration::from_secs(10);

/// What the worker of a session gets.
pub(crate) fn grant(subject: &Subject, datagram: Option<DatagramGrant>) -> TunnelGrant {
    let settings = &subject.session.settings;
    let mut config = TunnelConfig::new(Mtu::clamped(
        settings.mtu.unwrap_or(DEFAULT_LINK_MTU).min(MTU_MAX).into(),
    ));
    config.ipv4 = subject.addresses.ipv4;
    config.ipv6 = subject.addresses.ipv6;
    config.dns = settings.dns.clone();
    config.nbns = settings.nbns.clone();
    config.search_domains = settings.search_domains.clone();
    config.split_dns = settings.split_dns.clone();
    config.tunnel_all_dns = settings.tunnel_all_dns;
    config.includes = settings.routes.clone();
    config.excludes = settings.no_routes.clone();
    config.client_bypass_protocol = settings.client_bypass_protocol;
    config.proxy_pac = settings.proxy_pac.clone();
    config.banner = settings.banner.clone();
    config.idle_timeout = settings.idle_timeout;
    config.session_left = subject.session.session_left;
    config.dynamic_dns = settings.dynamic_dns;
    let rekey = settings.rekey_time.map(spread);
    config.stream = Timers {
        dpd: settings.dpd,
        keepalive: settings.keepalive,
        rekey,
        rekey_method: match (rekey, settings.rekey_ssl) {
            (None, _) => RekeyMethod::None,
            (Some(_), true) => RekeyMethod::Ssl,
            (Some(_), false) => RekeyMethod::NewTunnel,
        },
    };
    config.datagram = Timers {
        dpd: settings.dpd,
        keepalive: settings.keepalive,
        rekey: rekey.map(|time| time + DATAGRAM_REKEY_DELAY),
        rekey_method: if rekey.is_some() && settings.rekey_ssl {
            RekeyMethod::Ssl
        } else {
            RekeyMethod::None
        },
    };
    TunnelGrant {
        user: subject.session.user.clone(),
        device: subject.device.clone(),
        pooled: false,
        config,
        session_timeout: settings.session_timeout,
        networks_behind: settings.iroutes.clone(),
        datagram,
        hostname: settings.hostname.clone().or_else(|| {
            subject
                .wish
                .hostname
                .as_ref()
                .map(|name| name.as_str().to_owned())
        }),
        report: subject.session.report,
        custom_headers: settings.custom_headers.clone(),
        switch_to_tcp: settings.switch_to_tcp,
        net_priority: settings.net_priority,
        stats_report: settings.stats_report,
        rx_per_second: settings.rx_per_second,
        tx_per_second: settings.tx_per_second,
        output_buffer: settings.output_buffer,
    }
}

/// The rekey time of one session: up to 29 s earlier or later, so that sessions that began
/// together do not renew their keys together.
fn spread(time: Duration) -> Duration {
    if time <= Duration::from_secs(30) {
        return time;
    }
    let mut byte = [0];
    // Without randomness everybody renews at the same time, which is bearable.
    let _best_effort = random::fill(&mut byte);
    time + Duration::from_secs(u64::from(byte[0]) * 59 / 256) - Duration::from_secs(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rekey_times_are_spread_a_little() {
        let day = Duration::from_secs(86400);
        for _ in 0..1000 {
            let spread = spread(day);
            assert!(spread >= day - Duration::from_secs(29) && spread <= day + Duration::from_secs(29));
        }
        assert_eq!(spread(Duration::from_secs(30)), Duration::from_secs(30));
    }
}
