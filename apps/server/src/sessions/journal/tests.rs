use std::time::Instant;

use culvert_vocab::SessionId;
use proptest::prelude::*;

use super::*;
use crate::ipc::messages::ConnectionId;
use crate::ipc::session::CloseReason;
use crate::sessions::{NewSession, OpenLimits};

fn moment(wall: u64) -> Moment {
    Moment {
        monotonic: Instant::now() + Duration::from_secs(wall),
        wall: UNIX_EPOCH + Duration::from_secs(wall),
    }
}

fn sid(number: u8) -> SessionId {
    SessionId::from_bytes([number; 32])
}

fn new(user: &str) -> NewSession {
    NewSession {
        user: UserName::new(user).unwrap(),
        group: Some(GroupName::new("staff").unwrap()),
        host: "default".into(),
        peer: "198.51.100.7".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        client: ClientDescription::default(),
        cookie: CookiePolicy {
            timeout: Duration::from_secs(300),
            persistent: false,
        },
        certificate: Some([3; 32]),
        given: Some(Box::default()),
        pam_session: false,
    }
}

fn reopen(path: &Path, now: Moment) -> SessionTable {
    let mut table = SessionTable::new();
    Journal::open(path, &mut table, now).unwrap();
    table
}

#[test]
fn cookies_survive_a_restart_until_they_expire() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ocserv.sessions");
    let now = moment(1_000_000);
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    let (unused, _) = table.insert(&sid(1), new("alice"), now);
    let (used, _) = table.insert(&sid(2), new("bob"), now);
    let (gone, _) = table.insert(&sid(3), new("carol"), now);
    table
        .open(
            used,
            ConnectionId(1),
            "198.51.100.7".parse().unwrap(),
            OpenLimits::default(),
            now.monotonic,
        )
        .unwrap();
    for key in [unused, used, gone] {
        journal.note(key, &table, now).unwrap();
    }
    table.remove(gone, None);
    journal.note(gone, &table, now).unwrap();
    drop(journal);

    let text = std::fs::read(&path).unwrap();
    assert!(
        !text.windows(32).any(|w| w == sid(1).expose()),
        "no session id on disk"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

    let later = moment(1_000_200);
    let table = reopen(&path, later);
    let (_, alice) = table.check(&sid(1), "default", later.monotonic).unwrap();
    assert_eq!(
        (alice.user.as_str(), alice.age(later.monotonic).as_secs()),
        ("alice", 200)
    );
    assert!(alice.restored);
    assert_eq!(alice.authenticated_at, now.wall);
    assert!(table.check(&sid(2), "default", later.monotonic).is_ok());
    assert!(table.check(&sid(3), "default", later.monotonic).is_err());
    assert!(
        table
            .check(&sid(1), "default", later.monotonic + Duration::from_secs(116))
            .is_err(),
        "not prolonged"
    );

    let too_late = moment(1_000_316);
    assert!(
        reopen(&path, too_late)
            .check(&sid(1), "default", too_late.monotonic)
            .is_err()
    );
}

#[test]
fn a_clock_that_steps_back_prolongs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, moment(1_000_000)).unwrap();
    let (key, _) = table.insert(&sid(1), new("alice"), moment(1_000_000));
    journal.note(key, &table, moment(1_000_000)).unwrap();
    drop(journal);
    let earlier = moment(500);
    let table = reopen(&path, earlier);
    assert!(
        table
            .check(&sid(1), "default", earlier.monotonic + Duration::from_secs(314))
            .is_ok()
    );
    assert!(
        table
            .check(&sid(1), "default", earlier.monotonic + Duration::from_secs(315))
            .is_err()
    );
}

#[test]
fn session_timeout_counts_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let now = moment(1_000_000);
    let limits = OpenLimits {
        session_timeout: Some(Duration::from_secs(100)),
        ..OpenLimits::default()
    };
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    let (key, _) = table.insert(&sid(1), new("alice"), now);
    let peer = "198.51.100.7".parse().unwrap();
    table
        .open(key, ConnectionId(1), peer, limits, now.monotonic)
        .unwrap();
    table.close(
        ConnectionId(1),
        CloseReason::Unspecified,
        Counters { rx: 5, tx: 6 },
        now.monotonic,
    );
    journal.note(key, &table, now).unwrap();
    drop(journal);
    let later = moment(1_000_060);
    let mut restored = reopen(&path, later);
    assert_eq!(restored.get(key).unwrap().counters, Counters { rx: 5, tx: 6 });
    let opened = restored
        .open(key, ConnectionId(2), peer, limits, later.monotonic)
        .unwrap();
    assert_eq!(opened.left, Some(Duration::from_secs(40)));
    assert!(reopen(&path, moment(1_000_100)).is_empty());
}

#[test]
fn a_torn_tail_loses_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let now = moment(1_000_000);
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    for number in 1..=2 {
        let (key, _) = table.insert(&sid(number), new("alice"), now);
        journal.note(key, &table, now).unwrap();
    }
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let table = reopen(&path, now);
    assert!(table.check(&sid(1), "default", now.monotonic).is_ok());
    assert!(table.check(&sid(2), "default", now.monotonic).is_err());
}

/// A session whose settings are too large for an entry costs no other one.
#[test]
fn a_session_that_does_not_fit_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let now = moment(1_000_000);
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    let mut large = new("alice");
    large.given = Some(Box::new(GivenSettings {
        routes: vec!["198.51.100.0/24".parse().unwrap(); ENTRY_MAX / 4],
        ..GivenSettings::default()
    }));
    for (number, session) in [(1, large), (2, new("bob"))] {
        let (key, _) = table.insert(&sid(number), session, now);
        journal.note(key, &table, now).unwrap();
    }
    drop(journal);
    for _ in 0..2 {
        let table = reopen(&path, now);
        assert!(table.check(&sid(1), "default", now.monotonic).is_err());
        assert!(table.check(&sid(2), "default", now.monotonic).is_ok());
    }
    // The same when the file is written anew.
    rewrite(&path, &table, now).unwrap();
    assert_eq!(reopen(&path, now).len(), 1);
}

/// A disk that is full: the next server must not find cookies that were ended meanwhile.
#[test]
fn a_journal_that_cannot_be_written_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let now = moment(1_000_000);
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    let (key, _) = table.insert(&sid(1), new("alice"), now);
    journal.note(key, &table, now).unwrap();
    table.remove(key, None);
    journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(journal.note(key, &table, now).is_err());
    drop(journal);
    assert!(reopen(&path, now).is_empty());
}

#[test]
fn it_does_not_grow_without_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let now = moment(1_000_000);
    let mut table = SessionTable::new();
    let mut journal = Journal::open(&path, &mut table, now).unwrap();
    let (key, _) = table.insert(&sid(1), new("alice"), now);
    for _ in 0..5 * SLACK {
        journal.note(key, &table, now).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() < (2 * SLACK * 400) as u64);
    assert!(journal.entries <= SLACK + 3);
}

#[test]
fn others_files_and_servers_are_respected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let mut table = SessionTable::new();
    let journal = Journal::open(&path, &mut table, moment(1)).unwrap();
    assert!(matches!(
        Journal::open(&path, &mut table, moment(1)),
        Err(JournalError::InUse(_))
    ));
    drop(journal);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(
        Journal::open(&path, &mut table, moment(1)),
        Err(JournalError::Untrusted(_))
    ));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(
        Journal::open(&path, &mut table, moment(1)),
        Err(JournalError::File { .. })
    ));
}

proptest! {
    /// Whatever is in the file, reading it gives sessions or nothing, and never panics.
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), sane in any::<bool>()) {
        let mut bytes = bytes;
        if sane && bytes.len() > 12 {
            let body = bytes.split_off(12);
            let length = (body.len() as u32).to_le_bytes();
            bytes = [&length[..], &checksum(&body), &body].concat();
        }
        decode(&bytes);
    }
}
