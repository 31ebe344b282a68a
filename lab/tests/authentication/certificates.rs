//! Client certificates, alone and together with passwords.

use culvert_lab::client::DEVICE;
use culvert_lab::{Client, ClientOptions, Fixture, Make, PASSWORD, Process, USER, wait};

use crate::Scene;
use culvert_lab::authority::{Authority, UID, UNIT, expired, for_servers, with_email};

const TLS12: &str = "--gnutls-priority=NORMAL:-VERS-TLS1.3";

/// The users' authority, certificates of all kinds, and a server with these further options.
fn scene(make: Make, options: &[(&'static str, &str)]) -> (Scene, Authority) {
    let mut kept = None;
    let scene = Scene::new(make, |fixture| {
        let authority = Authority::new(fixture, "users.pem");
        issue(&authority, fixture);
        authority.revoke(fixture, "crl.pem", 1);
        kept = Some(authority);
        let path = |name: &str| fixture.path(name).display().to_string();
        let mut all = vec![
            ("ca-cert", path("users.pem")),
            ("crl", path("crl.pem")),
            ("cert-group-oid", UNIT.to_owned()),
        ];
        if !options.iter().any(|(name, _)| *name == "cert-user-oid") {
            all.push(("cert-user-oid", UID.to_owned()));
        }
        let plain = format!("plain[passwd={}]", path("ocpasswd"));
        all.extend(
            options
                .iter()
                .map(|(name, value)| (*name, value.replace("plain", &plain))),
        );
        all
    });
    (scene, kept.unwrap())
}

fn issue(authority: &Authority, fixture: &Fixture) {
    authority.issue(fixture, "alice", Some(USER), Some("staff"));
    authority.issue(fixture, "bob", Some("bob"), None);
    authority.issue(fixture, "nameless", None, Some("staff"));
    authority.issue_with(fixture, "server", Some(USER), Some("staff"), for_servers);
    authority.issue_with(fixture, "expired", Some(USER), Some("staff"), expired);
    authority.issue_with(fixture, "mail", None, None, with_email("alice@example.com"));
    let stranger = Authority::new(fixture, "strangers.pem");
    stranger.issue(fixture, "stranger", Some(USER), Some("staff"));
}

/// The arguments for a certificate.
fn with(scene: &Scene, name: &str) -> [String; 4] {
    let path = |kind: &str| scene.path(&format!("{name}.{kind}"));
    ["-c".to_owned(), path("pem"), "-k".to_owned(), path("key")]
}

fn text(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Nothing but a certificate, in both versions of TLS; bad ones of every kind.
fn alone(client: Make, server: Make) {
    let (scene, authority) = scene(server, &[("auth", "certificate")]);
    let alice = with(&scene, "alice");
    scene.connects(client, "whoever", "", &text(&alice), "\"staff\"");
    if client == Make::Real {
        scene.accepts(client, "whoever", "", &[&text(&alice)[..], &[TLS12]].concat());
    }
    scene.refuses(client, USER, PASSWORD, &[]);
    for name in ["nameless", "expired", "stranger"] {
        scene.refuses(client, USER, PASSWORD, &text(&with(&scene, name)));
    }
    if server == Make::Culvert {
        scene.refuses(client, USER, PASSWORD, &text(&with(&scene, "server")));
    }
    authority.revoke(&scene.fixture, "crl.pem", 9);
    scene.server.process.signal("HUP");
    wait::until("the list", || {
        let login = scene.log_in(client, USER, "", &text(&alice));
        (login.code != 0).then_some(())
    });
    authority.revoke(&scene.fixture, "crl.pem", 1);
    scene.server.process.signal("HUP");
    wait::until("the next list", || {
        let login = scene.log_in(client, USER, "", &text(&alice));
        (login.code == 0).then_some(())
    });
}

#[test]
fn alone_with_the_real_client() {
    alone(Make::Real, Make::Culvert);
}

#[test]
fn alone_with_our_client() {
    alone(Make::Culvert, Make::Culvert);
}

#[test]
fn alone_with_the_real_programs() {
    alone(Make::Real, Make::Real);
}

/// `cisco-client-compat`: the certificate is asked for but need not be shown again with the cookie, TLS
/// 1.3 is off, and resumed DTLS sessions are allowed whatever else is said.
#[test]
fn cisco_client_compat() {
    for (compatible, tls) in [("true", "(TLS1.2)"), ("false", "(TLS1.3)")] {
        let options = [
            ("auth", "certificate"),
            ("cisco-client-compat", compatible),
            ("dtls-legacy", "false"),
        ];
        let (scene, _) = scene(Make::Culvert, &options);
        let certificate = with(&scene, "alice");
        let login = scene.log_in(Make::Real, USER, "", &text(&certificate));
        assert_eq!(login.code, 0, "{}", login.stderr);
        assert!(login.stderr.contains(tls), "{}", login.stderr);
        let cookie = login.stdout.split("COOKIE='").nth(1).unwrap();
        let cookie = cookie.split('\'').next().unwrap();
        let arguments = ["--cookie", cookie, "--dtls-ciphers=AES128-SHA"];
        let options = ClientOptions {
            arguments: &arguments,
            name: "without-certificate",
            ..ClientOptions::default()
        };
        let mut client = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
        if compatible == "true" {
            client
                .process
                .wait_for("Established DTLS connection (using GnuTLS). Ciphersuite (DTLS0.9)");
            client.process.signal("INT");
            assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        } else {
            assert_ne!(client.process.exit_code(), 0, "{}", client.process.output());
        }
    }
}

/// The certificate and the password must be of the same user, and of the same group.
fn and_password(client: Make, server: Make) {
    let (scene, _) = scene(
        server,
        &[
            ("auth", "certificate"),
            ("auth", "plain"),
            ("select-group", "staff"),
            ("select-group", "admins"),
        ],
    );
    let shown = |name: &str, group: &str| {
        let mut arguments = with(&scene, name).to_vec();
        arguments.extend(["--authgroup".to_owned(), group.to_owned()]);
        arguments
    };
    let alice = shown("alice", "staff");
    scene.connects(client, USER, PASSWORD, &text(&alice), USER);
    scene.refuses(client, USER, "wrong", &text(&alice));
    scene.refuses(client, USER, PASSWORD, &["--authgroup", "staff"]);
    scene.refuses(client, "bob", PASSWORD, &text(&alice));
    for (user, name, group) in [
        (USER, "bob", "staff"),
        ("bob", "bob", "staff"),
        (USER, "nameless", "staff"),
        (USER, "alice", "admins"),
    ] {
        scene.refuses(client, user, PASSWORD, &text(&shown(name, group)));
    }
}

#[test]
fn and_password_with_the_real_client() {
    and_password(Make::Real, Make::Culvert);
}

#[test]
fn and_password_with_the_real_programs() {
    and_password(Make::Real, Make::Real);
}

/// One of both is enough.
fn or_password(client: Make, server: Make) {
    let (scene, _) = scene(server, &[("auth", "plain"), ("enable-auth", "certificate")]);
    scene.connects(client, USER, PASSWORD, &[], USER);
    scene.connects(client, "whoever", "", &text(&with(&scene, "alice")), "\"staff\"");
    scene.refuses(client, USER, "wrong", &[]);
    scene.refuses(client, USER, "wrong", &text(&with(&scene, "stranger")));
}

#[test]
fn or_password_with_the_real_client() {
    or_password(Make::Real, Make::Culvert);
}

#[test]
fn or_password_with_the_real_programs() {
    or_password(Make::Real, Make::Real);
}

/// The name is in the mail address (ocserv has this since 1.4).
#[test]
fn the_name_may_be_a_mail_address() {
    let (scene, _) = scene(
        Make::Culvert,
        &[("auth", "certificate"), ("cert-user-oid", "SAN(rfc822name)")],
    );
    scene.connects(
        Make::Real,
        "",
        "",
        &text(&with(&scene, "mail")),
        "alice@example.com",
    );
    let refused = scene.refuses(Make::Real, USER, PASSWORD, &text(&with(&scene, "alice")));
    assert!(refused.contains("401 Could not read certificate"), "{refused}");
}

/// A cookie comes back with the certificate `good`, not with those of `bad`, and not without one.
fn cookie(cert_rebind: &str, good: &str, bad: &[&str]) {
    let (scene, authority) = scene(
        Make::Culvert,
        &[
            ("auth", "plain"),
            ("enable-auth", "certificate"),
            ("cert-rebind", cert_rebind),
        ],
    );
    authority.issue(&scene.fixture, "renewed", Some(USER), Some("staff"));
    let alice = with(&scene, "alice");
    let arguments = [&text(&alice)[..], &["--cookieonly"]].concat();
    let options = ClientOptions {
        arguments: &arguments,
        input: "",
        ..ClientOptions::default()
    };
    let login = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
    assert_eq!(login.code, 0, "{}", login.stderr);
    let ca = scene.path("ca.pem");
    let come_back = |certificate: &[&str], name: &str| {
        let mut command = Client::bare(Make::Real, &scene.world, certificate);
        command.args(["--cafile", &ca, "--cookie-on-stdin"]);
        command.args([
            "--script",
            "/usr/share/vpnc-scripts/vpnc-script",
            "--interface",
            DEVICE,
        ]);
        Process::start(command, scene.fixture.dir(), name, Some(&login.stdout))
    };
    let refused = bad.iter().map(|name| (*name, with(&scene, name).to_vec()));
    for (name, arguments) in refused.chain([("none", Vec::new())]) {
        let refused = come_back(&text(&arguments), name).finish();
        assert_ne!(refused.code, 0, "{name}: {}", refused.stderr);
        assert!(
            !refused.stdout.contains("HTTP/1.1 200"),
            "{name}: {}",
            refused.stdout
        );
    }
    let mut good = come_back(&text(&with(&scene, good)), "good");
    good.wait_for("Configured as");
    good.signal("INT");
    assert_eq!(good.exit_code(), 0, "{}", good.output());
}

#[test]
fn a_cookie_belongs_to_its_certificate() {
    cookie("key", "alice", &["bob", "renewed"]);
}

#[test]
fn a_cookie_outlives_its_certificate_with_cert_rebind_name() {
    cookie("name", "renewed", &["bob"]);
}
