//! `show status`.

use super::*;

/// The status of the capture, of a server that is up for 44 s.
pub(crate) fn status(now: u64) -> Status {
    Status {
        server_pid: 32346,
        secmod_pid: 32348,
        secmod_instances: 1,
        up_since: now - 44,
        active_sessions: 2,
        total_sessions: 1,
        latency: Some(Latency::default()),
        secmod_client_entries: 3,
        period: PeriodStats {
            last_reset: Some(now - 44),
            sessions_handled: 1,
            closed_by_error: 1,
            min_mtu: 1434,
            max_mtu: 1434,
            ..PeriodStats::default()
        },
        ..Status::default()
    }
}

#[test]
fn show_status() {
    let answer = |now| vec![vec![Reply::Status(Box::new(status(now)))]];
    within_one_second(|now| {
        let ours = out(&Server::answering(answer(now)).occtl("show status"));
        (
            as_captured(&ours, now - 44),
            captured("occtl show status").to_owned(),
        )
    });
    within_one_second(|now| {
        let ours = out(&Server::answering(answer(now)).occtl("-j show status"));
        let ours = ours.replace(&(now - 44).to_string(), "1795285635");
        (
            as_captured(&ours, now - 44),
            captured("occtl -j show status").to_owned(),
        )
    });
    let debug = out(&Server::answering(answer(now())).occtl("--debug show status"));
    assert!(
        debug.contains("\tSec-mod client entries: 3\n\tTLS DB entries: 0\n"),
        "{debug}"
    );
}
