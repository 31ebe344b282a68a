use std::time::Instant;

use culvert_vocab::SessionId;
use proptest::prelude::*;
use tempfile::TempDir;

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

/// Sessions with their journal, a long time after 1970.
struct Scene {
    _directory: TempDir,
    path: PathBuf,
    now: Moment,
    table: SessionTable,
    journal: Journal,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (path, now) = (directory.path().join("ocserv.sessions"), moment(1_000_000));
        let mut table = SessionTable::new();
        let journal = Journal::open(&path, &mut table, now).unwrap();
        Self {
            _directory: directory,
            path,
            now,
            table,
            journal,
        }
    }

    /// A new session, which the journal has.
    fn insert(&mut self, number: u8, session: NewSession) -> SessionKey {
        let (key, _) = self.table.insert(&sid(number), session, self.now);
        self.note(key).unwrap();
        key
    }

    fn note(&mut self, key: SessionKey) -> Result<(), JournalError> {
        self.journal.note(key, &self.table, self.now)
    }

    /// What the next server finds at this time.
    fn found_at(self, now: Moment) -> SessionTable {
        drop(self.journal);
        reopen(&self.path, now)
    }
}

fn reopen(path: &Path, now: Moment) -> SessionTable {
    let mut table = SessionTable::new();
    Journal::open(path, &mut table, now).unwrap();
    table
}

#[test]
fn cookies_survive_a_restart_until_they_expire() {
    let mut scene = Scene::new();
    let now = scene.now;
    scene.insert(1, new("alice"));
    let used = scene.insert(2, new("bob"));
    let gone = scene.insert(3, new("carol"));
    let peer = "198.51.100.7".parse().unwrap();
    let limits = OpenLimits::default();
    let opened = scene
        .table
        .open(used, ConnectionId(1), peer, limits, now.monotonic);
    opened.unwrap();
    scene.note(used).unwrap();
    scene.table.remove(gone, None);
    scene.note(gone).unwrap();
    let Scene {
        _directory,
        path,
        journal,
        ..
    } = scene;
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
    let mut scene = Scene::new();
    scene.insert(1, new("alice"));
    let earlier = moment(500);
    let table = scene.found_at(earlier);
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
    let limits = OpenLimits {
        session_timeout: Some(Duration::from_secs(100)),
        ..OpenLimits::default()
    };
    let mut scene = Scene::new();
    let now = scene.now;
    let key = scene.insert(1, new("alice"));
    let peer = "198.51.100.7".parse().unwrap();
    let opened = scene
        .table
        .open(key, ConnectionId(1), peer, limits, now.monotonic);
    opened.unwrap();
    scene.table.close(
        ConnectionId(1),
        CloseReason::Unspecified,
        Counters { rx: 5, tx: 6 },
        now.monotonic,
    );
    scene.note(key).unwrap();
    let Scene {
        _directory,
        path,
        journal,
        ..
    } = scene;
    drop(journal);
    let later = moment(1_000_060);
    let mut restored = reopen(&path, later);
    assert_eq!(restored.get(key).unwrap().counters, Counters { rx: 5, tx: 6 });
    let opened = restored
        .open(key, ConnectionId(2), peer, limits, later.monotonic)
        .unwrap();
    assert_eq!(opened.left, Some(Duration::from_secs(40)));
    assert!(reopen(&path, moment(1_000_100)).sessions.is_empty());
}

#[test]
fn a_torn_tail_loses_only_itself() {
    let mut scene = Scene::new();
    let now = scene.now;
    for number in 1..=2 {
        scene.insert(number, new("alice"));
    }
    let bytes = std::fs::read(&scene.path).unwrap();
    std::fs::write(&scene.path, &bytes[..bytes.len() - 3]).unwrap();
    let table = scene.found_at(now);
    assert!(table.check(&sid(1), "default", now.monotonic).is_ok());
    assert!(table.check(&sid(2), "default", now.monotonic).is_err());
}

/// A session whose settings are too large for an entry costs no other one.
#[test]
fn a_session_that_does_not_fit_is_left_out() {
    let mut scene = Scene::new();
    let mut large = new("alice");
    large.given = Some(Box::new(GivenSettings {
        routes: vec!["198.51.100.0/24".parse().unwrap(); ENTRY_MAX / 4],
        ..GivenSettings::default()
    }));
    scene.insert(1, large);
    scene.insert(2, new("bob"));
    let Scene {
        _directory,
        path,
        now,
        table,
        journal,
    } = scene;
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
    let mut scene = Scene::new();
    let now = scene.now;
    let key = scene.insert(1, new("alice"));
    scene.table.remove(key, None);
    scene.journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(scene.note(key).is_err());
    assert!(scene.found_at(now).sessions.is_empty());
}

#[test]
fn it_does_not_grow_without_bound() {
    let mut scene = Scene::new();
    let key = scene.insert(1, new("alice"));
    for _ in 0..5 * SLACK {
        scene.note(key).unwrap();
    }
    assert!(std::fs::metadata(&scene.path).unwrap().len() < (2 * SLACK * 400) as u64);
    assert!(scene.journal.entries <= SLACK + 3);
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

    /// Times that no clock has cost a session, not the server.
    #[test]
    fn no_times_panic(
        expires in proptest::option::of(times()),
        authenticated_at in times(),
        timeout in times(),
        limit in proptest::option::of(times()),
    ) {
        let (mut table, now) = (SessionTable::new(), moment(1_000_000));
        let (key, _) = table.insert(&sid(1), new("alice"), now);
        let mut record = Record::of(key, table.get(key).unwrap(), now);
        record.expires = expires;
        record.authenticated_at = authenticated_at;
        record.cookie.timeout = Duration::from_secs(timeout);
        record.limit = limit.map(Duration::from_secs);
        table.remove(key, None);
        if let Some((session, _)) = record.into_session(now) {
            table.enter(key, session);
            let peer = "198.51.100.7".parse().unwrap();
            let _may_be_over = table.open(key, ConnectionId(1), peer, OpenLimits::default(), now.monotonic);
            table.expire(now.monotonic);
            table.refused(ConnectionId(1), now.monotonic);
            table.expire(now.monotonic);
        }
    }
}

/// Seconds, among them those that overflow.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..2_000_000u64,
        Just(u64::MAX),
        Just(i64::MAX as u64)
    ]
}
