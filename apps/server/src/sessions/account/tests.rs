use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use culvert_vocab::{SessionId, UserName};
use proptest::prelude::*;

use super::*;
use crate::ipc::session::ClientDescription;
use crate::sessions::journal::Journal;
use crate::sessions::{CookiePolicy, NewSession, OpenLimits};

const SECOND: Duration = Duration::from_secs(1);

fn sid(number: u8) -> SessionId {
    SessionId::from_bytes([number; 32])
}

fn start() -> Moment {
    Moment {
        monotonic: Instant::now(),
        wall: UNIX_EPOCH + 1_000_000 * SECOND,
    }
}

fn later(moment: Moment, seconds: u32) -> Moment {
    Moment {
        monotonic: moment.monotonic + seconds * SECOND,
        wall: moment.wall + seconds * SECOND,
    }
}

fn log_in(table: &mut SessionTable, number: u8, now: Moment) {
    let new = NewSession {
        user: UserName::new("alice").unwrap(),
        group: None,
        host: "default".into(),
        peer: "198.51.100.7".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        client: ClientDescription::default(),
        cookie: CookiePolicy {
            timeout: 300 * SECOND,
            persistent: false,
        },
        certificate: None,
        given: None,
        pam_session: false,
    };
    table.insert(&sid(number), new, now);
}

fn open(table: &mut SessionTable, number: u8, connection: u64, now: Moment) -> Option<Record> {
    let limits = OpenLimits {
        update_interval: Some(10 * SECOND),
        ..OpenLimits::default()
    };
    let peer = "198.51.100.7".parse().unwrap();
    let key = SessionKey::of(&sid(number));
    table
        .open(key, ConnectionId(connection), peer, limits, now.monotonic)
        .ok()?;
    table.open_account(ConnectionId(connection), now.monotonic)
}

fn counters(rx: u64) -> Counters {
    Counters { rx, tx: 10 * rx }
}

/// Time and octets span reconnects; updates come in time.
#[test]
fn one_account_over_two_connections() {
    let mut table = SessionTable::new();
    let begin = start();
    log_in(&mut table, 1, begin);
    let record = open(&mut table, 1, 1, later(begin, 2)).unwrap();
    assert_eq!((record.status, record.session.multi_id), (Status::Start, None));
    assert_eq!(record.session.id, sid(1).safe_id().to_string());
    assert!(table.due_updates(later(begin, 11).monotonic).is_empty());
    table.count(ConnectionId(1), counters(5), later(begin, 12).monotonic);
    let update = table.due_updates(later(begin, 12).monotonic).remove(0).1;
    assert_eq!((update.session.input, update.session.output), (5, 50));
    assert!(table.due_updates(later(begin, 13).monotonic).is_empty());
    table.close(
        ConnectionId(1),
        CloseReason::Unspecified,
        counters(7),
        later(begin, 20).monotonic,
    );
    assert_eq!(open(&mut table, 1, 2, later(begin, 30)), None, "no second Start");
    table.count(ConnectionId(2), counters(1), later(begin, 31).monotonic);
    table.close(
        ConnectionId(2),
        CloseReason::UserLogout,
        counters(3),
        later(begin, 40).monotonic,
    );
    let stops = table.take_changed_stops();
    let (stop, complete) = &stops[0];
    let session = &stop.record.session;
    assert_eq!(stop.record.status, Status::Stop(TerminateCause::UserRequest));
    assert_eq!(
        (session.input, session.output, session.time),
        (10, 100, 40 * SECOND)
    );
    assert_eq!(
        (stop.at, *complete, stops.len()),
        (later(begin, 40).wall, true, 1)
    );
}

/// A Start before there are addresses: the first update tells them at once. One that no server takes
/// opens no account, and is the same one the next time.
#[test]
fn accounts_before_tunnels() {
    let mut table = SessionTable::new();
    let begin = start();
    log_in(&mut table, 1, begin);
    let key = SessionKey::of(&sid(1));
    let peer = "198.51.100.7".parse().unwrap();
    let early = |table: &mut SessionTable, connection| {
        let connection = ConnectionId(connection);
        let now = begin.monotonic;
        table
            .open(key, connection, peer, OpenLimits::default(), now)
            .unwrap();
        table.open_account_early(connection, now)
    };
    let first = early(&mut table, 1).unwrap();
    assert_eq!(first.status, Status::Start);
    assert!(table.due_updates(later(begin, 5).monotonic).is_empty());
    table.forget_account(ConnectionId(1));
    table.refused(ConnectionId(1), begin.monotonic);
    assert_eq!(early(&mut table, 2), Some(first));
    assert_eq!(table.open_account(ConnectionId(2), begin.monotonic), None);
    let update = table.due_updates(begin.monotonic).remove(0).1;
    assert_eq!(update.status, Status::Interim);
    assert!(table.due_updates(later(begin, 5).monotonic).is_empty());
    assert_eq!(early(&mut table, 3), None, "a server knows of it");
    table.forget_account(ConnectionId(3));
    table.remove(key, None);
    assert!(table.take_changed_stops().is_empty());
}

/// The administrator removes a session while it is connected: its last octets count.
#[test]
fn a_removed_session_waits_for_its_connection() {
    let mut table = SessionTable::new();
    let begin = start();
    log_in(&mut table, 1, begin);
    open(&mut table, 1, 1, begin).unwrap();
    table.count(ConnectionId(1), counters(5), later(begin, 5).monotonic);
    table.remove(SessionKey::of(&sid(1)), Some(CloseReason::AdminDisconnect));
    let (stop, complete) = table.take_changed_stops().remove(0);
    assert_eq!((stop.record.session.input, complete), (5, false));
    let end = later(begin, 9).monotonic;
    assert!(
        table
            .close(ConnectionId(1), CloseReason::Unspecified, counters(8), end)
            .is_none()
    );
    let (stop, complete) = table.take_changed_stops().remove(0);
    assert_eq!(stop.record.status, Status::Stop(TerminateCause::AdminReset));
    assert_eq!(
        (stop.record.session.input, stop.record.session.time, complete),
        (8, 9 * SECOND, true)
    );
}

/// A stop of the server ends the account; the session goes on with another one.
#[test]
fn a_session_outlives_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let begin = start();
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, begin).unwrap();
    log_in(&mut table, 1, begin);
    open(&mut table, 1, 1, begin).unwrap();
    table.close(
        ConnectionId(1),
        CloseReason::ServerDisconnect,
        counters(4),
        later(begin, 5).monotonic,
    );
    for key in table.close_accounts(later(begin, 6)) {
        journal.note(key, &table, later(begin, 6)).unwrap();
    }
    let (stop, _) = table.take_changed_stops().remove(0);
    assert_eq!(stop.record.status, Status::Stop(TerminateCause::AdminReset));
    journal.note_owed(&stop).unwrap();
    drop(journal);

    // Nobody took it: the next server owes it still, and knows the session.
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, later(begin, 20)).unwrap();
    let owed = table.take_changed_stops();
    assert_eq!(owed, [(stop.clone(), true)]);
    table.stop_taken(&stop.record.session.id);
    journal.note_paid(&stop.record.session.id).unwrap();
    let again = open(&mut table, 1, 1, later(begin, 30)).unwrap();
    let first = sid(1).safe_id().to_string();
    assert_eq!(again.session.id, format!("{first}-1"));
    assert_eq!(again.session.multi_id, Some(first));
    journal
        .note(SessionKey::of(&sid(1)), &table, later(begin, 30))
        .unwrap();
    drop(journal);

    // This one crashes: its account ends, too, without what the first one carried.
    let mut table = SessionTable::new();
    Journal::open(&path, &mut table, later(begin, 2000)).unwrap();
    let (stop, complete) = table.take_changed_stops().remove(0);
    assert_eq!(stop.record.session.id, again.session.id);
    assert_eq!(stop.record.status, Status::Stop(TerminateCause::NasReboot));
    assert_eq!((stop.record.session.input, complete), (0, true));
}

#[derive(Debug, Clone)]
enum Step {
    Login(u8),
    Open(u8, u64),
    Count(u64, u64),
    Close(u64, CloseReason),
    Remove(u8),
    Expire,
    CloseAccounts,
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = prop_oneof![
        Just(CloseReason::Unspecified),
        Just(CloseReason::UserLogout),
        Just(CloseReason::AdminDisconnect),
    ];
    let step = prop_oneof![
        (0u8..3).prop_map(Step::Login),
        (0u8..3, 0u64..6).prop_map(|(session, connection)| Step::Open(session, connection)),
        (0u64..6, 0u64..9).prop_map(|(connection, rx)| Step::Count(connection, rx)),
        (0u64..6, reason).prop_map(|(connection, reason)| Step::Close(connection, reason)),
        (0u8..3).prop_map(Step::Remove),
        Just(Step::Expire),
        Just(Step::CloseAccounts),
        (0u32..400).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens: one complete Stop for each Start, and none without.
    #[test]
    fn one_stop_for_each_start(steps in steps()) {
        let mut table = SessionTable::new();
        let mut now = start();
        let (mut starts, mut stops) = (Vec::new(), HashMap::new());
        let mut logins = 0;
        for step in steps {
            match step {
                // A session id is never used again.
                Step::Login(n) => {
                    if table.get(SessionKey::of(&sid(n))).is_none() && logins & (1 << n) == 0 {
                        logins |= 1 << n;
                        log_in(&mut table, n, now);
                    }
                }
                Step::Open(n, connection) => {
                    let waits = table.stops.unfinished.values();
                    let known = waits.flat_map(|stop| &stop.connections).any(|c| c.0 == connection);
                    if !known && table.of_connection(ConnectionId(connection)).is_none() {
                        starts.extend(open(&mut table, n, connection, now).map(|record| record.session.id));
                    }
                }
                Step::Count(connection, rx) => {
                    table.count(ConnectionId(connection), counters(rx), now.monotonic);
                }
                Step::Close(connection, reason) => {
                    table.close(ConnectionId(connection), reason, counters(9), now.monotonic);
                }
                Step::Remove(n) => {
                    table.remove(SessionKey::of(&sid(n)), Some(CloseReason::AdminDisconnect));
                }
                Step::Expire => {
                    table.expire(now.monotonic);
                }
                Step::CloseAccounts => {
                    table.close_accounts(now);
                }
                Step::Wait(seconds) => now = later(now, seconds),
            }
            for (stop, _) in table.take_changed_stops().into_iter().filter(|(_, complete)| *complete) {
                *stops.entry(stop.record.session.id).or_insert(0) += 1;
            }
        }
        for connection in 0..6 {
            table.close(ConnectionId(connection), CloseReason::Error, counters(9), now.monotonic);
        }
        table.expire(later(now, 400).monotonic);
        for (stop, complete) in table.take_changed_stops() {
            prop_assert!(complete);
            *stops.entry(stop.record.session.id).or_insert(0) += 1;
        }
        prop_assert!(table.stops.unfinished.is_empty());
        prop_assert_eq!(starts.len(), stops.len());
        for id in starts {
            prop_assert_eq!(stops.get(&id), Some(&1), "{}", id);
        }
    }
}

/// `specs/server-auth.md` §3.1.
#[test]
fn causes() {
    for (reason, number) in [
        (CloseReason::UserLogout, 1),
        (CloseReason::DpdTimeout, 2),
        (CloseReason::Unspecified, 3),
        (CloseReason::ClientDisconnect, 3),
        (CloseReason::IdleTimeout, 4),
        (CloseReason::SessionTimeout, 5),
        (CloseReason::AdminDisconnect, 6),
        (CloseReason::ServerDisconnect, 6),
        (CloseReason::Error, 17),
    ] {
        assert_eq!(cause(reason).number(), number, "{reason:?}");
    }
}

/// A journal may say anything.
#[test]
fn an_account_that_is_older_than_time_is_closed() {
    let (mut table, now) = (SessionTable::new(), start());
    log_in(&mut table, 1, now);
    let session = table.get(SessionKey::of(&sid(1))).unwrap().clone();
    let account = Account {
        open: true,
        until: Duration::MAX,
        ..Account::default()
    };
    table.account_of_earlier_process(&session, account, false);
    let stop = table.owed_stops().next().unwrap();
    assert_eq!(stop.at, session.authenticated_at);
}
