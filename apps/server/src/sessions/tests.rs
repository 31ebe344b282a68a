use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::ipc::session::ClientDescription;

const TIMEOUT: Duration = Duration::from_secs(300);
const LIFE: Duration = Duration::from_secs(315);

fn sid(number: u8) -> SessionId {
    SessionId::from_bytes([number; 32])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn home() -> IpAddr {
    ip("198.51.100.7")
}

fn new(user: &str, persistent: bool) -> NewSession {
    NewSession {
        user: UserName::new(user).unwrap(),
        group: None,
        host: "default".into(),
        peer: home(),
        local: "192.0.2.1".parse().unwrap(),
        client: ClientDescription::default(),
        cookie: CookiePolicy {
            timeout: TIMEOUT,
            persistent,
        },
        certificate: None,
        given: None,
        pam_session: false,
    }
}

fn table_with(persistent: bool) -> (SessionTable, SessionKey, Instant) {
    let now = Moment::now();
    let mut table = SessionTable::new();
    let (key, _) = table.insert(&sid(1), new("alice", persistent), now);
    (table, key, now.monotonic)
}

fn kept(key: SessionKey) -> Closed {
    Closed {
        key,
        ended: false,
        others: Vec::new(),
    }
}

fn open(
    table: &mut SessionTable,
    key: SessionKey,
    connection: u64,
    now: Instant,
) -> Result<Opened, CookieError> {
    table.open(key, ConnectionId(connection), home(), OpenLimits::default(), now)
}

/// `vectors/server-auth/safe-id.txt`.
#[test]
fn safe_ids() {
    let line = include_str!("../../tests/vectors/safe-id.txt")
        .lines()
        .find(|line| !line.starts_with('#'))
        .unwrap();
    let [cookie, safe, short] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("bad vector")
    };
    let id = SessionId::from_cookie(cookie).unwrap();
    assert_eq!((id.safe_id().as_str(), id.safe_id().short()), (safe, short));
}

#[test]
fn a_cookie_lives_for_cookie_timeout_and_slack() {
    let (mut table, key, now) = table_with(false);
    assert!(
        table
            .check(&sid(1), "default", now + LIFE - Duration::from_secs(1))
            .is_ok()
    );
    assert_eq!(
        table.check(&sid(1), "default", now + LIFE).map(|_| ()),
        Err(CookieError::Unknown)
    );
    assert_eq!(
        open(&mut table, key, 1, now + LIFE),
        Err(CookieError::Unknown),
        "not yet removed, refused already"
    );
    assert_eq!(
        table.check(&sid(2), "default", now).map(|_| ()),
        Err(CookieError::Unknown)
    );
    assert_eq!(
        table.check(&sid(1), "other", now).map(|_| ()),
        Err(CookieError::OtherHost)
    );
    assert_eq!(table.expire(now + LIFE).removed, [key]);
    assert!(table.sessions.is_empty() && table.users.is_empty());
}

#[test]
fn a_session_in_use_never_expires_and_then_lives_anew() {
    let (mut table, key, now) = table_with(false);
    open(&mut table, key, 1, now).unwrap();
    let late = now + LIFE * 100;
    assert_eq!(table.expire(late), Expired::default());
    assert_eq!(
        table.close(
            ConnectionId(1),
            CloseReason::DpdTimeout,
            Counters::default(),
            late
        ),
        Some(kept(key))
    );
    assert!(
        table
            .check(&sid(1), "default", late + LIFE - Duration::from_secs(1))
            .is_ok()
    );
    assert!(table.check(&sid(1), "default", late + LIFE).is_err());
}

/// `specs/server-auth.md` §4.1 and §4.2, every reason with and without `persistent-cookies`.
#[test]
fn invalidation_matrix() {
    let always = [CloseReason::SessionTimeout];
    let unless_persistent = [CloseReason::UserLogout, CloseReason::AdminDisconnect];
    let never = [
        CloseReason::Unspecified,
        CloseReason::ClientDisconnect,
        CloseReason::ServerDisconnect,
        CloseReason::IdleTimeout,
        CloseReason::DpdTimeout,
        CloseReason::Error,
    ];
    for (reasons, ends, ends_persistent) in [
        (&always[..], true, true),
        (&unless_persistent[..], true, false),
        (&never[..], false, false),
    ] {
        for (&reason, persistent) in reasons
            .iter()
            .flat_map(|reason| [(reason, false), (reason, true)])
        {
            let (mut table, key, now) = table_with(persistent);
            open(&mut table, key, 1, now).unwrap();
            let removed = if persistent { ends_persistent } else { ends };
            let want = Closed {
                ended: removed,
                ..kept(key)
            };
            let got = table.close(ConnectionId(1), reason, Counters::default(), now);
            assert_eq!(got, Some(want), "{reason:?}, persistent {persistent}");
            assert_eq!(table.check(&sid(1), "default", now).is_err(), removed);
            assert_eq!(
                table.close(ConnectionId(1), reason, Counters::default(), now),
                None,
                "only once"
            );
        }
    }
}

#[test]
fn a_replaced_connection_changes_nothing() {
    let (mut table, key, now) = table_with(false);
    open(&mut table, key, 1, now).unwrap();
    open(&mut table, key, 2, now).unwrap();
    table.close(
        ConnectionId(1),
        CloseReason::UserLogout,
        Counters { rx: 1, tx: 2 },
        now,
    );
    let session = table.get(key).unwrap();
    assert!(session.in_use());
    assert_eq!(session.counters, Counters { rx: 1, tx: 2 });
    table.close(
        ConnectionId(2),
        CloseReason::ClientDisconnect,
        Counters { rx: 10, tx: 20 },
        now,
    );
    let session = table.get(key).unwrap();
    assert!(!session.in_use());
    assert_eq!(session.counters, Counters { rx: 11, tx: 22 });
}

#[test]
fn a_quick_reconnect_does_not_save_what_the_administrator_ends() {
    let (mut table, key, now) = table_with(false);
    open(&mut table, key, 1, now).unwrap();
    open(&mut table, key, 2, now).unwrap();
    let closed = table.close(
        ConnectionId(1),
        CloseReason::AdminDisconnect,
        Counters::default(),
        now,
    );
    assert_eq!(
        closed,
        Some(Closed {
            key,
            ended: true,
            others: vec![ConnectionId(2)]
        })
    );
    assert!(table.sessions.is_empty() && table.connections.is_empty());
}

#[test]
fn a_refused_tunnel_leaves_the_session_unused() {
    let (mut table, key, now) = table_with(false);
    open(&mut table, key, 1, now).unwrap();
    assert_eq!(table.refused(ConnectionId(1), now), Some(key));
    assert!(!table.get(key).unwrap().in_use());
    assert_eq!(table.refused(ConnectionId(1), now), None);
    assert_eq!(
        table.close(ConnectionId(1), CloseReason::UserLogout, Counters::default(), now),
        None
    );
    assert!(table.check(&sid(1), "default", now).is_ok());
    open(&mut table, key, 2, now).unwrap();
    open(&mut table, key, 3, now).unwrap();
    table.refused(ConnectionId(3), now);
    assert!(
        table.get(key).unwrap().in_use(),
        "the connection that was to be replaced still holds it"
    );
}

#[test]
fn roaming() {
    let (mut table, key, now) = table_with(false);
    let deny = OpenLimits {
        deny_roaming: true,
        ..OpenLimits::default()
    };
    let elsewhere = ip("203.0.113.1");
    assert_eq!(
        table.open(key, ConnectionId(1), elsewhere, deny, now),
        Err(CookieError::Roaming)
    );
    assert!(!table.get(key).unwrap().in_use(), "a refusal holds nothing");
    assert!(
        table.check(&sid(1), "default", now + LIFE).is_err(),
        "and prolongs nothing"
    );
    table.open(key, ConnectionId(1), home(), deny, now).unwrap();
    table
        .open(key, ConnectionId(2), elsewhere, OpenLimits::default(), now)
        .unwrap();
    assert_eq!(table.get(key).unwrap().peer, elsewhere);
}

#[test]
fn same_clients_are_counted_by_session() {
    let (mut table, first, now) = table_with(false);
    let moment = Moment {
        monotonic: now,
        wall: SystemTime::now(),
    };
    let (second, _) = table.insert(&sid(2), new("alice", false), moment);
    let (other, _) = table.insert(&sid(3), new("bob", false), moment);
    let one = OpenLimits {
        max_same_clients: Some(1),
        ..OpenLimits::default()
    };
    table.open(first, ConnectionId(1), home(), one, now).unwrap();
    assert_eq!(
        table.open(second, ConnectionId(2), home(), one, now),
        Err(CookieError::TooMany(1))
    );
    table
        .open(first, ConnectionId(3), home(), one, now)
        .expect("a reconnect does not count twice");
    table
        .open(other, ConnectionId(4), home(), one, now)
        .expect("other users do not count");
    table.close(ConnectionId(3), CloseReason::Error, Counters::default(), now);
    table.close(ConnectionId(1), CloseReason::Error, Counters::default(), now);
    table.open(second, ConnectionId(5), home(), one, now).unwrap();
}

#[test]
fn session_timeout_counts_from_the_login() {
    let (mut table, key, now) = table_with(true);
    let limits = OpenLimits {
        session_timeout: Some(Duration::from_secs(100)),
        ..OpenLimits::default()
    };
    let at = |seconds| now + Duration::from_secs(seconds);
    let opened = table.open(key, ConnectionId(1), home(), limits, at(10)).unwrap();
    assert_eq!(opened.left, Some(Duration::from_secs(90)));
    table.close(ConnectionId(1), CloseReason::Error, Counters::default(), at(40));
    let opened = table.open(key, ConnectionId(2), home(), limits, at(60)).unwrap();
    assert_eq!(
        opened.left,
        Some(Duration::from_secs(40)),
        "reconnecting does not restart it"
    );
    assert_eq!(table.expire(at(100)), Expired::default(), "the worker ends it");
    assert_eq!(
        table.expire(at(161)).overdue,
        [ConnectionId(2)],
        "unless it does not"
    );
    table.close(ConnectionId(2), CloseReason::Error, Counters::default(), at(162));
    assert_eq!(
        table.open(key, ConnectionId(3), home(), limits, at(163)),
        Err(CookieError::TimedOut)
    );
    assert!(table.sessions.is_empty());
}

#[test]
fn one_user_cannot_pile_up_sessions() {
    let mut table = SessionTable::new();
    let start = Moment::now();
    for number in 0..200 {
        let now = Moment {
            monotonic: start.monotonic + Duration::from_millis(number.into()),
            ..start
        };
        let (_, evicted) = table.insert(&sid(number), new("alice", false), now);
        assert_eq!(
            evicted,
            (number >= 64).then(|| SessionKey::of(&sid(number - 64))),
            "the oldest goes"
        );
    }
    assert_eq!(table.len(), 64);
}

#[test]
fn removal_by_name() {
    let (mut table, key, now) = table_with(false);
    open(&mut table, key, 1, now).unwrap();
    assert_eq!(table.key_of(&sid(1).safe_id()), Some(key));
    assert_eq!(table.key_of(&sid(2).safe_id()), None);
    assert_eq!(table.keys_of_user(&UserName::new("alice").unwrap()), [key]);
    assert_eq!(
        table.of_connection(ConnectionId(1)).map(|(key, _)| key),
        Some(key)
    );
    assert_eq!(table.remove(key, None), [ConnectionId(1)]);
    assert_eq!(
        table.close(ConnectionId(1), CloseReason::UserLogout, Counters::default(), now),
        None
    );
    assert!(table.sessions.is_empty() && table.users.is_empty() && table.connections.is_empty());
}

#[test]
fn summaries_leave_out_what_is_over() {
    let (mut table, key, now) = table_with(false);
    let summary = table.summaries(now).remove(0);
    assert_eq!((summary.in_use, summary.expires_in_seconds), (false, Some(315)));
    open(&mut table, key, 1, now).unwrap();
    let summary = table.summaries(now + LIFE).remove(0);
    assert_eq!(
        (summary.in_use, summary.expires_in_seconds, summary.age_seconds),
        (true, None, 315)
    );
    table.close(
        ConnectionId(1),
        CloseReason::Error,
        Counters::default(),
        now + LIFE,
    );
    assert!(table.summaries(now + LIFE * 2).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Login(u8),
    Open {
        session: u8,
        connection: u64,
        max: Option<u32>,
        away: bool,
    },
    Refused(u64),
    Close(u64, CloseReason),
    Remove(u8),
    Expire,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = prop_oneof![
        Just(CloseReason::Unspecified),
        Just(CloseReason::UserLogout),
        Just(CloseReason::AdminDisconnect),
        Just(CloseReason::SessionTimeout),
    ];
    let step = prop_oneof![
        (0u8..5).prop_map(Step::Login),
        (0u8..5, 0u64..8, proptest::option::of(1u32..3), any::<bool>()).prop_map(
            |(session, connection, max, away)| Step::Open {
                session,
                connection,
                max,
                away
            }
        ),
        (0u64..8).prop_map(Step::Refused),
        ((0u64..8), reason).prop_map(|(connection, reason)| Step::Close(connection, reason)),
        (0u8..5).prop_map(Step::Remove),
        Just(Step::Expire),
        (0u64..200).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// A session is in use exactly while a connection holds it: when all connections are closed,
    /// nothing is in use and everything expires.
    #[test]
    fn nothing_leaks(steps in steps()) {
        let mut table = SessionTable::new();
        let mut now = Moment::now();
        for step in steps {
            match step {
                Step::Login(n) => {
                    if table.get(SessionKey::of(&sid(n))).is_none() {
                        table.insert(&sid(n), new(if n % 2 == 0 { "alice" } else { "bob" }, false), now);
                    }
                }
                Step::Open { session, connection, max, away } => {
                    let limits = OpenLimits { deny_roaming: true, max_same_clients: max, ..OpenLimits::default() };
                    let peer = if away { ip("203.0.113.1") } else { home() };
                    // A connection opens at most one tunnel in its life.
                    if table.of_connection(ConnectionId(connection)).is_none() {
                        let key = SessionKey::of(&sid(session));
                        let opened = table.open(key, ConnectionId(connection), peer, limits, now.monotonic);
                        prop_assert!(!(away && opened.is_ok()));
                    }
                }
                Step::Refused(c) => { table.refused(ConnectionId(c), now.monotonic); }
                Step::Close(c, reason) => { table.close(ConnectionId(c), reason, Counters::default(), now.monotonic); }
                Step::Remove(n) => { table.remove(SessionKey::of(&sid(n)), None); }
                Step::Expire => { table.expire(now.monotonic); }
                Step::Wait(seconds) => now.monotonic += Duration::from_secs(seconds),
            }
            let held: usize = table.sessions.values().map(|session| session.holders.len()).sum();
            prop_assert_eq!(held, table.connections.len());
            let listed: usize = table.users.values().map(Vec::len).sum();
            prop_assert_eq!(listed, table.len());
        }
        for connection in 0..8 {
            table.close(ConnectionId(connection), CloseReason::Error, Counters::default(), now.monotonic);
        }
        prop_assert!(table.sessions.values().all(|session| !session.in_use()));
        table.expire(now.monotonic + LIFE);
        prop_assert!(table.sessions.is_empty() && table.users.is_empty() && table.connections.is_empty());
    }
}
