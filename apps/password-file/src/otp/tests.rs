use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use chrono::TimeZone;
use proptest::prelude::*;

use super::code::hotp;
use super::*;

const VECTORS: &str = include_str!("../../tests/vectors/otp-transitions.txt");
const KEY: &str = "3132333435363738393031323334353637383930";
const SECRET: &[u8] = b"12345678901234567890";

fn now() -> DateTime<Local> {
    Local.with_ymd_and_hms(2026, 11, 21, 18, 28, 32).unwrap()
}

/// A users file with this text.
fn file(text: &str) -> (tempfile::TempDir, OtpFile) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("otp");
    fs::write(&path, text).unwrap();
    (directory, OtpFile::new(path, false))
}

fn text(file: &OtpFile) -> String {
    fs::read_to_string(file.path()).unwrap()
}

/// The vectors of event based tokens: line, code, and the line afterwards if it is accepted.
#[test]
fn transitions_of_event_based_tokens() {
    let mut judged = 0;
    for vector in VECTORS.lines().filter(|line| line.starts_with("HOTP/E ")) {
        let fields: Vec<&str> = vector.split(" | ").collect();
        let [before, submitted, result, ..] = fields.as_slice() else {
            panic!("{vector}")
        };
        let code = match submitted.strip_prefix("counter ") {
            Some(counter) => hotp(SECRET, counter.parse().unwrap(), 6),
            None => submitted.split([' ', ',']).next().unwrap().to_owned(),
        };
        let before = before.split(" (").next().unwrap();
        let before = before
            .split(" + ")
            .collect::<Vec<_>>()
            .join("\n")
            .replace("aa..aa", "aaaa");
        let before = format!("{}\n", before.replace("KEY", KEY));
        let (_directory, file) = file(&before);
        let outcome = file.check("u", code.as_bytes(), now());
        if result.starts_with("ok") {
            assert!(outcome.unwrap(), "{vector}");
        } else if *submitted == "any" {
            assert!(matches!(outcome, Err(OtpError::Key { .. })), "{vector}");
        } else {
            assert!(!outcome.unwrap(), "{vector}");
        }
        match fields.get(3).copied().unwrap_or_default() {
            "unchanged" => assert_eq!(text(&file), before, "{vector}"),
            line if line.starts_with("HOTP") => {
                let line = line.replace("<T>", "\t").replace("KEY", KEY);
                assert_eq!(text(&file), format!("{line}\n"), "{vector}");
            }
            _ => assert_ne!(text(&file), before, "{vector}"),
        }
        judged += 1;
    }
    assert_eq!(judged, 12);
}

#[test]
fn transitions_of_time_based_tokens() {
    let step = now().timestamp() / 30;
    let code = |distance: i64| hotp(SECRET, u64::try_from(step + distance).unwrap(), 6);
    // fields after the key, distance of the code, fifth field afterwards
    let cases = [
        (String::new(), -20, Some("20")),
        (String::new(), 20, Some("20")),
        (String::new(), 0, Some("0")),
        (String::new(), -21, None),
        (String::new(), 21, None),
        (format!("0 {}", code(0)), 0, None),
        (format!("0 {}", code(0)), -1, None),
        (format!("0 {}", code(0)), 1, Some("1")),
        (format!("0 {}", code(1)), 0, None),
        (format!("0 {}", code(-30)), -20, Some("20")),
        ("3 123456".to_owned(), 2, Some("5")),
        ("-3 123456".to_owned(), 2, Some("18446744073709551615")),
    ];
    for (stored, distance, fifth) in cases {
        let before = format!("HOTP/T30 u - {KEY} {stored}\n");
        let (_directory, file) = file(&before);
        let code = code(distance);
        assert_eq!(
            file.check("u", code.as_bytes(), now()).unwrap(),
            fifth.is_some(),
            "{before}"
        );
        match fifth {
            Some(fifth) => {
                let line = format!("HOTP/T30\tu\t-\t{KEY}\t{fifth}\t{code}\t2026-11-21T18:28:32L\n");
                assert_eq!(text(&file), line);
            }
            None => assert_eq!(text(&file), before),
        }
    }
}

/// Codes that were used stay used when the clock goes back, by a minute or by more than the window is
/// wide; later ones are good.
#[test]
fn clocks_that_are_set_back() {
    let code = |distance: i64| {
        hotp(
            SECRET,
            u64::try_from(now().timestamp() / 30 + distance).unwrap(),
            6,
        )
    };
    for (back, fresh) in [(60, Some(1)), (600, Some(1)), (3600, None), (86400, None)] {
        let (_directory, file) = file(&format!("HOTP/T30 u - {KEY}\n"));
        let then = now() - chrono::Duration::seconds(back);
        let steps = back / 30;
        // Two logins, then somebody has both codes and sets the clock back to the time of the first.
        let check = |distance: i64, at| file.check("u", code(distance).as_bytes(), at).unwrap();
        assert!(check(-steps, then) && check(0, now()), "{back}");
        assert!(
            !check(-steps, then) && !check(0, then) && !check(1 - steps, then),
            "{back}"
        );
        if let Some(fresh) = fresh {
            assert!(check(fresh, then + chrono::Duration::seconds(60)), "{back}");
        }
        assert!(check(2, now()), "{back}");
    }
}

/// A counter that cannot be read is not 0: codes that were used would be good again.
#[test]
fn counters_that_are_none() {
    for (counter, accepted) in [
        ("0", true),
        ("", true),
        ("x", false),
        ("99999999999999999999", false),
    ] {
        let (_directory, file) = file(&format!("HOTP/E u - {KEY} {counter}\n"));
        assert_eq!(file.check("u", b"755224", now()).unwrap(), accepted, "{counter}");
    }
    let (_directory, file) = file(&format!("HOTP/T30 u - {KEY} x\n"));
    let code = hotp(SECRET, u64::try_from(now().timestamp() / 30).unwrap(), 6);
    assert!(file.check("u", code.as_bytes(), now()).unwrap());
}

#[test]
fn digits_kinds_and_users() {
    for (kind, code) in [
        ("HOTP", "755224"),
        ("HOTP/E/7", "4755224"),
        ("HOTP/E/8", "84755224"),
    ] {
        let (_directory, file) = file(&format!("{kind} u - {KEY}\n"));
        assert!(!file.check("v", code.as_bytes(), now()).unwrap());
        assert!(file.knows("u") && !file.knows("v"));
        assert!(file.check("u", code.as_bytes(), now()).unwrap(), "{kind}");
        assert!(text(&file).starts_with(&format!("{kind}\tu\t")));
    }
    for kind in [
        "TOTP",
        "MOTP",
        "HOTP/T45",
        "HOTP/T",
        "HOTP/E/9",
        "HOTP/E/6/7",
        "#HOTP",
    ] {
        let (_directory, file) = file(&format!("{kind} u - {KEY}\n"));
        assert!(!file.check("u", b"755224", now()).unwrap(), "{kind}");
    }
}

#[test]
fn a_pin_counts_when_it_is_asked_for() {
    for (column, given, right) in [
        ("1234", "1234755224", true),
        ("1234", "755224", false),
        ("1234", "1235755224", false),
        ("1234", "123", false),
        ("-", "755224", true),
        ("+", "755224", true),
    ] {
        let (_directory, mut file) = file(&format!("HOTP/E u {column} {KEY}\n"));
        file.pin = true;
        assert_eq!(
            file.check("u", given.as_bytes(), now()).unwrap(),
            right,
            "{column} {given}"
        );
        if right {
            assert!(
                text(&file).ends_with("\t0\t755224\t2026-11-21T18:28:32L\n"),
                "without the PIN"
            );
        }
    }
}

#[test]
fn other_lines_owner_and_mode_stay() {
    let before = format!("# tokens\n\nHOTP/E  a -\t{KEY}\nHOTP/E u - {KEY}\nTOTP x\n\u{fffd} last");
    let (_directory, file) = file(&before);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(file.check("u", b"755224", now()).unwrap());
    let line = format!("HOTP/E\tu\t-\t{KEY}\t0\t755224\t2026-11-21T18:28:32L\n");
    assert_eq!(text(&file), before.replace(&format!("HOTP/E u - {KEY}\n"), &line));
    assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(
        fs::read_dir(file.path().parent().unwrap()).unwrap().count(),
        1,
        "nothing is left"
    );
}

#[test]
fn what_a_crash_left_behind_is_no_obstacle() {
    let (directory, file) = file(&format!("HOTP/E u - {KEY}\n"));
    for name in ["otp.lock", "otp.new"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    assert!(file.check("u", b"755224", now()).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_lock_that_is_held_is_waited_for() {
    let (directory, file) = file(&format!("HOTP/E u - {KEY}\n"));
    let held = File::create(directory.path().join("otp.lock")).unwrap();
    assert!(culvert_sys::file_lock::try_lock_exclusive(&held).unwrap());
    let checked = std::thread::spawn({
        let file = file.clone();
        move || file.check("u", b"755224", now())
    });
    assert!(matches!(checked.join().unwrap(), Err(OtpError::Lock { .. })));
    drop(held);
    assert!(file.check("u", b"755224", now()).unwrap());
}

#[test]
fn of_parallel_logins_with_one_code_one_wins() {
    let (_directory, file) = file(&format!("HOTP/E u - {KEY}\n"));
    let logins: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            std::thread::spawn(move || file.check("u", b"755224", now()).unwrap())
        })
        .collect();
    let won = logins.into_iter().map(|login| login.join().unwrap());
    assert_eq!(won.filter(|won| *won).count(), 1);
}

#[test]
fn a_file_that_is_missing_refuses() {
    let file = OtpFile::new("/nonexistent/otp", false);
    assert!(matches!(
        file.check("u", b"755224", now()),
        Err(OtpError::Lock { .. })
    ));
    assert!(!file.knows("u"));
}

/// Whoever may write next to the file could make root follow his links.
#[test]
fn folders_of_everybody_are_refused() {
    let (directory, file) = file(&format!("HOTP u - {KEY}\n"));
    let folder = directory.path();
    let set_mode = |mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o777);
    assert!(matches!(
        file.check("u", b"755224", now()),
        Err(OtpError::Untrusted(_))
    ));
    set_mode(0o1777);
    let victim = folder.join("victim");
    std::os::unix::fs::symlink(&victim, folder.join("otp.lock")).unwrap();
    assert!(matches!(
        file.check("u", b"755224", now()),
        Err(OtpError::Lock { .. })
    ));
    assert!(!victim.exists());
    fs::remove_file(folder.join("otp.lock")).unwrap();
    assert!(file.check("u", b"755224", now()).unwrap());
}

proptest! {
    #[test]
    fn never_panics(line in "(HOTP)?(/E|/T30)?(/6)?[ \\ta-f0-9u+é-]{0,60}", code in "[0-9a]{0,9}") {
        if let Some(line) = Line::parse(line.as_bytes()) {
            let _ = line.accept(code.as_bytes(), true, now());
        }
    }
}
