//! Counters of `occtl show status`.

use std::time::{Duration, Instant, SystemTime};

use culvert_control::messages::PeriodStats;

use super::state::unix_time;
use crate::ipc::session::{CloseReason, Counters};

/// Counters since the start and since the beginning of the present period.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// Start of the server.
    pub(crate) up_since: u64,
    /// Sessions that ended since the start.
    pub(crate) total_sessions: u64,
    /// Failed logins since the start.
    pub(crate) total_failures: u64,
    /// The present period.
    pub(crate) period: PeriodStats,
    period_began: Instant,
    logins: u64,
    login_time: Duration,
    session_time: Duration,
}

impl Statistics {
    /// All zero, from now on.
    pub(crate) fn new() -> Self {
        let now = unix_time(SystemTime::now());
        Self {
            up_since: now,
            total_sessions: 0,
            total_failures: 0,
            period: PeriodStats {
                last_reset: Some(now),
                ..PeriodStats::default()
            },
            period_began: Instant::now(),
            logins: 0,
            login_time: Duration::ZERO,
            session_time: Duration::ZERO,
        }
    }

    /// Begins a new period when the present one is older than `length`.
    pub(crate) fn renew(&mut self, length: Duration) {
        if self.period_began.elapsed() < length {
            return;
        }
        *self = Self {
            up_since: self.up_since,
            total_sessions: self.total_sessions,
            total_failures: self.total_failures,
            ..Self::new()
        };
    }

    /// A login succeeded after this many milliseconds.
    pub(crate) fn login(&mut self, took_ms: u32) {
        let took = Duration::from_millis(took_ms.into());
        self.logins += 1;
        self.login_time += took;
        self.period.average_auth_time = self.login_time.as_secs() / self.logins;
        self.period.max_auth_time = self.period.max_auth_time.max(took.as_secs());
    }

    /// A login step failed, or a tunnel was refused.
    pub(crate) fn login_failed(&mut self) {
        self.total_failures += 1;
        self.period.auth_failures += 1;
    }

    /// A tunnel has got this MTU.
    pub(crate) fn mtu(&mut self, mtu: u16) {
        let period = &mut self.period;
        period.max_mtu = period.max_mtu.max(mtu);
        period.min_mtu = if period.min_mtu == 0 {
            mtu
        } else {
            period.min_mtu.min(mtu)
        };
    }

    /// A session has ended.
    pub(crate) fn closed(&mut self, reason: CloseReason, counters: Counters, lasted: Duration) {
        self.total_sessions += 1;
        self.session_time += lasted;
        let period = &mut self.period;
        period.sessions_handled += 1;
        period.rx_bytes = period.rx_bytes.saturating_add(counters.rx);
        period.tx_bytes = period.tx_bytes.saturating_add(counters.tx);
        period.max_session_time = period.max_session_time.max(lasted.as_secs());
        period.average_session_time = self.session_time.as_secs() / period.sessions_handled;
        match reason {
            CloseReason::SessionTimeout => period.timed_out += 1,
            CloseReason::IdleTimeout => period.timed_out_idle += 1,
            CloseReason::Error => period.closed_by_error += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_and_extremes() {
        let mut statistics = Statistics::new();
        statistics.login(1000);
        statistics.login(3000);
        statistics.mtu(1400);
        statistics.mtu(1300);
        statistics.closed(
            CloseReason::IdleTimeout,
            Counters { rx: 5, tx: 6 },
            Duration::from_secs(10),
        );
        statistics.closed(
            CloseReason::Error,
            Counters { rx: 5, tx: 6 },
            Duration::from_secs(20),
        );
        let period = statistics.period;
        assert_eq!((period.average_auth_time, period.max_auth_time), (2, 3));
        assert_eq!((period.min_mtu, period.max_mtu), (1300, 1400));
        assert_eq!((period.average_session_time, period.max_session_time), (15, 20));
        assert_eq!(
            (period.timed_out_idle, period.closed_by_error, period.rx_bytes),
            (1, 1, 10)
        );
    }

    #[test]
    fn a_new_period_keeps_the_totals() {
        let mut statistics = Statistics::new();
        assert_eq!(statistics.period.last_reset, Some(statistics.up_since));
        statistics.login_failed();
        statistics.renew(Duration::from_secs(3600));
        assert_eq!(statistics.period.auth_failures, 1);
        statistics.renew(Duration::ZERO);
        assert_eq!(
            (statistics.period.auth_failures, statistics.total_failures),
            (0, 1)
        );
        assert!(statistics.period.last_reset.is_some());
    }
}
