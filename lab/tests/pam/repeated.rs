//! Steps of logins that come again over another TLS connection while a module still judges the first one
//! (`specs/globalprotect.md` §17.1).

use std::fs;

use culvert_lab::{Make, PASSWORD, Raw, ServerOptions, wait};

use super::{Scene, UNIX};

/// A module that says when it is asked, and waits until it may go on.
const HOLDING: &str = "echo >> $0.asked; until test -e $0.go; do sleep 0.05; done";
const LOGIN: &str = "ssl-vpn/login.esp";

impl Scene {
    fn asked(&self) -> usize {
        let asked = fs::read_to_string(self.fixture.path("hold.asked"));
        asked.unwrap_or_default().lines().count()
    }

    fn wait_until_asked(&self, times: usize) {
        wait::until("the module's work", || (self.asked() == times).then_some(()));
    }

    /// Lets the module go on, until it is held again.
    fn let_go(&self) {
        self.fixture.write_file("hold.go", "");
    }

    fn hold(&self) {
        fs::remove_file(self.fixture.path("hold.go")).unwrap();
    }

    fn raw(&self, name: &str) -> Raw {
        Raw::connect(&self.world, &self.fixture, name)
    }
}

/// Element 1 of the answer to a login.
fn cookie(mut raw: Raw) -> String {
    raw.wait_for("</jnlp>", 1);
    let answer = raw.answer();
    let argument = answer.split("<argument>").nth(2).unwrap();
    argument.split('<').next().unwrap().to_owned()
}

/// The module is asked once, whichever of the connections is left, and a wrong password counts once.
#[test]
fn a_login_that_comes_twice_is_judged_once() {
    let stack = format!("auth required pam_exec.so @/hold\n{UNIX}");
    let options = ServerOptions {
        overrides: &[("protocols", "anyconnect, globalprotect")],
        ..ServerOptions::default()
    };
    let scene = Scene::new(Make::Culvert, &stack, &options);
    scene.fixture.write_script("hold", HOLDING);
    let waits = "waits for the answer of the first one";
    let right = format!("user=alice&passwd={PASSWORD}&clientos=Linux&computer=pc");

    // Both connections live.
    let mut first = scene.raw("first");
    first.post(LOGIN, &right);
    scene.wait_until_asked(1);
    let mut second = scene.raw("second");
    second.post(LOGIN, &right);
    scene.wait_for_log(waits, 1);
    scene.let_go();
    let got = cookie(first);
    assert_eq!((got.len(), cookie(second)), (64, got.clone()));
    assert_eq!(scene.asked(), 1);
    scene.hold();

    // The first one breaks, before or after the copy has come.
    for (number, copy_first) in [(2, true), (3, false)] {
        let body = format!("{right}{number}");
        let mut broken = scene.raw(&format!("broken-{number}"));
        broken.post(LOGIN, &body);
        scene.wait_until_asked(number);
        let mut copy = scene.raw(&format!("copy-{number}"));
        copy.post("ssl-vpn/prelogin.esp", "");
        copy.wait_for("</prelogin-response>", 1);
        if copy_first {
            copy.post(LOGIN, &body);
            scene.wait_for_log(waits, number);
        }
        drop(broken);
        scene.server.wait_for_workers(1);
        if !copy_first {
            copy.post(LOGIN, &body);
            scene.wait_for_log(waits, number);
        }
        scene.let_go();
        assert_ne!(cookie(copy), got);
        assert_eq!(scene.asked(), number);
        scene.hold();
    }

    let wrong = "user=alice&passwd=wrong&clientos=Linux&computer=pc";
    let mut both = ["wrong", "again"].map(|name| scene.raw(name));
    for (raw, times) in both.iter_mut().zip(3..) {
        raw.post(LOGIN, wrong);
        scene.wait_until_asked(4);
        scene.wait_for_log(waits, times);
    }
    scene.let_go();
    for raw in &mut both {
        raw.wait_for("HTTP/1.1 512 ", 1);
    }
    assert_eq!(scene.asked(), 4);
    let log = scene.server.log();
    let failed = "sec-mod: failed authentication attempt for user 'alice'";
    assert_eq!(log.matches(failed).count(), 1, "{log}");
}
