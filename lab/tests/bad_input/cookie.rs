//! Cookies that are not, or no longer, any good.

use culvert_lab::{Client, Make, PASSWORD, Process};

use crate::Scene;

impl Scene {
    /// Asks for a tunnel with a cookie; gives the exit code and the messages of errors.
    fn connect_with_cookie(&self, client: Make, cookie: &str) -> (i32, String) {
        let ca = self.fixture.path("ca.pem").display().to_string();
        let arguments = ["--cafile", &ca, "--script", "/bin/true", "--cookie", cookie];
        let mut command = Client::bare(client, &self.world, &arguments);
        // The witness has the usual name.
        command.args(["--interface", "tuncookie"]);
        let process = Process::start(command, self.fixture.dir(), "cookie", None);
        let finished = process.finish();
        (finished.code, finished.stderr)
    }
}

/// A cookie of a session that has been ended, a well-formed one that nobody was given, and
/// two that are none.
fn bad_cookies(client: Make, server: Make) {
    let mut scene = Scene::new(server);
    let login = scene.login(client, &["--cookieonly"], PASSWORD);
    let good = login.stdout.trim().to_owned();
    {
        let ca = scene.fixture.path("ca.pem").display().to_string();
        let arguments = ["--cafile", &ca, "--script", "/bin/true", "--cookie", &good];
        let mut command = Client::bare(client, &scene.world, &arguments);
        command.args(["--interface", "tuncookie"]);
        let mut tunnel = Process::start(command, scene.fixture.dir(), "tunnel", None);
        tunnel.wait_for("Configured as");
        if server == Make::Culvert {
            tunnel.signal("INT");
        } else {
            // The real server takes some goodbyes for a lost connection.
            scene.server.occtl(&["disconnect", "user", "bob"]);
        }
        tunnel.wait();
        scene.server.wait_for_workers(1);
    }
    let forged = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (cookie, code) in [
        (good.as_str(), 2),
        (&format!("webvpn={forged}"), 2),
        ("webvpn=nonsense", 1),
        ("webvpn=", 1),
    ] {
        let (got, errors) = scene.connect_with_cookie(client, cookie);
        assert_eq!(got, code, "{cookie}: {errors}{}", scene.server.log());
        if code == 2 {
            assert!(
                errors.contains("Cookie was rejected by server; exiting."),
                "{cookie}: {errors}"
            );
        }
    }
    assert!(!scene.world.client.interfaces().contains(&"tuncookie".to_owned()));
    scene.is_undisturbed();
}

#[test]
fn real_client_with_bad_cookies_at_the_real_server() {
    bad_cookies(Make::Real, Make::Real);
}

#[test]
fn our_client_with_bad_cookies_at_the_real_server() {
    bad_cookies(Make::Culvert, Make::Real);
}

#[test]
fn real_client_with_bad_cookies_at_our_server() {
    bad_cookies(Make::Real, Make::Culvert);
}

#[test]
fn our_client_with_bad_cookies_at_our_server() {
    bad_cookies(Make::Culvert, Make::Culvert);
}
