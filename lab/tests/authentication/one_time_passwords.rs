//! `plain` with an OTP users file and the clients' token modes.

use std::time::{SystemTime, UNIX_EPOCH};

use culvert_lab::{Make, PASSWORD, USER, wait};

use crate::Scene;

/// The key of RFC 4226, in the forms of the file and of the clients.
const HEX: &str = "3132333435363738393031323334353637383930";
const BASE32: &str = "base32:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn scene(kind: &str) -> Scene {
    Scene::new(Make::Culvert, |fixture| {
        let otp = fixture.write_file("otp", &format!("{kind} {USER} - {HEX}\n"));
        let passwd = fixture.path("ocpasswd");
        let auth = format!("plain[passwd={},otp={}]", passwd.display(), otp.display());
        vec![("auth", auth)]
    })
}

/// Seconds for which a code is the same.
const PERIOD: u64 = 30;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A code that is used a moment later is still the same.
fn wait_for_a_young_code() {
    wait::until("a new code", || (now() % PERIOD < PERIOD / 2).then_some(()));
}

/// The password first, then the code, once.
fn totp(client: Make) {
    let scene = scene("HOTP/T30");
    let token = ["--token-mode", "totp", "--token-secret", BASE32];
    scene.refuses(client, USER, "wrong", &token);
    scene.refuses(client, USER, PASSWORD, &[]);
    let other = [
        "--token-mode",
        "totp",
        "--token-secret",
        "base32:GEZDGNBVGY3TQOJQ",
    ];
    scene.refuses(client, USER, PASSWORD, &other);
    scene.refuses(client, "bob", PASSWORD, &token);
    for rounds in 1.. {
        wait_for_a_young_code();
        let period = now() / PERIOD;
        scene.connects(client, USER, PASSWORD, &token, USER);
        let used = std::fs::read_to_string(scene.fixture.path("otp")).unwrap();
        assert_eq!(used.split('\t').count(), 7, "{used}");
        let again = scene.log_in(client, USER, PASSWORD, &token);
        // On a busy machine it may have been the next one.
        if now() / PERIOD == period || rounds == 3 {
            assert!(
                again.code != 0 && !again.stdout.contains("COOKIE="),
                "{}",
                again.stdout
            );
            return;
        }
    }
}

#[test]
fn totp_of_the_real_client() {
    totp(Make::Real);
}

#[test]
fn totp_of_our_client() {
    totp(Make::Culvert);
}

/// A counter only goes forward.
fn hotp(client: Make) {
    let scene = scene("HOTP/E");
    for (counter, good) in [("3", true), ("3", false), ("2", false), ("4", true)] {
        let secret = format!("{BASE32},{counter}");
        let token = ["--token-mode", "hotp", "--token-secret", secret.as_str()];
        if good {
            scene.accepts(client, USER, PASSWORD, &token);
        } else {
            scene.refuses(client, USER, PASSWORD, &token);
        }
    }
    let used = std::fs::read_to_string(scene.fixture.path("otp")).unwrap();
    assert!(
        used.starts_with(&format!("HOTP/E\t{USER}\t-\t{HEX}\t4\t338314\t")),
        "{used}"
    );
}

#[test]
fn hotp_of_the_real_client() {
    hotp(Make::Real);
}

/// The code as the only factor. (The real server asks for a second factor in a field that the
/// clients' token modes leave to the user.)
fn only_the_code(server: Make) {
    let scene = Scene::new(server, |fixture| {
        let otp = fixture.write_file("otp", &format!("HOTP/E carol - {HEX}\n"));
        vec![("auth", format!("plain[otp={}]", otp.display()))]
    });
    scene.refuses(Make::Real, "carol", "123456", &[]);
    scene.connects(Make::Real, "carol", "359152", &[], "carol");
    scene.refuses(Make::Real, "carol", "359152", &[]);
    scene.refuses(Make::Real, "carol", "287082", &[]);
    scene.refuses(Make::Real, USER, PASSWORD, &[]);
    let used = std::fs::read_to_string(scene.fixture.path("otp")).unwrap();
    assert!(
        used.starts_with(&format!("HOTP/E\tcarol\t-\t{HEX}\t2\t359152\t")),
        "{used}"
    );
}

#[test]
fn only_the_code_for_our_server() {
    only_the_code(Make::Culvert);
}

#[test]
fn only_the_code_for_the_real_server() {
    only_the_code(Make::Real);
}
