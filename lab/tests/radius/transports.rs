//! Servers by TCP and by TLS (RFC 6613, RFC 6614).

use culvert_lab::{Fixture, Make};

use crate::freeradius::{FreeRadius, TLS_OFFSET, TOKEN};
use crate::{PORT, SOON, Scene};

/// Options for TLS with a server of this name, beside those of authorities.
fn tls(host: &str) -> String {
    let port = PORT + TLS_OFFSET;
    format!(
        "authserver {host}:{port}\nserv-type tls\ntls-cert-file $DIR/server-cert.pem\ntls-key-file $DIR/server-key.pem\n"
    )
}

/// Logins, challenges and accounting over one kind of connection; the server ends it, and there is
/// another one.
#[test]
fn by_tls() {
    let lines = tls("vpn.test") + "tls-ca-file $DIR/ca.pem\n";
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    scene.records("Accounting-On", 1);
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.refuses(Make::Culvert, "plain", "bad", &[]);
    let entry = format!("main:secondary_password={TOKEN}");
    scene.accepts(Make::Culvert, "token", "good", &["--form-entry", &entry]);
    let client = scene.connect(Make::Real, "plain");
    scene.records("Start", 1);
    scene.radius.process.signal("KILL");
    scene.radius.process.wait();
    drop(client);
    scene.radius = FreeRadius::start(&scene.world, &scene.fixture, PORT, Make::Culvert);
    scene.records("Stop", 1);
    scene.accepts(Make::Real, "plain", "good", &[]);
}

#[test]
fn by_tcp() {
    let scene = Scene::new(Make::Culvert, "serv-type tcp\n", false, &[]);
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.refuses(Make::Culvert, "plain", "bad", &[]);
}

/// A server that only another network namespace reaches.
#[test]
fn in_another_namespace() {
    let lines = format!("namespace $CLIENT\n{SOON}");
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    scene.refuses(Make::Real, "plain", "good", &[]);
    scene.radius.process.signal("KILL");
    scene.radius.process.wait();
    scene.world.client.ip("link set lo up");
    scene.radius = FreeRadius::start_on(&scene.world.client, &scene.fixture, PORT, Make::Culvert);
    scene.accepts(Make::Real, "plain", "good", &[]);
}

/// Who is not the server, and a server with another name.
#[test]
fn servers_that_nobody_vouches_for() {
    let others = Fixture::new();
    let strangers = format!(
        "{}tls-ca-file {}\n",
        tls("vpn.test"),
        others.path("ca.pem").display()
    );
    let renamed = tls("127.0.0.1") + "tls-ca-file $DIR/ca.pem\n";
    for lines in [strangers, renamed.clone()] {
        let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
        let text = scene.refuses(Make::Real, "plain", "good", &[]);
        assert!(text.contains("401"), "{text}");
        scene.server.process.wait_for("no connection to server");
        scene.server.process.wait_for("user 'plain': no server answers");
    }
    let scene = Scene::new(Make::Culvert, &(renamed + "tls-verify-hostname no\n"), false, &[]);
    scene.accepts(Make::Real, "plain", "good", &[]);
}
