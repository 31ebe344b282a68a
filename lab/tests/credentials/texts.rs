use culvert_lab::{Finished, Make};

use crate::Scene;
use crate::files::{make_open_container, make_user};

/// What a client said about its credentials: everything between the connection and TLS, and the
/// end of a run that did not get so far.
pub(crate) fn said(run: &Finished) -> Vec<String> {
    let mut lines = Vec::new();
    let after = run
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("Connected to "));
    for line in after {
        if line.starts_with("SSL negotiation") {
            lines.push("(TLS begins)".to_owned());
            return lines;
        }
        // The reference shows a stale errno here.
        let line = if line.starts_with("fgets (stdin)") {
            "fgets (stdin)"
        } else {
            line
        };
        lines.push(line.to_owned());
    }
    lines.push(format!("exit code {}", run.code));
    lines
}

/// The same command lines and the same input for the real client and for ours.
#[test]
fn the_words_of_the_reference() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    make_user(fixture, "alice", 90);
    make_user(fixture, "bob", 90);
    make_user(fixture, "soon", 5);
    make_user(fixture, "late", 0);
    let read = |name: &str| std::fs::read(fixture.path(name)).unwrap();
    fixture.openssl("pkcs8 -topk8 -in alice.key -passout pass:secret -out pkcs8.pem");
    fixture.openssl("pkcs8 -topk8 -in alice.key -passout pass:secret -outform DER -out pkcs8.der");
    fixture.openssl("ec -in alice.key -aes128 -passout pass:secret -out dek.pem");
    fixture.openssl("pkcs12 -export -inkey alice.key -in alice.pem -passout pass:secret -out alice.p12");
    make_open_container(fixture);
    fixture.write_file("text", "just text\n");
    std::fs::write(fixture.path("cut.p12"), &read("alice.p12")[..200]).unwrap();

    let pem = ["-c", "alice.pem", "-k"];
    let key = |file: &'static str, more: &[&'static str]| [&pem[..], &[file], more].concat();
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (key("alice.key", &[]), ""),
        (key("alice.key", &["-v"]), ""),
        (key("bob.key", &[]), ""),
        (key("missing", &[]), ""),
        (key("text", &[]), ""),
        (key("alice.p12", &[]), ""),
        (vec!["-c", "missing"], ""),
        (vec!["-c", "alice.pem"], ""),
        (vec!["-c", "alice.key"], ""),
        (vec!["-c", "text"], ""),
        (vec!["-c", "cut.p12"], ""),
        (vec!["-k", "alice.key"], ""),
        (vec!["-c", "soon.pem", "-k", "soon.key"], ""),
        (vec!["-c", "soon.pem", "-k", "soon.key", "-e", "2"], ""),
        (vec!["-c", "late.pem", "-k", "late.key", "-e", "0"], ""),
        (key("pkcs8.pem", &[]), "secret\n"),
        (key("pkcs8.pem", &[]), "wrong\n\nsecret\n"),
        (key("pkcs8.pem", &[]), ""),
        (key("pkcs8.pem", &["-p", "secret"]), ""),
        (key("pkcs8.pem", &["-p", "wrong"]), "secret\n"),
        (key("pkcs8.pem", &["--non-inter"]), ""),
        (key("pkcs8.pem", &["--passwd-on-stdin"]), "secret\n"),
        (
            key("pkcs8.pem", &["-F", "openconnect_pem:openconnect_pem=secret"]),
            "",
        ),
        (key("pkcs8.der", &[]), "wrong\nsecret\n"),
        (
            key("pkcs8.der", &["-F", "openconnect_pem:openconnect_pem=secret"]),
            "",
        ),
        (key("dek.pem", &[]), "wrong\nsecret\n"),
        (key("dek.pem", &["-p", "wrong", "--non-inter"]), ""),
        (vec!["-c", "alice.p12"], "wrong\nsecret\n"),
        (vec!["-c", "alice.p12", "-p", "wrong"], "secret\n"),
        (vec!["-c", "alice.p12", "--non-inter"], ""),
        (
            vec![
                "-c",
                "alice.p12",
                "-F",
                "openconnect_pkcs12:openconnect_pkcs12=secret",
            ],
            "",
        ),
        (vec!["-c", "alice.p12", "-k", "bob.key", "-p", "secret"], ""),
        (vec!["-c", "open.p12"], ""),
    ];
    for (arguments, input) in cases {
        let real = said(&scene.log_in(Make::Real, &arguments, input));
        let ours = said(&scene.log_in(Make::Culvert, &arguments, input));
        assert_eq!(ours, real, "{arguments:?}");
        assert!(real.len() > 1, "{arguments:?}: {real:?}");
    }
}

/// Nobody gets in without a certificate, or with that of a stranger.
#[test]
fn who_is_refused() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    make_user(fixture, "alice", 90);
    fixture.openssl("req -x509 -new -key alice.key -subj /CN=alice -days 9 -out stranger.pem");
    for client in [Make::Real, Make::Culvert] {
        for arguments in [&[][..], &["-c", "stranger.pem", "-k", "alice.key"]] {
            let login = scene.log_in(client, arguments, "");
            assert_eq!(
                (login.code, login.stdout.as_str()),
                (1, ""),
                "{client:?}: {}",
                login.stderr
            );
        }
    }
}
